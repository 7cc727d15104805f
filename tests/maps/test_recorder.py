"""The recorder: its sums are those of the statement, the laws hold, and memory stays flat."""

import gc
from dataclasses import replace
from typing import Any

import pytest
import torch
from cases import LIBRARY_HALF
from live import live
from recording import MASK, MASKS, call, sums_of
from statement import JOINT, KINDS, PLAIN, Run, play, statement
from tolerance import FACTOR, alike, close
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from i2am import Recorder, cells

TERMS, LOGITS = 120, 10  # the most tokens of a layer; the largest log-sum-exp of random ones, in log2 units


@pytest.fixture(autouse=True)
def one_thread():
    """The tokens are few: threads would wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


POINTS: list[Any] = [(0.0, 0.0), (1.0, 1.0), (0.51, 0.3)]
BOXES: list[Any] = [(0.1, 0.2, 0.8, 1.0), (0.5, 0.5, 0.51, 0.52)]  # the second is thinner than a cell
TIME: dict[str, Any] = {"groups": 3, "steps": 4}
RUNS = {
    "plain": Run(PLAIN, {"groups": 1}),
    "groups": Run(PLAIN, TIME),
    "generated mask": Run(PLAIN, {**TIME, "generated_mask": MASK}),
    "masks": Run(PLAIN, {**TIME, "generated_mask": MASKS, "reference_mask": MASKS}),
    "reference mask": Run(PLAIN, {"groups": 1, "reference_mask": MASK}),
    "specific": Run(PLAIN, {**TIME, "specific": [*POINTS, *BOXES, MASK, MASKS], "generated_mask": MASK}),
    "grid": Run(PLAIN, {"groups": 2, "steps": 3, "specific": "grid"}),
    "rows": Run(PLAIN, {**TIME, "generated_mask": MASKS, "specific": [MASKS]}, blocks=2),
    "words and reference": Run(JOINT, {**TIME, "reference_mask": MASK, "specific": [(0.3, 0.3)]}, {"scale": 0.7}),
    "hidden keys": Run(JOINT, {"groups": 1}, hidden=True),
}


def first(value: Any) -> Any:
    """One image has one mask."""
    return MASKS[0] if value is MASKS else [first(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("batch", "dtype"), [(1, torch.float32), (3, torch.float32), (3, torch.bfloat16)], ids=str)
@pytest.mark.parametrize("name", RUNS)
def test_sums_are_those_of_the_statement(name, batch, dtype):
    run = RUNS[name]
    if batch == 1:
        run = replace(run, options={name: first(value) for name, value in run.options.items()})
    recorder, calls = play(run, batch, dtype)
    right, logits = statement(run, calls, torch.float64)
    eager, _ = statement(run, calls, torch.float32)
    library = LIBRARY_HALF if dtype != torch.float32 and torch.cuda.is_available() else 0.0
    maps, seen = recorder.maps, set()
    assert (maps.layers, len(maps), maps.groups, maps.steps) == (list(run.layers), batch, run.options["groups"], recorder.steps or 2)
    for sums in maps.sums:
        for kind in KINDS:
            got, at = getattr(sums, kind), (sums.layer, kind)
            assert (got is not None) == (at in right), at
            if got is not None:
                seen.add(at)
                assert got.is_contiguous()
                assert got.device.type == "cpu"
                close(got, right[at], eager[at], TERMS, f"{at}", logits, library)
    assert seen == set(right)


@pytest.mark.parametrize(("groups", "steps"), [(1, 3), (5, 5), (5, 7), (5, 50), (4, 31)])
def test_groups_cut_the_steps_evenly(groups, steps):
    """A step adds 1 to the sum of r2g, so that a group's sum is its number of steps."""
    recorder = Recorder(groups=groups, steps=steps)
    token = torch.randn(1, 1, 2, 4)
    for _ in range(steps):
        recorder.attend("a", token, token, token)
        recorder.step()
    counts = recorder.maps.tokens("r2g", "a").sum(-1).flatten()
    torch.testing.assert_close(counts, counts.round(), rtol=1e-5, atol=0)
    assert counts.sum().round() == steps
    assert counts.round().max() - counts.round().min() <= 1


def same(one: Tensor, two: Tensor) -> None:
    alike(one, two, TERMS, LOGITS)


def test_laws():
    steps, regions = [call(), call()], cells(2, 3)
    whole = sums_of(*steps, groups=2, steps=2, specific=regions)
    same(whole.r2g.sum(-1), torch.ones(3, 2, 2, device="cpu"))  # every step spreads 1 over either canvas
    same(whole.g2r.sum(-1), torch.ones(3, 2, 2, device="cpu"))
    same(whole.specific.sum(3), 12 * whole.g2r)  # the cells cover the image
    order = torch.randperm(11)
    moved = sums_of(*((q, k[:, :, order], v[:, :, order]) for q, k, v in steps), groups=2, steps=2, specific=regions)
    same(whole.g2r[..., order.cpu()], moved.g2r)
    same(whole.specific[..., order.cpu()], moved.specific)
    same(whole.r2g, moved.r2g)
    parts = [sums_of(step, specific=regions) for step in steps]
    images = [sums_of(*((q[i, None], k[i, None], v[i, None]) for q, k, v in steps), groups=2, steps=2, specific=regions) for i in range(3)]
    swapped = sums_of(*((k, q, q) for q, k, _ in steps), groups=2, steps=2, grid=None)
    for kind in ("r2g", "g2r", "specific"):
        same(getattr(whole, kind), torch.cat([getattr(part, kind) for part in parts], 1))
        same(getattr(whole, kind), torch.cat([getattr(image, kind) for image in images]))
    same(swapped.r2g, whole.g2r)
    same(swapped.g2r, whole.r2g)


def test_words_alone_are_shares_of_one():
    recorder = Recorder(groups=1)
    recorder.attend("a", *call(), words=(0, 11), generated_grid=(4, 3))
    sums = recorder.maps.sums[0]
    assert (sums.r2g, sums.g2r, sums.words.shape) == (None, None, (3, 1, 2, 11, 12))
    same(sums.words.sum(3), torch.ones(3, 1, 2, 12, device="cpu"))


def test_masks_of_prompts_serve_their_images():
    """Two prompts of two images each: rows 0 and 1 take the first mask."""
    step = call(4)
    two, four = (sums_of(step, generated_mask=masks) for masks in (MASKS[:2], MASKS[:2].repeat_interleave(2, 0)))
    assert torch.equal(two.g2r, four.g2r)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_output_is_the_attention(dtype):
    q, k, v = (t.to(dtype).requires_grad_() for t in call())
    got = Recorder(groups=1, specific="grid").attend("a", q, k, v, generated_grid=(4, 3))
    right = scaled_dot_product_attention(q.double(), k.double(), v.double())
    own = (scaled_dot_product_attention(q, k, v) - right).abs().max()
    assert got.dtype == dtype
    assert (got - right).abs().max() <= FACTOR * own + torch.finfo(dtype).eps * v.abs().max()
    got.sum().backward()
    assert q.grad.isfinite().all()


def test_same_calls_same_bits_and_clear_forgets():
    steps, recorder, runs = [call() for _ in range(4)], Recorder(groups=2, steps=4, specific="grid"), []
    for _ in range(2):
        for step in steps:
            recorder.attend("a", *step, generated_grid=(4, 3))
            recorder.step()
        runs.append(recorder.maps.sums[0])
        recorder.clear()
        with pytest.raises(ValueError, match=r"no attention call was recorded yet\. Run the model first"):
            _ = recorder.maps
    assert all(torch.equal(getattr(runs[0], kind), getattr(runs[1], kind)) for kind in ("r2g", "g2r", "specific"))


def test_maps_read_on_the_way_are_a_copy():
    recorder, step = Recorder(groups=2, steps=2), call()
    recorder.attend("a", *step)
    recorder.step()
    early = recorder.maps
    kept = early.sums[0].r2g.clone()
    recorder.attend("a", *step)
    recorder.step()
    assert early.steps == 1
    assert torch.equal(early.sums[0].r2g, kept)
    assert early.sums[0].r2g[:, 1].eq(0).all()  # a group that has not begun
    assert torch.equal(recorder.maps.sums[0].r2g[:, 1], kept[:, 0])


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf], ids=str)
@pytest.mark.parametrize("which", ["query", "key"])
def test_numbers_that_are_none_are_told_of(which, wrong):
    recorder = Recorder(groups=1)
    for layer in ("a", "b"):
        query, key, value = call()
        if layer == "b":
            {"query": query, "key": key}[which][1, 0, 3, 2] = wrong
        recorder.attend(layer, query, key, value, generated_grid=(4, 3), reference_grid=(11, 1))
    recorder.step()
    with pytest.warns(UserWarning, match=r"1 of 2 layers hold NaN or infinity: b\. Look for overflow"):
        maps = recorder.maps
    assert maps.broken == ["b"]
    with pytest.raises(ValueError, match=r"g2r sums must be finite, got NaN or infinity in 1 of 2 layers, the first b in image 1 of 3\."):
        maps.unified("g2r")
    assert maps.unified("g2r", layers=lambda name: name not in maps.broken).isfinite().all()
    assert maps[0].unified("g2r").isfinite().all()  # an image that is whole


def held() -> int:
    """Bytes of all tensors that are alive."""
    gc.collect()
    return live()[1]


@pytest.mark.parametrize("regions", [0, 6])
def test_memory_is_the_docstrings_and_flat(regions):
    sizes = {(4, 3): 11, (8, 6): 20, (7, 7): 1}
    calls = {grid: call(2, grid[0] * grid[1], reference) for grid, reference in sizes.items()}
    Recorder().attend("a", *call(2, 64, 64))  # so that the memory which the operator keeps is there
    recorder = Recorder(groups=5, steps=200, specific=cells(2, 3) if regions else None)
    before, seen = held(), []
    for step in range(200):
        for grid, tensors in calls.items():
            recorder.attend(str(grid), *tensors, generated_grid=grid)
        recorder.step()
        if step in (0, 1, 40, 199):
            seen.append(held() - before)
    images, groups, heads = 2, 5, 2
    sums = sum(h * w + (r * (1 + regions) if r > 1 else 0) for (h, w), r in sizes.items()) * images * groups * heads
    weights = images * (1 + regions) * (12 + 48) if regions else 0
    assert set(seen) == {4 * (sums + weights)}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_sums_are_float32_whatever_the_default(dtype):
    step, options = [t.clone() for t in call()], {"generated_mask": MASK, "specific": POINTS, "reference_mask": None}
    right = sums_of(step, **options)
    torch.set_default_dtype(dtype)
    try:
        got = sums_of(step, **options)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(got.specific, right.specific)


def test_the_default_device_is_not_asked():
    """ "meta" stands for a default device of cuda beside a model and masks on the CPU."""
    step, options = call(), {"generated_mask": MASK, "specific": [*POINTS, *BOXES]}
    right = sums_of(step, **options)
    with torch.device("meta"):
        got = sums_of(step, **options)
    assert torch.equal(got.specific, right.specific)


def test_inference_mode_and_no_grad_may_alternate():
    recorder, step = Recorder(groups=1), call()
    with torch.inference_mode():
        recorder.attend("a", *step)
    with torch.no_grad():
        recorder.attend("a", *step)
    assert torch.equal(recorder.maps.tokens("r2g", "a"), 2 * sums_of(step).r2g)
