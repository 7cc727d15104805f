"""Words that look at the same place, and adjectives that change more than their noun: known answers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from i2am.score import entanglement, intervals
from i2am.score.entanglement import Pair

SIZE = (24, 40)


def box(top: int, left: int, bottom: int, right: int, value: float = 1.0) -> Tensor:
    found = torch.zeros(SIZE)
    found[top:bottom, left:right] = value
    return found


def pair(number: int, group: str, iou: float | None, right: bool | None = None) -> Pair:
    return Pair(f"{number:04d}", group, iou, iou, iou, right)


def test_a_leak_is_the_mass_outside_over_what_chance_gives() -> None:
    noun = box(4, 10, 20, 30)  # a third of the picture
    share = 16 * 20 / (24 * 40)
    even = entanglement.leaking(torch.ones(SIZE), noun)
    assert even["area"].item() == pytest.approx(share)
    assert even["outside"].item() == pytest.approx(1 - share)
    assert even["leak"].item() == pytest.approx(1)
    inside = entanglement.leaking(box(6, 12, 10, 20), noun)
    assert (inside["outside"], inside["leak"], inside["iod"]) == (0, 0, 1)
    half = entanglement.leaking(box(4, 0, 20, 20), noun)  # half of it to the left of the noun
    assert half["outside"].item() == half["iod"].item() == 0.5
    batch = entanglement.leaking(torch.stack([box(6, 12, 10, 20), box(4, 0, 20, 20)]), torch.stack([noun, noun]))
    assert batch["outside"].tolist() == [0, 0.5]


def test_a_leak_needs_somewhere_to_leak_to() -> None:
    nothing = entanglement.leaking(torch.zeros(SIZE), box(0, 0, 5, 5))
    assert nothing["outside"].isnan()
    whole = entanglement.leaking(torch.ones(2, *SIZE), torch.stack([box(0, 0, 5, 5), torch.full(SIZE, math.nan)]))
    assert whole["leak"].isnan().tolist() == [False, True]
    with pytest.raises(ValueError, match=r"the adjective's maps must be floating \[\.\.\., h, w\], as many"):
        entanglement.leaking(torch.ones(SIZE), torch.ones(5, 40))


def test_a_map_is_resized_before_it_is_cut() -> None:
    adjective, noun = torch.rand(2, 1, 1, 6, 10)
    larger = [torch.nn.functional.interpolate(one, size=SIZE, mode="bicubic") for one in (adjective, noun)]
    expected = entanglement.leaking(*larger)
    for name, value in entanglement.leaking(adjective, noun, size=SIZE).items():
        assert torch.equal(value, expected[name]), name


def test_a_change_in_the_noun_alone_is_none_outside() -> None:
    one = torch.rand(2, 3, *SIZE)
    noun = box(8, 12, 16, 28)
    other = torch.where(noun > 0, 1 - one, one)
    found = entanglement.changed(one, other, noun)
    assert found["absolute_outside"].tolist() == [0, 0]
    assert (found["ssim_outside"].abs() < 1e-5).all()  # SSIM in float32
    inside = noun.expand(2, 3, -1, -1) > 0
    right = (one - other).abs()[inside].view(2, -1).double().mean(1)
    torch.testing.assert_close(found["absolute_inside"], right, rtol=1e-6, atol=0)
    assert (found["ssim_inside"] > 0.3).all()
    swapped = entanglement.changed(one, torch.where(noun > 0, one, 1 - one), noun)
    assert swapped["absolute_inside"].tolist() == [0, 0]
    assert (swapped["ssim_outside"] > 0.3).all()


def test_changes_without_a_place_have_no_number() -> None:
    one = torch.rand(1, 3, *SIZE)
    found = entanglement.changed(one, one, torch.ones(SIZE))
    assert found["absolute_outside"].isnan()
    assert found["ssim_outside"].isnan()
    assert found["absolute_inside"] == 0
    with pytest.raises(ValueError, match=r"mask must be of the pictures' size \(24, 40\), got \(12, 40\)"):
        entanglement.changed(one, one, torch.ones(12, 40))


def test_pairs_are_told_apart_by_group_and_by_what_was_painted() -> None:
    pairs = [pair(0, "siblings", 0.6, False), pair(1, "siblings", 0.4, True), pair(2, "siblings", 0.8, False),
             pair(3, "different", 0.1, True), pair(4, "different", 0.3, None), pair(5, "different", None, False)]  # fmt: skip
    found = entanglement.pairs_by_group(pairs)
    siblings, different = found["groups"]["siblings"], found["groups"]["different"]
    assert siblings["iou"]["mean"] == pytest.approx(0.6)
    assert (different["iou"]["count"], different["iou"]["nan"], different["pictures"]) == (2, 1, 3)
    assert siblings["right"]["mean"] == pytest.approx(1 / 3)
    assert different["right"] == {**different["right"], "mean": 0.5, "count": 2, "nan": 1}
    assert list(found["differences"]) == ["siblings - different"]
    assert found["differences"]["siblings - different"]["iou"]["mean"] == pytest.approx(0.4)
    assert found["by_right"]["all"]["right"]["mean"] == pytest.approx(0.25)
    assert found["by_right"]["all"]["wrong"]["mean"] == pytest.approx(0.7)
    assert found["by_right"]["siblings"]["difference"]["mean"] == pytest.approx(0.3)
    assert found["by_right"]["different"]["difference"]["mean"] is None
    assert found == {**entanglement.pairs_by_group(pairs[::-1]), "differences": found["differences"]}  # in any order
    assert "by_right" not in entanglement.pairs_by_group([pair(0, "a", 0.5), pair(1, "b", 0.5)])


def test_the_interval_of_a_difference_is_as_wide_as_theory_says() -> None:
    generator = torch.Generator("cpu").manual_seed(0)
    one, other = (
        torch.randn(count, generator=generator, dtype=torch.float64, device="cpu") * width for count, width in ((400, 1), (100, 3))
    )
    low, high = intervals.bootstrap_difference(one, other, 4000, 0.95, 0)
    expected = 2 * 1.96 * math.sqrt(1 / 400 + 9 / 100)
    assert float(high - low) == pytest.approx(expected, rel=0.2)
    moved = intervals.bootstrap_difference(one + 5, other, 4000, 0.95, 0)
    torch.testing.assert_close(torch.stack(moved), torch.stack([low, high]) + 5)
    assert intervals.bootstrap_difference(one, other[:0], 10, 0.95, 0)[0].isnan()
    assert intervals.stated_difference([1.0], [None]) == {"mean": None, "low": None, "high": None}


def test_pictures_of_one_seed_are_one_draw() -> None:
    rows = [{"seed": 0, "x": 1.0}] * 8 + [{"seed": 1, "x": 0.0}, {"seed": 1, "x": None}]
    found = entanglement.table_of(rows, "seed", ["x"])["x"]
    assert found == {"mean": 0.5, "low": 0.0, "high": 1.0, "count": 9, "nan": 1, "clusters": 2}
