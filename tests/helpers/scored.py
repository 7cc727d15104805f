"""A resize written out, masks and maps that scores are tried on."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def cubic(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Keys' kernel with a = -0.75, half-pixel centres, borders repeated, no antialias: one output row, then one column, at a time."""

    def along(lines: np.ndarray, count: int) -> np.ndarray:
        size, out = lines.shape[0], []
        for i in range(count):
            place = (i + 0.5) * size / count - 0.5
            below = int(np.floor(place))
            t = place - below
            weights = [
                -0.75 * (1 + t) ** 3 + 3.75 * (1 + t) ** 2 - 6 * (1 + t) + 3,
                1.25 * t**3 - 2.25 * t**2 + 1,
                1.25 * (1 - t) ** 3 - 2.25 * (1 - t) ** 2 + 1,
                -0.75 * (2 - t) ** 3 + 3.75 * (2 - t) ** 2 - 6 * (2 - t) + 3,
            ]
            taps = [lines[min(max(below + k, 0), size - 1)] for k in (-1, 0, 1, 2)]
            out.append(sum(lines.dtype.type(w) * tap for w, tap in zip(weights, taps)))
        return np.stack(out)

    return along(along(picture, height).T, width).T


def noise(*shape: int, seed: int = 1) -> Tensor:
    """Peaked, so that bicubic overshoots."""
    return torch.rand(shape, generator=torch.Generator("cpu").manual_seed(seed), device="cpu").pow(4).to(torch.get_default_device())


def boxes(count: int, height: int, width: int) -> Tensor:
    """A different box for each image."""
    masks = torch.zeros(count, height, width)
    for i in range(count):
        masks[i, height // 5 + i : height // 2 + 2 * i, width // 6 : width // 2 + i] = 1
    return masks
