"""The field of attention whose field is known: one place a patch, everywhere, moved, renormalised, hidden; and what a user gets wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from fielded import SURE, Layer, both, centres, field_of, mixture, noise, one_hot, recorded, tokens
from tolerance import alike, close, exponents
from torch import Tensor

import i2am
from i2am import Recorder
from i2am.maps.field import Field, chosen_moments, returned, strayed

pytestmark = pytest.mark.usefixtures("on_the_cpu")
GRID, REFERENCE = (8, 4), (4, 8)
WAYS = ("g2r", "r2g")
WEIGHINGS = ("return", "spread", "evenly")


def close_fields(found: Field, layers: list[Layer], weigh: str, terms: int = 256, more: float = 0.0) -> None:
    """Positions and second moments, against the stored matrices."""
    size = found.positions.shape[-3:-1]
    right, eager = (field_of(mixture(layers, found.direction, dtype, size, weigh)) for dtype in (torch.float64, torch.float32))
    logits = max(exponents(layer.scores.double()) for layer in layers)
    close(found.positions, right[0], eager[0], terms, "positions", logits, more)
    y, x = found.positions.double().unbind(-1)
    second = found.covariance.double() + torch.stack([y * y, y * x, x * x], -1)
    close(second, right[1], eager[1], terms, "second moments", logits, more)


# Known fields


@pytest.mark.parametrize("weigh", WEIGHINGS)
@pytest.mark.parametrize("special", [0, 2])
def test_one_place_a_patch_is_that_place_exactly(special: int, weigh: str) -> None:
    order = torch.randperm(32)
    maps = recorded(one_hot(order, GRID, REFERENCE, special))
    for direction, to, canvas, target in (("g2r", order, GRID, REFERENCE), ("r2g", order.argsort(), REFERENCE, GRID)):
        positions, spread = maps.field(direction, weigh=weigh)
        assert positions.shape == (1, *canvas, 2)
        assert torch.equal(positions.flatten(0, 2), centres(target)[to].float())
        assert torch.equal(spread, torch.zeros(1, *canvas))


def test_on_a_grid_that_no_power_of_two_divides_up_to_the_rounding_of_a_square() -> None:
    order = torch.randperm(35)
    positions, spread = recorded(one_hot(order, (7, 5), (5, 7))).field("g2r")
    assert torch.equal(positions.flatten(0, 2), centres((5, 7))[order].float())
    assert spread.max() < 4 * 2.0**-26  # the root of a few roundings in float64


@pytest.mark.parametrize("weigh", WEIGHINGS)
def test_looking_everywhere_is_the_centre_and_the_spread_of_the_grid(weigh: str) -> None:
    grid, reference = (6, 3), (5, 7)
    maps = recorded(Layer(torch.zeros(2, 1, 2, 18, 36), grid, reference, 1))
    for direction, (h, w) in (("g2r", reference), ("r2g", grid)):
        positions, spread = maps.field(direction, weigh=weigh)
        alike(positions, torch.full_like(positions, 0.5), 36)
        right = ((1 - 1 / h**2) / 12 + (1 - 1 / w**2) / 12) ** 0.5
        alike(spread, torch.full_like(spread, right), 36)
        yx = maps.field(direction, weigh=weigh).covariance[..., 1]
        alike(yx, torch.zeros_like(yx), 36, size=1.0)


@pytest.mark.parametrize("direction", WAYS)
def test_two_equal_peaks_lie_apart_by_twice_their_spread(direction: str) -> None:
    """Half of each patch's attention above, half below: the mean lies between, and the spread says that it is no place."""
    scores = torch.full((1, 1, 1, 32, 32), -SURE)
    scores[..., [0, 24], [0, 24]] = SURE if direction == "g2r" else 0.0
    scores[..., 0, 24] = scores[..., 24, 0] = scores[..., 0, 0] = scores[..., 24, 24] = SURE
    found = recorded(Layer(scores, (4, 8), (4, 8))).field(direction, weigh="evenly")
    assert found.positions[0, 0, 0].tolist() == [0.5, 1 / 16]
    assert found.spread[0, 0, 0].item() == 3 / 8


def test_permuted_reference_tokens_permute() -> None:
    """Which key comes first is nobody's business but the place's."""
    layer, order = noise(GRID, REFERENCE, heads=2), torch.randperm(32)
    one, other = recorded(layer), recorded(layer._replace(scores=layer.scores[..., order]))
    there, permuted = (maps.field("r2g", weigh="evenly") for maps in (one, other))
    alike(permuted.positions.flatten(1, 2), there.positions.flatten(1, 2)[:, order], 32, 20)
    mirror = torch.arange(32).view(REFERENCE).flip(1).flatten()
    mirrored = recorded(layer._replace(scores=layer.scores[..., mirror])).field("g2r")
    there = one.field("g2r")
    alike(mirrored.positions, there.positions * torch.tensor([1, -1]) + torch.tensor([0, 1]), 256, 20)
    alike(mirrored.spread, there.spread, 256, 20)


def test_a_shifted_reference_shifts_positions_alone() -> None:
    picture = torch.full((1, 1, 1, 32, 8, 8), -SURE)
    picture[..., 1:4, 2:5] = torch.randn(1, 1, 1, 32, 3, 3)
    here, moved = (recorded(Layer(p.flatten(-2), GRID, (8, 8))).field("g2r") for p in (picture, picture.roll((3, 2), (-2, -1))))
    alike(moved.positions, here.positions + torch.tensor([3 / 8, 2 / 8]), 64, 20, size=1.0)
    alike(moved.covariance, here.covariance, 64, 20, size=1.0)
    assert here.spread.min() > 0.05


@pytest.mark.parametrize("weigh", WEIGHINGS)
def test_special_tokens_are_left_out_and_the_rest_counts_as_a_whole(weigh: str) -> None:
    layer = noise(GRID, REFERENCE, steps=2, images=2, heads=2, special=3)
    layer.scores[..., :3] += 6.0  # they draw most of the attention
    assert layer.scores.softmax(-1)[..., :3].sum(-1).mean() > 0.5
    maps = recorded(layer)
    for direction in WAYS:
        close_fields(maps.field(direction, weigh=weigh), [layer], weigh)
    single = layer._replace(scores=layer.scores[:1, :, :1])  # one head of one step: renormalised, nothing of them is left
    plain = single._replace(scores=single.scores[..., 3:], special=0)
    for direction in WAYS:
        alike(recorded(single).field(direction).positions, recorded(plain).field(direction).positions, 256, 20)


def test_words_and_other_tokens_have_no_place() -> None:
    """Joint attention: words ahead of the reference, other queries and keys around both."""
    layer = noise((3, 4), (2, 5), images=2, heads=2, special=1)
    whole = torch.randn(1, 2, 2, 5 + 12 + 2, 7 + 11 + 3) * 2
    whole[..., 5:17, 7:18] = layer.scores
    how = {"words": (1, 6), "reference": (7, 18), "generated": (5, 17)}
    joint, alone = recorded(layer._replace(scores=whole), how=how), recorded(layer)
    for direction in WAYS:
        for head in range(2):  # as each P is of another whole, heads mix in other shares
            one, other = (maps.field(direction, heads=head, weigh="evenly") for maps in (joint, alone))
            alike(one.positions, other.positions, 64, 20)
            alike(one.covariance, other.covariance, 64, 20, size=1.0)
    assert joint.sums[0].words.shape == (2, 1, 2, 5, 12)


# One run, many ways


def test_an_image_is_the_same_alone_and_a_mask_changes_nothing() -> None:
    layer = noise((5, 3), (3, 7), steps=2, images=3, heads=2, special=1)
    maps = recorded(layer)
    weighed = recorded(layer, generated_mask=torch.rand(3, 10, 6).round(), reference_mask=torch.rand(6, 14))
    assert not torch.allclose(weighed.unified("g2r"), maps.unified("g2r"))
    for direction in WAYS:
        found = maps.field(direction)
        for i in range(3):
            assert torch.equal(maps[i].field(direction).positions, found.positions[i : i + 1])
            assert torch.equal(found[i].spread, found.spread[i : i + 1])
            alone = recorded(layer._replace(scores=layer.scores[:, i : i + 1])).field(direction)
            alike(alone.positions, found[i].positions, 256, 20)
        assert torch.equal(found[1:].covariance, maps[1:].field(direction).covariance)
        assert torch.equal(found[-1].positions, found.positions[2:])
        alike(weighed.field(direction).positions, found.positions, 256, 20)


@pytest.mark.parametrize("groups", [2, 4])
def test_steps_cut_into_groups_are_the_same_steps(groups: int) -> None:
    layer = noise((5, 3), (3, 7), steps=4, images=2, heads=2)
    for direction in WAYS:
        one, other = (recorded(layer, groups=n).field(direction) for n in (1, groups))
        alike(one.positions, other.positions, 256, 20)
        alike(one.covariance, other.covariance, 256, 20, size=1.0)


def test_a_resized_field_stays_a_mixture() -> None:
    maps = recorded(noise((5, 3), (3, 7), images=2, heads=2, size=6.0), noise((9, 8), (4, 4), images=2, heads=3, size=6.0, name="b"))
    for direction in WAYS:
        for size in ((1, 1), (4, 2), (13, 17)):
            found = maps.field(direction, size)
            assert found.positions.shape == (2, *size, 2)
            assert found.positions.min() > 0
            assert found.positions.max() < 1
            yy, yx, xx = found.covariance.double().unbind(-1)
            assert min(yy.min(), xx.min()) >= 0
            assert (yx**2 <= yy * xx + 1e-9).all()


def test_sums_are_linear_in_the_tokens() -> None:
    """Six numbers a token, whatever there is on the other side."""
    (sums,) = recorded(noise((5, 3), (3, 7), steps=2, images=2, heads=3, special=1), groups=2).sums
    assert sums.field_g2r.shape == (2, 2, 3, 6, 15)
    assert sums.field_r2g.shape == (2, 2, 3, 6, 22)
    assert not [t for t in sums.recorded.values() if t.numel() > 2 * 2 * 3 * 6 * 22]


@pytest.mark.parametrize("weigh", WEIGHINGS)
def test_bfloat16_is_exact_for_what_it_holds(weigh: str) -> None:
    layer = noise((6, 4), (3, 5), steps=2, heads=2, special=1)
    layer = layer._replace(scores=layer.scores.bfloat16().float())
    for direction in WAYS:
        close_fields(recorded(layer, dtype=torch.bfloat16).field(direction, weigh=weigh), [layer], weigh)


def test_files_keep_it(tmp_path: Path) -> None:
    maps = recorded(noise((5, 3), (3, 7), images=2, heads=2, special=1))
    again = i2am.load(maps.save(tmp_path / "maps.safetensors"))
    assert again.has_field
    for direction in WAYS:
        assert torch.equal(again.field(direction).positions, maps.field(direction).positions)
        assert torch.equal(again.field(direction).covariance, maps.field(direction).covariance)


# Nowhere


def hidden(layer: Layer, queries: list[int], keys: list[int]) -> Tensor:
    seen = torch.ones(1, 1, layer.scores.shape[3], layer.scores.shape[4], dtype=torch.bool)
    seen[:, :, queries], seen[..., keys] = False, False
    return seen


def test_hidden_tokens_are_nowhere_and_others_as_without_them() -> None:
    layer = noise((4, 3), (3, 5), images=2, heads=2)
    maps = recorded(layer, how={"attn_mask": hidden(layer, [0, 7], [2, 14])})
    rows, columns = [i for i in range(12) if i not in (0, 7)], [j for j in range(15) if j not in (2, 14)]
    kept = layer.scores[0][:, :, rows][..., columns].double()
    places = {"g2r": kept.softmax(-1) @ centres((3, 5))[columns], "r2g": kept.softmax(-2).mT @ centres((4, 3))[rows]}
    for direction, there, gone in (("g2r", rows, [0, 7]), ("r2g", columns, [2, 14])):
        for weigh in WEIGHINGS:
            found = maps.field(direction, weigh=weigh)
            assert found.positions.flatten(1, 2)[:, gone].isnan().all()
            assert found.spread.flatten(1, 2)[:, gone].isnan().all()
            assert found.positions.flatten(1, 2)[:, there].isfinite().all()
        even = maps.field(direction, weigh="evenly").positions.flatten(1, 2)[:, there]
        alike(even, places[direction].mean(1), 64, 20)


def test_a_patch_that_is_nowhere_does_not_come_home() -> None:
    """Not even the first one, whose place is where a sampler takes NaN to be."""
    layer = one_hot(torch.arange(12), (4, 3), (4, 3))
    maps = recorded(layer, how={"attn_mask": hidden(layer, [0], [])})
    away = maps.field("g2r").away(maps.field("r2g")).flatten()
    assert away[0] == torch.inf
    assert away[1:].max() < 1e-5
    there, back = (chosen_moments(maps.sums[0], f"field_{way}", "unified", None, None) for way in WAYS)
    assert strayed(there, back, (4, 3)).flatten()[0] == 4.0  # far
    assert returned(strayed(there, back, (4, 3))).item() == (11 + 1) / 12


# What a user gets wrong


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"direction": "field_g2r"}, 'direction must be one of "g2r", "r2g", got \'field_g2r\'. "g2r" leads from'),
        ({"direction": 2}, 'direction must be one of "g2r", "r2g", got 2.'),
        ({"weigh": "mass"}, 'weigh must be one of "return", "spread", "evenly", got \'mass\'.'),
        ({"size": 8}, "size must be (height, width), got 8."),
        ({"level": "step"}, 'level must be "unified", "time", "head" or "layer", got \'step\'.'),
        ({"layers": "b"}, "layers must be names or patterns of layers with a reference, got 'b'. There are: a."),
        ({"heads": 2}, "heads must be indices below 2, got 2."),
        ({"groups": [1]}, "groups must be indices below 1, got [1]."),
        ({"reference": 1}, "reference must be below 1 or one of ['reference'], got 1."),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_asked_wrongly_is_said(asked: dict, told: str) -> None:
    maps = recorded(noise((3, 2), (2, 2), heads=2))
    with pytest.raises(ValueError, match=re.escape(f"i2am: {told}")):
        maps.field(**asked)


def test_what_is_not_there_is_said() -> None:
    plain = recorded(noise((3, 2), (2, 2)), field=False)
    assert not plain.has_field
    for asked in (lambda: plain.field(), lambda: plain.unified("g2r", layers="pointing")):
        with pytest.raises(ValueError, match=r"field"):
            asked()
    with pytest.raises(ValueError, match=r"this run has no field_r2g maps\. Trace with field=True;"):
        plain.field("r2g")
    for wrong in ("yes", 1, None):
        with pytest.raises(ValueError, match=r"i2am: field must be True or False, got"):
            Recorder(field=wrong)
    for layer in (Layer(torch.randn(1, 1, 1, 6, 4), None, None), Layer(torch.randn(1, 1, 1, 6, 4), (3, 2), None),
                  Layer(torch.randn(1, 1, 1, 6, 1), (3, 2), (1, 1))):  # fmt: skip
        with pytest.raises(ValueError, match=r"field must be left out where no layer knows .* layers such as a\. .*One token has no field"):
            recorded(layer)


def test_one_side_alone_is_a_field_without_a_way_back() -> None:
    layer = noise((3, 2), (2, 2))
    maps = recorded(layer._replace(grid=None))
    assert not maps.has_field
    there = maps.with_grid(generated=(3, 2))
    with pytest.raises(ValueError, match=r'weigh must be "evenly" or "spread", as a has no way back, got "return"\.'):
        there.field("g2r")
    right = field_of(both(layer, torch.float64)["g2r"].sum((0, 2)))[0]
    alike(there.field("g2r", weigh="evenly").positions, right, tokens((2, 2)), 20)
    with pytest.raises(ValueError, match=r"this run has no field_r2g maps"):
        maps.field("r2g")


@pytest.mark.parametrize("level", ["time", "head", "layer"])
def test_other_levels_are_not_drawn(level: str) -> None:
    found = recorded(noise((3, 2), (2, 2))).field(level=level)
    with pytest.raises(ValueError, match=r'a field that is drawn must be of level "unified"'):
        found.wheel()
