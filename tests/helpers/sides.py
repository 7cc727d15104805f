"""Pipelines whose reference lies to the right of what is generated, in one latent: DreamLite's own, and a stand-in that takes batches."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import diffusers
import torch
from ask import Ask, Case
from attentions import denoise, skipping, start
from joint import flow
from parts import absent, as_pil, ddim, each, pictures, ready, sharpen, unet
from torch import Tensor, nn

DROPPED = {"edit": 64, "generate": 34}  # tokens of the pipeline's template in front of a prompt
LENGTHS = (5, 9)  # tokens of a prompt behind it: the negative one's, the positive one's


class SideBySide:
    """What is generated on the left, the reference on the right; self-attention is where they meet, and there is no text."""

    def __init__(self, unet: Any, scheduler: Any) -> None:
        self.unet, self.scheduler = unet, scheduler

    @torch.no_grad()
    def __call__(self, picture: Tensor, num_inference_steps: int, guidance_scale: float, generator: Any, **rest: Any) -> Any:
        width = picture.shape[3]
        blank = torch.zeros_like(picture)
        pictures = torch.cat([blank, picture]) if guidance_scale > 1 else picture

        def predict(rows: Tensor, timestep: Tensor) -> Tensor:
            both = torch.cat([rows, pictures], 3)
            return self.unet(both, timestep, encoder_hidden_states=None, return_dict=False)[0][..., :width]

        latents = start(self.scheduler, tuple(picture.shape), generator, num_inference_steps)
        return SimpleNamespace(images=denoise(self.scheduler, latents, predict, guidance_scale))


def side_by_side() -> Case:
    """7 `attn1` layers over both pictures; `attn2` never attends."""
    torch.manual_seed(0)

    def own(ask: Ask) -> dict[str, Any]:
        return {"picture": each(ask.batch, 4, *ask.size, seed=ask.seed + 3), **ask.guidance()}

    return Case(SideBySide(skipping(unet()), ddim()), own, sizes=((8, 8), (8, 6)))


class Reader(nn.Module):
    """In place of the vision-language model: tokens in, features out."""

    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Embedding(50, 32)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, output_hidden_states: bool) -> Any:
        return SimpleNamespace(hidden_states=[self.features(input_ids)])


class Tokens:
    """In place of its tokenizer: as many tokens as the template drops, then the prompt's; the longer prompt has more."""

    pad_token_id = 0

    def __init__(self, mode: str) -> None:
        self.dropped = DROPPED[mode]

    def __call__(self, text: list[str], **_: Any) -> Any:
        from transformers import BatchEncoding

        longest = max(map(len, text))
        positive = [len(line) == longest for line in text]  # the negative prompt is empty
        counts = torch.tensor([self.dropped + LENGTHS[is_positive] for is_positive in positive])
        places = torch.arange(int(counts.max()))[None]
        ids = torch.stack([(places[0] * (3 + len(line))) % 49 + 1 for line in text])
        return BatchEncoding({"input_ids": ids, "attention_mask": (places < counts[:, None]).long()})


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
    pipe = cls(text_encoder=Reader().eval(), tokenizer=Tokens("generate"), processor=Tokens("edit"), vae=tiny, unet=sharpen(denoiser),
               scheduler=flow())  # fmt: skip

    def own(ask: Ask) -> dict[str, Any]:
        shown = {"image": as_pil(pictures(1, ask.size, seed=ask.seed + 1))[0]} if image else {}
        return {"prompt": "a red shirt and a blue cat", **ask.canvas(), **shown}

    return Case(ready(pipe), own, sizes=((32, 32), (32, 24)))
