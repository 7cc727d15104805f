"""The noise schedule of the shipped model: a cosine schedule shifted towards noise, as a patch of 48 numbers is easy to see through it."""

from __future__ import annotations

import math

import torch
from diffusers import DDIMScheduler
from torch import Tensor

STEPS = 1000


def alphas_cumprod(shift: float = 6.0, steps: int = STEPS) -> Tensor:
    """The share of the picture in the noisy picture's variance, [steps] float64, falling."""
    time = (torch.arange(steps, dtype=torch.float64) + 1) / steps * 0.9985
    log_ratio = -2 * torch.log(torch.tan(math.pi * time / 2)) - 2 * math.log(shift)
    return torch.sigmoid(log_ratio)


def scheduler(shift: float = 6.0) -> DDIMScheduler:
    kept = alphas_cumprod(shift)
    betas = 1 - kept / torch.cat([torch.ones(1, dtype=kept.dtype), kept[:-1]])
    return DDIMScheduler(
        num_train_timesteps=STEPS,
        trained_betas=[round(beta, 9) for beta in betas.clamp(max=0.999).tolist()],
        prediction_type="sample",
        clip_sample=True,
        set_alpha_to_one=True,
        timestep_spacing="trailing",
    )
