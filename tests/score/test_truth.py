"""The known correspondence on grids, the maps it gives itself, what is refused, similarity and rank correlation."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from known import GRID, PIXELS, maps_of, truth_of

from i2am import AttributionMaps, imacs
from i2am.data.truth import Truth, oracle_maps
from i2am.score.correlation import spearman
from i2am.score.pointing import add_tables, pointing, table
from i2am.score.similarity import ssim

pytestmark = pytest.mark.usefixtures("on_the_cpu")


def test_places_are_the_mean_of_worn_pixels():
    """Sizes that the grid does not divide: a pixel belongs to the patch that holds its centre."""
    source, inside = torch.rand(2, 2, 13, 11) * 1.2 - 0.1, torch.rand(2, 13, 11) > 0.3
    got = Truth(source, inside).on_grid((5, 3), (9, 7), cover=0.6)
    for b, i, j in np.ndindex(2, 5, 3):
        held = [(r, c) for r in range(13) for c in range(11) if (int((r + 0.5) * 5 / 13), int((c + 0.5) * 3 / 11)) == (i, j)]
        worn = [(r, c) for r, c in held if inside[b, r, c]]
        y, x = (np.mean([source[b, k, r, c].item() for r, c in worn]) * n for k, n in ((0, 9), (1, 7)))
        np.testing.assert_allclose(got.place[b, i, j].numpy(), [y, x], rtol=1e-6)
        counts = len(worn) >= 0.6 * len(held) and 0 <= y < 9 and 0 <= x < 7
        assert got.counts[b, i, j] == counts
        if counts:
            assert got.patch[b, i, j].tolist() == [int(y), int(x)]
    assert got.identity[:, :, 0].tolist() == [[int((i + 0.5) * 9 / 5)] * 3 for i in range(5)]


def written_out(truth: Truth, grid: tuple[int, int], reference: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """r2g and g2r of one image from its n_ij."""
    height, width = truth.inside.shape[1:]
    n, area = np.zeros((grid[0] * grid[1], reference[0] * reference[1])), np.zeros(grid[0] * grid[1])
    for r, c in np.ndindex(height, width):
        i = int((r + 0.5) * grid[0] / height) * grid[1] + int((c + 0.5) * grid[1] / width)
        y, x = (truth.source[0, k, r, c].item() * reference[k] for k in (0, 1))
        area[i] += 1
        if truth.inside[0, r, c] and 0 <= y < reference[0] and 0 <= x < reference[1]:
            n[i, int(y) * reference[1] + int(x)] += 1
    p, c = n / area[:, None], n / np.maximum(n.sum(0), 1)
    return c.mean(1).reshape(grid), p.mean(0).reshape(reference)


@pytest.mark.parametrize(("grid", "reference"), [((4, 3), (5, 4)), ((5, 4), (3, 7)), ((1, 1), (2, 2))], ids=str)
def test_oracle_maps_are_those_of_their_definition(grid, reference):
    truth = Truth(torch.rand(1, 2, 17, 14) * 1.2 - 0.1, torch.rand(1, 17, 14) > 0.4)
    maps, (r2g, g2r) = oracle_maps(truth, grid, reference), written_out(truth, grid, reference)
    assert {(m.dtype, m.shape) for m in maps.values()} == {(torch.float32, (1, *grid)), (torch.float32, (1, *reference))}
    np.testing.assert_allclose(maps["r2g"][0].numpy(), r2g, rtol=1e-6)
    np.testing.assert_allclose(maps["g2r"][0].numpy(), g2r, rtol=1e-6)


def test_oracle_maps_of_a_garment_that_moved():
    truth = truth_of(lambda y, x: (y + 2 / 8, x), 2)
    truth.inside[:, : 2 * PIXELS] = truth.inside[:, 6 * PIXELS :] = False
    worn = truth.inside.float()
    maps = oracle_maps(truth, GRID, GRID)
    torch.testing.assert_close(maps["r2g"], worn[:, ::PIXELS, ::PIXELS] / 48)
    torch.testing.assert_close(maps["g2r"], worn[:, ::PIXELS, ::PIXELS].roll(2, 1) / 48)
    at_pixels = oracle_maps(truth, worn.shape[1:], GRID)["r2g"]
    torch.testing.assert_close(imacs(at_pixels, worn), torch.ones(2))
    assert (imacs(maps["g2r"], worn.roll(2 * PIXELS, 1)) > 0.6).all()  # bicubic softens the border


TRUTH = truth_of(lambda y, x: (y, x), 2)
RUN = maps_of(torch.rand(2, 1, 1, 48, 48), GRID)
BROKEN = maps_of(torch.full((2, 1, 1, 48, 48), torch.nan), GRID)
GREY = torch.full((2, 3, 16, 12), 0.5)
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "pixels": (lambda: Truth(TRUTH.source.long(), TRUTH.inside), r"source must be floating \[B, 2, H, W\].*got int64"),
    "last": (lambda: Truth(TRUTH.source.movedim(1, -1), TRUTH.inside), r"source must be .*\[2, 32, 24, 2\]"),
    "inside": (lambda: Truth(TRUTH.source, TRUTH.inside.float()), r"inside must be bool \(2, 32, 24\), got float32"),
    "size": (lambda: Truth(TRUTH.source, TRUTH.inside[:, :4]), r"inside must be bool \(2, 32, 24\), got .*\[2, 4, 24\]"),
    "nan": (lambda: Truth(TRUTH.source * torch.nan, TRUTH.inside), r"source must be finite where the garment is worn"),
    "grid": (lambda: TRUTH.on_grid((8.0, 6), (8, 6)), r"a grid must be \(height, width\), got \(8\.0, 6\)"),
    "images": (lambda: pointing(RUN, truth_of(lambda y, x: (y, x), 3)), r"truth must be of the run's 2 images, .*got 3\. Their number"),
    "no regions": (lambda: pointing(AttributionMaps(RUN.sums, 1), TRUTH), r"regions must be cells that tile .*got none\. Trace with"),
    "cells": (lambda: pointing(RUN, TRUTH, cells=(4, 6)), r"regions must be cells"),
    "maps": (lambda: pointing(BROKEN, TRUTH), r"specific sums must be finite, got NaN"),
    "level": (lambda: pointing(RUN, TRUTH, level="heads"), r"level must be .*got 'heads'"),
    "heads": (lambda: table(RUN, TRUTH, heads=1), r"table must be of every head.*Ask `pointing`"),
    "tables": (lambda: add_tables(table(RUN, TRUTH), []), r"tables must be at least one, of the same rows, got \[6, 0\]"),
    "bytes": (lambda: ssim(GREY * 255, GREY), r"pictures must be in \[0, 1\], got 127\.5 to 127\.5"),
    "negative": (lambda: ssim(GREY, -GREY), r"pictures must be in \[0, 1\], got -0\.5"),
    "pictures": (lambda: ssim(GREY, GREY[:, :, :8]), r"pictures must be floating \[B, C, H, W\] of one shape"),
    "mask": (lambda: ssim(GREY, GREY, torch.ones(8, 6)), r"mask must be of the pictures' size \(16, 12\), got \(8, 6\)"),
    "pairs": (lambda: spearman([1, 2], [1]), r"x and y must be as long as each other, got \(2, 1\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_said(name):
    ask, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        ask()


# Similarity and correlation


def test_ssim_is_the_windows_formula():
    a, b = torch.rand(2, 3, 24, 18), torch.rand(2, 3, 24, 18)
    line = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window = np.outer(line, line) / line.sum() ** 2
    mask = torch.zeros(2, 24, 18)
    mask[0, 9, 8] = mask[1, 12, 10] = 1
    for got, one, two, (r, c) in zip(ssim(a, b, mask).tolist(), a.numpy(), b.numpy(), ((9, 8), (12, 10))):
        values = []
        for x, y in zip(one.astype(float), two.astype(float)):
            x, y = (z[r - 5 : r + 6, c - 5 : c + 6] for z in (x, y))
            mx, my = (window * x).sum(), (window * y).sum()
            vx, vy, cov = (window * x * x).sum() - mx**2, (window * y * y).sum() - my**2, (window * x * y).sum() - mx * my
            values.append((2 * mx * my + 1e-4) * (2 * cov + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4)))
        assert got == pytest.approx(np.mean(values), abs=1e-5)
    torch.testing.assert_close(ssim(a, b, torch.ones(24, 18)), ssim(a, b))
    torch.testing.assert_close(ssim(a, a), torch.ones(2))
    parts = ssim(a, b, mask.new_ones(24, 18).tril()), ssim(a, b, 1 - mask.new_ones(24, 18).tril())
    share = mask.new_ones(24, 18).tril().mean()
    torch.testing.assert_close(share * parts[0] + (1 - share) * parts[1], ssim(a, b))
    assert ssim(a, b, torch.stack([torch.zeros(24, 18), torch.ones(24, 18)])).isnan().tolist() == [True, False]


def test_spearman_goes_by_rank():
    x = torch.randn(30)
    assert spearman(x, x.exp())[0] == pytest.approx(1)
    assert spearman(x, -(x**3))[0] == pytest.approx(-1)
    found = spearman(x, x + torch.randn(30))
    ranks = x.argsort().argsort().double()
    assert 0 < found.rho < 1
    assert 0 < found.p < 0.05
    assert found[2:] == (30, 0)
    y = x.clone()
    y[:4] = torch.nan
    assert spearman(x, y) == pytest.approx((1, 0, 26, 4), abs=1e-9)
    assert spearman(ranks, x).rho == pytest.approx(1)
    for few in ([], [1.0, 2.0], [3.0] * 9, [1.0, 2.0, float("nan")]):
        assert str(spearman(few, few).rho) == "nan"
    assert spearman([3.0] * 9, range(9))[2:] == (9, 0)
