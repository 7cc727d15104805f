"""How much of a map lies outside of a region."""

from __future__ import annotations

import pytest
import torch
from refined import drawn, half, traced

from i2am.losses import mass_outside

pytestmark = pytest.mark.usefixtures("on_the_cpu")


@pytest.mark.parametrize("direction", ["r2g", "g2r"])
def test_it_is_the_share_outside(direction):
    """Cell by cell, of all heads and time groups; the CLS token does not count."""
    maps = traced(drawn(special=1, steps=2), groups=2)
    h, w = (4, 3) if direction == "r2g" else (5, 4)
    region = torch.zeros(2, 2 * h, 2 * w)
    region[0, 2:6, 2:] = 1
    region[1, 2 * h - 2 :] = 1
    found = mass_outside(maps, region, direction)
    for image, one in enumerate(maps.buffer(direction, "a").detach()):
        total = sum(one[..., i, j].sum() for i in range(h) for j in range(w))
        outside = sum(one[..., i, j].sum() for i in range(h) for j in range(w) if not region[image, 2 * i, 2 * j])
        assert found[image].item() == pytest.approx((outside / total).item(), rel=1e-12)


@pytest.mark.parametrize("direction", ["r2g", "g2r"])
@pytest.mark.parametrize("resize", ["nearest", "area"])
def test_a_region_and_the_rest_share_the_map(direction, resize):
    maps = traced(drawn(special=1))
    h, w = (4, 3) if direction == "r2g" else (5, 4)
    region = (torch.rand(2, 4 * h, 4 * w, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    both = mass_outside(maps, region, direction, resize=resize) + mass_outside(maps, 1 - region, direction, resize=resize)
    assert both.tolist() == pytest.approx([1, 1])
    assert mass_outside(maps, torch.ones(4 * h, 4 * w), direction, resize=resize).abs().max() < 1e-12


def test_area_weighs_the_edge():
    """A region of the left half of every cell holds half of the map, or, by its nearest pixels, all of it."""
    maps, region = traced(drawn()), torch.tensor([1.0, 0]).repeat(8, 3)
    assert mass_outside(maps, region, "r2g", resize="area").tolist() == pytest.approx([0.5, 0.5])
    assert mass_outside(maps, region, "r2g").tolist() == pytest.approx([0, 0])


def test_layers_are_averaged():
    maps = traced(drawn(), drawn(grid=(8, 6), seed=1))
    apart = [mass_outside(maps, half(), "r2g", layers=name) for name in "ab"]
    assert mass_outside(maps, half(), "r2g").tolist() == pytest.approx(((apart[0] + apart[1]) / 2).tolist())


@pytest.mark.parametrize("direction", ["r2g", "g2r"])
def test_a_step_against_the_gradient_moves_the_map_inside(direction):
    of, region = drawn(), half(1, (4, 3) if direction == "r2g" else (5, 4))
    before = mass_outside(traced(of), region, direction)
    before.sum().backward()
    with torch.no_grad():
        of.queries[0].sub_(0.1 * of.queries[0].grad)
    assert (mass_outside(traced(of), region, direction) < before).all()
