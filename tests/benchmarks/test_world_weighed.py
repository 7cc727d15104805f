"""Ways of weighing G2R in the small world: the same patches for all of them, intervals that hold what they say, tables of the rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.measuring.rows import read
from benchmarks.world import tables, weighed, weighed_tables
from i2am.score.intervals import bootstrap


def changes(**top: torch.Tensor) -> weighed.Changes:
    """One share, three images; what is not said has changed as much as random patches."""
    random, garment = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 4.0, 4.0])
    each = {f"{weigh}, {choice}": [top.get(weigh, random)] for weigh in weighed.WEIGHINGS for choice in weighed.CHOICES}
    return {**each, weighed.TRUTH: [3 * random], "random": [random], "garment": [garment]}


def test_a_row_says_how_sure_its_numbers_are() -> None:
    rows = weighed.summed(changes(values=torch.tensor([2.0, 4.0, 6.0])), [0.2])
    found = {(row["weigh"], row["choice"]): row for row in rows}
    assert len(found) == len(rows) == len(weighed.WEIGHINGS) * len(weighed.CHOICES) + 1
    assert found[weighed.TRUTH, ""]["ratio"] == 3.0
    row = found["values", "all layers"]
    assert (row["share"], row["images"], row["top"], row["random"], row["garment"], row["ratio"]) == (0.2, 3, 4.0, 2.0, 4.0, 2.0)
    assert row["ratio_interval"] == [2.0, 2.0]  # every image twice: whatever is drawn
    assert row["above_garment"] == 0.0
    assert row["above_garment_interval"] == [-2.0, 2.0]  # among draws of three images the worst and the best thrice
    assert found["weights", "all layers"]["ratio_interval"] == [1.0, 1.0]


def test_ratios_are_drawn_in_pairs() -> None:
    top, random = (torch.rand(50, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 0.1 for seed in (1, 2))
    low, high = (end.item() for end in bootstrap(top, 4000, 0.95, 0, random))
    ratio = (top.sum() / random.sum()).item()
    assert low < ratio < high
    close = (end.item() for end in bootstrap(2 * random + 1e-3 * top, 4000, 0.95, 0, random))
    assert all(abs(end - 2) < 0.01 for end in close)  # what goes together hardly varies


def test_a_run_writes_every_way_and_choice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rows.jsonl"
    assert weighed.main(["--count", "2", "--batch", "2", "--steps", "2", "--shares", "0.2", "--out", str(out)]) == 0
    rows = read(out)
    ways = [(w, c) for w in weighed.WEIGHINGS for c in weighed.CHOICES]
    assert [(row["weigh"], row["choice"]) for row in rows] == [*ways, (weighed.TRUTH, "")]
    assert len({row["random"] for row in rows}) == len({row["garment"] for row in rows}) == 1  # the same patches and noise
    assert len({row["top"] for row in rows}) > 3
    for row in rows:
        low, high = row["ratio_interval"]
        assert low <= row["ratio"] <= high
        assert row["above_garment"] == pytest.approx(row["top"] - row["garment"])
        assert row["weigh"] == weighed.TRUTH or row["accuracy"] > 0.8  # the last layer points, however it is weighed
    printed = capsys.readouterr().out
    assert weighed_tables.hiding(rows) in printed
    assert weighed_tables.pointing(rows) in printed


def test_the_report_tells_them_where_there_are_rows() -> None:
    row: dict[str, Any] = {
        "benchmark": "weighed", "share": 0.2, "weigh": "values", "choice": "all layers", "images": 3, "steps": 5, "guidance": 1.0,
        "top": 0.25,
        "ratio": 2.5, "ratio_interval": [2.0, 3.0], "above_garment": -0.01, "above_garment_interval": [-0.02, 0.001],
        "best_layer": "up.transformer_blocks.0.attn2", "accuracy": 0.5, "mass": 0.25,
        "environment": {"date": "2026", "device": "a CPU", "capability": None, "threads": 2, "triton": None, "torch": "2", "python": "3",
                        "commit": "0123456789", "dirty": False},
    }  # fmt: skip
    assert tables.weighings([row, {**row, "share": 0.4}], 0.2) == tables.weighings([row])
    hiding, pointing, source = tables.weighings([row]).split("\n\n")
    line = "| 20% | values | all layers | 0.2500 | 2.50 (2.00 to 3.00) | -0.0100 (-0.0200 to +0.0010) |"
    assert hiding.splitlines()[2] == line
    assert pointing.splitlines()[2] == "| values | `up` | 50.0% | 25.0% |"
    assert source.startswith("3 held-out pairs, 5 steps")
