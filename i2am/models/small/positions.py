"""Where a token lies, as smooth waves, and a projection that adds it.

Attention that must find the same spot of another picture learns it hundreds of times faster when queries and keys both carry their
place through projections that start equal: q += W p(place of the query), k += W p(place of the key). The product then falls off
with the distance of the two places, a local identity map to begin with, which training bends into the true warp.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from i2am.maps.tokens import Grid

WAVES = 64  # channels of a place


def waves(grid: Grid, channels: int = WAVES, octaves: float = 4.0) -> Tensor:
    """[tokens, channels]: sines and cosines of the row and of the column, from half a period up, row by row."""
    frequency = math.pi * 2 ** torch.linspace(0, octaves, channels // 4, device="cpu")
    rows, columns = ((torch.arange(n, device="cpu") + 0.5)[:, None] / n * frequency for n in grid)
    row, column = (torch.cat([angle.sin(), angle.cos()], 1) for angle in (rows, columns))
    height, width = grid
    return torch.cat([row[:, None].expand(-1, width, -1), column[None].expand(height, -1, -1)], 2).flatten(0, 1)


class PlacedLinear(nn.Linear):
    """x W^T + p P^T, p the places of the tokens; special tokens, which come first, have none."""

    waves: Tensor  # [grid, WAVES]

    def __init__(self, inside: int, outside: int, grid: Grid) -> None:
        super().__init__(inside, outside, bias=False)
        self.grid = grid
        self.place = nn.Parameter(torch.empty(outside, WAVES))
        self.register_buffer("waves", waves(grid), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        place = self.waves.to(tokens.dtype) @ self.place.to(tokens.dtype).T  # [grid, outside]
        special = tokens.shape[1] - place.shape[0]
        assert special >= 0, f"{tokens.shape[1]} tokens for {place.shape[0]} places"
        return super().forward(tokens) + nn.functional.pad(place, (0, 0, special, 0))


def tie(query: PlacedLinear, key: PlacedLinear, gain: float = 1.5) -> None:
    """Start both from the same orthogonal projection."""
    with torch.no_grad():
        nn.init.orthogonal_(query.place)
        query.place.mul_(gain * (query.out_features / WAVES) ** 0.5)
        key.place.copy_(query.place)
