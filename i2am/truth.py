"""Do maps point at what is known? Measures against a true correspondence of generated pixels and reference positions.

    pointing accuracy = the share of garment patches whose specific map peaks within `within` reference patches of the true one
    pointing mass     = the mean share of the specific map's mass that lies within `mass_within` patches of it

Distances are Chebyshev's between patches, so within=1 is a 3x3 window. Both stand beside the identity baseline: what a map would
score that has all its mass at the same place of the reference as the patch has in the generated image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from i2am.door import fields_said, instance, is_floating, is_size, number, refuse, said, whole
from i2am.maps import AttributionMaps
from i2am.recorder import describe
from i2am.regions import as_mask, per_image
from i2am.regions import cells as boxes
from i2am.select import Layers
from i2am.tokens import Grid

ABOUT = "Build one: Truth(source, inside)."
NUDGE = 1e-4  # patches: a position this little before a border lies on it, as float32 fractions round
KEY = ("level", "layer", "head", "group", "grid")
SUMS = ("hits", "held", "baseline_hits", "baseline_held", "count")


class Patches(NamedTuple):
    """Where the garment patches of a generated grid come from, in reference patches."""

    place: Tensor  # [B, h, w, 2] float64 (y, x); NaN where no garment is worn
    patch: Tensor  # [B, h, w, 2] int64, the reference patch that holds it
    counts: Tensor  # [B, h, w] bool
    identity: Tensor  # [h, w, 2] int64, the reference patch at the same place as the generated one


@dataclass(frozen=True, eq=False)
class Truth:
    """For each generated pixel, where on the reference it comes from.

    source [B, 2, H, W]: (y, x) as fractions of the reference's height and width; the centre of its pixel (r, c) is
    ((r + 0.5) / height, (c + 0.5) / width). inside [B, H, W]: the generated pixels that show the garment; source counts only there.
    """

    source: Tensor
    inside: Tensor
    __repr__ = fields_said

    def __post_init__(self) -> None:
        s, i = self.source, self.inside
        if not is_floating(s, 4) or s.shape[1] != 2 or 0 in s.shape:
            refuse("source", "floating [B, 2, H, W], (y, x) as fractions", said(s), "Divide pixels by the size.")
        if not isinstance(i, Tensor) or i.dtype != torch.bool or i.shape != (s.shape[0], *s.shape[2:]):
            refuse("inside", f"bool {(s.shape[0], *s.shape[2:])}", said(i), "Compare a mask with 0.5.")
        if not s.isfinite().all(1)[i].all():
            refuse("source", "finite where the garment is worn", "NaN or infinity", "Leave such pixels out of inside.")

    def __len__(self) -> int:
        return len(self.source)

    def on_grid(self, generated_grid: Grid, reference_grid: Grid, cover: float = 0.9) -> Patches:
        """Per generated patch the mean position of its worn pixels, in reference patches, and whether it counts: at least `cover` of
        its pixels are worn and that position is on the canvas. A pixel belongs to the patch that holds its centre."""
        (h, w), (rows, columns) = _grids(generated_grid, reference_grid)
        worn, pixels = self.inside.cpu(), self._patch_of(generated_grid)
        area, found = (_added(pixels, x.double(), h * w) for x in (torch.ones_like(worn), worn))
        source = torch.where(worn[:, None], self.source.detach().cpu(), 0).double()  # what is not worn may be NaN
        sums = torch.stack([_added(pixels, source[:, axis], h * w) for axis in (0, 1)], -1)
        place = sums / found[..., None] * torch.tensor([rows, columns], device="cpu")  # 0 / 0 is NaN
        patch, on = _holding(place, reference_grid)
        counts = (found >= cover * area - 1e-6) & on
        steps = [((torch.arange(n, device="cpu") * 2 + 1) * size) // (2 * n) for n, size in ((h, rows), (w, columns))]
        identity = torch.stack(torch.meshgrid(*steps, indexing="ij"), -1)
        return Patches(place.unflatten(1, (h, w)), patch.unflatten(1, (h, w)), counts.unflatten(1, (h, w)), identity)

    def baseline(self, generated_grid: Grid, reference_grid: Grid, within: int = 1, cover: float = 0.9) -> tuple[Tensor, Tensor]:
        """Per image, how many garment patches come from within `within` patches of their own place, and how many there are: [B] each."""
        at = self.on_grid(generated_grid, reference_grid, cover)
        near = ((at.identity - at.patch).abs().amax(-1) <= within) & at.counts
        return near.sum((1, 2)), at.counts.sum((1, 2))

    def _patch_of(self, grid: Grid) -> Tensor:
        """[H, W] int64: the patch that holds each pixel's centre."""
        y, x = (((torch.arange(n, device="cpu") * 2 + 1) * size) // (2 * n) for n, size in zip(self.inside.shape[1:], grid))
        return y[:, None] * grid[1] + x


def _grids(*grids: Grid) -> tuple[Grid, ...]:
    for grid in grids:
        if not is_size(grid):
            refuse("a grid", "(height, width)", said(grid), "Both are whole and at least 1.")
    return grids


def _added(index: Tensor, values: Tensor, size: int) -> Tensor:
    """[B, size]: values [B, H, W] added up by index, image by image, in their order."""
    out = torch.zeros(len(values), size, dtype=values.dtype, device="cpu")
    return out.scatter_add_(1, index.expand_as(values).flatten(1), values.flatten(1))


def _holding(place: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """The patch that holds each position [..., 2], int64 [..., 2], and whether the position is on the canvas, [...]."""
    scale = torch.tensor(grid, device="cpu")
    on = ((place > -NUDGE) & (place < scale)).all(-1)  # not so for NaN
    patch = torch.where(on[..., None], place + NUDGE, 0).floor().long()
    return torch.minimum(patch, scale - 1), on


def oracle_maps(truth: Truth, generated_grid: Grid, reference_grid: Grid) -> dict[str, Tensor]:
    """The maps [B, h, w] that the correspondence itself gives, so that their IMACS is what a perfect pointer scores.

    Let n_ij be the worn pixels of generated patch i that come from reference patch j, and a_i the pixels of patch i. Then
    P_ij = n_ij / a_i and C_ij = n_ij / sum_i n_ij, so that a patch off the garment attends to nothing and a reference patch that is
    not seen acts nowhere, and g2r_j = sum_i P_ij / G and r2g_i = sum_j C_ij / R as everywhere. Positions off the canvas are left out.
    """
    instance("truth", truth, Truth, ABOUT)
    (h, w), (rows, columns) = _grids(generated_grid, reference_grid)
    source = truth.source.detach().cpu().double().movedim(1, -1)
    patch, on = _holding(source * torch.tensor([rows, columns], device="cpu"), reference_grid)
    worn = truth.inside.cpu() & on
    i, j = truth._patch_of(generated_grid).expand_as(worn), patch[..., 0] * columns + patch[..., 1]
    ones = worn.double()
    area = _added(i, torch.ones_like(ones), h * w)
    g2r = _added(j, ones / area.gather(1, i.flatten(1)).view_as(ones), rows * columns) / (h * w)
    seen = _added(j, ones, rows * columns).clamp(min=1)
    r2g = _added(i, ones / seen.gather(1, j.flatten(1)).view_as(ones), h * w) / (rows * columns)
    return {"r2g": r2g.float().unflatten(1, (h, w)), "g2r": g2r.float().unflatten(1, (rows, columns))}


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
        whole(name, patches, 0, "It counts patches: 1 is a window of 3 x 3.")
    number("cover", cover, "a share above 0, up to 1", lambda x: 0 < x <= 1, "0.9 wants most of a patch worn.")
    first, tiling = _tiles(maps, cells)
    if len(maps) % len(truth):
        refuse("the truth", f"of the run's {len(maps)} images, or of one per prompt", f"{len(truth)}", "Their number must divide.")
    if level == "layer":
        options = {**choice, "cells": cells, "within": within, "mass_within": mass_within, "cover": cover}
        names = maps.names("specific", layers, choice.get("reference"))
        each = [pointing(maps, truth, layers=[name], **options) for name in names]
        return Pointing(*(torch.stack([getattr(one, name) for one in each], 1) for name in SUMS))
    found = maps.level("specific", level, layers=layers, **choice)[..., first : first + tiling[0] * tiling[1], :, :]
    found = found[:, None] if level == "unified" else found  # [B, m, n, h, w]
    grid = (found.shape[-2], found.shape[-1])
    at = truth.on_grid(tiling, grid, cover)
    per = len(maps) // len(truth)
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
        (tiling,) = _grids(cells)
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


def ssim(a: Tensor, b: Tensor, mask: Any = None) -> Tensor:
    """[B], the structural similarity of pictures [B, C, H, W] in [0, 1], its mean over the mask; NaN where the mask is empty.

    Each value looks at a Gaussian window of 11 x 11 pixels, so at the border of a mask also at what is outside.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    if not is_floating(a, 4) or not is_floating(b, 4) or a.shape != b.shape or min(a.shape[-2:]) < 6:
        refuse("the pictures", "floating [B, C, H, W] of one shape, at least 6 x 6", (a, b), "Resize one of them first.")
    for one in (a, b):
        if not ((one >= 0) & (one <= 1)).all():
            refuse("the pictures", "in [0, 1]", f"{one.min():g} to {one.max():g}", "(x + 1) / 2 for [-1, 1], then clamp(0, 1).")
    whole = structural_similarity_index_measure(a.float(), b.float(), reduction="none", data_range=1.0, return_full_image=True)[1].mean(1)
    m = torch.ones_like(whole) if mask is None else per_image(as_mask(mask, "mask"), len(a), "mask").to(whole.device)
    if m.shape != whole.shape:
        refuse("mask", f"of the pictures' size {tuple(whole.shape[1:])}", tuple(m.shape[1:]), "Resize it first.")
    return (whole * m).sum((-2, -1)) / m.sum((-2, -1))
