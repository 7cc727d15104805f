"""What a user may get wrong on the way to a level, and what is no error."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from summed import run_of

from i2am.maps.prompt import Prompt


def test_a_missing_grid_names_the_layer_and_the_remedy():
    run = run_of()
    lost = replace(run, sums=(replace(run.sums[0], reference_grid=None, special=0, generated_grid=None), *run.sums[1:]))
    with pytest.raises(
        ValueError, match=r"36 reference tokens of down\.0\.attn2 have no known place.*with_grid\(reference=\(height, width\), special=1"
    ):
        lost.unified("g2r")
    with pytest.raises(ValueError, match=r"6 generated tokens of down\.0\.attn2 .*with_grid\(generated=\(height, width\)\)"):
        lost.layer("r2g")
    with pytest.raises(ValueError, match=r"down\.0\.attn2's reference_grid must be .*= 35 \(36 tokens, 1 of them special\), got \(6, 6\)"):
        lost.with_grid(reference=(6, 6), special=1, layers="down.0*")
    with pytest.raises(ValueError, match=r"down\.0\.attn2's generated_grid must be .*= 6 .*got \(2, 2\)"):
        lost.with_grid(generated=(2, 2), layers="down.0*")
    mended = lost.with_grid(reference=(5, 7), generated=(3, 2), special=1, layers="down.0*")
    assert torch.equal(mended.unified("g2r"), run.unified("g2r"))
    assert torch.equal(mended.layer("r2g"), run.layer("r2g"))
    assert lost.unified("r2g", layers="mid*").shape == (2, 12, 8)  # others need no repair


def test_with_grid_takes_no_lie():
    run = run_of()
    with pytest.raises(ValueError, match="special"):
        run.with_grid(special=2, layers="mid*")  # 36 tokens no longer fit 5 x 7
    words = replace(run, sums=tuple(replace(s, r2g=None, g2r=None, specific=None) for s in run.sums))
    with pytest.raises(ValueError, match="generated_grid must be"):
        words.with_grid(generated=(5, 5), layers="mid*")


ASKED: dict[str, tuple[Any, str]] = {
    "direction": (lambda run: run.unified("G2R"), r"direction must be one of \"r2g\", \"g2r\".*got 'G2R'\. The last letter"),
    "level": (lambda run: run.specific(0, level="heads"), r"level must be \"unified\".*got 'heads'\. The documentation has"),
    "heads differ": (lambda run: run.head("r2g"), r"same number of heads.* 2 \(2 layers\), 4 \(1 layers\)\. Choose with layers="),
    "one number": (lambda run: run.unified("r2g", 64), r"size must be \(height, width\), got 64"),
    "three numbers": (lambda run: run.unified("r2g", (3, 4, 5)), r"size must be \(height, width\), got \(3, 4, 5\)\. None keeps"),
    "floats": (lambda run: run.unified("r2g", (6.5, 8.0)), r"size must be \(height, width\), got \(6\.5, 8\.0\)"),
    "text": (lambda run: run.unified("r2g", "12"), r"size must be \(height, width\), got '?12"),
    "head": (lambda run: run.unified("r2g", heads=-1), r"heads must be indices below 2, got -1\. They are counted from 0"),
    "heads": (lambda run: run.unified("r2g", heads=[]), r"heads must be indices below 2, got \[\]"),
    "bools": (lambda run: run.unified("r2g", heads=[True]), r"heads must be indices below 2, got \[True\]"),
    "slice": (lambda run: run.unified("r2g", heads=slice(1)), r"heads must be indices below 2, got slice"),
    "group": (lambda run: run.time("g2r", groups=[0, 3]), r"groups must be indices below 3, got \[0, 3\]"),
    "region": (lambda run: run.specific(2), r"region must be one of the 2 declared regions, got 2\. They are counted from 0"),
    "region's name": (lambda run: run.specific("box 0 0 1 1"), r"region must be one of the 2 declared regions, got '?box"),
    "layer": (lambda run: run.unified("r2g", layers="mid.attn1"), r"layers must be .*got 'mid\.attn1'\. There are: down\.0\.attn2, "),
    "number": (lambda run: run.unified("r2g", layers=["mid*", 3]), r"layers must be names, patterns or a function, got 3\. There are"),
    "numbers": (lambda run: run.unified("r2g", layers=3), r"layers must be names, patterns or a function, got 3\. There are"),
    "no layers": (lambda run: run.unified("r2g", layers=[]), r"layers must be .*got \[\]\. There are"),
    "false": (lambda run: run.unified("r2g", layers=lambda _: False), r"layers must be a function that is true .*There are"),
    "buffer": (lambda run: run.buffer("r2g", "down.1"), r"layers must be names or patterns .*got 'down\.1'\. There are"),
    "buffers": (lambda run: run.buffer("r2g", "down*"), r"layer must be .*got 'down\*'"),
    "index": (lambda run: run[[0, 1]], r"images asked for must be .*got \[0, 1\]"),
    "prompt": (lambda run: run.words(), r"the prompt must be known, got a run that saw embeddings alone.*maps\.words\(prompt\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", ASKED)
def test_what_was_asked_is_quoted(name):
    ask, message = ASKED[name]
    with pytest.raises(ValueError, match=message):
        ask(run_of())


def test_numbers_may_be_numpys():
    run = run_of()
    assert len(run[np.int64(1)]) == 1
    assert torch.equal(run.unified("r2g", tuple(np.array([7, 9]))), run.unified("r2g", (7, 9)))
    assert torch.equal(run.unified("r2g", heads=np.int64(1)), run.unified("r2g", heads=1))
    assert torch.equal(run.unified("r2g", heads=np.arange(2)), run.unified("r2g", heads=[0, 1]))


def test_undeclared_regions_and_other_prompts_are_refused():
    with pytest.raises(ValueError, match=r"specific maps must be declared before the run, got a run without regions\. Pass specific="):
        run_of(regions=()).specific(0)
    run = run_of(prompts=(Prompt("a b", ("a</w>", "b</w>", "."), (False,) * 3),))
    for wrong in ("b a", ["a b", "another one"]):
        with pytest.raises(ValueError, match=r"the prompt must be the one of the run, \['a b'\], got .*Leave it out"):
            run.words(wrong)


def test_comparing_runs_is_not_an_error():
    run = run_of()
    assert run == run
    assert run != run_of()
