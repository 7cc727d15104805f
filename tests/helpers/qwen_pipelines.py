"""Qwen-Image's pipelines, tiny and random: [text, generated, references] in one call a layer.

The pipelines fix their references at about a million pixels, so the autoencoder here shrinks by 64, and a token is 128 pixels wide.
"""

from __future__ import annotations

from typing import Any

import torch
from ask import Ask, Case, Size
from joint import flow, qwen_transformer
from parts import absent, as_pil, masks, pictures, pooling_autoencoder, ready, sharpen
from qwen_parts import Processor, prefix, reader, tokenizer
from torch import nn

TOKEN = 128  # pixels, one way
SIZES: tuple[Size, Size] = ((512, 512), (512, 384))  # 4 x 4 and 4 x 3 tokens
TALL, WIDE = (64, 48), (32, 64)  # references in pixels: their shapes alone count


def pipeline(name: str, model: nn.Module | None = None, **parts: Any) -> Any:
    """A pipeline of Qwen-Image by its class's name, with a reader in place of its encoder."""
    import diffusers

    if not hasattr(diffusers, name):
        absent(name, "no such pipeline")
    pipe = getattr(diffusers, name)(
        scheduler=flow(), vae=pooling_autoencoder(factor=64), text_encoder=reader(), tokenizer=tokenizer(),
        transformer=qwen_transformer() if model is None else model, **parts,
    )  # fmt: skip
    pipe.prompt_template_encode_start_idx = prefix(pipe.prompt_template_encode)  # of this tokenizer
    return ready(pipe)


def reads(ask: Ask) -> dict[str, Any]:
    """The keywords of a prompt, and of guidance by calls of their own."""
    return {"prompt": ask.prompts, "negative_prompt": ask.negative, "true_cfg_scale": 4.0 if ask.guided else 1.0}


def plain() -> Case:
    """Text to image. Prompts of unequal lengths are masked where they end."""
    return Case(pipeline("QwenImagePipeline"), lambda ask: {**reads(ask), **ask.canvas()}, sizes=SIZES)


def edit() -> Case:
    """One reference, 9 x 7 tokens, that the encoder sees as well."""

    def own(ask: Ask) -> dict[str, Any]:
        return {**reads(ask), **ask.canvas(), "image": as_pil(pictures(ask.batch, TALL, seed=ask.seed + 1))}

    return Case(pipeline("QwenImageEditPipeline", processor=Processor()), own, sizes=SIZES)


def edit_inpaint() -> Case:
    """As `edit`, inside a mask; the reference is as large as what is generated."""

    def own(ask: Ask) -> dict[str, Any]:
        image = as_pil(pictures(ask.batch, ask.size, seed=ask.seed + 1))
        mask = masks(ask.batch, ask.size)
        return {**reads(ask), **ask.canvas(), "image": image, "mask_image": mask, "strength": 1.0}

    return Case(pipeline("QwenImageEditInpaintPipeline", processor=Processor()), own, sizes=SIZES)


def edit_plus(references: tuple[Size, ...] = (TALL, WIDE)) -> Case:
    """Several references of different sizes; the pipeline takes one prompt a call, and repeats it."""

    def own(ask: Ask) -> dict[str, Any]:
        images = [as_pil(pictures(1, size, seed=ask.seed + 1 + place))[0] for place, size in enumerate(references)]
        guidance = {"true_cfg_scale": 4.0, "negative_prompt": "a plain dog"} if ask.guided else {"true_cfg_scale": 1.0}
        return {"prompt": "a red shirt and a blue cat", **guidance, **ask.canvas(), "image": images, "num_images_per_prompt": ask.batch}

    return Case(pipeline("QwenImageEditPlusPipeline", processor=Processor()), own, sizes=SIZES)


def layered(layers: int = 2) -> Case:
    """What is generated is the whole picture and its layers, which the reference's size says; the reference comes last."""

    def own(ask: Ask) -> dict[str, Any]:
        images = as_pil(pictures(ask.batch, ask.size, seed=ask.seed + 1))
        return {**reads(ask), "image": images, "layers": layers, "resolution": 640, "output_type": "pt"}

    pipe = pipeline("QwenImageLayeredPipeline", qwen_transformer(use_additional_t_cond=True, use_layer3d_rope=True), processor=Processor())
    object.__setattr__(pipe.vae, "decode", lambda latents, **_: (latents[:, :3],))
    return Pictures(pipe, own, sizes=((64, 64), (64, 48)))


class Pictures(Case):
    """A case whose pipeline forgets to return latents; it deals out its pictures in unequal lists."""

    def __call__(self, **options: Any) -> torch.Tensor:
        return torch.cat(self.pipe(**self.kwargs(**options)).images)


def controlled() -> Case:
    """A ControlNet's picture enters as residuals: no reference tokens."""
    try:
        from diffusers import QwenImageControlNetModel
    except ImportError as error:
        absent("Qwen-Image's ControlNet", error)
    model = qwen_transformer()
    net = sharpen(QwenImageControlNetModel.from_transformer(model, num_layers=1, attention_head_dim=16, num_attention_heads=2))

    def own(ask: Ask) -> dict[str, Any]:
        picture = (pictures(ask.batch, ask.size, seed=ask.seed + 1) + 1) / 2
        return {**reads(ask), **ask.canvas(), "control_image": picture}

    return Case(pipeline("QwenImageControlNetPipeline", model, controlnet=net), own, sizes=SIZES)


def started() -> Case:
    """Image to image: the picture is what the noise is laid over."""

    def own(ask: Ask) -> dict[str, Any]:
        picture = (pictures(ask.batch, ask.size, seed=ask.seed + 1) + 1) / 2
        return {**reads(ask), **ask.canvas(), "image": picture, "strength": 1.0}

    return Case(pipeline("QwenImageImg2ImgPipeline"), own, sizes=SIZES)


def text_around(references: tuple[Size, ...] = (TALL, WIDE), cached: bool = False) -> Case:
    """Qwen-Image 2.1: every picture stands where the prompt's template names it, and what is generated stands last.

    Its autoencoder shrinks by 16, which is a token; references are 10 x 6 tokens (tall) and 6 x 12 (wide), and one place of the encoder's
    stands for 2 x 2 of them.
    """
    try:
        from diffusers import QwenImage21Pipeline, QwenImage21Transformer2DModel
    except ImportError as error:
        absent("Qwen-Image 2.1", error)
    torch.manual_seed(0)
    model = QwenImage21Transformer2DModel(
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        context_in_dim=32,
        axes_dims_rope=(4, 6, 6),
    )
    vae = pooling_autoencoder(factor=16)
    vae.colours = nn.Conv2d(4, 4, 1)  # and opacity
    pipe = QwenImage21Pipeline(flow(), vae, reader(), Processor(square=32), sharpen(model))

    def own(ask: Ask) -> dict[str, Any]:
        images = [as_pil(pictures(1, size, seed=ask.seed + 1 + place))[0] for place, size in enumerate(references)]
        return {**reads(ask), **ask.canvas(), "image": images or None, "output_resolution": 128, "use_kv_cache": cached}

    return Case(ready(pipe), own, sizes=((64, 64), (128, 96)))
