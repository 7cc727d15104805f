"""The correspondence field: where an attention's mass lies on a grid, and how widely, from six sums a token.

A token's mass on a grid has the moments  1, y, x, y^2, yx, x^2  over the cells it attends to, which are linear in the attention: as
weights of `bi_attention` they add up beside the maps, over steps, heads and layers, in O(G + R) memory.

    y, x = the cell's centre, in cells, from the corner of the grid: exact in every format that weighs them
    position = first moments / mass        spread = sqrt(trace of the covariance)       in fractions of height and width
"""

from __future__ import annotations

import torch
from torch import Tensor

from i2am_kernels.check import refuse, sizes

MOMENTS = 6  # 1, y, x, y^2, yx, x^2


def moments(grid: tuple[int, int], special: int = 0, device: torch.device | str | None = None) -> Tensor:
    """[6, special + height * width] float32: the moments of each token's cell, row by row; `special` leading tokens have no place.

    As weights: token_weight=moments(reference_grid).mT.expand(batch, -1, -1), column_weight=moments(generated_grid).expand(batch, -1, -1).
    """
    height, width = checked_grid(grid, "moments")
    if not isinstance(special, int) or special < 0:
        refuse("special", "a whole number of 0 or more", repr(special), "Count the tokens in front of the grid's.", "moments")
    y, x = (torch.arange(size, dtype=torch.float32, device=device) + 0.5 for size in (height, width))
    y, x = (axis.flatten() for axis in torch.meshgrid(y, x, indexing="ij"))
    found = torch.stack([torch.ones_like(y), y, x, y * y, y * x, x * x])
    return torch.nn.functional.pad(found, (special, 0))


def field(sums: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Positions [..., T, 2] (y, x), covariances [..., T, 3] (yy, yx, xx) and mass [..., T] of sums [..., 6, T], in float64.

    Positions are fractions of the grid's height and width, covariances of their products; NaN where there is no mass. A mean says
    little where attention has several peaks: the spread, sqrt(yy + xx), is wide there.
    """
    height, width = checked_grid(grid, "field")
    if not isinstance(sums, Tensor) or sums.ndim < 2 or sums.shape[-2] != MOMENTS:
        came = sizes(sums.shape) if isinstance(sums, Tensor) else type(sums).__name__
        refuse("sums", "[..., 6, tokens]", came, "token_maps and column_maps are, where their weights are `moments`.", "field")
    mass, y, x, yy, yx, xx = sums.double().unbind(-2)
    y, x, yy, yx, xx = (moment / mass for moment in (y, x, yy, yx, xx))
    spreads = (yy - y * y).clamp(min=0) / height**2, (yx - y * x) / (height * width), (xx - x * x).clamp(min=0) / width**2
    return torch.stack([y / height, x / width], -1), torch.stack(spreads, -1), mass


def checked_grid(grid: tuple[int, int], of: str) -> tuple[int, int]:
    try:
        height, width = grid
        fits = all(isinstance(size, int) and size > 0 for size in (height, width))
    except (TypeError, ValueError):
        fits = False
    if not fits:
        refuse("grid", "(height, width), whole numbers of 1 or more", repr(grid), "Count the cells: (64, 48) of a 512 x 384 image.", of)
    return height, width
