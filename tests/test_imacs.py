"""IMACS against its definition written out in numpy, what has no score, and the releases' conventions."""

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tolerance import allowed
from torch import Tensor

from i2am import AttributionMaps, imacs
from i2am.buffers import LayerSums
from i2am.imacs import CONVENTIONS, Convention, Side, convention, scores

PIXELS = 16  # the terms of a bicubic value; in the mean over a mask the roundings of many of them cancel


def cubic(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Keys' kernel with a = -0.75, half-pixel centres, borders repeated, no antialias: one output row, then one column, at a time."""

    def along(lines: np.ndarray, count: int) -> np.ndarray:
        size, out = lines.shape[0], []
        for i in range(count):
            place = (i + 0.5) * size / count - 0.5
            below = int(np.floor(place))
            t = place - below
            weights = [
                -0.75 * (1 + t) ** 3 + 3.75 * (1 + t) ** 2 - 6 * (1 + t) + 3,
                1.25 * t**3 - 2.25 * t**2 + 1,
                1.25 * (1 - t) ** 3 - 2.25 * (1 - t) ** 2 + 1,
                -0.75 * (2 - t) ** 3 + 3.75 * (2 - t) ** 2 - 6 * (2 - t) + 3,
            ]
            taps = [lines[min(max(below + k, 0), size - 1)] for k in (-1, 0, 1, 2)]
            out.append(sum(lines.dtype.type(w) * tap for w, tap in zip(weights, taps)))
        return np.stack(out)

    return along(along(picture, height).T, width).T


def written_out(map: Tensor, mask: Tensor, dtype: Any, threshold=0.4, penalty=3.0, invert=False, force_mask=False) -> float:
    """One image's score, as method.md says it."""
    a, m = map.cpu().float().numpy().astype(dtype), mask.cpu().float().numpy().astype(dtype)
    if force_mask:
        a = a * cubic(m, *a.shape)
    a = (a - a.min()) / (a.max() - a.min() + dtype(1e-8))
    a = cubic(a, *m.shape)
    x = (a - a.min()) / (a.max() - a.min() + dtype(1e-8))
    x = 1 - x if invert else x
    if dtype is np.float64:
        assert np.abs(x - threshold).min() > 1e-6, "a pixel on the threshold has no definite score: draw another map"
    x[x <= threshold] = 0
    return float((x * m).sum() / m.sum() - penalty * (x * (1 - m)).sum() / (1 - m).sum())


def same(got: Tensor, maps: Tensor, masks: Tensor, **options: Any) -> None:
    assert (got.dtype, got.shape, got.device) == (torch.float32, (len(maps),), maps.device)
    for one, map, mask in zip(got.tolist(), maps, masks.expand(len(maps), *masks.shape[-2:])):
        right, eager = (written_out(map, mask, dtype, **options) for dtype in (np.float64, np.float32))
        most = options.get("penalty", 3.0) + 1
        assert abs(one - right) <= allowed(torch.tensor(abs(eager - right)), torch.tensor(most), PIXELS), (one, right, eager)


def noise(*shape: int, seed: int = 1) -> Tensor:
    """Peaked, so that bicubic overshoots."""
    return torch.rand(shape, generator=torch.Generator("cpu").manual_seed(seed), device="cpu").pow(4).to(torch.get_default_device())


def boxes(count: int, height: int, width: int) -> Tensor:
    """A different box for each image."""
    masks = torch.zeros(count, height, width)
    for i in range(count):
        masks[i, height // 5 + i : height // 2 + 2 * i, width // 6 : width // 2 + i] = 1
    return masks


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "inverted": {"invert": True},
    "forced": {"force_mask": True},
    "both": {"invert": True, "force_mask": True},
    "numbers": {"threshold": 0.15, "penalty": 0.5},
    "all kept": {"threshold": -1.0},
}


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
        got = imacs(maps, masks, **options)
        assert got.isnan().tolist() == [True, True, False]
        same(got[2:], maps[2:], masks[2:], **options)
    assert imacs(maps, torch.zeros(32, 24)).isnan().all()
    assert imacs(maps, masks[0], force_mask=True).isnan().all()


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf], ids=str)
def test_a_map_that_is_not_finite_has_no_score(wrong):
    maps, masks = noise(3, 8, 6), boxes(3, 32, 24)
    right = imacs(maps, masks)
    maps[1, 2, 3] = wrong
    got = imacs(maps, masks)
    assert got.isnan().tolist() == [False, True, False]
    assert torch.equal(got[[0, 2]], right[[0, 2]])


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
    "integers": (torch.ones(1, 4, 3, dtype=torch.int64), torch.ones(8, 6), r"map must be a floating tensor .*got int64 \[1, 4, 3\]\. maps"),
    "four": (torch.ones(1, 1, 4, 3), torch.ones(8, 6), r"map must be .*got float32 \[1, 1, 4, 3\]"),
    "empty": (torch.ones(0, 4, 3), torch.ones(8, 6), r"map must be .*got float32 \[0, 4, 3\]"),
    "array": (np.ones((1, 4, 3)), torch.ones(8, 6), r"map must be a floating tensor"),
    "bytes": (torch.ones(1, 4, 3), torch.full((8, 6), 255), r"mask must be between 0 and 1, .*255\. Divide"),
    "too many": (torch.ones(3, 4, 3), torch.ones(2, 8, 6), r"mask must be one mask, or one per image.*\(3 images\), got 2 masks"),
    "two for one": (torch.ones(4, 3), torch.ones(2, 8, 6), r"mask must be one mask, or one per image.*\(1 images\), got 2 masks"),
    "file": (torch.ones(1, 4, 3), "mask.png", r"mask must be a mask: .*got 'mask\.png'\. Load a file first"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_said(name):
    map, mask, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        imacs(map, mask)


# The releases' conventions


def layer(name: str, grid: tuple[int, int], reference: tuple[int, int] | None, seed: int) -> LayerSums:
    draw = noise(2, 2, 3, grid[0] * grid[1], seed=seed).cpu()
    if reference is None:
        return LayerSums(name, "reference", grid, None, 0, r2g=draw)
    return LayerSums(name, "reference", grid, reference, 1, draw, noise(2, 2, 3, reference[0] * reference[1] + 1, seed=seed + 50).cpu())


def stableviton() -> AttributionMaps:
    names = [f"{block}.1.transformer_blocks.0.attn2" for block in ("input_blocks.1", "middle_block", "output_blocks.3")]
    sums = [layer(name, grid, None, i) for i, (name, grid) in enumerate(zip(names, [(16, 12), (2, 2), (8, 6)]))]
    warps = [layer(f"warp_flow_blks.{i}.transformer_blocks.0.attn2", (8, 6), (8, 6), 10 + i) for i in (3, 4, 5)]
    return AttributionMaps((*sums, *warps), 4)


def custom() -> AttributionMaps:
    names = ["encoders.1.1.attention_2", "bottleneck.1.attention_2", "decoders.3.1.attention_2"]
    return AttributionMaps(tuple(layer(name, (8, 6), (5, 4), i) for i, name in enumerate(names)), 4)


MASKS = (boxes(2, 32, 24).cpu(), boxes(2, 40, 30).cpu())


def test_the_method_scores_every_layer():
    run = custom()
    got = scores(run, *MASKS)
    assert torch.equal(got["imacs_g"], imacs(run.unified("r2g"), MASKS[0]))
    assert torch.equal(got["imacs_r"], imacs(run.unified("g2r"), MASKS[1]))
    assert scores(run, MASKS[0]).keys() == {"imacs_g"}
    assert scores(run, garment_mask=MASKS[1]).keys() == {"imacs_r"}
    chosen = scores(run, *MASKS, layers="*coders*", size=(64, 48), heads=[1], groups=0, balance=True)
    how: dict[str, Any] = {"layers": "*coders*", "heads": [1], "groups": 0, "balance": True}
    assert torch.equal(chosen["imacs_r"], imacs(run.unified("g2r", (64, 48), **how), MASKS[1]))


def test_conventions_differ_as_the_releases_do():
    run = stableviton()
    got = scores(run, *MASKS, convention="stableviton")
    r2g, warp = run.unified("r2g", layers=["input*", "output*"]), run.unified("g2r", layers="warp_flow_blks.4.*")
    assert torch.equal(got["imacs_g"], imacs(r2g, MASKS[0], invert=True))
    assert torch.equal(got["imacs_r"], imacs(warp, MASKS[1], force_mask=True))
    example = scores(run, MASKS[0], convention="paint-by-example", layers=["input*", "output*"])
    assert torch.equal(example["imacs_g"], got["imacs_g"])

    run = custom()
    got = scores(run, *MASKS, convention="custom")
    assert torch.equal(got["imacs_g"], imacs(run.unified("r2g", layers="*coders*"), MASKS[0]))
    assert torch.equal(got["imacs_r"], imacs(run.unified("g2r", layers="*coders*"), MASKS[1]))
    assert not torch.equal(got["imacs_g"], scores(run, MASKS[0], convention="paint-by-example")["imacs_g"])
    assert not torch.equal(got["imacs_g"], scores(run, MASKS[0])["imacs_g"])  # with the bottleneck


def test_a_convention_is_a_record_of_itself():
    for name, how in CONVENTIONS.items():
        assert convention(name) is convention(how) is how
        assert (how.name, how.threshold, how.penalty) == (name, 0.4, 3.0)
        assert asdict(how)["r2g"]["invert"] == (name in ("stableviton", "paint-by-example"))
    mild = replace(convention("custom"), penalty=1.0)
    run = custom()
    got = scores(run, MASKS[0], convention=mild)["imacs_g"]
    assert torch.equal(got, imacs(run.unified("r2g", layers=mild.layers("r2g", run.layers)), MASKS[0], penalty=1.0))


ASKED: dict[str, tuple[Any, str]] = {
    "name": (lambda: convention("StableVITON"), r"convention must be one of method, stableviton, .*got 'StableVITON'"),
    "masks": (lambda: scores(custom()), r"masks must be mask \(inpainting\), garment_mask or both, got neither"),
    "layers": (lambda: scores(custom(), None, MASKS[1], convention="stableviton"),
               r"layers of the convention 'stableviton' must be among .*warp_flow_blks\.4.*Pass layers=.*encoders\.1"),
    "none left": (lambda: Convention("x", "", Side(without=("*",))).layers("r2g", ["a"]), r"but not \*, got none that fits"),
    "one token": (lambda: scores(custom(), *MASKS, convention="paint-by-example"), r"g2r score must be part of .*one token"),
    "direction": (lambda: convention("method").options("G2R"), r"direction must be .*got 'G2R'"),
}  # fmt: skip


@pytest.mark.parametrize("name", ASKED)
def test_what_was_asked_is_quoted(name):
    ask, message = ASKED[name]
    with pytest.raises(ValueError, match=message):
        ask()
