"""Scores of the field: attention whose scores are known, the scores with loops, what has none, and the metrics of a data set."""

from __future__ import annotations

import itertools
import math
import re
from typing import Any

import pytest
import torch
from fielded import Layer, linear, noise, one_hot, recorded
from torch import Tensor

from i2am import AttributionMaps
from i2am.maps.field import Field
from i2am.score import correspondence as of
from i2am.score import imacs
from i2am.score.intervals import bootstrap

pytestmark = pytest.mark.usefixtures("on_the_cpu")
GRID, REFERENCE = (8, 6), (8, 8)
MASK = torch.zeros(*GRID)
MASK[2:7, 1:5] = 1  # 20 patches
NAN = math.nan


def moved() -> Tensor:
    """The reference token that lies one patch to the right of each generated one."""
    i, j = torch.meshgrid(torch.arange(8), torch.arange(6), indexing="ij")
    return (i * 8 + j + 1).flatten()


def ways(maps: AttributionMaps, **choice: Any) -> tuple[Field, Field]:
    return maps.field("g2r", **choice), maps.field("r2g", **choice)


# Known attention


def test_a_shift_comes_home_sharp_and_smooth() -> None:
    there, back = ways(recorded(one_hot(moved(), GRID, REFERENCE)))
    for mask in (None, MASK):
        assert of.returning(there, back, mask).tolist() == [1]
        assert of.sharpness(there, mask).tolist() == [1]
        assert of.smoothness(there, mask).tolist() == [1]
    assert of.correspondence(there, back, MASK).tolist() == [0]  # what is worn and what is not is known alike


def test_a_garment_that_is_known_beside_what_is_not_scores_one() -> None:
    layer = one_hot(moved(), GRID, REFERENCE)
    layer.scores[..., MASK.flatten() == 0, :] = 0  # they look everywhere
    there, back = ways(recorded(layer))
    assert of.correspondence(there, back, MASK).item() == pytest.approx(1, abs=0.01)
    assert of.correspondence(there, back, 1 - MASK).item() == pytest.approx(-1, abs=0.01)
    assert of.sharpness(there, 1 - MASK).item() == pytest.approx(1 - (63 / 64) ** 0.5, abs=1e-6)
    assert of.returning(there, back, MASK).tolist() == [1]


def test_looking_everywhere_is_smooth_and_nothing_else() -> None:
    layer = Layer(torch.zeros(1, 2, 1, 48, 64), GRID, REFERENCE)
    there, back = ways(recorded(layer))
    assert of.smoothness(there, MASK).tolist() == [1, 1]
    assert of.sharpness(there, MASK).tolist() == pytest.approx([1 - (63 / 64) ** 0.5] * 2, abs=1e-6)
    assert of.returning(there, back).tolist() == pytest.approx([4 / 48] * 2)  # the four in the middle
    assert of.correspondence(there, back, MASK).abs().max() < 0.01


def test_a_random_permutation_is_sharp_and_not_smooth() -> None:
    there, back = ways(recorded(one_hot(torch.randperm(48), GRID, (6, 8))))
    assert of.sharpness(there, MASK).item() == pytest.approx(1, abs=1e-6)
    assert of.smoothness(there, MASK).item() < 0.5
    assert of.correspondence(there, back, MASK).abs().max() < 1e-6
    blurred = one_hot(torch.randperm(48), GRID, (6, 8))
    blurred.scores[:] = torch.where(blurred.scores > 0, 3.0, 0.0)  # as wide as a trained head
    there, back = ways(recorded(blurred))
    assert of.returning(there, back, MASK).item() < 0.5
    assert of.correspondence(there, back, MASK).abs().max() < 0.1


def test_one_spot_is_smooth_and_sharp_and_does_not_correspond() -> None:
    there, back = ways(recorded(one_hot(torch.full((48,), 27), GRID, REFERENCE)))
    assert [of.sharpness(there).item(), of.smoothness(there).item()] == [1, 1]
    assert of.returning(there, back, MASK).item() < 0.25
    assert abs(of.correspondence(there, back, MASK).item()) < 0.1


def test_inside_counts_the_patches_that_come_from_the_garment() -> None:
    there = recorded(one_hot(moved(), GRID, REFERENCE)).field("g2r")
    garment = torch.zeros(16, 16)
    garment[4:10, 6:12] = 1  # reference patches 2 to 4 down, 3 to 5 across: generated 2 to 4, 2 to 4
    assert of.inside(there, MASK, garment).item() == pytest.approx(3 * 3 / 20)
    assert of.inside(there, None, garment).item() == pytest.approx(9 / 48)
    assert of.inside(there, MASK, torch.ones(4, 4)).item() == 1
    two = Field(there.positions.repeat(2, 1, 1, 1), there.covariance.repeat(2, 1, 1, 1), "g2r")
    assert of.inside(two, MASK, torch.stack([garment, 1 - garment])).tolist() == pytest.approx([9 / 20, 11 / 20])
    edge = Field(torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 3), "g2r")  # 1.0 is the last pixel
    assert of.inside(edge, None, torch.eye(3)).item() == 1


# By hand


def known(there: Field, image: int, back: Field) -> list[list[tuple[float, float, float]]]:
    """Of each patch: how far it ends from itself, its narrowness, and the narrowness of the way back."""
    (h, w), everywhere = there.positions.shape[1:3], math.sqrt(1 / 6)
    narrow = [(1 - one.spread[image].double() / everywhere).clamp(0, 1) for one in (there, back)]
    found = []
    for i in range(h):
        row = []
        for j in range(w):
            y, x = there.positions[image, i, j].double().tolist()
            end = linear(back.positions[image].double().movedim(-1, 0), y, x).tolist()
            away = math.hypot(end[0] * h - i - 0.5, end[1] * w - j - 0.5)
            row.append((away, narrow[0][i, j].item(), linear(narrow[1], y, x).item()))
        found.append(row)
    return found


def by_hand(there: Field, back: Field, masks: Tensor, garments: Tensor) -> dict[str, list[float]]:
    (h, w), out = there.positions.shape[1:3], {name: [] for name in of.NAMES}
    for image in range(len(there)):
        facts, at, mask = known(there, image, back), there.positions[image].double(), masks[image]
        cells = list(itertools.product(range(h), range(w)))
        inner, outer = ([ij for ij in cells if mask[ij] == side] for side in (1, 0))
        sure = {(i, j): (facts[i][j][1] * facts[i][j][2]) ** 2 / (1 + facts[i][j][0] ** 2) for i, j in cells}
        out["correspondence"].append(sum(sure[ij] for ij in inner) / len(inner) - sum(sure[ij] for ij in outer) / len(outer))
        out["returning"].append(sum(facts[i][j][0] <= 1 for i, j in inner) / len(inner))
        out["sharpness"].append(sum(facts[i][j][1] for i, j in inner) / len(inner))
        shape = garments[image].shape
        out["inside"].append(sum(garments[image][int(at[ij][0] * shape[0]), int(at[ij][1] * shape[1])].item() for ij in inner) / len(inner))
        pairs = [((i, j), (i + di, j + dj)) for i, j in inner for di, dj in ((0, 1), (1, 0)) if (i + di, j + dj) in inner]
        jumps = [math.hypot(*((at[one] - at[other]) * torch.tensor([h, w])).tolist()) for one, other in pairs]
        out["smoothness"].append(sum(jump <= 2 for jump in jumps) / len(jumps))
    return out


def half_known(images: int = 3) -> AttributionMaps:
    """A mirrored garment under noise, sharper in some images, and a layer that does not point."""
    order = torch.arange(35).view(7, 5).flip(1).flatten()
    layer = noise((7, 5), (7, 5), images=images, heads=2, name="up")
    layer.scores[..., torch.arange(35), order] += 6.0
    layer.scores[:, 0] *= 0.5
    return recorded(layer, noise((4, 3), (3, 4), images=images, heads=2, special=1, name="down"))


def test_scores_are_what_they_say() -> None:
    maps = half_known()
    masks, garments = (torch.rand(3, 7, 5) > 0.4).float(), (torch.rand(3, 12, 9) > 0.5).float()
    fine = masks.repeat_interleave(4, 1).repeat_interleave(3, 2)
    for choice in ({}, {"layers": "up"}, {"layers": "pointing"}, {"weigh": "evenly"}, {"layers": "up", "heads": 1}):
        found = of.scores(maps, fine, garments, **choice)
        right = by_hand(*ways(maps, **choice), masks, garments)
        assert tuple(found) == of.NAMES
        for name, values in right.items():
            assert found[name].dtype == torch.float32
            assert found[name].tolist() == pytest.approx(values, abs=1e-5), name
    assert 0.05 < of.scores(maps, fine, layers="up")["returning"].min() < 1
    assert tuple(of.scores(maps, fine)) == tuple(name for name in of.NAMES if name != "inside")


def test_imacs_of_what_points_is_of_its_heads_alone() -> None:
    layer = one_hot(moved(), GRID, REFERENCE)
    maps = recorded(layer._replace(scores=torch.cat([layer.scores, torch.randn_like(layer.scores)], 2)))
    found = imacs.scores(maps, MASK, torch.ones(8, 8).tril(), layers="pointing")
    for name, direction, mask in (("imacs_g", "r2g", MASK), ("imacs_r", "g2r", torch.ones(8, 8).tril())):
        assert torch.equal(found[name], imacs.imacs(maps.unified(direction, heads=0), mask))
        assert not torch.equal(found[name], imacs.imacs(maps.unified(direction), mask))


def test_an_image_scores_alone_as_in_a_batch() -> None:
    maps, masks = half_known(), (torch.rand(3, 14, 10) > 0.4).float()
    whole = of.scores(maps, masks, masks)
    for i in range(3):
        assert all(torch.equal(score, whole[name][i : i + 1]) for name, score in of.scores(maps[i], masks[i], masks[i]).items())


def test_within_says_how_near() -> None:
    layer = one_hot(torch.arange(48), GRID, GRID)
    there, back = ways(recorded(layer))
    off = Field(back.positions + torch.tensor([0, 1.5 / 6]), back.covariance, "r2g")
    assert [of.returning(there, off, within=d).item() for d in (1.0, 1.49, 1.51)] == [0, 0, 1]
    home = MASK.view(1, *GRID, 1)
    beside = Field(back.positions * home + off.positions * (1 - home), back.covariance, "r2g")  # outside the mask alone
    found = [of.correspondence(there, beside, MASK, within=d).item() for d in (1, 3)]
    assert found == pytest.approx([1 - 1 / (1 + (1.5 / d) ** 2) for d in (1, 3)], abs=1e-4)
    assert [of.smoothness(there, within=d).item() for d in (0.99, 1.01)] == [0, 1]


# No score


def test_empty_masks_have_no_score() -> None:
    there, back = ways(half_known(1))
    empty, full, one = torch.zeros(7, 5), torch.ones(7, 5), torch.zeros(7, 5)
    one[3, 3] = 1
    for mask in (empty, full):
        assert of.correspondence(there, back, mask).isnan().all()
    assert of.correspondence(there, back, one).isfinite().all()
    for score in (of.returning(there, back, empty), of.inside(there, empty, full), of.sharpness(there, empty), of.smoothness(there, empty)):
        assert score.isnan().all()
    assert of.smoothness(there, one).isnan().all()  # no neighbours
    assert of.sharpness(there, one).isfinite().all()


def test_patches_that_are_nowhere_fail() -> None:
    """The first one too, where the way back begins at the first patch of the reference."""
    layer = one_hot(torch.arange(48), GRID, GRID)
    seen = torch.ones(1, 1, 48, 48, dtype=torch.bool)
    seen[:, :, [0, 20]] = False
    there, back = ways(recorded(layer, how={"attn_mask": seen}))
    assert there.positions.isnan().flatten(1, 2).any(-1).nonzero()[:, 1].tolist() == [0, 20]
    assert of.returning(there, back).item() == pytest.approx(46 / 48)
    assert of.sharpness(there).item() == pytest.approx(46 / 48)
    assert of.inside(there, None, torch.ones(8, 6)).item() == pytest.approx(46 / 48)
    pairs = 7 * 6 + 8 * 5
    assert of.smoothness(there).item() == pytest.approx((pairs - 2 - 4) / pairs)
    mask = torch.zeros(8, 6)
    mask[:4] = 1  # 24 patches, of which 22 are somewhere; 24 beside them
    assert of.correspondence(there, back, mask).item() == pytest.approx(22 / 24 - 1)


def test_what_is_wrong_is_said() -> None:
    maps = half_known()
    (there, back), mask = ways(maps), torch.ones(7, 5)
    for wrong in (0, NAN, math.inf, "a", None):
        for score in (of.returning, of.correspondence):
            with pytest.raises(ValueError, match=r"within must be a number of patches above 0"):
                score(there, back, mask, within=wrong)
        with pytest.raises(ValueError, match=r"within must be a number of patches above 0"):
            of.smoothness(there, within=wrong)
    for other in (there, back[:2]):
        with pytest.raises(ValueError, match=r"back must be the way back of g2r for 3 images, got \w+ of \d.*belong together"):
            of.returning(there, other)
    heads = maps.field(level="head")
    told = re.escape('must be of level "unified": [B, H, W], got [3, 2, 7, 5]. Choose a layer, head or group')
    asked = {
        "there": [lambda: of.returning(heads, back)],
        "back": [lambda: of.correspondence(there, heads, mask)],
        "field": [lambda: of.sharpness(heads), lambda: of.smoothness(heads), lambda: of.inside(heads, mask, mask)],
    }
    for name, ask in ((name, ask) for name, some in asked.items() for ask in some):
        with pytest.raises(ValueError, match=f"i2am: {name} {told}"):
            ask()
    with pytest.raises(ValueError, match=r"field must be a Field, got .*maps\.field"):
        of.smoothness(there.positions)
    with pytest.raises(ValueError, match=r"maps must be an AttributionMaps"):
        of.scores(there, mask)
    with pytest.raises(ValueError, match=r"mask must be one mask, or one per image or prompt \(3 images\), got 2 masks"):
        of.sharpness(there, torch.ones(2, 7, 5))
    with pytest.raises(ValueError, match=r"this run has no field_g2r maps"):
        of.scores(recorded(noise((3, 2), (2, 2)), field=False), torch.ones(3, 2))


# A data set


def test_metrics_are_means_over_images() -> None:
    pytest.importorskip("torchmetrics")
    from i2am.score import correspondence_metric as metrics

    count = 9
    maps, masks = half_known(count), (torch.rand(count, 7, 5) > 0.4).float()
    masks[2], masks[5] = 0, 1
    there, back = ways(maps)
    kinds = {
        "correspondence": (metrics.Correspondence, (there, back, masks)), "returning": (metrics.Returning, (there, back, masks)),
        "inside": (metrics.Inside, (there, masks, masks.roll(1, 0))), "sharpness": (metrics.Sharpness, (there, masks)),
        "smoothness": (metrics.Smoothness, (there, masks)),
    }  # fmt: skip
    assert tuple(kinds) == of.NAMES
    for name, (kind, inputs) in kinds.items():
        right = getattr(of, name)(*inputs)
        whole, parts, rest = kind(), kind(), kind()
        whole.update(*inputs)
        for metric, some in ((parts, slice(0, 2)), (parts, slice(2, 6)), (rest, slice(6, 9))):
            metric.update(*(one[some] for one in inputs))
        rest.merge_state(parts)
        torch.testing.assert_close(whole.scores, right, equal_nan=True)
        torch.testing.assert_close(rest.scores, right, equal_nan=True)
        found, there_are = whole.compute(), right[~right.isnan()].double()
        assert all(torch.equal(value, rest.compute()[key]) for key, value in found.items())
        assert found["mean"].item() == pytest.approx(there_are.mean().item(), rel=1e-6)
        assert (found["count"].item(), found["nan"].item()) == (len(there_are), 2 if name == "correspondence" else 1)
        low, high = bootstrap(there_are.sort().values, 1000, 0.95, 0)
        assert (found["low"].item(), found["high"].item()) == pytest.approx((low.item(), high.item()))
        assert kind.higher_is_better
    near, far = metrics.Returning(within=0.5, resamples=10), metrics.Returning(within=50)
    for metric in (near, far):
        metric.update(there, back)
    assert near.compute()["mean"] < far.compute()["mean"] == 1
    with pytest.raises(ValueError, match=r"resamples must be a whole number"):
        metrics.Smoothness(within=3, resamples=0)
