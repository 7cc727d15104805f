"""Small denoisers with random weights whose attention to a reference is trained, and a batch for each."""

from __future__ import annotations

from typing import Any, NamedTuple

import pipelines
import torch
from parts import noise
from torch import Tensor, nn

from i2am.models.stableviton.unet import stableviton_unet

IMAGES = 2


class Training(NamedTuple):
    """What a loop of a training needs."""

    unet: nn.Module
    own: list[nn.Parameter]  # the weights that are trained
    asked: dict[str, Any]  # the denoiser's arguments
    named: dict[str, Any]  # a batch, by the names that docs/losses.md gives its parts
    order: tuple[str, ...]  # in which a batch of it comes
    scheduler: Any = None


def garment_mask(height: int, width: int) -> Tensor:
    """[B, h, w]: the middle of every image."""
    mask = torch.zeros(IMAGES, height, width)
    mask[:, height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = 1
    return mask


def adapter() -> Training:
    """An IP-Adapter beside its text; the reference is a CLS token and 16 x 16 patches."""
    pipe = pipelines.ip_adapter("full").pipe
    latents, text, garment = noise(IMAGES, 4, 16, 12), noise(IMAGES, 77, 32, seed=1), noise(IMAGES, 1, 257, 32, seed=2)
    named = {"latents": latents, "mask": garment_mask(16, 12), "text": text, "garment": garment, "noisy": latents,
             "noise": noise(IMAGES, 4, 16, 12, seed=3), "timesteps": torch.tensor([500, 100])}  # fmt: skip
    asked = {"sample": latents, "timestep": named["timesteps"], "encoder_hidden_states": text,
             "added_cond_kwargs": {"image_embeds": [garment]}}  # fmt: skip
    own = [weight for name, weight in pipe.unet.named_parameters() if "_ip" in name or name.startswith("encoder_hid_proj")]
    return Training(pipe.unet, own, asked, named, ("latents", "mask", "text", "garment"), pipe.scheduler)


def warp() -> Training:
    """StableVITON's denoiser at a small width: warp block 4 has 8 x 4 tokens of either side."""
    torch.manual_seed(0)
    unet = stableviton_unet((32, 32, 32, 32), heads=2, tokens=32, grid=(16, 8))
    features = [noise(IMAGES, 32, 16 >> level, 8 >> level, seed=i) for i, level in enumerate((0, 0, 0, 1, 1, 1, 2, 2, 2))]
    asked = {"sample": noise(IMAGES, 13, 16, 8, seed=10), "timestep": torch.tensor([500, 100]),
             "encoder_hidden_states": noise(IMAGES, 1, 32, seed=11), "garment": features}  # fmt: skip
    named = {"noisy": asked["sample"], "noise": noise(IMAGES, 4, 16, 8, seed=12), "timesteps": asked["timestep"],
             "token": asked["encoder_hidden_states"], "features": features, "mask": garment_mask(16, 8)}  # fmt: skip
    return Training(unet, list(unet.warp_flow_blks.parameters()), asked, named, tuple(named))
