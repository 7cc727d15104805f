"""Counts are what the equations say, the recorded bounds hold, and more work is seen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from benchmarks.operator import counted, gate
from benchmarks.operator.shapes import Shape, arguments
from i2am_kernels import streaming

pytestmark = pytest.mark.usefixtures("on_the_cpu")


def test_counts_are_those_of_the_equations() -> None:
    """One tile: scores and output are a product each, the maps' two thin ones and R2G's; one exponential a score, two for the sums."""
    heads, generated, reference, size = 2, 64, 48, 8
    parts = counted.counted(arguments(Shape(generated, reference, size, heads, ""), 1, torch.float32, torch.device("cpu")))
    scores = heads * generated * reference
    assert parts["products"].multiply_adds == 2 * size * scores
    assert parts["map products"].multiply_adds == 3 * scores  # G2R and the column sums together, then R2G
    assert parts["exponentials"].exponentials == scores + heads * generated
    assert parts["library attention"].calls == 0
    assert parts["exponentials"].bytes_written == 4 * (scores + heads * generated)


def test_counts_of_the_sweeps() -> None:
    shape = gate.SHAPES["sweeps"]
    parts = counted.counted(gate.inputs("sweeps"))
    scores = shape.heads * shape.generated * shape.reference
    library = parts["library attention"]
    assert (library.calls, library.exponentials, library.multiply_adds) == (1, scores, 2 * shape.size * scores)
    assert parts["products"].multiply_adds == (shape.size + 1) * scores  # L as one more column
    assert parts["map products"].multiply_adds == 3 * scores


def test_a_view_writes_nothing() -> None:
    x = torch.zeros(4, 6)
    with counted.Counted() as mode:
        x.t()[1:]
        assert sum(work.bytes_written for work in mode.parts.values()) == 0
        x.add_(1)
        x + 1
    assert sum(work.bytes_written for work in mode.parts.values()) == 2 * x.nbytes


def test_the_recorded_bounds_hold(capsys: pytest.CaptureFixture[str]) -> None:
    """Another torch than the recorded one has none, and is told so."""
    assert gate.main(["--no-valgrind"]) == 0, capsys.readouterr().out


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="needs valgrind: apt-get install valgrind")
def test_callgrind_counts_every_call() -> None:
    """Half a minute: valgrind brings torch up."""
    found = gate.instructions()
    assert list(found) == list(gate.SHAPES)
    counts = {name: one["instructions"] for name, one in found.items()}
    assert counts["sweeps"] > counts["tile"] > 1.5 * counts["one_token"] > 150_000
    bounds = json.loads(gate.BOUNDS.read_text()).get(gate.keys()[1])
    assert bounds is None or gate.compare(bounds, found) == []


def test_more_work_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    bounds = ["--no-valgrind", "--bounds", str(tmp_path / "gate.json")]
    assert gate.main(["--record", *bounds]) == 0
    assert gate.main(bounds) == 0
    monkeypatch.setattr(streaming, "UNDERFLOW", 1e30)  # every column twice
    assert gate.main(bounds) == 1
    said = capsys.readouterr().out
    assert "sweeps: exponentials" in said
    assert "instructions: not counted: --no-valgrind" in said


def test_small_changes_pass_and_unknown_counts_do_not() -> None:
    bounds = {"tile": {"calls": 100, "exponentials": 0}}
    assert gate.compare(bounds, {"tile": {"calls": 110, "exponentials": 0}}) == []
    assert gate.compare(bounds, {"tile": {"calls": 111}}) == ["tile: calls 100 -> 111 (+11%)"]
    assert gate.compare(bounds, {"tile": {"calls": 89}}) == ["tile: calls 100 -> 89 (-11%)"]
    assert gate.compare(bounds, {"tile": {"exponentials": 1}}) == ["tile: exponentials 0 -> 1 (from nothing)"]
    assert gate.compare(bounds, {"new": {"calls": 1}}) == ["new: calls has no bound"]


def test_another_torch_has_no_bounds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gate.json"
    path.write_text("{}")
    assert gate.main(["--no-valgrind", "--bounds", str(path)]) == 0
    assert "not checked: no bounds for it" in capsys.readouterr().out
