"""Maps as bytes: one byte a patch, two numbers a map, gzip, base64.

value = low + (high - low) * (byte / steps)**2, so that a byte's error is at most about 1 / steps of the map's range at its peak and
much less near its bottom, where most of a peaked map lies. A map's high and low are 16 bits each, against the largest of all:

high = top * 2**((code - 65535) / 2048), 0 for a map of zeros;    low = high * code / 65535
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

LAST = 65535  # the largest code
OCTAVE = 2048  # codes per factor of two
FLAT = 1e-5  # a range below this part of the largest value is rounding, not a map


def encoded(maps: Sequence[Tensor], steps: int) -> tuple[str, float]:
    """Maps [n, h, w] of any sizes as text, and the largest value of all."""
    top = max(float(tensor.max()) for tensor in maps)
    highs, lows, values = [], [], []
    for tensor in maps:
        flat = tensor.flatten(1).double().numpy()
        most, least = flat.max(1), flat.min(1)
        high = np.zeros(len(flat), np.uint16)
        some = most > 0
        high[some] = np.clip(np.ceil(LAST + OCTAVE * np.log2(most[some] / top)), 1, LAST)
        ceiling = np.where(some, top * 2.0 ** ((high.astype(np.float64) - LAST) / OCTAVE), 0)
        low = np.floor(LAST * least / np.where(some, ceiling, 1)).astype(np.uint16)
        low[some & (most - least <= FLAT * most)] = LAST
        floor = ceiling * low / LAST
        part = (flat - floor[:, None]) / np.where(ceiling > floor, ceiling - floor, math.inf)[:, None]
        highs.append(high)
        lows.append(low)
        values.append(np.rint(steps * np.sqrt(np.clip(part, 0, 1))).astype(np.uint8))
    codes = np.concatenate([*highs, *lows]).astype("<u2").tobytes()
    return packed(codes + b"".join(part.tobytes() for part in values)), top


def packed(data: bytes) -> str:
    """gzip in base64; the same bytes give the same text."""
    press = zlib.compressobj(9, zlib.DEFLATED, 31)
    return base64.b64encode(press.compress(data) + press.flush()).decode()


def coarser(maps: Tensor, factor: int) -> Tensor:
    """[n, h, w] -> a factor-th of the patches each way, each the mean of what it covers."""
    if factor == 1:
        return maps
    size = [-(-side // factor) for side in maps.shape[-2:]]
    return F.interpolate(maps[None], size, mode="area")[0]


def merged(maps: Tensor, grid: tuple[int, int], before: int, behind: int, factor: int) -> Tensor:
    """[before * rows * columns * behind, h, w] -> as `together`, in every frame of the canvas with the cells and of that with the maps."""
    if factor == 1:
        return maps
    shaped = maps.unflatten(0, (before, grid[0] * grid[1], behind)).movedim(1, 0)  # [cells, before, behind, h, w]
    return together(shaped, grid, factor).movedim(0, 1).flatten(0, 2)


def together(maps: Tensor, grid: tuple[int, int], factor: int) -> Tensor:
    """[rows * columns, ..., h, w] -> the maps of larger cells, factor x factor of them each: specific maps add up."""
    if factor == 1:
        return maps
    rows, columns = (-(-side // factor) for side in grid)
    whole = torch.zeros(rows * factor, columns * factor, *maps.shape[1:], dtype=maps.dtype, device=maps.device)
    whole[: grid[0], : grid[1]] = maps.unflatten(0, grid)
    return whole.unflatten(0, (rows, factor)).unflatten(2, (columns, factor)).sum((1, 3)).flatten(0, 1)
