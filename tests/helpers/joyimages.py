"""JoyImageEdit's pipelines, tiny and random: [generated, references, text] in one call a layer.

The pipelines fit every picture into about a million pixels, so the autoencoder here shrinks by 64, and a token is 128 pixels wide.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from ask import Ask, Case, Size
from joint import flow
from parts import absent, as_pil, pictures, ready
from qwen_parts import Processor, prefix, reader, tokenizer
from torch import Tensor, nn

SIZES: tuple[Size, Size] = ((1024, 1024), (1152, 896))  # 8 x 8 and 9 x 7 tokens
TALL, WIDE = (72, 56), (48, 80)  # references in pixels: 9 x 7 and 6 x 10 tokens


def autoencoder() -> nn.Module:
    """Means of 64 by 64 pixels."""
    from diffusers import ConfigMixin, ModelMixin
    from diffusers.configuration_utils import register_to_config

    class PoolingAutoencoder(ModelMixin, ConfigMixin):
        @register_to_config
        def __init__(self, z_dim: int, scale_factor_temporal: int, scale_factor_spatial: int, latents_mean: list[float],
                     latents_std: list[float]) -> None:  # fmt: skip
            super().__init__()
            self.colours = nn.Conv2d(3, z_dim, 1)

        def encode(self, images: Tensor) -> Any:  # [B, 3, 1, h, w]
            small = nn.functional.avg_pool2d(images[:, :, 0], self.config.scale_factor_spatial)
            latents = self.colours(small * 8)[:, :, None]
            return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: latents, sample=lambda: latents))

    return PoolingAutoencoder(4, 4, 64, [0.0] * 4, [1.0] * 4).eval()


def pipeline(plus: bool) -> Any:
    try:
        import diffusers
        from diffusers import JoyImageEditPlusTransformer3DModel, JoyImageEditTransformer3DModel
    except ImportError as error:
        absent("JoyImageEdit", error)
    torch.manual_seed(0)
    model = (JoyImageEditPlusTransformer3DModel if plus else JoyImageEditTransformer3DModel)(
        in_channels=4, hidden_size=32, num_attention_heads=2, text_dim=32, num_layers=2, rope_dim_list=[4, 6, 6]
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("modulate_table"):  # which starts at zero, and so would what attention adds
                parameter.normal_(0.0, 0.5)
            elif name.endswith("attn_q_norm.weight"):
                parameter.mul_(2.0)
    name = "JoyImageEditPlusPipeline" if plus else "JoyImageEditPipeline"
    pipe = getattr(diffusers, name)(
        scheduler=flow(),
        vae=autoencoder(),
        text_encoder=reader(),
        tokenizer=tokenizer(),
        transformer=model.eval(),
        processor=Processor(1024),
    )
    template = pipe.prompt_template_encode["multiple_images"]
    pipe.prompt_template_encode_start_idx = {"image": prefix(template), "multiple_images": prefix(template)}
    return ready(pipe)


def edit() -> Case:
    """One reference, as large as what is generated. Guided: two calls a step, conditional first."""

    def own(ask: Ask) -> dict[str, Any]:
        image = as_pil(pictures(ask.batch, TALL, seed=ask.seed + 1))
        return {**ask.text(), "image": image}

    return Case(pipeline(False), own, sizes=SIZES)


class PlusCase(Case):
    """A pipeline without `num_images_per_prompt`."""

    def kwargs(self, *args: Any, **options: Any) -> dict[str, Any]:
        given = super().kwargs(*args, **options)
        del given["num_images_per_prompt"]
        return given


def edit_plus() -> PlusCase:
    """Several references of different sizes; rows are [uncond, cond], and the text's padding is masked."""

    def own(ask: Ask) -> dict[str, Any]:
        sizes = (TALL, WIDE)
        each = zip(*(as_pil(pictures(ask.batch, size, seed=ask.seed + 1 + place)) for place, size in enumerate(sizes)))
        return {
            "prompt": ask.prompts,
            "negative_prompt": ask.negative,
            **ask.canvas(),
            **ask.guidance(),
            "images": [[*row] for row in each],
        }

    return PlusCase(pipeline(True), own, sizes=SIZES)
