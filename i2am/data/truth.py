"""A known correspondence: for each generated pixel, where on the reference it comes from; on any grid, and the maps it gives itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from i2am.common.checks import fields_said, instance, is_floating, is_size, refuse, said
from i2am.maps.tokens import Grid

ABOUT = "Build one: Truth(source, inside)."
NUDGE = 1e-4  # patches: a position this little before a border lies on it, as float32 fractions round


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

    def serves(self, images: int) -> int:
        """How many images of a run each of these speaks of: one, or all of a prompt's."""
        if images % len(self):
            refuse("the truth", f"of the run's {images} images, or of one per prompt", f"{len(self)}", "Their number must divide.")
        return images // len(self)

    def on_grid(self, generated_grid: Grid, reference_grid: Grid, cover: float = 0.9) -> Patches:
        """Per generated patch the mean position of its worn pixels, in reference patches, and whether it counts: at least `cover` of
        its pixels are worn and that position is on the canvas. A pixel belongs to the patch that holds its centre."""
        (h, w), (rows, columns) = grids_of(generated_grid, reference_grid)
        worn, pixels = self.inside.cpu(), self._patch_of(generated_grid)
        area, found = (added(pixels, x.double(), h * w) for x in (torch.ones_like(worn), worn))
        source = torch.where(worn[:, None], self.source.detach().cpu(), 0).double()  # what is not worn may be NaN
        sums = torch.stack([added(pixels, source[:, axis], h * w) for axis in (0, 1)], -1)
        place = sums / found[..., None] * torch.tensor([rows, columns], device="cpu")  # 0 / 0 is NaN
        patch, on = holding(place, reference_grid)
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


def grids_of(*grids: Grid) -> tuple[Grid, ...]:
    for grid in grids:
        if not is_size(grid):
            refuse("a grid", "(height, width)", said(grid), "Both are whole and at least 1.")
    return grids


def added(index: Tensor, values: Tensor, size: int) -> Tensor:
    """[B, size]: values [B, H, W] added up by index, image by image, in their order."""
    out = torch.zeros(len(values), size, dtype=values.dtype, device="cpu")
    return out.scatter_add_(1, index.expand_as(values).flatten(1), values.flatten(1))


def holding(place: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
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
    (h, w), (rows, columns) = grids_of(generated_grid, reference_grid)
    source = truth.source.detach().cpu().double().movedim(1, -1)
    patch, on = holding(source * torch.tensor([rows, columns], device="cpu"), reference_grid)
    worn = truth.inside.cpu() & on
    i, j = truth._patch_of(generated_grid).expand_as(worn), patch[..., 0] * columns + patch[..., 1]
    ones = worn.double()
    area = added(i, torch.ones_like(ones), h * w)
    g2r = added(j, ones / area.gather(1, i.flatten(1)).view_as(ones), rows * columns) / (h * w)
    seen = added(j, ones, rows * columns).clamp(min=1)
    r2g = added(i, ones / seen.gather(1, j.flatten(1)).view_as(ones), h * w) / (rows * columns)
    return {"r2g": r2g.float().unflatten(1, (h, w)), "g2r": g2r.float().unflatten(1, (rows, columns))}
