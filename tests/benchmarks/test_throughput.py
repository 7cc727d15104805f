"""The benchmark of evaluations on a small model: both ways score the same, and rows and table say what was measured."""

from pathlib import Path

import pytest
import torch
from evaluated import model

from benchmarks.evaluation import throughput
from benchmarks.report.evaluation import line, summary

__all__ = ["model"]
pytestmark = pytest.mark.usefixtures("on_the_cpu")


def test_both_ways_score_the_same(model: str, tmp_path: Path) -> None:
    """The release clamps before the mean over tokens and we after it: on this model's maps 1e-3 of a score."""
    rows = throughput.measured(tmp_path, model, (1, 2), count=3, few=2, steps=1, rounds=1, both=False, device=torch.device("cpu"))
    assert [(row["runner"], row["batch"]) for row in rows] == [("release", 1), ("ours", 1), ("bare", 1), ("ours", 2), ("bare", 2)]
    assert all(row["images_per_second"] > 0 for row in rows)
    ours = rows[1]
    assert ours["furthest_score"] < 5e-2
    assert ours["ratio_levels"] == pytest.approx(3 * ours["ratio"])
    assert 0 < ours["share_scoring"] < 1
    assert ours["mb_last_third"] > 0
    assert "images/s" in throughput.line(ours)
    where = {"device": "A processor", "capability": None, "threads": 2, "torch": "2", "triton": None, "python": "3"}
    where |= {"commit": "0" * 40, "dirty": False}
    table = summary([{**row, "environment": where} for row in rows]).splitlines()
    assert len(table) == 2 + 2 + 3  # bare is not shown
    assert table[0].endswith("measured at 00000000 with `python -m benchmarks.evaluation.throughput`.")
    assert line(rows[0]).startswith("| the release's way restated")
