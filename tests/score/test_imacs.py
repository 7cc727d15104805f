"""IMACS against its definition written out in numpy, what has no score, and the releases' conventions."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scored import boxes, cubic, noise
from tolerance import allowed
from torch import Tensor

from i2am import imacs

PIXELS = 16  # the terms of a bicubic value; in the mean over a mask the roundings of many of them cancel


def written_out(map: Tensor, mask: Tensor, dtype: Any, threshold=0.4, penalty=3.0, invert=False, force_mask=False) -> float:
    """One image's score, as method.md says it."""
    a, m = map.cpu().float().numpy().astype(dtype), mask.cpu().float().numpy().astype(dtype)
    if force_mask:
        a = a * cubic(m, *a.shape)
    a = (a - a.min()) / (a.max() - a.min() + dtype(1e-8))
    a = cubic(a, *m.shape)
    x = (a - a.min()) / (a.max() - a.min() + dtype(1e-8))
    x = 1 - x if invert else x
    if dtype is np.float64 and threshold:
        assert np.abs(x - threshold).min() > 1e-6, "a pixel on the threshold has no definite score: draw another map"
    x[x <= threshold] = 0
    return float((x * m).sum() / m.sum() - penalty * (x * (1 - m)).sum() / (1 - m).sum())


def same(got: Tensor, maps: Tensor, masks: Tensor, **options: Any) -> None:
    assert (got.dtype, got.shape, got.device) == (torch.float32, (len(maps),), maps.device)
    for one, map, mask in zip(got.tolist(), maps, masks.expand(len(maps), *masks.shape[-2:])):
        right, eager = (written_out(map, mask, dtype, **options) for dtype in (np.float64, np.float32))
        most = options.get("penalty", 3.0) + 1
        assert abs(one - right) <= allowed(torch.tensor(abs(eager - right)), torch.tensor(most), PIXELS), (one, right, eager)


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "inverted": {"invert": True},
    "forced": {"force_mask": True},
    "both": {"invert": True, "force_mask": True},
    "numbers": {"threshold": 0.15, "penalty": 0.5},
    "all kept": {"threshold": 0.0},
}


@pytest.mark.filterwarnings("ignore:i2am. maps of .* are stretched")
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize(("grid", "size"), [((16, 12), (64, 48)), ((37, 28), (32, 24)), ((6, 5), (23, 31)), ((12, 9), (12, 9))], ids=str)
def test_scores_are_those_of_the_method(grid, size, options):
    maps, masks = noise(3, *grid), boxes(3, *size)
    same(imacs(maps, masks, **OPTIONS[options]), maps, masks, **OPTIONS[options])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_any_dtype_is_scored_in_float32(dtype):
    maps, masks = noise(3, 16, 12).to(dtype), boxes(3, 64, 48)
    got = imacs(maps, masks.to(dtype))
    same(got, maps, masks)
    assert torch.equal(got, imacs(maps.float(), masks.bool()))


def test_soft_masks_are_used_as_they_are():
    maps, masks = noise(2, 8, 6), noise(2, 32, 24, seed=2)
    for options in OPTIONS.values():
        same(imacs(maps, masks, **options), maps, masks, **options)


def test_masks_come_in_every_form():
    maps, mask = noise(4, 8, 6), boxes(1, 32, 24)[0]
    right = imacs(maps, mask.expand(4, 32, 24))
    picture = Image.fromarray((mask.cpu().numpy() * 255).astype(np.uint8))
    for form in (
        mask,
        mask[None],
        mask[None, None],
        mask.bool(),
        mask.cpu().numpy(),
        picture,
        [picture, mask],
        mask[None].expand(2, 32, 24),
    ):
        assert torch.equal(imacs(maps, form), right)
    one = imacs(maps[0], mask)
    assert one.shape == ()
    torch.testing.assert_close(one, right[0])


def test_the_batch_is_scored_image_by_image():
    maps, masks, order = noise(5, 8, 6), boxes(5, 32, 24), [3, 0, 4, 2, 1]
    whole = imacs(maps, masks)
    assert torch.equal(imacs(maps[order], masks[order]), whole[order])
    torch.testing.assert_close(torch.stack([imacs(a, m) for a, m in zip(maps, masks)]), whole)
    torch.testing.assert_close(imacs(3 * maps + 7, masks), whole, rtol=1e-4, atol=1e-4)  # minmax forgets scale and offset


def test_no_inside_or_no_outside_is_no_score():
    maps = noise(3, 8, 6)
    masks = torch.stack([torch.zeros(32, 24), torch.ones(32, 24), boxes(1, 32, 24)[0]])
    for options in ({}, {"invert": True}):
        with pytest.warns(UserWarning, match=r"no IMACS \(NaN\) in image 0, 1 of 3: a mask that is empty or full has no inside"):
            got = imacs(maps, masks, **options)
        assert got.isnan().tolist() == [True, True, False]
        same(got[2:], maps[2:], masks[2:], **options)
    with pytest.warns(UserWarning, match="in image 0, 1, 2 of 3"):
        assert imacs(maps, torch.zeros(32, 24)).isnan().all()
    with pytest.warns(UserWarning, match="in image 0, 1, 2 of 3"):
        assert imacs(maps, masks[0], force_mask=True).isnan().all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        imacs(maps[2:], masks[2:])


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf], ids=str)
def test_a_map_that_is_not_finite_is_refused(wrong):
    maps, masks = noise(3, 8, 6), boxes(3, 32, 24)
    maps[1, 2, 3] = wrong
    with pytest.raises(ValueError, match=r"map must be finite, got NaN or infinity in image 1 of 3\. Look for overflow"):
        imacs(maps, masks)


@pytest.mark.parametrize(
    ("grid", "size", "stretched"),
    [
        ((16, 12), (1024, 768), False),
        ((37, 28), (1024, 768), False),  # rounded down, as patches are
        ((63, 48), (1000, 760), False),  # rounded up, as latents are
        ((8, 6), (1000, 760), False),
        ((1, 1), (300, 200), False),
        ((63, 48), (8, 6), False),  # a mask on a coarser grid
        ((12, 16), (1024, 768), True),  # turned
        ((16, 16), (1024, 768), True),
        ((64, 48), (1000, 700), True),
    ],
)
def test_a_map_of_another_shape_is_stretched_with_a_warning(grid, size, stretched):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        imacs(noise(1, *grid), boxes(1, *size))
    assert [str(one.message)[:36] for one in said] == [f"i2am: maps of {grid[0]} x {grid[1]} are stretched t"[:36]] * stretched


@pytest.mark.filterwarnings("ignore:i2am. maps of .* are stretched")
def test_constant_maps_score_what_the_formula_gives():
    for value in (0.0, 1.0, -3.0, 0.1):
        flat = torch.full((2, 16, 16), value)
        assert imacs(flat, boxes(2, 32, 24)).tolist() == [0, 0]
        assert imacs(flat, boxes(2, 32, 24), invert=True).tolist() == [-2, -2]


def test_a_map_of_the_mask_scores_one_and_its_inverse_minus_three():
    masks = boxes(3, 64, 48)
    torch.testing.assert_close(imacs(masks, masks), torch.ones(3))
    torch.testing.assert_close(imacs(1 - masks, masks), torch.full((3,), -3.0))
    torch.testing.assert_close(imacs(1 - masks, masks, invert=True), torch.ones(3))
    coarse = torch.nn.functional.adaptive_avg_pool2d(masks[:1], (32, 24))  # borders on cells: bicubic overshoots there alone
    assert imacs(coarse, masks[:1]).item() == pytest.approx(0.85, abs=0.1)


def test_the_threshold_itself_is_dropped():
    map, mask = torch.tensor([[0.0, 0.5, 1.0]]), torch.tensor([[0.0, 1.0, 1.0]])
    assert imacs(map, mask, threshold=0.5).item() == 0.5
    assert imacs(map, mask, threshold=0.49).item() == 0.75


@pytest.mark.parametrize("penalty", [0.0, 3.0, 10.0])
def test_scores_are_in_their_range(penalty):
    maps, masks = torch.cat([noise(20, 8, 6), 1 - noise(20, 8, 6)]), (noise(40, 32, 24, seed=3) > 0.2).float()
    for options in OPTIONS.values():
        got = imacs(maps, masks, **{**options, "penalty": penalty})
        assert ((got >= -penalty) & (got <= 1)).all()


def test_forcing_forgives_what_lies_outside():
    mask = boxes(1, 64, 48)
    spilling = torch.ones(1, 16, 12)
    spilling[0, 0, 0] = 3  # a hot corner outside the mask
    plain, forced = imacs(spilling, mask), imacs(spilling, mask, force_mask=True)
    assert plain < 0.1
    assert forced > 0.6


REFUSED: dict[str, tuple[Any, Any, str]] = {
    "integers": (torch.ones(1, 4, 3, dtype=torch.int64), torch.ones(8, 6), r"map must be .*got int64 \[1, 4, 3\] on .* from 1 to 1\. maps"),
    "four": (torch.ones(1, 1, 4, 3), torch.ones(8, 6), r"map must be .*got float32 \[1, 1, 4, 3\]"),
    "empty": (torch.ones(0, 4, 3), torch.ones(8, 6), r"map must be .*got float32 \[0, 4, 3\]"),
    "array": (np.ones((1, 4, 3)), torch.ones(8, 6), r"map must be a floating tensor"),
    "bytes": (torch.ones(1, 4, 3), torch.full((8, 6), 255), r"mask must be between 0 and 1, .*255\. Divide"),
    "too many": (torch.ones(3, 4, 3), torch.ones(2, 8, 6), r"mask must be one mask, or one per image.*\(3 images\), got 2 masks"),
    "two for one": (torch.ones(4, 3), torch.ones(2, 8, 6), r"mask must be one mask, or one per image.*\(1 images\), got 2 masks"),
    "file": (torch.ones(1, 4, 3), "mask.png", r"mask must be a mask: .*got 'mask\.png'\. Load a file first"),
}  # fmt: skip


OUT_OF_RANGE = {
    "threshold": ([float("nan"), 1, 1.5, -0.1, "0.4", None, True, torch.ones(2)], r"threshold must be from 0 to below 1, got .*0\.4 is"),
    "penalty": ([float("nan"), -1, float("inf"), "3", None], r"penalty must be 0 or more, got .*3 is the authors'"),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, (values, _) in OUT_OF_RANGE.items() for value in values], ids=str)
def test_numbers_are_in_their_range(name, value):
    with pytest.raises(ValueError, match=OUT_OF_RANGE[name][1]):
        imacs(noise(1, 8, 6), boxes(1, 32, 24), **{name: value})


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_said(name):
    map, mask, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        imacs(map, mask)
