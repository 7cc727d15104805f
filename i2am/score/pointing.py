"""Do maps point at what is known? Measures against a true correspondence of generated pixels and reference positions.

    pointing accuracy = the share of garment patches whose specific map peaks within `within` reference patches of the true one
    pointing mass     = the mean share of the specific map's mass that lies within `mass_within` patches of it

Distances are Chebyshev's between patches, so within=1 is a 3x3 window. Both stand beside the identity baseline: what a map would
score that has all its mass at the same place of the reference as the patch has in the generated image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from i2am.common.checks import fields_said, instance, number, refuse, whole_number
from i2am.data.truth import ABOUT, Patches, Truth, grids_of
from i2am.maps.layers import Layers
from i2am.maps.levels import AttributionMaps
from i2am.maps.recorder import describe
from i2am.maps.regions import cells as boxes
from i2am.maps.tokens import Grid

KEY = ("level", "layer", "head", "group", "grid")
SUMS = ("hits", "held", "baseline_hits", "baseline_held", "count")


def _share(sums: str) -> Any:
    return property(lambda self: getattr(self, sums).sum(0).double() / self.count.sum(0), doc=f"{sums} / count, over all images.")


@dataclass(frozen=True, eq=False)
class Pointing:
    """Sums per image, [B], or [B, m] for a level of m maps; `a + b` appends b's images. The ratios are over all of them."""

    hits: Tensor  # patches whose map peaks near the truth
    held: Tensor  # the mass that lies near the truth, a share of 1 for each patch
    baseline_hits: Tensor  # the same of the identity
    baseline_held: Tensor
    count: Tensor  # garment patches
    __repr__ = fields_said

    def __add__(self, other: Pointing) -> Pointing:
        return Pointing(*(torch.cat([getattr(self, name), getattr(other, name)]) for name in SUMS))

    accuracy, mass = _share("hits"), _share("held")
    baseline_accuracy, baseline_mass = _share("baseline_hits"), _share("baseline_held")


def pointing(
    maps: AttributionMaps,
    truth: Truth,
    *,
    cells: Grid | None = None,
    within: int = 1,
    mass_within: int = 2,
    level: str = "unified",
    layers: Layers = None,
    cover: float = 0.9,
    **choice: Any,
) -> Pointing:
    """How well the specific maps of cells that tile the image point at the truth; trace with specific=i2am.cells(rows, columns).

    cells: (rows, columns), needed where the run has other regions too. level: "unified" gives sums [B], "time", "head" and "layer"
    [B, m]. Maps are taken on the largest reference grid among the layers, at level "layer" each on its own, and scaled to mass 1
    without special tokens, which have no place. A map without any mass has no peak and holds nothing; equal peaks go to the first.
    heads=, groups=, reference= and balance= as for `maps.specific`.
    """
    instance("maps", maps, AttributionMaps, "run.maps is one.")
    instance("truth", truth, Truth, ABOUT)
    for name, patches in (("within", within), ("mass_within", mass_within)):
        whole_number(name, patches, 0, "It counts patches: 1 is a window of 3 x 3.")
    number("cover", cover, "a share above 0, up to 1", lambda x: 0 < x <= 1, "0.9 wants most of a patch worn.")
    first, tiling = _tiles(maps, cells)
    per = truth.serves(len(maps))
    if level == "layer":
        options = {**choice, "cells": cells, "within": within, "mass_within": mass_within, "cover": cover}
        names = maps.names("specific", layers, choice.get("reference"))
        each = [pointing(maps, truth, layers=[name], **options) for name in names]
        return Pointing(*(torch.stack([getattr(one, name) for one in each], 1) for name in SUMS))
    found = maps.level("specific", level, layers=layers, **choice)[..., first : first + tiling[0] * tiling[1], :, :]
    found = found[:, None] if level == "unified" else found  # [B, m, n, h, w]
    grid = (found.shape[-2], found.shape[-1])
    at = truth.on_grid(tiling, grid, cover)
    rows = [_measured(image.flatten(-2), grid, at, i // per, within, mass_within) for i, image in enumerate(found)]
    sums = (torch.stack(column) for column in zip(*rows))
    return Pointing(*(s[:, 0] if level == "unified" else s for s in sums))


def _measured(found: Tensor, grid: Grid, at: Patches, image: int, within: int, mass_within: int) -> tuple[Tensor, ...]:
    """One image's sums, [m] each, for maps [m, n, R]."""
    counts, patch = at.counts[image].flatten(), at.patch[image].flatten(0, 1)
    found, patch, identity = found[:, counts].double(), patch[counts], at.identity.flatten(0, 1)[counts]
    places = torch.cartesian_prod(*(torch.arange(n, device="cpu") for n in grid)).view(-1, 2)
    total = found.sum(-1)
    far = (places[found.argmax(-1)] - patch).abs().amax(-1)  # [m, patches]
    near = (places - patch[:, None]).abs().amax(-1) <= mass_within  # [patches, R]
    held = torch.where(total > 0, (found * near).sum(-1) / total, 0)
    away = (identity - patch).abs().amax(-1)
    alike = [x.expand(len(found)) for x in ((away <= within).sum(), (away <= mass_within).sum().double(), counts.sum())]
    return ((far <= within) & (total > 0)).sum(-1), held.sum(-1), *alike


def _tiles(maps: AttributionMaps, cells: Grid | None) -> tuple[int, Grid]:
    """Which region is the first cell, and (rows, columns) of the cells."""
    regions = list(maps.regions)
    if cells is None:  # as many columns as boxes that start at the height of the first
        tops = [region.split()[1] for region in regions]
        columns = next((i for i, top in enumerate(tops) if top != tops[0]), len(tops))
        tiling = (len(tops) // max(1, columns), columns)
    else:
        (tiling,) = grids_of(cells)
    names = [describe(box) for box in boxes(*tiling)] if regions or cells else []
    starts = [i for i in range(len(regions) - len(names) + 1) if regions[i : i + len(names)] == names]
    if not starts or not names:
        got = ", ".join(regions[:3]) + f" ... ({len(regions)})" if regions else "none"
        remedy = "Trace with specific=i2am.cells(rows, columns); pass cells=(rows, columns) where there are other regions too."
        refuse("the regions", "cells that tile the image, row by row", got, remedy)
    return starts[0], tiling


def table(maps: AttributionMaps, truth: Truth, *, layers: Layers = None, **choice: Any) -> list[dict[str, Any]]:
    """A row for the unified map, each layer, and each head and time group of all layers together and of each layer.

    Rows name their level, layer, head and group (None: all of them), the reference grid they were measured on, the ratios, and the
    sums that `add_tables` adds up over batches. Options are those of `pointing`. Heads of all layers together are left out where
    layers differ in their number.
    """
    if not choice.keys().isdisjoint(("heads", "groups", "level")):
        refuse("the table", "of every head, group and level", sorted(choice), "Ask `pointing` for some of them.")
    instance("maps", maps, AttributionMaps, "run.maps is one.")
    which = choice.get("reference")
    shapes = {name: maps.buffer("specific", name, reference=which).shape for name in maps.names("specific", layers, which)}
    rows = []
    for layer, chosen in [(None, list(shapes)), *((name, [name]) for name in shapes)]:
        grid = max((tuple(shapes[name][-2:]) for name in chosen), key=lambda grid: grid[0] * grid[1])
        for level in ("unified", "head", "time") if len({shapes[name][2] for name in chosen}) == 1 else ("unified", "time"):
            found = pointing(maps, truth, layers=chosen, level=level, **choice)
            sums = [getattr(found, name).sum(0).reshape(-1).tolist() for name in SUMS]
            for i, numbers in enumerate(zip(*sums)):
                place = {"head": i if level == "head" else None, "group": i if level == "time" else None}
                key = {"level": "layer" if level == "unified" and layer else level, "layer": layer, **place, "grid": grid}
                rows.append(_row(key, dict(zip(SUMS, numbers))))
    return rows


def add_tables(*tables: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The table of several batches together."""
    keys = [[{name: row[name] for name in KEY} for row in one] for one in tables]
    if not tables or any(one != keys[0] for one in keys):
        refuse("the tables", "at least one, of the same rows", [len(one) for one in tables], "Measure every batch with the same options.")
    return [_row(key, {name: sum(row[name] for row in rows) for name in SUMS}) for key, *rows in zip(keys[0], *tables)]


def _row(key: dict[str, Any], sums: dict[str, Any]) -> dict[str, Any]:
    ratios = {"accuracy": "hits", "mass": "held", "baseline_accuracy": "baseline_hits", "baseline_mass": "baseline_held"}
    count = sums["count"]
    return key | {name: sums[of] / count if count else float("nan") for name, of in ratios.items()} | sums
