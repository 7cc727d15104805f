"""What a trace costs on each family's small pipeline: every pipeline is there, a row says what it should, and a wrong output is red."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch

from benchmarks.pipeline import family_cost
from benchmarks.report.family_cost import summary


def test_every_family_has_a_builder() -> None:
    for name, (module, builder, _, _) in family_cost.FAMILIES.items():
        assert callable(getattr(import_module(module), builder, None)), name


def test_a_row_and_its_line_in_the_table() -> None:
    row = family_cost.measured("Flux Kontext", family_cost.FAMILIES["Flux Kontext"], repeats=1)
    assert not row["red"]
    assert (row["layers"], row["references"], row["pipeline"]) == (4, 1, "FluxKontextPipeline")
    assert 0 <= row["output"] < 1e-5
    assert row["ms"]["traced"] > 0
    assert "Flux Kontext: " in family_cost.line(row)
    environment = {
        "device": "here",
        "threads": 1,
        "torch": "2",
        "triton": "3",
        "python": "3",
        "commit": "abc",
        "dirty": False,
        "capability": None,
    }
    assert "Nothing has been recorded" in summary([])
    text = summary([{**row, "environment": environment}])
    assert "| Flux Kontext | 4 | 1 |" in text


def test_an_output_that_is_off_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(family_cost, "painted", lambda case: torch.full((2,), next(values)))
    monkeypatch.setattr(family_cost, "traced", lambda case, paint, options: (paint(), case.maps))
    values = iter([1.0, 1.1])
    case = type("Case", (), {"pipe": None, "maps": type("Maps", (), {"layers": [], "references": []})()})()
    monkeypatch.setattr(family_cost, "case_of", lambda built: case)
    row = family_cost.measured("x", ("", "", {}, {}), 1)
    assert row["red"]
    assert "RED" in family_cost.line(row)
    assert family_cost.difference(torch.tensor([float("nan"), 1.0]), torch.tensor([float("nan"), 1.0])) == 0
    assert family_cost.difference(torch.tensor([float("nan"), 1.0]), torch.tensor([1.0, 1.0])) == float("inf")
