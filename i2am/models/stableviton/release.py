"""The parts of the release, with random weights; narrower ones for tests and for training from nothing."""

from __future__ import annotations

from typing import Any

from diffusers import AutoencoderKL, PNDMScheduler

from i2am.maps.tokens import Grid
from i2am.models.stableviton.encoders import ImageEncoder, SpatialEncoder
from i2am.models.stableviton.unet import stableviton_unet


def parts(
    width: int = 320,
    tokens: int = 768,
    grid: Grid = (64, 48),
    vae_width: int = 128,
    image_encoder: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The models by the names of their folders. width: channels on the finest grid, a multiple of 32; tokens: size of CLIP's token."""
    channels = (width, 2 * width, 4 * width, 4 * width)
    return {
        "unet": stableviton_unet(channels, tokens=tokens, grid=grid),
        "spatial_encoder": SpatialEncoder(block_out_channels=channels[:3], tokens=tokens),
        "image_encoder": ImageEncoder(tokens=tokens, **(image_encoder or {})),
        "vae": autoencoder(vae_width),
    }


def autoencoder(width: int = 128) -> AutoencoderKL:
    """Stable Diffusion's."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(width, 2 * width, 4 * width, 4 * width),
        layers_per_block=2,
        latent_channels=4,
        sample_size=512,
        scaling_factor=0.18215,
    )


def scheduler() -> PNDMScheduler:
    """The release's sampler: PLMS, which calls the model twice in its first step."""
    plms = PNDMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    plms.register_to_config(clip_sample=False)  # for DDIM and others made from its config: latents exceed 1
    return plms
