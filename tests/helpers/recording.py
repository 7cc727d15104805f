"""Calls of a recorder, and its sums."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from i2am import Recorder
from i2am.maps.layer_sums import LayerSums


def noise(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator("cpu").manual_seed(1), device="cpu")


MASK, MASKS = noise(24, 21).round(), noise(3, 24, 14)


def call(batch: int = 3, generated: int = 12, reference: int = 11) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(batch, 2, generated, 8) * 2, torch.randn(batch, 2, reference, 8), torch.randn(batch, 2, reference, 8)


def sums_of(*calls: tuple[Tensor, Tensor, Tensor], grid: tuple[int, int] | None = (4, 3), **options: Any) -> LayerSums:
    """Record these calls as the steps of one layer."""
    recorder = Recorder(**{"groups": 1, **options})
    for tensors in calls:
        recorder.attend("a", *tensors, generated_grid=grid)
        recorder.step()
    return recorder.maps.sums[0]
