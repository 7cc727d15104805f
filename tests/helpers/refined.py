"""Maps that carry gradient, of attention of one's own choice; and the losses on them as loops over stored attention, in float64."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from i2am import AttributionMaps
from i2am.maps.kept_calls import KeptCall
from i2am.maps.layer_sums import LayerSums
from i2am_kernels import bi_attention_maps, moments

Grid = tuple[int, int]
GRID, REFERENCE = (4, 3), (5, 4)


class Attention(NamedTuple):
    """Calls of one layer, a step each."""

    queries: list[Tensor]  # [B, H, G, D]
    keys: list[Tensor]  # [B, H, before + special + cells + after, D]
    special: int = 0
    before: int = 0  # other keys
    after: int = 0
    mask: Tensor | None = None
    grid: Grid = GRID
    reference: Grid = REFERENCE

    @property
    def part(self) -> slice:
        return slice(self.before, self.keys[0].shape[2] - self.after)

    @property
    def operands(self) -> list[Tensor]:
        return [*self.queries, *self.keys]


def drawn(special: int = 0, steps: int = 1, images: int = 2, heads: int = 3, before: int = 0, after: int = 0, seed: int = 0,
          dtype: torch.dtype = torch.float64, grid: Grid = GRID, reference: Grid = REFERENCE, size: float = 2.0,
          mask: Tensor | None = None) -> Attention:  # fmt: skip
    """Random queries and keys that ask for a gradient."""
    made = torch.Generator().manual_seed(seed)
    count = before + special + reference[0] * reference[1] + after
    queries, keys = ([(size * torch.randn(images, heads, n, 6, generator=made, dtype=dtype)).requires_grad_() for _ in range(steps)]
                     for n in (grid[0] * grid[1], count))  # fmt: skip
    return Attention(queries, keys, special, before, after, mask, grid, reference)


def layer(of: Attention, name: str = "a", groups: int = 1) -> LayerSums:
    """What a differentiable run adds up of it; the first steps belong to the first groups."""
    steps, calls = [], []
    for query, key in zip(of.queries, of.keys):
        weight = moments(of.reference, of.special).mT.expand(len(query), -1, -1).contiguous()
        steps.append(bi_attention_maps(query, key, key, token_weight=weight, attn_mask=of.mask, scale=0.5,
                                       reference=(of.part.start, of.part.stop)))  # fmt: skip
        calls.append(KeptCall(query, key, of.mask, 0.5, of.part))
    per = len(steps) // groups
    sums = {name: torch.stack([sum(getattr(step, kind) for step in steps[i * per : (i + 1) * per]) for i in range(groups)], 1)
            for name, kind in (("r2g", "r2g"), ("g2r", "g2r"), ("field_g2r", "token_maps"))}  # fmt: skip
    return LayerSums(name, "reference", of.grid, of.reference, of.special, **sums, calls=tuple(calls))


def traced(*of: Attention, groups: int = 1) -> AttributionMaps:
    """Maps of layers "a", "b", ..."""
    return AttributionMaps(tuple(layer(one, name, groups) for one, name in zip(of, "abcd")), len(of[0].queries))


def half(images: int = 1, grid: Grid = GRID) -> Tensor:
    """Masks of four times the grid's size that hold other parts of it in every image."""
    mask = torch.zeros(images, 4 * grid[0], 4 * grid[1])
    for i in range(images):
        mask[i, 4 * (i + 1) :, : 4 * grid[1] - 4 * (i % 2)] = 1
    return mask


# What the losses must be


def attention(of: Attention, step: int = 0) -> np.ndarray:
    """[B, heads, G, cells]: P over all keys, of the reference's cells."""
    query, key = of.queries[step].detach().double().numpy(), of.keys[step].detach().double().numpy()
    scores = 0.5 * np.einsum("bhid,bhjd->bhij", query, key)
    if of.mask is not None:
        scores = scores + np.where(of.mask.numpy(), 0.0, -np.inf)
    weight = np.exp(scores - scores.max(-1, keepdims=True))
    return (weight / weight.sum(-1, keepdims=True))[..., of.part][..., of.special :]


def averaged(seen: np.ndarray, renormalise: bool) -> np.ndarray:
    """[B, G, cells] of [B, heads, G, cells]."""
    mean = seen.mean(1)
    return mean / mean.sum(-1, keepdims=True) if renormalise else mean


def centre(row: np.ndarray, reference: Grid) -> tuple[float, float]:
    """The centre of one token's attention."""
    places = list(itertools.product(range(reference[0]), range(reference[1])))
    return sum(a * y for a, (y, _) in zip(row, places)), sum(a * x for a, (_, x) in zip(row, places))


def on_cells(mask: Tensor, of: Attention) -> np.ndarray:
    """[B, G] of 0 and 1: the nearest pixel of each cell."""
    (h, w), images = of.grid, len(of.queries[0])
    mask = mask.expand(images, -1, -1).numpy()
    return np.array([[float(one[i * one.shape[0] // h, j * one.shape[1] // w] >= 0.5) for i in range(h) for j in range(w)] for one in mask])


def looped_tv(of: Attention, mask: Tensor, weight: float, distance: str, mean: str, renormalise: bool) -> float:
    """Of all steps' attention together."""
    seen = averaged(np.mean([attention(of, step) for step in range(len(of.queries))], 0), renormalise)
    inside, (h, w) = on_cells(mask, of), of.grid
    total = 0.0
    for down, right in ((1, 0), (0, 1)):
        added, elements, counted = 0.0, 0, 0.0
        for b, i, j in itertools.product(range(len(seen)), range(h - down), range(w - right)):
            one, other = i * w + j, (i + down) * w + j + right
            both = inside[b, one] * inside[b, other]
            counted += both
            for c, d in zip(centre(seen[b, one], of.reference), centre(seen[b, other], of.reference)):
                added += both * (abs(c - d) if distance == "absolute" else (c - d) ** 2)
                elements += 1
        if counted:
            total += added / (elements if mean == "all" else counted)
    return weight * total


def looped_dcml(of: Attention, mask: Tensor, weight: float, mean: str, renormalise: bool) -> float:
    """Over all pairs of tokens, one by one."""
    seen = averaged(np.mean([attention(of, step) for step in range(len(of.queries))], 0), renormalise)
    inside, (_, w) = on_cells(mask, of), of.grid
    added, elements, counted = 0.0, 0, 0.0
    for b, one, other in itertools.product(range(len(seen)), range(seen.shape[1]), range(seen.shape[1])):
        both = inside[b, one] * inside[b, other]
        (y, x), (v, u) = centre(seen[b, one], of.reference), centre(seen[b, other], of.reference)
        if one // w == other // w and other % w > one % w:
            added += both * max(u - x, 0)
        if one % w == other % w and other // w > one // w:
            added += both * max(v - y, 0)
        elements += 1
        counted += both
    return -weight * added / (elements if mean == "all" else counted)


def looped_cwg(of: Attention, mask: Tensor, weight: float, sigma: float, distance: str, mean: str, renormalise: bool,
               detach_centre: bool = False) -> float:  # fmt: skip
    """The mean over calls of each one's loss; detaching changes no value."""
    losses = []
    inside = on_cells(mask, of)
    for step in range(len(of.queries)):
        seen = averaged(attention(of, step), renormalise)
        added = 0.0
        for b, i in itertools.product(range(len(seen)), range(seen.shape[1])):
            y, x = centre(seen[b, i], of.reference)
            for j, (v, u) in enumerate(itertools.product(range(of.reference[0]), range(of.reference[1]))):
                away = math.hypot(v - y, u - x)
                added += inside[b, i] * seen[b, i, j] * math.exp(-(away if distance == "absolute" else away**2) / (2 * sigma**2))
        losses.append(-weight * added / (seen.size if mean == "all" else inside.sum()))
    return sum(losses) / len(losses)
