"""Misuse of the recorder: every refusal quotes what came and the way out, and leaves the recorder as it was."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from recording import MASK, call, noise, sums_of

from i2am import Recorder, Tokens, cells
from i2am.maps.buffers import Slot


@pytest.mark.parametrize("wrong", [0, -1, 2.0, True, "5"])
@pytest.mark.parametrize("name", ["groups", "steps"])
def test_numbers_must_be_whole(name, wrong):
    with pytest.raises(ValueError, match=rf"i2am: {name} must be a whole number of at least 1, got {wrong!r}\. groups=1"):
        Recorder(**{name: wrong})


MISUSE: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "steps unknown": ({"groups": 5}, {}, r"steps must be the number of denoising steps.*got None\. Pass steps=\.\.\., or groups=1"),
    "too many groups": ({"groups": 5, "steps": 3}, {}, r"groups must be at most the 3 denoising steps, got 5\. Pass groups=3"),
    "grid of nothing": ({"specific": "grid"}, {}, r"generated grid of a must be known for specific=\"grid\".*Pass generated_grid="),
    "mask without grid": ({"generated_mask": MASK}, {}, r"generated grid of a must be known to place a mask.*Pass generated_grid="),
    "reference mask without grid": ({"reference_mask": MASK}, {}, r"reference grid of a must be known.*Pass reference_grid="),
    "masks for others": ({"generated_mask": noise(2, 4, 3)}, {"generated_grid": (4, 3)}, r"generated_mask must.*\(3 images\), got 2"),
    "region masks": ({"specific": [noise(2, 4, 3)]}, {"generated_grid": (4, 3)}, r"specific\[0\] must be.*\(3 images\), got 2 masks"),
    "generated grid": ({}, {"generated_grid": (4, 4)}, r"a's generated_grid must be.*height \* width = 12 .*got \(4, 4\)"),
    "reference grid": ({}, {"reference_grid": (5, 2)}, r"reference_grid must be.*= 11 \(11 tokens, 0 of them special\), got \(5, 2\)"),
    "range": ({}, {"generated": (3, 13)}, r"generated of a must be .*stop <= 12, got \(3, 13\)\. Count the call's own tokens"),
    "empty range": ({}, {"reference": (3, 3)}, r"reference of a must be \(start, stop\) with 0 <= start < stop <= 11, got \(3, 3\)"),
    "words": ({}, {"words": (-1, 3)}, r"words of a must be .* got \(-1, 3\)"),
    "grid of a range": ({}, {"generated": (0, 6), "generated_grid": (4, 3)}, r"generated_grid must be.*= 6 \(6 tokens"),
    "rows": ({}, {"rows": (1, 4)}, r"^i2am: layer a: rows must be .*<= 3"),
    "backend": ({"backend": "tirton"}, {}, r"^i2am: layer a: backend must be one of .*'tirton'"),
    "mask": ({}, {"attn_mask": torch.ones(3, 11).int()}, r"^i2am: layer a: attn_mask must be bool .*got int32 \(3, 11\)"),
    "scale": ({}, {"scale": float("nan")}, r"^i2am: layer a: scale must be finite, got nan\."),
    "negative grid": ({}, {"generated_grid": (-4, -3)}, r"generated_grid must be .*got \(-4, -3\)"),
    "frames too many": ({}, {"generated_grid": (4, 3, 2)}, r"generated_grid must be .*got \(4, 3, 2\)"),
    "four-sided grid": ({}, {"generated_grid": (4, 3, 1, 1)}, r"generated_grid must be .*got \(4, 3, 1, 1\)"),
    "field of a video": (
        {"field": True}, {"generated_grid": (4, 3, 1)}, r"field must be left out for a video.*got a's grids are \(4, 3, 1\) and None"),
    "one number as a grid": ({}, {"generated_grid": 12}, r"generated_grid must be .*got 12"),
    "fractional grid": ({}, {"generated_grid": (4.0, 3.0)}, r"generated_grid must be .*got \(4\.0, 3\.0\)"),
    "negative special": ({}, {"special": -1, "reference_grid": (3, 4)}, r"special must be .*got -1"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISUSE)
def test_misuse_is_refused_and_leaves_no_trace(name):
    """After the error the same recorder takes the right call, as it would have without the wrong one."""
    options, how, message = MISUSE[name]
    recorder, step = Recorder(**{"groups": 1, **options}), call()
    with pytest.raises(ValueError, match=message):
        recorder.attend("a", *step, **how)
    with pytest.raises(ValueError, match="no attention call was recorded"):
        _ = recorder.maps
    if not options:
        recorder.attend("a", *step)
        assert torch.equal(recorder.maps.tokens("r2g", "a"), sums_of(step).r2g)


@pytest.mark.parametrize("shape", [(12, 8), (2, 12, 8)])
def test_heads_that_are_not_split_are_refused(shape):
    with pytest.raises(ValueError, match=r"^i2am: layer a: query must be .*\[batch, heads"):
        Recorder(groups=1).attend("a", *torch.randn(3, *shape))


def test_calls_after_the_first_must_fit_it():
    recorder = Recorder(groups=1, steps=1)
    recorder.attend("a", *call(), rows=(0, 1))
    with pytest.raises(ValueError, match=r"call of a must be .*\(3, 2, 12, 11\) as at the first step, got \(3, 2, 12, 5\)\. Give layers"):
        recorder.attend("a", *call(reference=5), rows=(0, 1))
    recorder.step()
    with pytest.raises(ValueError, match=r"the run must be 1 steps long, as declared, got step 2\. Pass the right steps=\.\.\., or clear"):
        recorder.step()


@pytest.mark.parametrize("other", [{"rows": (1, 2)}, {"special": 1}, {"reference": (0, 5)}, {"generated_grid": (2, 6)}], ids=str)
def test_a_layer_keeps_its_options(other):
    """Maps would be of the first call's rows and tokens, without a word."""
    recorder, step = Recorder(groups=1), call()
    recorder.attend("a", *step, rows=(0, 1), generated_grid=(4, 3))
    with pytest.raises(ValueError, match="a"):
        recorder.attend("a", *step, **{"rows": (0, 1), "generated_grid": (4, 3), **other})


def test_layers_must_agree_on_the_images():
    recorder = Recorder(groups=1)
    recorder.attend("a", *call(), rows=(0, 1), generated_grid=(4, 3))
    with pytest.raises(ValueError, match="b"):
        recorder.attend("b", *call(), generated_grid=(4, 3))


@pytest.mark.parametrize("layer", ["a", "b"])
def test_a_call_after_the_last_step_is_refused(layer):
    recorder = Recorder(groups=1, steps=1)
    recorder.attend("a", *call())
    recorder.step()
    with pytest.raises(ValueError, match="clear"):
        recorder.attend(layer, *call())


def test_the_grid_of_cells_follows_the_run():
    """After clear() another format gets cells of its own."""
    recorder = Recorder(groups=1, specific="grid")
    for grid, cut in (((8, 4), cells(8, 4)), ((4, 8), cells(4, 8))):
        recorder.attend("a", *call(generated=32), generated_grid=grid)
        assert recorder.maps.regions == tuple("box " + " ".join(f"{side:g}" for side in box) for box in cut)
        recorder.clear()


def test_slots_and_tokens_at_the_tracers_door():
    with pytest.raises(ValueError, match=r"Tokens must be told where the reference or the words sit, got neither\. Return None"):
        Tokens()
    query, key, _ = call()
    slot = Slot("a", Tokens(words=(0, 7)), query, key, replace(Recorder(groups=1).wanted, columns=(2, 7)))
    with pytest.raises(ValueError, match=r"words of a must be among its 7 text tokens, got \[2, 7\]\. Shorten the prompt"):
        slot.open((0, 3), 1)
