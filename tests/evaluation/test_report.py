"""The report of an evaluation: its numbers against numpy, its files to the letter, and its page in a parser and a real browser."""

import csv
import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from reported import Page, drawn, facts, row, strict
from scipy.stats import pearsonr, spearmanr

from i2am.evaluation import report_charts
from i2am.evaluation.report import write
from i2am.score.imacs import convention

pytestmark = pytest.mark.usefixtures("on_the_cpu")


def test_scores_csv_to_the_letter(tmp_path):
    rows = [
        row(0, imacs_g=0.1, ssim=None),
        row(1, 'a,"b.jpg', imacs_g=float(np.float32(1) / 3), ssim=float("nan")),
        row(7, imacs_g=-1e-7, ssim=1),
    ]
    page = write(tmp_path, rows, facts(rows))
    assert page == tmp_path / "report.html"
    assert (tmp_path / "scores.csv").read_bytes() == (
        b"index,name,cloth,seed,imacs_g,ssim\n"
        b"0,00000_00.jpg,00000_00.jpg,1000,0.1,\n"
        b'1,"a,""b.jpg","a,""b.jpg",1001,0.33333334,\n'
        b"7,00007_00.jpg,00007_00.jpg,1007,-1e-07,1.0\n"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json", "scores.csv"]


def test_scores_csv_gives_every_float32_back(tmp_path):
    rows = drawn()
    write(tmp_path, rows, facts(rows))
    with (tmp_path / "scores.csv").open(newline="") as file:
        for line, one in zip(csv.DictReader(file), rows, strict=True):
            for name, score in one["scores"].items():
                assert line[name] == "" if score is None else np.float32(line[name]) == np.float32(score)


def test_numbers_are_numpys(tmp_path):
    rows = drawn()
    write(tmp_path, rows, facts(rows, sets={"fid": 12.5, "kid": float("inf")}))
    found = strict(tmp_path / "report.json")
    columns = {name: np.array([x["scores"][name] for x in rows], np.float32).astype(float) for name in rows[0]["scores"]}
    for name, column in columns.items():
        got, there = found["metrics"][name], column[~np.isnan(column)]
        assert (got["count"], got["nan"]) == (len(there), len(column) - len(there))
        right = [there.mean(), there.min(), np.median(there), there.max()]
        assert [got[key] for key in ("mean", "min", "median", "max")] == pytest.approx(right, rel=1e-12)
        error = there.std() / len(there) ** 0.5
        assert [got["low"], got["high"]] == pytest.approx([there.mean() - 1.96 * error, there.mean() + 1.96 * error], abs=0.3 * error)
    assert found["metrics"]["imacs_r"]["nan"] == 4
    for one in found["correlations"]:
        there = ~np.isnan(columns[one["a"]]) & ~np.isnan(columns[one["b"]])
        a, b = columns[one["a"]][there], columns[one["b"]][there]
        assert (one["n"], one["pearson"], one["spearman"]) == (len(a), pytest.approx(pearsonr(a, b)[0]), pytest.approx(spearmanr(a, b)[0]))
    assert len(found["correlations"]) == 3
    assert found["sets"] == {"fid": 12.5, "kid": None}
    assert found["better"] == {"imacs_g": "higher", "imacs_r": "higher", "ssim": "higher", "fid": "lower", "kid": "lower"}
    assert found["options"]["size"] == [512, 384]
    assert found["convention"]["r2g"]["invert"] is True


def test_the_same_scores_in_any_order_give_the_same_numbers(tmp_path):
    rows = drawn()
    said = []
    for i, some in enumerate((rows, rows[::-1], rows)):
        (tmp_path / str(i)).mkdir()
        write(tmp_path / str(i), some, facts(rows))
        said.append({name: (tmp_path / str(i) / name).read_bytes() for name in ("report.json", "scores.csv", "report.html")})
    assert said[0] == said[2]
    metrics = [json.loads(one["report.json"])["metrics"] for one in said]
    assert metrics[0] == metrics[1]


def test_facts_that_json_does_not_know(tmp_path):
    more = {"hardware": {"path": Path("a"), "score": np.float32(0.5), "nan": float("nan"), "pair": (1, np.int64(2))}}
    write(tmp_path, [], facts([], **more))
    assert strict(tmp_path / "report.json")["hardware"] == {"path": "a", "score": 0.5, "nan": None, "pair": [1, 2]}


def test_a_histogram_counts_every_pair_once():
    for values in ([0.3], [0.0, 0.0], [0.1, 0.2, 0.3, 0.3, 0.9], [-3.0, 1.0], [1e-9, 2e-9], list(np.linspace(-0.2, 0.9, 2032))):
        svg = report_charts.histogram(values, {"mean": np.mean(values), "low": min(values), "high": max(values)}, "imacs_g")
        bars = [title.replace("\u2212", "-").split(": ") for title in re.findall("<title>(.*?)</title>", svg)]
        assert sum(int(count.replace(",", "")) for _, count in bars) == len(values)
        for span, count in bars:
            low, high = map(float, span.split(" to "))
            assert sum(low <= x < high for x in values) == int(count.replace(",", "")) > 0
        assert len(bars) <= report_charts.BINS + 1
        assert "nan" not in svg


def test_few_pairs_and_no_scores(tmp_path):
    page = Page(write(tmp_path, [], facts([])))
    assert "0 of 0 pairs have scores" in page.text
    assert page.all("svg") == []
    assert (tmp_path / "scores.csv").read_text() == "index,name,cloth,seed\n"

    one_token = asdict(convention("paint-by-example"))
    page = Page(write(tmp_path, [row(0, imacs_g=0.25)], facts([], convention=one_token)))
    assert "Best by IMACS g" in page.text
    assert "From left to right: the garment; the generated picture with R2G" in page.text
    assert "Worst" not in page.text.replace("Best and worst", "")
    assert strict(tmp_path / "report.json")["metrics"]["imacs_g"] == {
        "mean": 0.25, "low": 0.25, "high": 0.25, "min": 0.25, "median": 0.25, "max": 0.25, "count": 1, "nan": 0,
    }  # fmt: skip

    page = Page(write(tmp_path, [row(i, imacs_g=None, ssim=0.5) for i in range(3)], facts([])))
    assert "No pair has this score." in page.text
    assert "Best by" not in page.text
    assert strict(tmp_path / "report.json")["metrics"]["imacs_g"] == {
        **dict.fromkeys(("mean", "low", "high", "min", "median", "max")), "count": 0, "nan": 3,
    }  # fmt: skip


def test_what_was_there_stays_whole_if_writing_fails(tmp_path, monkeypatch):
    rows = drawn(3)
    write(tmp_path, rows, facts(rows))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(path: Path, data: bytes) -> None:
        assert path.suffix == ".part"
        with path.open("wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path, drawn(5), facts(rows))
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
