"""What gradients cost is measured on gradients that are right, beside attention and the eager definition, and told as it was found."""

import pytest
import torch

from benchmarks.measuring import rows
from benchmarks.operator import gradients
from benchmarks.operator.shapes import Shape
from benchmarks.report import gradients as report
from benchmarks.report import tables

pytestmark = pytest.mark.usefixtures("on_the_cpu")
TINY = {"square": Shape(40, 40, 16, 2, "a pair of tokens a score"), "few keys": Shape(63, 7, 8, 2, "a length no tile divides")}


def run(tmp_path, monkeypatch, *words):
    monkeypatch.setattr(gradients, "CASES", TINY)
    out = tmp_path / "rows.jsonl"
    more = ["--full", "--repeats", "2", "--threads", str(torch.get_num_threads()), "--device", "cpu", "--out", str(out)]
    return gradients.main([*more, *words]), rows.read(out)


def test_rows_and_table(tmp_path, monkeypatch, capsys):
    code, found = run(tmp_path, monkeypatch)
    assert code == 0
    assert [(row["case"], row["generated"], row["reference"]) for row in found] == [("square", 40, 40), ("few keys", 63, 7)]
    for row in found:
        assert set(row["ms"]) == set(row["peak_mb"]) == {"attention", "attention_both", "maps", "graph", "both", "eager"}
        assert row["repeats"] == 2
        assert set(row["error_of"]) == set(gradients.OPERANDS)
        assert 0 < max(row["error_of"].values()) < 1e-5
        for ratio in row["ratio"].values():
            assert ratio["p20"] <= ratio["p50"] <= ratio["p80"]
        assert row["ratio"]["back"]["p50"] < row["ratio"]["both_ways"]["p50"]
        assert not {"runner", "shape"} & set(row), "rows of the operator's own table have these"
    assert "square     40 x 40, 16: " in capsys.readouterr().out
    monkeypatch.setattr(tables, "rows_of", {"gradients": found}.get)
    text = tables.filled(f"<!-- table: gradient cost -->\n{tables.END}", [])
    assert "| 40 x 40, 16, 2 | " in text
    assert "| 63 x 7, 8, 2 | " in text


def test_the_table_says_what_is_missed(tmp_path, monkeypatch):
    _, (square, few) = run(tmp_path, monkeypatch)
    for row, both_ways in ((square, 2.3), (few, 2.2)):
        row["ratio"]["both_ways"] = {"p20": 2.0, "p50": both_ways, "p80": 2.5}
        row["ratio"]["forward"] = {"p20": 1.0, "p50": 1.1, "p80": 1.2}
        row |= {"load": both_ways, "waiting": "PASSIVE"}
    text = report.summary([square, few])
    assert "`OMP_WAIT_POLICY=PASSIVE python -m benchmarks.operator.gradients --full`, the machine's load average 2.2 to 2.3," in text
    assert "| **2.30** (2.00 to 2.50) |" in text
    assert "| 2.20 (2.00 to 2.50) |" in text
    assert "at most 1.15, met by 2 of 2; forward and back at most 2.2, met by 1 of 2;" in text
    assert "Nothing has been recorded" in report.summary([])


@pytest.mark.parametrize("name", gradients.OPERANDS)
def test_wrong_gradients_get_no_times(tmp_path, monkeypatch, name):
    right = gradients.gradients

    def wrong(given, backend, up):
        found = right(given, backend, up)
        if backend == "auto":
            found[name][-1, -1] *= 1.001
        return found

    monkeypatch.setattr(gradients, "gradients", wrong)
    code, found = run(tmp_path, monkeypatch)
    assert code == 1
    for row in found:
        assert row["red"]
        assert not {"ms", "ratio", "peak_mb"} & set(row)
        assert "RED" in gradients.line(row)
    assert report.summary(found).count("| red |") == 2


def test_eager_that_would_not_fit_is_not_run(monkeypatch):
    monkeypatch.setattr(gradients, "EAGER_BYTES", 1e4)
    row = gradients.measure("square", TINY["square"], 1, torch.device("cpu"), 1)
    assert "eager" not in row["ms"]
    assert "both" in row["ms"]


def test_every_case_says_why():
    assert all(shape.why for shape in gradients.CASES.values())
    assert set(gradients.QUICK) < set(gradients.CASES)
    with pytest.raises(ValueError, match="--repeats must be 1 or more, got 0"):
        gradients.main(["--repeats", "0"])
