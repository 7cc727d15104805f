"""The way from a patch to the other picture and back: positions between patches, and how far from home it ends."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from i2am.maps.tokens import Grid


def followed(to: Tensor, home: Tensor) -> Tensor:
    """[N, 2, h, w]: what the way back `home` [N, 2, h', w'] says at the positions `to` [N, 2, h, w], between its patches linearly."""
    at = to.flip(1).movedim(1, -1) * 2 - 1
    ends = F.grid_sample(home.to(at), at, mode="bilinear", padding_mode="border", align_corners=False)
    return torch.where(to.isfinite().all(1, keepdim=True), ends, torch.nan)  # for NaN it takes the first patch


def distance(ends: Tensor, patches: Grid) -> Tensor:
    """[N, h, w]: how far positions [N, 2, h, w] are from the centres of their own patches, in patches of a grid."""
    starts = places((ends.shape[-2], ends.shape[-1])).to(ends)
    return ((ends - starts) * ends.new_tensor(patches)[:, None, None]).norm(dim=1)


def places(grid: Grid) -> Tensor:
    """[2, h, w] float64: the centres of a grid's patches, (y, x) in fractions."""
    y, x = ((torch.arange(n, dtype=torch.float64, device="cpu") + 0.5) / n for n in grid)
    return torch.stack(torch.meshgrid(y, x, indexing="ij"))
