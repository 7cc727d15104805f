"""Pipelines whose reference lies to the right of what is generated, in one latent: DreamLite's own, and a stand-in that takes batches."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import diffusers
import torch
from ask import Ask, Case
from attentions import LatentPipeline, Skip
from diffusers import UNet2DConditionModel
from joint import flow
from parts import absent, as_pil, ddim, each, pictures, ready, sharpen, unet
from torch import Tensor, nn

DROPPED = {"edit": 64, "generate": 34}  # tokens of the pipeline's template in front of a prompt
LENGTHS = (5, 9)  # tokens of a prompt behind it: the negative one's, the positive one's


class SideBySide(LatentPipeline):
    """What is generated on the left, the reference on the right; self-attention is where they meet, and there is no text."""

    def __init__(self, unet: UNet2DConditionModel, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)

    @torch.no_grad()
    def __call__(self, picture: Tensor, num_inference_steps: int, guidance_scale: float, generator: Any, num_images_per_prompt: int = 1,
                 output_type: str = "latent") -> Any:  # fmt: skip
        width = picture.shape[3]
        blank = torch.zeros_like(picture)
        pictures = torch.cat([blank, picture]) if guidance_scale > 1 else picture

        def predict(rows: Tensor, timestep: Tensor) -> Tensor:
            both = torch.cat([rows, pictures], 3)
            return self.unet(both, timestep, encoder_hidden_states=None, return_dict=False)[0][..., :width]

        latents = self.denoise(self.start(tuple(picture.shape), generator, num_inference_steps), predict, guidance_scale)
        return SimpleNamespace(images=latents)


def side_by_side() -> Case:
    """7 `attn1` layers over both pictures; `attn2` never attends."""
    torch.manual_seed(0)
    denoiser = unet()
    for name, module in denoiser.named_modules():
        if name.endswith("attn2"):
            module.set_processor(Skip())

    def own(ask: Ask) -> dict[str, Any]:
        return {"picture": each(ask.batch, 4, *ask.size, seed=ask.seed + 3), **ask.guidance()}

    return Case(ready(SideBySide(denoiser, ddim())), own, sizes=((8, 8), (8, 6)))


class Reader(nn.Module):
    """In place of the vision-language model: tokens in, features out."""

    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Embedding(50, 32)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, output_hidden_states: bool) -> Any:
        return SimpleNamespace(hidden_states=[self.features(input_ids)])


def tokens_of(mode: str) -> Any:
    """In place of its tokenizer: as many tokens as the template drops, then the prompt's; longer prompts have more."""
    from transformers import BatchEncoding

    def tokenize(text: list[str], **_: Any) -> Any:
        longest = max(map(len, text))
        counts = [DROPPED[mode] + LENGTHS[(len(line) == longest and len(set(map(len, text))) > 1) or len(text) == 1] for line in text]
        places = torch.arange(max(counts))[None]
        mask = (places < torch.tensor(counts)[:, None]).long()
        ids = torch.stack([(places[0] * (3 + len(line))) % 50 for line in text])
        return BatchEncoding({"input_ids": ids, "attention_mask": mask})

    return tokenize


def dreamlite(mobile: bool = False, image: bool = True) -> Case:
    """One picture a call. Rows [nothing, picture, picture and prompt]; without an image [nothing, prompt]; the mobile one is not guided."""
    name = "DreamLiteMobilePipeline" if mobile else "DreamLitePipeline"
    cls = getattr(diffusers, name, None) or absent(name, "it came later")
    torch.manual_seed(0)
    denoiser = diffusers.DreamLiteUNetModel(
        sample_size=16, block_out_channels=(16, 32), layers_per_block=1, cross_attention_dim=32, attention_head_dim=(2, 4),
        down_block_types=("DreamLiteCrossAttnDownBlock2D", "DreamLiteCrossAttnNoSelfAttnDownBlock2D"),
        up_block_types=("DreamLiteCrossAttnNoSelfAttnUpBlock2D", "DreamLiteCrossAttnUpBlock2D"), norm_num_groups=8,
        addition_embed_type="time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=16, transformer_layers_per_block=1,
    )  # fmt: skip
    tiny = diffusers.AutoencoderTiny(encoder_block_out_channels=(8, 8, 8), decoder_block_out_channels=(8, 8, 8),
                                     num_encoder_blocks=(1, 1, 1), num_decoder_blocks=(1, 1, 1))  # fmt: skip
    pipe = cls(text_encoder=Reader().eval(), tokenizer=tokens_of("generate"), processor=tokens_of("edit"), vae=tiny, unet=sharpen(denoiser),
               scheduler=flow())  # fmt: skip

    def own(ask: Ask) -> dict[str, Any]:
        shown = {"image": as_pil(pictures(1, ask.size, seed=ask.seed + 1))[0]} if image else {}
        return {"prompt": "a red shirt and a blue cat", **ask.canvas(), **shown}

    return Case(ready(pipe), own, sizes=((32, 32), (32, 24)))
