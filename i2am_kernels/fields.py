"""The correspondence field: where an attention's mass lies on a grid, and how widely, from six sums a token.

A token's mass on a grid has the moments  1, y, x, y^2, yx, x^2  over the cells it attends to, which are linear in the attention: as
weights of `bi_attention` they add up beside the maps, over steps, heads and layers, in O(G + R) memory.

    y, x = the cell's centre, in cells, from the corner of the grid: exact in every format that weighs them
    position = first moments / mass        spread = sqrt(trace of the covariance)       in fractions of height and width
"""

from __future__ import annotations

import torch
from torch import Tensor

from i2am_kernels.check import refuse

MOMENTS = 6  # 1, y, x, y^2, yx, x^2


def moments(grid: tuple[int, int], special: int = 0, device: torch.device | str | None = None) -> Tensor:
    """[6, special + height * width] float32: the moments of each token's cell, row by row; `special` leading tokens have no place.

    As weights: token_weight=moments(reference_grid).mT.expand(batch, -1, -1), column_weight=moments(generated_grid).expand(batch, -1, -1).
    """
    (height, width) = grid
    y, x = (torch.arange(size, dtype=torch.float32, device=device) + 0.5 for size in (height, width))
    y, x = (axis.flatten() for axis in torch.meshgrid(y, x, indexing="ij"))
    found = torch.stack([torch.ones_like(y), y, x, y * y, y * x, x * x])
    return torch.nn.functional.pad(found, (special, 0))


def field(sums: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Positions [..., T, 2] (y, x), covariances [..., T, 3] (yy, yx, xx) and mass [..., T] of sums [..., 6, T], in float64.

    Positions are fractions of the grid's height and width, covariances of their products; NaN where there is no mass. A mean says
    little where attention has several peaks: the spread, sqrt(yy + xx), is wide there.
    """
    if sums.ndim < 2 or sums.shape[-2] != MOMENTS:
        refuse("the field's sums", "[..., 6, tokens], made with `moments`", list(sums.shape), "token_maps and column_maps are such.")
    mass, y, x, yy, yx, xx = sums.double().unbind(-2)
    y, x, yy, yx, xx = (moment / mass for moment in (y, x, yy, yx, xx))
    height, width = grid
    spreads = (yy - y * y).clamp(min=0) / height**2, (yx - y * x) / (height * width), (xx - x * x).clamp(min=0) / width**2
    return torch.stack([y / height, x / width], -1), torch.stack(spreads, -1), mass
