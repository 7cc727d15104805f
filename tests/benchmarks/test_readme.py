"""The README says what the rows say, its code runs and its links lead somewhere."""

import re
from pathlib import Path
from typing import Any

import pipelines
import pytest
import torch

import i2am
from benchmarks.report.readme import ROOT, filled, recorded

README = (ROOT / "README.md").read_text()


def test_the_table_is_what_the_rows_say():
    assert recorded(), "no recorded rows"
    assert filled(README, recorded()) == README, "run `python -m benchmarks.report.readme`"


def test_recorded_rows_come_from_a_clean_tree():
    assert not [row for row in recorded() if row["environment"]["dirty"]]


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (ROOT / target).exists(), target


def test_promises_name_tests_that_exist():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", README)
    assert len(named) >= 4
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(), f"{file}::{test}"


def names_for(block: str) -> dict[str, Any]:
    """What the text around a block takes for granted."""
    if "i2am.trace(pipe" in block:
        case = pipelines.paint_by_example()
        asked = case.kwargs(batch=2)
        return {"pipe": case.pipe, "person": asked["image"], "mask": asked["mask_image"], "garment": asked["example_image"]}
    if "i2am.show.pictures" in block:  # a run that has both a reference and words
        case = pipelines.ip_adapter("full")
        with i2am.trace(case.pipe, words=True, groups=2) as run:
            images = case.pipe(**{**case.kwargs(batch=2), "output_type": "pil"}).images
        return {"run": run, "images": images}
    if "recorder.attend" in block:
        query, key = torch.randn(2, 2, 768, 8), torch.randn(2, 2, 1037, 8)
        return {"query": query, "key": key, "value": key, "timesteps": range(10)}
    batch, heads, tokens, size = 2, 2, 8704, 8
    query, key, value = (torch.randn(batch, heads, tokens, size) for _ in range(3))
    names = {
        "torch": torch, "F": torch.nn.functional, "query": query, "key": key, "value": value, "batch": batch, "heads": heads,
        "generated_tokens": tokens, "reference_tokens": tokens, "B": batch, "mask": None,
    }  # fmt: skip
    if "words" in block:  # the call with everything: ranges of 4096 tokens, the conditional half
        names |= {
            "r2g": torch.zeros(1, heads, 4096), "g2r": torch.zeros(1, heads, 4096), "words": torch.zeros(1, heads, 3, 4096),
            "inpainting": torch.full((1, 4096), 1 / 4096), "pieces": torch.rand(1, 4096, 3),
        }  # fmt: skip
    return names


def test_the_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Python block, in order, in one namespace."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(blocks) >= 6
    for block in blocks:
        names |= names_for(block)
        exec(block, names)
    assert {path.name for path in tmp_path.iterdir()} == {"r2g.png", "levels.png", "time.webp", "small-world"}
    assert names["recorder"].maps.unified("g2r").shape == (2, 37, 28)
    assert (names["g2r"].sum(-1) > 0).all()
    assert names["found"].accuracy > 0.8 > 0.2 > names["found"].baseline_accuracy
    assert torch.allclose(names["truth"].source, names["draw"](1, seed=7).source)
    assert Path(ROOT / "LICENSE").read_text().startswith("MIT")
