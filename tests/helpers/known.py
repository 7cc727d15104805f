"""What the tests of known correspondences share: truths made of a warp, and maps that point where they are told."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from i2am import AttributionMaps, cells
from i2am.data.truth import Truth
from i2am.maps.layer_sums import LayerSums
from i2am.maps.recorder import describe
from i2am.maps.regions import on_grid
from i2am.score.pointing import Pointing

SUMS = ("hits", "held", "baseline_hits", "baseline_held", "count")
GRID, PIXELS = (8, 6), 4  # generated patches, and pixels along a side of each
Warp = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
WARPS: dict[str, tuple[Warp, tuple[int, int]]] = {  # (y, x) of the generated image -> of the reference; the reference's grid
    "shift": (lambda y, x: (y + 2 / 8, x - 1 / 6), (8, 6)),
    "flip": (lambda y, x: (y, 1 - x), (8, 6)),
    "turn": (lambda y, x: (x, 1 - y), (6, 8)),
    "turn, finer": (lambda y, x: (1 - x, y), (18, 24)),
    "half": (lambda y, x: (y / 2 + 1 / 16, x / 2 + 3 / 8), (16, 12)),
}


def truth_of(warp: Warp, images: int = 1, grid: tuple[int, int] = GRID) -> Truth:
    """Every pixel worn; what lies off the canvas too."""
    y, x = (((torch.arange(n * PIXELS) + 0.5) / (n * PIXELS)) for n in grid)
    source = torch.stack(warp(*torch.meshgrid(y, x, indexing="ij")))
    return Truth(source.expand(images, *source.shape).clone(), torch.ones(images, *source.shape[1:], dtype=torch.bool))


def targets(truth: Truth, grid: tuple[int, int], reference: tuple[int, int]) -> dict[tuple[int, int], tuple[int, int]]:
    """Patch -> reference patch of the first image, pixel by pixel; patches off the canvas are missing."""
    h, w = (n // g for n, g in zip(truth.inside.shape[1:], grid))
    found = {}
    for i, j in np.ndindex(*grid):
        mean = truth.source[0, :, i * h : (i + 1) * h, j * w : (j + 1) * w].double().mean((1, 2))
        place = [float(x) * n for x, n in zip(mean, reference)]
        if all(-1e-6 < p < n - 1e-6 for p, n in zip(place, reference)):
            found[i, j] = (int(place[0] + 1e-6), int(place[1] + 1e-6))
    return found


def one_hot(at: dict[tuple[int, int], tuple[int, int]], grid: tuple[int, int], reference: tuple[int, int], special: int = 0) -> Tensor:
    """P [G, special + R]; patches without a place attend to the first reference patch."""
    p = torch.zeros(grid[0] * grid[1], special + reference[0] * reference[1])
    for i, j in np.ndindex(*grid):
        y, x = at.get((i, j), (0, 0))
        p[i * grid[1] + j, special + y * reference[1] + x] = 1
    return p


def maps_of(p: Tensor, reference: tuple[int, int], *, grid=GRID, tiling=GRID, special=0, name="up", before: Any = ()) -> AttributionMaps:
    """A run of one layer whose every group and head has P [B, groups, heads, G, special + R]."""
    regions = [*before, *cells(*tiling)]
    p = p.view(*(1,) * (5 - p.ndim), *p.shape)
    weights = torch.cat([on_grid(region, grid) for region in regions])
    specific = weights @ p
    sums = LayerSums(name, "reference", grid, reference, special, p.sum(-1), p.sum(-2), specific)
    return AttributionMaps((sums,), 1, tuple(describe(region) for region in regions))


def together(*runs: AttributionMaps) -> AttributionMaps:
    return AttributionMaps(tuple(s for run in runs for s in run.sums), 1, runs[0].regions)


def shares(found: Pointing) -> list[float]:
    return [float(x) for x in (found.accuracy, found.mass, found.baseline_accuracy, found.baseline_mass)]


def same(one: Pointing, two: Pointing) -> bool:
    return all(torch.equal(getattr(one, name), getattr(two, name)) for name in SUMS)
