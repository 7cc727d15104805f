"""Kandinsky 5's pictures, tiny and random: cross-attention over the prompt, two calls a step, conditional first."""

from __future__ import annotations

from typing import Any

import torch
from ask import Ask, Case
from joint import flow
from parts import absent, as_pil, clip_text, clip_tokenizer, pictures, ready
from qwen_parts import Processor, prefix, reader
from torch import Tensor, nn


class Reads(Processor):
    """A processor whose tokenizer's names the pipeline asks it for, and which cuts nothing off."""

    @property
    def pad_token_id(self) -> int:
        return int(self.tokenizer.pad_token_id)


class Names(nn.Module):
    """A reader whose output can be asked for by name, as transformers' can."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = reader()

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    @property
    def device(self) -> torch.device:
        return torch.get_default_device()

    def forward(self, input_ids: Tensor, **rest: Any) -> dict[str, Any]:
        return {"hidden_states": self.inner(input_ids, **rest).hidden_states}


def pipeline(name: str, with_picture: bool) -> Any:
    """A pipeline of Kandinsky 5 by its class's name; its autoencoder shrinks by 8, which is what the pipelines take for granted."""
    import diffusers

    if not hasattr(diffusers, name):
        absent(name, "no such pipeline")
    torch.manual_seed(0)
    model = diffusers.Kandinsky5Transformer3DModel(
        in_visual_dim=4, out_visual_dim=4, in_text_dim=32, in_text_dim2=32, time_dim=8, model_dim=32, ff_dim=32, num_text_blocks=1,
        num_visual_blocks=2, axes_dims=(4, 6, 6), visual_cond=with_picture,
    )  # fmt: skip
    with torch.no_grad():
        for part, parameter in model.named_parameters():
            if "modulation" in part:  # which starts at zero, and so would what text does to the picture
                parameter.normal_(0.0, 0.5)
            elif part.endswith("query_norm.weight"):
                parameter.mul_(2.0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4, "block_out_channels": (4,) * 4}
    vae = diffusers.AutoencoderKL(layers_per_block=1, latent_channels=4, norm_num_groups=4, **blocks)
    pipe = getattr(diffusers, name)(
        transformer=model.eval(), vae=vae.eval(), text_encoder=Names(), tokenizer=Reads(), text_encoder_2=clip_text(32),
        tokenizer_2=clip_tokenizer(), scheduler=flow(),
    )  # fmt: skip
    pipe.resolutions = [(64, 64), (64, 96)]  # width, height
    pipe.prompt_template_encode_start_idx = prefix(pipe.prompt_template)
    return ready(pipe)


class Pictured(Case):
    """A case whose pipeline calls what it returns an image."""

    def __call__(self, **options: Any) -> Tensor:
        return torch.as_tensor(self.pipe(**self.kwargs(**options)).image)


SIZES = ((64, 64), (96, 64))  # 4 x 4 and 6 x 4 tokens


def text_to_image() -> Case:
    """The prompt's tokens are all keys of the cross-attention."""
    return Pictured(pipeline("Kandinsky5T2IPipeline", False), Ask.text, sizes=SIZES)


def image_to_image() -> Case:
    """The picture is stacked on the channels, and the text's encoder sees it: its places are among the prompt's tokens."""

    def own(ask: Ask) -> dict[str, Any]:
        return {**ask.text(), "image": as_pil(pictures(ask.batch, ask.size, seed=ask.seed + 1))}

    return Pictured(pipeline("Kandinsky5I2IPipeline", True), own, sizes=SIZES)
