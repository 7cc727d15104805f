"""Hiding and swapping measure what they say, on a `generate` whose answer is known: a picture that shows one half of its reference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from i2am.score.faithfulness import first, hiding, swapping


def shows_left(references: Tensor) -> Tensor:
    """Pictures twice as high whose lower half is the reference's left half, twice as wide, and whose upper half is black."""
    left = references[..., : references.shape[-1] // 2].repeat_interleave(2, -1)
    return torch.cat([torch.zeros_like(references), left], 2)


@pytest.fixture
def references() -> Tensor:
    return torch.rand(3, 3, 16, 12, generator=torch.Generator().manual_seed(0)) * 0.4


def used(values: Tensor) -> Tensor:
    """G2R [3, 8, 6] that is these values on the left half and 0 on the right."""
    return torch.cat([values, torch.zeros(3, 8, 3)], 2)


LOWER = torch.cat([torch.zeros(16, 12), torch.ones(16, 12)])  # the mask: where the picture shows the reference


def test_hiding_what_is_used_changes_the_picture_and_the_rest_does_not(references: Tensor) -> None:
    changes = hiding(shows_left, references, used(torch.rand(3, 8, 3)), LOWER, shares=(0.25, 0.5), fill=1.0)
    for change in changes:
        assert change.top.shape == (3,)
        assert change.bottom.eq(0).all()
        assert (change.top > change.random).all()
        assert change.ratio == pytest.approx((change.top.sum() / change.random.sum()).item())
    # with half of the patches hidden, the whole of the left half is white
    expected = (1 - references[..., :6]).mean((1, 2, 3))
    torch.testing.assert_close(changes[1].top, expected)


def test_the_change_is_measured_inside_the_mask_alone(references: Tensor) -> None:
    upper, lower = (hiding(shows_left, references, used(torch.ones(3, 8, 3)), m, shares=(0.5,))[0] for m in (1 - LOWER, LOWER))
    assert upper.top.eq(0).all()
    assert (lower.top > 0).all()


def test_a_garments_random_patches_lie_on_the_garment(references: Tensor) -> None:
    """The garment is the right half, which the picture does not show, so hiding any of it changes nothing."""
    garment = torch.cat([torch.zeros(16, 6), torch.ones(16, 6)], 1)
    found = hiding(shows_left, references, used(torch.rand(3, 8, 3)), LOWER, garment_mask=garment, shares=(0.5,))[0]
    assert found.garment is not None
    assert found.garment.eq(0).all()
    assert (found.random > 0).all()


def test_patches_are_counted_nested_and_the_same_each_time() -> None:
    score = torch.rand(2, 7, 9, generator=torch.Generator().manual_seed(1))
    small, large = first(score, 0.2), first(score, 0.4)
    assert small.sum((1, 2)).tolist() == [13, 13]  # round(0.2 x 63)
    assert large.sum((1, 2)).tolist() == [25, 25]
    assert (small <= large).all()
    for image, taken in zip(score, small.bool()):
        assert image[taken].min() > image[~taken].max()
    assert first(torch.zeros(1, 2, 3), 0.5).flatten().tolist() == [1, 1, 1, 0, 0, 0]  # of equal ones the first
    assert first(score, 1e-6).sum().item() == 2  # at least one


def test_hiding_is_reproducible_and_depends_on_the_seed(references: Tensor) -> None:
    one, same, other = (hiding(shows_left, references, used(torch.rand(3, 8, 3)), LOWER, shares=(0.25,), seed=s)[0] for s in (0, 0, 1))
    assert torch.equal(one.random, same.random)
    assert not torch.equal(one.random, other.random)


def test_swapping_finds_where_the_picture_follows_its_reference(references: Tensor) -> None:
    r2g = torch.cat([torch.zeros(3, 8, 6), 1 + torch.rand(3, 8, 6)], 1)  # on the lower half
    changes, ranks = swapping(shows_left, references, r2g, shares=(0.25, 0.5))
    for change in changes:
        assert change.bottom.eq(0).all()
        assert (change.top > change.random).all()
    assert all(rank.rho > 0.7 for rank in ranks)
    true = (shows_left(references.roll(1, 0)) - shows_left(references)).abs().mean(1).unflatten(1, (16, 2)).mean(2)
    _, ranks = swapping(shows_left, references, true.unflatten(2, (6, 2)).mean(3))
    assert [rank.rho for rank in ranks] == pytest.approx([1.0] * 3)


@pytest.mark.parametrize(("change", "message"), [
    ({"g2r": torch.rand(2, 8, 6)}, "One map per reference"),
    ({"g2r": torch.full((3, 8, 6), float("nan"))}, "the maps must be finite"),
    ({"shares": (0.0,)}, "shares must be between 0 and 1"),
    ({"shares": ()}, "shares must be between 0 and 1"),
    ({"mask": torch.ones(2, 32, 12)}, "Their number must divide"),
])  # fmt: skip
def test_bad_input_is_refused(references: Tensor, change: dict, message: str) -> None:
    options = {"g2r": used(torch.ones(3, 8, 3)), "mask": LOWER, **change}
    with pytest.raises(ValueError, match=message):
        hiding(shows_left, references, options.pop("g2r"), options.pop("mask"), **options)


def test_one_reference_cannot_be_swapped(references: Tensor) -> None:
    with pytest.raises(ValueError, match="at least 2, to be exchanged"):
        swapping(shows_left, references[:1], torch.rand(1, 8, 6))
