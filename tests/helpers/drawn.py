"""Drawn pairs, as tensors and as a tree on disk."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import grid_sample, max_pool2d


def looked_up(pictures: Tensor, source: Tensor) -> Tensor:
    """[B, C, h, w] at source [B, 2, H, W]."""
    return grid_sample(pictures, source.flip(1).movedim(1, -1) * 2 - 1, padding_mode="border", align_corners=False)


def inner(worn: Tensor, source: Tensor, pixels: int = 2) -> Tensor:
    """Worn pixels away from the edges of both the garment and the reference."""
    deep = max_pool2d(1.0 - worn.float()[:, None], 2 * pixels + 1, 1, pixels)[:, 0] == 0
    return deep & ((source > 0.02) & (source < 0.98)).all(1)


def warped(garment: Tensor, source: Tensor, shade: Tensor) -> Tensor:
    return ((looked_up(garment, source) + 1) * shade[:, None] - 1).clamp(-1, 1)


def share_near(one: Tensor, other: Tensor, where: Tensor, within: float) -> float:
    return ((one - other).abs().amax(1)[where] <= within).float().mean().item()
