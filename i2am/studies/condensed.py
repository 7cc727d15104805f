"""The maps of a run in a hundredth of their size, and what a part of the picture takes from the reference.

A run recorded, for each cell c of the picture, S_c = sum over the cell's patches i of P_i, a map on the reference. With weights w_c of the
cells the reference map of a region is sum_c w_c S_c / G, and of the whole picture, w = 1, it is the unified G2R.

Layers that lie on the output grid already, which no resizing changes, are added up with their heads; so every unified map is what it was.
Layers on other grids stay head by head, as each is resized and clamped by itself. Kept of a cell is S_c / G, of layers with different G.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from i2am.maps.layer_sums import LayerSums
from i2am.maps.levels import AttributionMaps
from i2am.maps.regions import cells
from i2am.maps.tokens import AnyGrid, Grid

CELLS = 8  # along the longer side, at most
GENERATED, REFERENCE = ("r2g",), ("g2r", "specific")  # what lies on which canvas
TOTAL = "all layers of the largest grid"
ABOUT = "cells"


def condensed(maps: AttributionMaps, cells: Grid | None) -> AttributionMaps:
    """The same unified maps of every reference, from as few sums as they can be made of; words have a file of their own.

    cells: the rows and columns of the regions that were traced.
    """
    kept = list[LayerSums]()
    for source in maps.references:
        there = [plain(s) for s in maps.sums if s.source == source and s.r2g is not None]
        merged: dict[str, Tensor] = {}
        apart: list[dict[str, Tensor]] = [{} for _ in there]
        grids = {"generated_grid": largest([s.generated_grid for s in there]),
                 "reference_grid": largest([s.reference_grid for s in there if s.g2r is not None])}  # fmt: skip
        for names, grid in ((GENERATED, "generated_grid"), (REFERENCE, "reference_grid")):
            for name in names:
                for one, own in zip(there, apart):
                    sums = getattr(one, name)
                    fits = name not in merged or (sums is not None and sums.shape[-1] == merged[name].shape[-1])
                    if sums is not None and fits and getattr(one, grid) == grids[grid]:
                        sums = sums.sum(2, keepdim=True)
                        merged[name] = merged[name] + sums if name in merged else sums
                    elif sums is not None:
                        own[name] = sums
                heads = sum(getattr(s, name).shape[2] for s in there if getattr(s, name) is not None)
                ours = sum(own[name].shape[2] for own in [merged, *apart] if name in own)
                for own in [merged, *apart]:  # a level is a mean over heads: ours weigh as much as all of theirs
                    if name in own:
                        own[name] = own[name] * (ours / heads)
        special = max((s.special for s in there if s.reference_grid == grids["reference_grid"]), default=0)
        kept.append(LayerSums(TOTAL, source, special=special, **grids, **merged))  # type: ignore[arg-type]
        nothing: dict[str, Any] = dict.fromkeys((*GENERATED, *REFERENCE))
        kept += [replace(one, **{**nothing, **own}) for one, own in zip(there, apart) if own]
    about = maps.about if cells is None else {**maps.about, ABOUT: f"{cells[0]} x {cells[1]}"}
    return AttributionMaps(tuple(kept), maps.steps, maps.regions, None, (), about, pictures=maps.pictures)


def plain(sums: LayerSums) -> LayerSums:
    """Without time groups and what is kept elsewhere, and cells as parts of the picture."""
    found = {name: getattr(sums, name).sum(1, keepdim=True) for name in (*GENERATED, *REFERENCE) if getattr(sums, name) is not None}
    if "specific" in found:
        found["specific"] = found["specific"] / found["r2g"].shape[-1]
    return replace(sums, calls=(), **{**dict.fromkeys(sums.recorded), **found})


def largest(grids: Sequence[AnyGrid | None]) -> AnyGrid | None:
    """The grid to which the others are resized; None where a layer has none: its tokens have no place."""
    known = [grid for grid in grids if grid is not None]
    return max(known, key=lambda grid: math.prod(grid[-2:])) if len(known) == len(grids) and known else None


def cells_in(maps: AttributionMaps) -> Grid | None:
    """The rows and columns of cells that a file's maps have."""
    if ABOUT not in maps.about:
        return None
    rows, columns = maps.about[ABOUT].split(" x ")
    return int(rows), int(columns)


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
    """[B, groups, heads, R], sum_c w_c S_c / G in float64."""
    assert s.specific is not None
    return torch.einsum("bghnr,n->bghr", s.specific.double(), weights.double())
