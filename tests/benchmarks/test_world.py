"""The small world's benchmarks: rows hold what the shipped model does, tables and plots say what rows hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from benchmarks.measuring.rows import RESULTS, SMALL_WORLD, read
from benchmarks.world import faithful, pointing, steered, tables
from i2am.score.faithfulness import Change


def test_the_recorded_report_is_what_the_rows_say() -> None:
    assert (RESULTS / "small-world.md").read_text() == tables.report(read(SMALL_WORLD)), "run `python -m benchmarks.world.tables`"


def test_the_recorded_rows_are_of_the_shipped_model_on_held_out_pairs() -> None:
    rows = read(SMALL_WORLD)
    truth = tables.latest(rows, "truth")[-1]
    assert (truth["model"], truth["pairs"]) == ("shipped", 500)
    assert len(tables.latest(rows, "random")) == 5
    assert pointing.HELD_OUT < 2**32
    assert not [row for row in rows if row["environment"]["dirty"]]


def test_a_row_holds_every_measure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pointing.main(["truth", "--count", "2", "--steps", "5", "--batch", "2", "--out", str(tmp_path / "rows.jsonl")]) == 0
    (row,) = read(tmp_path / "rows.jsonl")
    layers = tables.layers(row)
    assert len(layers) == 5
    assert tables.best(row)["layer"].startswith("up_blocks.1.attentions.1")  # the last layer points
    assert tables.best(row)["accuracy"] > 0.8 > 0.3 > tables.best(row)["baseline_accuracy"]
    assert row["oracle_g"] > row["imacs_g"]
    assert 0 < row["ssim_mask"] < 1
    assert "points right" in capsys.readouterr().out


def test_faithfulness_writes_a_row_per_share(tmp_path: Path) -> None:
    files = ["--out", str(tmp_path / "rows.jsonl"), "--plot", str(tmp_path / "plot.png")]
    assert faithful.main(["--count", "2", "--batch", "2", "--steps", "5", *files]) == 0
    assert (tmp_path / "plot.png").stat().st_size > 1000
    rows = read(tmp_path / "rows.jsonl")
    assert [(row["benchmark"], row["share"]) for row in rows] == [(name, s) for name in ("hiding", "swapping") for s in (0.1, 0.2, 0.4)]
    for row in rows:
        assert row["top"] > row["bottom"]
        assert row["ratio"] == pytest.approx(row["top"] / row["random"])
    assert all(-1 <= row["rank_correlation"] <= 1 for row in rows[3:])


def test_faithfulness_adds_up_batches() -> None:
    tops = torch.tensor([1.0, 2.0]), torch.tensor([6.0])
    first, second = (Change(0.2, top=top, random=torch.ones(len(top)), bottom=torch.zeros(len(top))) for top in tops)
    (row,) = faithful.summed([first, second], 3)
    assert (row["share"], row["images"], row["top"], row["random"], row["bottom"], row["ratio"]) == (0.2, 3, 3.0, 1.0, 0.0, 3.0)
    assert "garment" not in row


def row(name: str, **values: Any) -> dict[str, Any]:
    point = {"layer": "up.transformer_blocks.0.attn2", "head": None, "group": None, "accuracy": 0.5, "mass": 0.25,
             "baseline_accuracy": 0.1, "baseline_mass": 0.05}  # fmt: skip
    down = {**point, "layer": "down", "accuracy": 0.2}
    parts = ({**point, "layer": None}, {**point, "head": 0}, {**point, "group": 1})
    table = [{**one, "level": level} for one, level in zip((point, down, *parts), ("layer", "layer", "unified", "head", "time"))]
    environment = {"date": "2026", "device": "a CPU", "capability": None, "threads": 2, "triton": None, "torch": "2", "python": "3",
                   "commit": "0123456789", "dirty": False}  # fmt: skip
    return {"benchmark": name, "model": name, "pairs": 3, "steps": 5, "guidance": 1.0, "imacs_g": 0.1, "imacs_r": 0.2, "oracle_g": 0.5,
            "oracle_r": 0.75, "ssim": 0.9, "ssim_mask": 0.8, "table": table, "environment": environment, **values}  # fmt: skip


def test_the_pointing_table_shows_the_best_layers_parts() -> None:
    lines = tables.pointing(row("truth")).splitlines()
    assert lines[2:] == [
        "| all layers together | 50.0% | 25.0% | 10.0%, 5.0% |",
        "| `up` | 50.0% | 25.0% | 10.0%, 5.0% |",
        "| `down` | 20.0% | 25.0% | 10.0%, 5.0% |",
        "| `up`, head 0 | 50.0% | 25.0% | 10.0%, 5.0% |",
        "| `up`, time group 1 | 50.0% | 25.0% | 10.0%, 5.0% |",
    ]


def test_random_models_are_averaged_and_the_last_run_counts() -> None:
    old, new = (row("random", ssim=s, environment={**row("")["environment"], "date": date}) for s, date in ((0.1, "2025"), (0.3, "2026")))
    found = tables.latest([old, new, {**new, "ssim": 0.5}], "random")
    assert [r["ssim"] for r in found] == [0.3, 0.5]
    assert "| SSIM | 0.900 | 1.000 | 0.400 |" in tables.scores(row("truth"), found)


def test_correlations_are_over_the_checkpoints() -> None:
    rows = [row("checkpoints", ssim_mask=s, imacs_g=g, imacs_r=-g) for s, g in ((0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.9))]
    found = tables.follows(rows)
    assert (found["IMACS_g"][0], found["IMACS_r"][0]) == (pytest.approx(1), pytest.approx(-1))
    assert torch.tensor(found["pointing"][0]).isnan()  # the same everywhere


def test_the_plots_are_pictures(tmp_path: Path) -> None:
    rows = [row("checkpoints", model=f"step {n}", ssim_mask=n / 10) for n in range(4)]
    tables.plot_checkpoints(rows, tmp_path / "a.png")
    changes = [{"share": s, "top": 0.3, "random": 0.1, "bottom": 0.0, "garment": 0.2} for s in (0.1, 0.2)]
    tables.plot_changes(changes, [{k: v for k, v in c.items() if k != "garment"} for c in changes], tmp_path / "b.png")
    for name in ("a.png", "b.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width > picture.height > 300
            assert len(picture.convert("L").getcolors()) > 20


def test_steering_writes_a_row_per_direction_and_strength(tmp_path: Path) -> None:
    files = ["--out", str(tmp_path / "rows.jsonl"), "--plot", str(tmp_path / "plot.jpg")]
    assert steered.main(["--count", "2", "--batch", "2", "--steps", "5", "--strengths", "0", "0.5", *files]) == 0
    rows = read(tmp_path / "rows.jsonl")
    assert [(r["direction"], r["strength"]) for r in rows] == [(d, s) for d in ("g2r", "r2g") for s in (0.0, 0.5)]
    for plain, pushed in (rows[:2], rows[2:]):
        assert plain["ssim_plain"] == pytest.approx(1, abs=1e-4)  # the gradient's kernels make the same picture
        assert pushed["ssim_plain"] < 0.99
        assert pushed["share"] > plain["share"] + 0.01
        assert pushed["share_last"] > plain["share_last"]
        assert 0 < pushed["share_again"] < 1
    lines = tables.steering(rows).splitlines()
    assert lines[2].startswith("| G2R into the left half | 0 | ")
    assert lines[5].startswith(f"| R2G into the mask | 0.5 | {rows[3]['share']:.1%} | ")
    with Image.open(tmp_path / "plot.jpg") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 1000
