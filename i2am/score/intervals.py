"""How sure a mean is: the percentile bootstrap's interval, the same for the same values, resamples and seed."""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 1 << 22  # scores drawn at a time


def bootstrap(values: Tensor, resamples: int, confidence: float, seed: int, over: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The percentile interval of the mean of values [N], float64 on the CPU, or of sum(values) / sum(over), drawn in pairs; NaN if there
    are none."""
    if not len(values):
        return (torch.tensor(torch.nan, dtype=torch.float64, device="cpu"),) * 2
    generator = torch.Generator("cpu").manual_seed(seed)
    means, step = [], max(1, CHUNK // len(values))
    for start in range(0, resamples, step):
        shape = (min(step, resamples - start), len(values))
        drawn = torch.randint(len(values), shape, generator=generator, device="cpu")
        means.append(values[drawn].mean(1) if over is None else values[drawn].sum(1) / over[drawn].sum(1))
    tail = (1 - confidence) / 2
    low, high = torch.cat(means).quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64, device="cpu"))
    return low, high
