"""Attention of one's own choice, recorded with its field; and its field from stored matrices, as the method states it, in any precision.

Keys are unit vectors, so that queries are the scores themselves.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import torch
from torch import Tensor

from i2am import AttributionMaps, Recorder

Grid = tuple[int, int]
SURE = 400.0  # a score that leaves nothing to the others: e^-400 is 0 in float32


class Layer(NamedTuple):
    scores: Tensor  # [steps, B, heads, G, R]
    grid: Grid
    reference: Grid
    special: int = 0
    name: str = "a"
    source: str = "reference"


def recorded(*layers: Layer, groups: int = 1, dtype: torch.dtype = torch.float32, how: dict[str, Any] | None = None,
             **options: Any) -> AttributionMaps:  # fmt: skip
    """Play these layers' steps; `how` holds more of attend's keywords."""
    steps = len(layers[0].scores)
    recorder = Recorder(**{"groups": groups, "steps": steps, "field": True, **options})
    for step in range(steps):
        for layer in layers:
            query = layer.scores[step].to(dtype)
            key = torch.eye(query.shape[-1], dtype=dtype).expand(*query.shape[:2], -1, -1)
            recorder.attend(layer.name, query, key, key, generated_grid=layer.grid, reference_grid=layer.reference,
                            special=layer.special, source=layer.source, scale=1.0, **how or {})  # fmt: skip
        recorder.step()
    return recorder.maps


def tokens(grid: Grid) -> int:
    return grid[0] * grid[1]


def noise(grid: Grid, reference: Grid, steps: int = 1, images: int = 1, heads: int = 1, special: int = 0, size: float = 2.0,
          **more: Any) -> Layer:  # fmt: skip
    """Random scores."""
    scores = torch.randn(steps, images, heads, tokens(grid), special + tokens(reference)) * size
    return Layer(scores, grid, reference, special, **more)


def one_hot(order: Tensor, grid: Grid, reference: Grid, special: int = 0, **more: Any) -> Layer:
    """Every generated token i attends to reference token order[i] alone."""
    scores = torch.zeros(1, 1, 1, tokens(grid), special + tokens(reference))
    scores[0, 0, 0, torch.arange(tokens(grid)), special + order] = SURE
    return Layer(scores, grid, reference, special, **more)


def centres(grid: Grid, dtype: torch.dtype = torch.float64) -> Tensor:
    """[tokens, 2], (y, x) in fractions, row by row."""
    return torch.tensor([((i + 0.5) / grid[0], (j + 0.5) / grid[1]) for i in range(grid[0]) for j in range(grid[1])], dtype=dtype)


# What the field must be


def moments(weights: Tensor, target: Grid) -> Tensor:
    """[..., 6, tokens] of attention [..., tokens, targets]."""
    y, x = centres(target, weights.dtype).unbind(1)
    return torch.stack([weights @ one for one in (torch.ones_like(y), y, x, y * y, y * x, x * x)], -2)


def both(layer: Layer, dtype: torch.dtype) -> dict[str, Tensor]:
    """The moments [steps, B, heads, 6, h, w] of the row softmax and of the column softmax."""
    scores = layer.scores.to(dtype)
    there, back = scores.softmax(-1)[..., layer.special :], scores.softmax(-2)[..., layer.special :].mT
    return {"g2r": moments(there, layer.reference).unflatten(-1, layer.grid),
            "r2g": moments(back, layer.grid).unflatten(-1, layer.reference)}  # fmt: skip


def field_of(sums: Tensor) -> tuple[Tensor, Tensor]:
    """Positions [..., h, w, 2] and second moments [..., h, w, 3] of moments [..., 6, h, w]."""
    return tuple((sums[..., part, :, :] / sums[..., :1, :, :]).movedim(-3, -1) for part in (slice(1, 3), slice(3, 6)))


def linear(picture: Tensor, y: float, x: float) -> Tensor:
    """A picture [..., h, w] at a place in fractions, between pixels linearly, beyond the last centres as there."""
    corners = []
    for at, size in zip((y, x), picture.shape[-2:]):
        place = min(max(at * size - 0.5, 0.0), size - 1.0)
        first = min(int(place), max(size - 2, 0))
        corners.append(((first, 1 - (place - first)), (min(first + 1, size - 1), place - first)))
    return sum(picture[..., i, j] * (a * b) for (i, a), (j, b) in itertools.product(*corners))


def stretched(sums: Tensor, size: Grid) -> Tensor:
    rows = [torch.stack([linear(sums, (i + 0.5) / size[0], (j + 0.5) / size[1]) for j in range(size[1])], -1) for i in range(size[0])]
    return torch.stack(rows, -2)


def mixture(layers: list[Layer], direction: str, dtype: torch.dtype, size: Grid | None = None, weigh: str = "evenly") -> Tensor:
    """Moments [B, 6, H, W]: all steps and heads of all layers, each head by its weight."""
    grids = [layer.grid if direction == "g2r" else layer.reference for layer in layers]
    finest = max(grids, key=tokens)
    total = []
    for layer in layers:
        found = {name: sums.sum(0) for name, sums in both(layer, dtype).items()}  # [B, heads, 6, h, w]
        own = found[direction] * weight(found, direction, weigh, layer, finest)[:, :, None]
        total.append(stretched(own.sum(1), size or finest))
    return torch.stack(total).sum(0)


def weight(found: dict[str, Tensor], direction: str, weigh: str, layer: Layer, finest: Grid) -> Tensor:
    """[B, heads, h, w]."""
    sums, back = found[direction], found["r2g" if direction == "g2r" else "g2r"]
    if weigh == "evenly":
        return torch.ones_like(sums[:, :, 0])
    at, second = field_of(sums)
    if weigh == "spread":
        height, width = layer.reference if direction == "g2r" else layer.grid
        variance = second[..., 0] + second[..., 2] - (at**2).sum(-1)
        return 1 / (variance + (1 / height**2 + 1 / width**2) / 12)
    away = strayed(at, field_of(back)[0], finest)
    share = ((away < 1).sum((-2, -1)) + 1) / (away.shape[-2] * away.shape[-1])
    return share[..., None, None] ** 2 / (away**2 + 0.25)


def strayed(there: Tensor, back: Tensor, patches: Grid) -> Tensor:
    """[B, heads, h, w]: how far from itself each patch ends that goes there and back."""
    images, heads, h, w = there.shape[:4]
    away = torch.empty(images, heads, h, w, dtype=there.dtype)
    for b, head, i, j in itertools.product(*map(range, (images, heads, h, w))):
        y, x = there[b, head, i, j].tolist()
        end = linear(back[b, head].movedim(-1, 0), y, x)
        off = (end[0] - (i + 0.5) / h) * patches[0], (end[1] - (j + 0.5) / w) * patches[1]
        away[b, head, i, j] = (off[0] ** 2 + off[1] ** 2) ** 0.5
    return away
