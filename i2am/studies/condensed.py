"""The maps of a run in a hundredth of their size, and what a part of the picture takes from the reference.

A run recorded, for each cell c of the picture, S_c = sum over the cell's patches i of P_i, a map on the reference. With weights w_c of the
cells the reference map of a region is (1 / G) sum_c w_c S_c, and of the whole picture, w = 1, it is the unified G2R.

Heads are added up, and so are the layers that lie on the output grid already, of which no resizing depends: every unified map is what it
was. Layers on other grids stay, as they are resized and clamped one by one.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from i2am.maps.layer_sums import LayerSums
from i2am.maps.levels import AttributionMaps
from i2am.maps.regions import cells
from i2am.maps.tokens import Grid

CELLS = 8  # along the longer side, at most
SIDES = {"r2g": "generated_grid", "g2r": "reference_grid", "specific": "reference_grid"}
TOTAL = "all layers of the largest grid"
ABOUT = "cells"
Key = tuple[str, object, object, int, tuple[str, ...]]


def condensed(maps: AttributionMaps, cells: Grid | None) -> AttributionMaps:
    """The same unified maps of every reference, from as few sums as they can be made of; words have a file of their own.

    cells: the rows and columns of the regions that were traced.
    """
    kept = list[LayerSums]()
    for source in maps.references:
        there = [s for s in maps.sums if s.source == source and s.r2g is not None]
        found: dict[Key, list[LayerSums]] = {}
        for place, sums in enumerate(there):
            key = (TOTAL if largest(sums, there) else f"{place}", sums.generated_grid, sums.reference_grid, sums.special, names(sums))
            found.setdefault(key, []).append(added_up(sums))
        merged = [merge(parts, key[0] == TOTAL) for key, parts in found.items()]
        for name in SIDES:  # a level is a mean over heads: ours have one each, which weighs as much as all of theirs
            heads = sum(getattr(s, name).shape[2] for s in there if getattr(s, name) is not None)
            ours = sum(getattr(s, name) is not None for s in merged)
            merged = [s if getattr(s, name) is None else replace(s, **{name: getattr(s, name) * (ours / heads)}) for s in merged]
        kept += merged
    about = maps.about if cells is None else {**maps.about, ABOUT: f"{cells[0]} x {cells[1]}"}
    return AttributionMaps(tuple(kept), maps.steps, maps.regions, None, (), about, pictures=maps.pictures)


def cells_in(maps: AttributionMaps) -> Grid | None:
    """The rows and columns of cells that a file's maps have."""
    if ABOUT not in maps.about:
        return None
    rows, columns = maps.about[ABOUT].split(" x ")
    return int(rows), int(columns)


def names(sums: LayerSums) -> tuple[str, ...]:
    return tuple(name for name in SIDES if getattr(sums, name) is not None)


def largest(sums: LayerSums, among: list[LayerSums]) -> bool:
    """Whether every map of this layer lies on the output grid, to which the others are resized."""
    for name in names(sums):
        grids = [grid for s in among if getattr(s, name) is not None and (grid := getattr(s, SIDES[name])) is not None]
        if grids and getattr(sums, SIDES[name]) != max(grids, key=lambda grid: math.prod(grid[-2:])):
            return False
    return True


def added_up(sums: LayerSums) -> LayerSums:
    """Over heads and time groups, and without what is kept elsewhere."""
    nothing: dict[str, None] = dict.fromkeys(sums.recorded)
    return replace(sums, calls=(), **{**nothing, **{name: getattr(sums, name).sum((1, 2), keepdim=True) for name in names(sums)}})


def merge(parts: list[LayerSums], total: bool) -> LayerSums:
    """Layers of one shape added up, in their order."""
    if not total:
        return parts[0]
    return replace(parts[0], layer=TOTAL, **{name: sum(getattr(s, name) for s in parts) for name in names(parts[0])})


def cells_of(grids: list[Grid], asked: Grid | None = None) -> Grid:
    """Rows and columns of cells, none of which is smaller than a patch of any layer: then each patch lies in one cell alone."""
    height, width = (min(grid[axis] for grid in grids) for axis in (0, 1))
    if asked is not None:
        return min(asked[0], height), min(asked[1], width)
    shape = max(grids, key=math.prod)
    most = [max(1, round(CELLS * side / max(shape))) for side in shape]
    return min(most[0], height), min(most[1], width)


def per_cell(weights: Tensor, rows: int, columns: int) -> Tensor:
    """[rows * columns] means of weights [h, w], each pixel in the cell that its centre lies in, as attention's patches are."""
    owner = torch.zeros(weights.shape, dtype=torch.long)
    for n, (top, left, bottom, right) in enumerate(cells(rows, columns)):
        y, x = ((torch.arange(count) + 0.5) / count for count in weights.shape)
        owner[((y >= top) & (y < bottom))[:, None] & ((x >= left) & (x < right))[None]] = n
    sums = torch.zeros(rows * columns, dtype=torch.float64).index_add_(0, owner.flatten(), weights.flatten().double())
    return sums / torch.bincount(owner.flatten(), minlength=rows * columns).clamp(min=1)


def of_region(maps: AttributionMaps, weights: Tensor, size: Grid | None = None, reference: str | None = None) -> Tensor:
    """[H, W], the unified map on the reference of a region of one picture: weights [cells]; with 1 everywhere it is the unified G2R."""

    def weighed(s: LayerSums) -> LayerSums:
        return s if s.specific is None else replace(s, g2r=by_weight(s, weights).float(), specific=None)

    return replace(maps, sums=tuple(map(weighed, maps.sums))).unified("g2r", size, reference=reference)[0]


def taken(maps: AttributionMaps, weights: Tensor, reference: str) -> float:
    """How much attention a region gives to the reference's tokens that have a place, over all layers."""
    there = [s for s in maps.sums if s.source == reference and s.specific is not None]
    return sum(float(by_weight(s, weights)[..., s.special :].sum()) for s in there)


def by_weight(s: LayerSums, weights: Tensor) -> Tensor:
    """[B, groups, heads, R], (1 / G) sum_c w_c S_c in float64."""
    assert s.specific is not None
    assert s.r2g is not None
    return torch.einsum("bghnr,n->bghr", s.specific.double(), weights.double()) / s.r2g.shape[-1]
