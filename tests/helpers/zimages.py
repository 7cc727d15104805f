"""Z-Image's pipelines, tiny and random: blocks filled up to 32 tokens, rows [cond, uncond]."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from ask import Ask, Case, Size
from joint import flow
from parts import absent, as_pil, lively, masks, pictures, ready, sharpen
from qwen_parts import reader, tokenizer
from torch import Tensor, nn

WIDE, TALL = (64, 96), (80, 64)  # references in pixels, 4 x 6 and 5 x 4 tokens of 16 by 16; a side is at least 64
FEATURES = ((2, 3), (3, 2))  # the grids of their SigLIP features
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"


def transformer(**config: Any) -> nn.Module:
    try:
        from diffusers import ZImageTransformer2DModel
    except ImportError as error:
        absent("Z-Image", error)
    torch.manual_seed(0)
    model = ZImageTransformer2DModel(
        in_channels=4, dim=32, n_layers=2, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=32, axes_dims=[4, 6, 6],
        axes_lens=[256, 64, 64], **config,
    )  # fmt: skip
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("pad_token"):
                parameter.normal_()  # zeros would hide what fills a block up
    return sharpen(model)


def autoencoder() -> nn.Module:
    """One that shrinks an image by 8."""
    from diffusers import AutoencoderKL

    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4, "block_out_channels": (4,) * 4}
    return AutoencoderKL(layers_per_block=1, latent_channels=4, norm_num_groups=4, shift_factor=0.0, **blocks).eval()


def pipeline(name: str, model: nn.Module | None = None, **parts: Any) -> Any:
    """A pipeline of Z-Image by its class's name."""
    import diffusers

    if not hasattr(diffusers, name):
        absent(name, "no such pipeline")
    torch.manual_seed(1)
    reads = tokenizer("left")
    reads.chat_template = TEMPLATE
    model = transformer() if model is None else model
    return ready(
        getattr(diffusers, name)(scheduler=flow(), vae=autoencoder(), text_encoder=reader(), tokenizer=reads, transformer=model, **parts)
    )


def reads(ask: Ask) -> dict[str, Any]:
    """The keywords of a prompt, and of guidance, which is off at 0. The negative prompt is longer than a block of 32."""
    negative = ["the plain dog and the plain cat on " * 5] * ask.batch if ask.guided else None
    return {"prompt": ask.prompts, "negative_prompt": negative, "guidance_scale": 5.0 if ask.guided else 0.0, "max_sequence_length": 128}


def plain() -> Case:
    """Text to image; keys [generated, filled, text]."""
    return Case(pipeline("ZImagePipeline"), lambda ask: {**reads(ask), **ask.canvas()})


class Features(nn.Module):
    """What SigLIP returns: features of the grid that its processor says, and some more that fill up."""

    def __init__(self) -> None:
        super().__init__()
        self.colours = nn.Linear(3, 24)

    @property
    def dtype(self) -> torch.dtype:
        return self.colours.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.colours.weight.device

    def forward(self, pixel_values: Tensor, spatial_shapes: Tensor) -> Any:
        return SimpleNamespace(last_hidden_state=torch.tanh(self.colours(pixel_values)))


class Shapes:
    """A wide picture has the first of `FEATURES` as its grid, a tall one the second."""

    def __call__(self, images: list[Any], **_: Any) -> Any:
        from transformers import BatchFeature

        width, height = images[0].size
        rows, columns = FEATURES[0] if width > height else FEATURES[1]
        small = torch.tensor(np.array(images[0].resize((columns, rows)))).reshape(-1, 3) / 64 - 2
        values = torch.cat([small, torch.zeros(3, 3)])
        return BatchFeature({"pixel_values": values[None], "spatial_shapes": torch.tensor([[rows, columns]])})


def omni(references: tuple[Size, ...] = (WIDE, TALL)) -> Case:
    """References as latents in front of what is generated, and as SigLIP's features behind it; the same for all rows."""
    pipe = pipeline("ZImageOmniPipeline", transformer(siglip_feat_dim=24), siglip=lively(Features()), siglip_processor=Shapes())
    for part in pipe.vae.children():  # the pipeline gives it its pictures in bfloat16
        part.to(torch.bfloat16)

    def own(ask: Ask) -> dict[str, Any]:
        images = [as_pil(pictures(1, size, seed=ask.seed + 1 + place))[0] for place, size in enumerate(references)]
        return {**reads(ask), **ask.canvas(), "image": images or None}

    return Case(pipe, own)


def started(inside: bool = False) -> Case:
    """The picture is what the noise is laid over; inside a mask it goes on."""

    def own(ask: Ask) -> dict[str, Any]:
        picture = (pictures(ask.batch, ask.size, seed=ask.seed + 1) + 1) / 2
        mask = {"mask_image": masks(ask.batch, ask.size)} if inside else {}
        return {**reads(ask), **ask.canvas(), **mask, "image": picture, "strength": 1.0}

    return Case(pipeline("ZImageInpaintPipeline" if inside else "ZImageImg2ImgPipeline"), own)
