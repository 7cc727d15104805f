"""How heads, layers, groups and references make one field: against a statement of the weighings with loops, and the choices among them."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from fielded import SURE, Layer, field_of, linear, mixture, noise, one_hot, recorded, strayed, tokens
from tolerance import alike, close, exponents

from i2am.maps.field import Field, peak

pytestmark = pytest.mark.usefixtures("on_the_cpu")
WAYS, WEIGHINGS = ("g2r", "r2g"), ("return", "spread", "evenly")


def several(steps: int = 2) -> list[Layer]:
    """Layers of different grids, one of which has a head that points, a little blurred."""
    layers = [noise((6, 4), (5, 3), steps, 2, 2, 1, name="down"), noise((3, 5), (4, 6), steps, 2, 3, name="mid", size=4.0),
              noise((6, 4), (6, 4), steps, 2, 2, name="up")]  # fmt: skip
    layers[2].scores[:, :, 1] += 9 * torch.eye(24)
    return layers


@pytest.mark.parametrize("weigh", WEIGHINGS)
@pytest.mark.parametrize("size", [None, (9, 5)])
@pytest.mark.parametrize("direction", WAYS)
def test_heads_of_layers_are_mixed_as_stated(direction: str, size: Any, weigh: str) -> None:
    layers = several()
    found = recorded(*layers, groups=2).field(direction, size, weigh=weigh)
    right, eager = (field_of(mixture(layers, direction, dtype, size, weigh)) for dtype in (torch.float64, torch.float32))
    logits = max(exponents(layer.scores.double()) for layer in layers)
    close(found.positions, right[0], eager[0], 256, "positions", logits)
    y, x = found.positions.double().unbind(-1)
    close(found.covariance + torch.stack([y * y, y * x, x * x], -1), right[1], eager[1], 256, "second moments", logits)


def test_heads_that_come_home_outweigh_those_that_do_not() -> None:
    """A one-to-one map among three heads of noise and one that is sharp and wrong: the field is the map's."""
    right = one_hot(torch.arange(35).view(7, 5).flip(1).flatten(), (7, 5), (7, 5))
    scores = torch.randn(1, 1, 5, 35, 35) * 2
    scores[:, :, 3] = right.scores[:, :, 0]
    scores[:, :, 4] = SURE * torch.nn.functional.one_hot(torch.full((35,), 3), 35)  # all look at one spot
    maps = recorded(Layer(scores, (7, 5), (7, 5)))
    truth = recorded(right).field("g2r").positions
    off = {weigh: (maps.field("g2r", weigh=weigh).positions - truth).norm(dim=-1).mean().item() for weigh in WEIGHINGS}
    assert off["return"] < 0.02 < 0.1 < off["evenly"]
    assert off["spread"] > 0.1  # nothing is as sharp as what is sharp and wrong
    away = maps.field("g2r", heads=3).away(maps.field("r2g", heads=3))
    assert away.max() < 1e-5


@pytest.mark.parametrize("weigh", WEIGHINGS)
def test_levels_are_the_choices_they_stand_for(weigh: str) -> None:
    layers = [layer._replace(scores=layer.scores[:, :, :2]) for layer in several(4)]
    maps = recorded(*layers, groups=2)
    for direction in WAYS:
        for level, choice in (("time", "groups"), ("head", "heads"), ("layer", "layers")):
            every = maps.names("g2r") if level == "layer" else range(2)
            whole = maps.field(direction, (6, 4), level=level, weigh=weigh)
            assert whole.positions.shape == (2, len(every), 6, 4, 2)
            for i, one in enumerate(every):
                alone = maps.field(direction, (6, 4), weigh=weigh, **{choice: one})
                assert torch.equal(whole.positions[:, i], alone.positions), (level, one)
                assert torch.equal(whole.spread[:, i], alone.spread), (level, one)
        both = maps.field(direction, heads=[0, 1], groups=[0, 1], layers=["down", "mid", "up"], weigh=weigh)
        assert torch.equal(both.positions, maps.field(direction, weigh=weigh).positions)
        one = maps.field(direction, heads=1, groups=0, layers="mid", weigh=weigh)
        part = layers[1]._replace(scores=layers[1].scores[:2, :, 1:])
        alike(one.positions, field_of(mixture([part], direction, torch.float64, None, weigh))[0], 256, 20)


def test_the_head_level_wants_as_many_heads() -> None:
    maps = recorded(*several())
    with pytest.raises(ValueError, match=r"the head level needs layers with the same number of heads, and these have 2 .*3 "):
        maps.field(level="head")
    assert maps.field(level="head", layers="mid").positions.shape == (2, 3, 3, 5, 2)


def test_away_is_the_way_there_and_back() -> None:
    grids = {"g2r": (5, 4), "r2g": (3, 6)}  # places up to the border, beyond the last patches' centres
    there, back = (Field(torch.rand(2, *grid, 2), torch.zeros(2, *grid, 3), way) for way, grid in grids.items())
    for one, other, grid in ((there, back, (5, 4)), (back, there, (3, 6))):
        right = strayed(one.positions[:, None].double(), other.positions[:, None].double(), grid)[:, 0]
        alike(one.away(other), right, 64, size=6.0)
    assert linear(torch.arange(6.0).view(2, 3), 0.5, 0.5) == 2.5
    for wrong in (there, back[0]):
        with pytest.raises(ValueError, match=r"back must be the way back of g2r for 2 images, got .*belong together"):
            there.away(wrong)
    with pytest.raises(ValueError, match=r"back must be a Field"):
        there.away(back.positions)


def test_a_field_knows_how_far_from_home_its_patches_end() -> None:
    layers = several()
    for maps in (recorded(*layers), recorded(*layers)[1]):
        for one, other in (WAYS, WAYS[::-1]):
            there, back = maps.field(one), maps.field(other)
            right = strayed(there.positions[:, None].double(), back.positions[:, None].double(), (1, 1))[:, 0]
            alike(there.home, right, 64, size=1.0)
            assert torch.equal(there[-1].home, there.home[-1:])
    assert all(recorded(*layers).field(level=level, layers="mid").home is None for level in ("time", "head", "layer"))
    single = one_hot(torch.arange(12), (4, 3), (4, 3))
    seen = torch.ones(1, 1, 12, 12, dtype=torch.bool)
    seen[:, :, 0] = False
    home = recorded(single, how={"attn_mask": seen}).field("g2r").home.flatten()
    assert home[0] == 1  # nowhere
    assert home[1:].max() < 1e-6


def test_a_patch_can_be_asked_by_a_point() -> None:
    maps = recorded(noise((5, 4), (3, 6), images=2))
    found = maps.field("g2r")
    for point, (i, j) in (((0, 0), (0, 0)), ((0.3, 0.74), (1, 2)), ((0.99, 0.5), (4, 2)), ((1, 1.0), (4, 3))):
        position, spread = found.at(point)
        assert torch.equal(position, found.positions[:, i, j])
        assert torch.equal(spread, found.spread[:, i, j])
    told = r'the point must be \(y, x\) in fractions, of a field of level "unified", got'
    for wrong in (0.5, (0.5,), (0.5, 1.1), (-0.1, 0), ("a", 0), (float("nan"), 0)):
        with pytest.raises(ValueError, match=told):
            found.at(wrong)
    with pytest.raises(ValueError, match=told):
        maps.field(level="head").at((0, 0))


def test_peaks_are_the_centres_of_the_largest_cells() -> None:
    maps = torch.zeros(2, 3, 4, 5)
    maps[:, :, 1, 3] = maps[:, :, 2, 0] = 1  # of equals the first
    maps[1, 2, 3, 4] = 2
    assert peak(maps)[0, 0].tolist() == pytest.approx([1.5 / 4, 3.5 / 5])
    assert peak(maps)[1, 2].tolist() == pytest.approx([3.5 / 4, 4.5 / 5])
    assert peak(maps).shape == (2, 3, 2)
    assert peak(maps[0, 0]).tolist() == pytest.approx([1.5 / 4, 3.5 / 5])
    for wrong in (maps.long(), maps[0, 0, 0], maps[:0], "a"):
        with pytest.raises(ValueError, match=r"map must be floating maps \[\.\.\., h, w\], got"):
            peak(wrong)


# The heads that point


def pointed(grid: tuple[int, int] = (6, 4), **more: Any) -> Layer:
    """Heads 0 and 2 are one-to-one, head 1 is noise."""
    layer = noise(grid, grid, images=2, heads=3, **more)
    layer.scores[:, :, [0, 2]] += 20 * torch.eye(tokens(grid)).roll(1, 0)
    return layer


def test_the_layer_that_points_is_found() -> None:
    layer, other = pointed(name="up"), noise((8, 6), (3, 5), images=2, heads=3, special=1, name="down")
    maps = recorded(other, layer)
    for direction in WAYS:
        assert maps.names(direction, "pointing") == ["up"]
        heads = maps.unified(direction, layers="up", heads=[0, 2])
        assert torch.equal(maps.unified(direction, layers="pointing"), heads)
        assert torch.equal(maps.head(direction, layers="pointing"), maps.head(direction, layers="up", heads=[0, 2]))
        assert torch.equal(maps.time(direction, (9, 9), layers="pointing"), maps.time(direction, (9, 9), layers="up", heads=[0, 2]))
        assert torch.equal(maps.field(direction, layers="pointing").positions, maps.field(direction, layers="up", heads=[0, 2]).positions)
        assert not torch.allclose(heads, maps.unified(direction, layers="up"))
    assert maps.buffer("g2r", "pointing").shape == (2, 1, 2, 6, 4)


def test_half_of_the_best_share_is_enough() -> None:
    """Heads of which all, some seventy and some thirty per cent of the patches come home."""
    scores = torch.zeros(1, 1, 3, 24, 24)
    for head, home in enumerate((24, 17, 7)):
        order = torch.arange(24)
        order[home:] = 0  # the rest look at one spot
        scores[0, 0, head, torch.arange(24), order] = SURE
    maps = recorded(Layer(scores, (6, 4), (6, 4)))
    assert torch.equal(maps.unified("r2g", layers="pointing"), maps.unified("r2g", heads=[0, 1]))


def test_layers_of_other_numbers_of_pointing_heads() -> None:
    """Their mean is one of heads; the head level is refused, and says how many there are of each."""
    maps = recorded(pointed(name="up"), pointed(name="more")._replace(scores=pointed().scores[:, :, :2]))
    assert maps.names("g2r", "pointing") == ["up", "more"]
    heads = [maps.unified("g2r", layers="up", heads=i) for i in (0, 2)] + [maps.unified("g2r", layers="more", heads=0)]
    alike(maps.unified("g2r", layers="pointing"), torch.stack(heads).mean(0), 64)
    layers = [maps.unified("g2r", layers="up", heads=[0, 2]), maps.unified("g2r", layers="more", heads=0)]
    alike(maps.layer("g2r", layers="pointing"), torch.stack(layers, 1), 64)
    for ask in (maps.head, lambda direction, layers: maps.field(direction, level="head", layers=layers)):
        with pytest.raises(ValueError, match=r"same number of heads, and these have 1 \(1 layers\), 2 \(1 layers\).*up: 2, more: 1"):
            ask("g2r", layers="pointing")
    two = recorded(pointed(name="up"), pointed(name="more")._replace(scores=pointed().scores[:, :, [1, 0, 2]]))
    with pytest.raises(ValueError, match='level must be another than "head" with layers="pointing"'):
        two.head("g2r", layers="pointing")


def test_each_reference_has_its_own_heads() -> None:
    """Of two references of a layer one is pointed at; heads of the other are compared among themselves."""
    first, second = pointed(source="person"), pointed(source="garment")
    second = second._replace(scores=second.scores[:, :, [1, 0, 2]])
    second.scores[..., 8:, 0] += 40.0  # most of whose patches look at one spot: a poor share, and yet its best
    maps = recorded(first, second)
    for reference, heads in (("person", [0, 2]), (1, [1, 2])):
        for direction in WAYS:
            own = maps.unified(direction, heads=heads, reference=reference)
            assert torch.equal(maps.unified(direction, layers="pointing", reference=reference), own)
            own = maps.field(direction, heads=heads, reference=reference)
            assert torch.equal(maps.field(direction, layers="pointing", reference=reference).positions, own.positions)
    with pytest.raises(ValueError, match=r"reference must be stated, as this run has 2"):
        maps.unified("g2r", layers="pointing")


def test_layers_without_a_field_do_not_point_and_a_run_without_is_refused() -> None:
    layer = pointed(name="up")
    maps = recorded(layer, Layer(torch.randn(1, 2, 3, 24, 1), (6, 4), (1, 1), name="pooled"))
    assert maps.names("r2g") == ["up", "pooled"]
    assert maps.names("r2g", "pointing") == ["up"]
    plain = recorded(layer, field=False)
    told = 'i2am: layers="pointing" must be asked of a run that recorded the field, got none. Trace with field=True'
    for ask in (plain.unified, plain.names):
        with pytest.raises(ValueError, match=re.escape(told)):
            ask("g2r", layers="pointing")


def test_numbers_that_are_none_are_refused() -> None:
    layer = pointed()
    layer.scores[0, 1, 2, 5, 5] = torch.nan
    with pytest.warns(UserWarning, match=r"1 of 1 layers hold NaN"):
        maps = recorded(layer)
    for ask in (maps.field, lambda: maps.unified("g2r", layers="pointing")):
        with pytest.raises(ValueError, match=r"the field_g2r sums must be finite, got NaN or infinity in 1 of 1 layers, the first a"):
            ask()
