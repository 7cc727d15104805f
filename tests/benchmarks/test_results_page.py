"""The results page says what the rows say: targets met, missed or without a row, bars as high as the ratios."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from benchmarks.measuring.rows import RESULTS, Row, read
from benchmarks.operator.shapes import Shape
from benchmarks.pipeline import breakdown, traced
from benchmarks.report import page, tables, targets

pytestmark = pytest.mark.usefixtures("on_the_cpu")
CPU = {"device": "a CPU", "capability": None, "threads": 2, "torch": "2", "triton": None, "python": "3", "commit": "0123456789",
       "dirty": False, "diffusers": "0", "date": "2026-11-01"}  # fmt: skip
GPU = {**CPU, "device": "a GPU", "capability": "9.0"}


def call(runner: str, ratio: float, rows: str = "all", peak: float = 10.0, environment: Row = CPU, **more: Any) -> Row:
    return {"shape": "layer", "generated": 3072, "reference": 77, "size": 64, "heads": 8, "batch": 2, "dtype": "float32", "rows": rows,
            "runner": runner, "ratio": ratio, "ms": {"p50": 1.0}, "peak_mb": peak, "error_of": {"output": 1e-6},
            "environment": environment, **more}  # fmt: skip


def run(runner: str, percent: float, mb: float, case: str = "clip_257", environment: Row = CPU) -> Row:
    spread = {"p20": percent - 1, "p50": percent, "p80": percent + 2}
    return {"section": "sd15-full", "case": case, "runner": runner, "dtype": "float32", "steps": 2, "pairs": 3, "layers": 16,
            "maps": ["r2g"], "ms": {"p50": 1.0}, "untraced_ms": {"p50": 1.0}, "overhead_percent": spread, "untraced_peak_mb": 1.0,
            "extra_mb": mb, "error_of": {"unified": 1e-6}, "environment": environment}  # fmt: skip


def scored(runner: str, batch: int, speed: float, processes: int = 1, environment: Row = CPU) -> Row:
    return {"runner": runner, "model": "small", "batch": batch, "processes": processes, "steps": 5, "images": 4, "rounds": 1,
            "images_per_second": speed, "ratio": speed, "ratio_levels": 3 * speed, "environment": environment}  # fmt: skip


@pytest.fixture
def rows() -> page.Rows:
    kinds = dict.fromkeys(("operators", "pipelines", "evaluation", "hook", "where", "layer-set", "growth", "peers", "studies", "host"))
    return {
        **{kind: [] for kind in kinds},
        "operators": [call("sdpa", 1.0), call("streaming", 1.9), call("streaming", 1.5, peak=11.0), call("eager", 4.0, peak=70.0),
                      call("sdpa", 1.0, "half"), call("streaming", 1.35, "half")],
        "pipelines": [run("i2am", 3.0, 1.0), run("eager_hook", 40.0, 60.0), run("i2am", 9.0, 1.0, "words_77")],
        "evaluation": [scored("release", 1, 1.0), scored("ours", 1, 2.0), scored("bare", 1, 4.0), scored("ours", 8, 5.0, processes=2)],
    }  # fmt: skip


def cells(text: str, target: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ")[1:] for line in text.splitlines() if line.startswith(f"| {target} |")]


def test_the_recorded_page_is_what_the_rows_say() -> None:
    assert page.PAGE.read_text() == page.page(page.everything()), "run `python -m benchmarks.report.page`"


def test_links_and_plots_of_the_recorded_page_are_there() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", page.PAGE.read_text()):
        assert (RESULTS / target).exists(), target


def test_targets_are_met_missed_or_without_a_row(rows: page.Rows) -> None:
    text = targets.table(rows)
    assert cells(text, "operator, CPU") == [
        ["1.6 x SDPA, at most", "a CPU, 01234567", *["1.5 (layer, batch 2, float32)"] * 2, "met: 1 of 1"]
    ]
    assert cells(text, "operator, CPU, conditional half")[0][-1] == "**missed**: 0 of 1"
    assert cells(text, "pipeline, CPU, SD1.5's width")[0][2:] == ["3 (clip_257)", "9 (words_77)", "**missed**: 1 of 2"]
    assert cells(text, "evaluation, CPU, one level")[0][2:] == ["5 (batch 8, 2 processes)", "2 (batch 1, 1 process)", "**missed**: 1 of 2"]
    assert cells(text, "extra memory, operator at 64x48")[0][2:] == [*["60 (layer)"] * 2, "met: 1 of 1"]  # (70 - 10) / (11 - 10)
    assert cells(text, "extra memory, pipeline at 64x48")[0][2:] == [*["60 (clip_257)"] * 2, "met: 1 of 1"]
    empty = [line for line in text.splitlines() if line.endswith("| | | | no row yet |")]
    assert [line.split(" |")[0] for line in empty] == [f"| {name}" for name, target in targets.TARGETS.items() if target.gpu]


def test_wrong_numbers_meet_no_target(rows: page.Rows) -> None:
    red = call("streaming", 1.0, shape="red", red=True)
    rows["operators"] += [{key: value for key, value in red.items() if key not in ("ms", "ratio")}]
    rows["pipelines"] += [{key: value for key, value in run("i2am", 1.0, 1.0, "red").items() if key != "ms"}]
    text = targets.table(rows)
    assert cells(text, "operator, CPU")[0][3:] == ["inf (red, batch 2, float32)", "**missed**: 1 of 2"]
    assert cells(text, "pipeline, CPU, SD1.5's width")[0][3:] == ["inf (red)", "**missed**: 1 of 3"]


def test_gpu_rows_fill_gpu_targets_alone(rows: page.Rows) -> None:
    before = targets.table(rows)
    rows["operators"] += [call("sdpa", 1.0, environment=GPU), call("triton", 1.6, environment=GPU)]
    rows["operators"] += [call("triton", 9.0, environment=GPU, shape="wide", size=128)]  # the target is of head size 64
    rows["pipelines"] += [run("i2am", 3.5, 1.0, environment=GPU)]
    after = targets.table(rows)
    assert cells(after, "operator, GPU, head size 64") == [
        ["1.7 x SDPA, at most", "a GPU, 01234567", *["1.6 (layer, batch 2, float32)"] * 2, "met: 1 of 1"]
    ]
    assert cells(after, "pipeline, GPU, SD1.5's width")[0][-1] == "**missed**: 0 of 1"
    assert cells(after, "operator, GPU, head size 64, conditional half")[0][-1].endswith("no row yet")
    assert cells(after, "operator, CPU") == cells(before, "operator, CPU")


def test_bars_stand_as_high_as_the_ratios(rows: page.Rows) -> None:
    figure = page.draw_operators(rows["operators"], False)
    assert [bar.get_height() for bar in figure.axes[0].patches] == [1.5, 1.35, 4.0]
    assert {1.6, 1.3} <= {line.get_ydata()[0] for line in figure.axes[0].lines}
    figure = page.draw_pipelines(rows["pipelines"], False)
    assert [bar.get_height() for bar in figure.axes[0].patches] == [3.0, 9.0, 40.0]
    assert 8.0 in {line.get_ydata()[0] for line in figure.axes[0].lines}
    figure = page.draw_evaluation(rows["evaluation"], False)
    assert [list(line.get_ydata()) for line in figure.axes[0].lines] == [[2.0], [4.0], [5.0], [1.0, 1.0], [4.0, 4.0]]
    page.plots().close("all")


def test_the_page_has_a_plot_a_device_and_names_what_is_missing(rows: page.Rows, tmp_path: Path) -> None:
    rows["operators"] += [call("sdpa", 1.0, environment=GPU), call("triton", 1.6, environment=GPU)]
    page.write(rows, tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert text == page.page(rows)
    drawn = {"operators-a-cpu.png", "operators-a-gpu.png", "pipelines-a-cpu.png", "evaluation-a-cpu.png"}
    assert {path.name for path in tmp_path.glob("*.png")} == drawn
    for name in drawn:
        assert f"({name})" in text
        with Image.open(tmp_path / name) as picture:
            assert len(picture.convert("L").getcolors()) > 20
    for title in ("The layers of one step", "Beside other tracers", "How it grows", "Where the time goes"):
        assert f"## {title}\n\nNo row yet." in text


def test_where_writes_parts_that_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = traced.Section({**traced.NARROW, "block_out_channels": (32, 64), "cross_attention_dim": 32}, (8, 6), 2, 2, 1)
    monkeypatch.setattr(breakdown, "SHAPES", {"layer": Shape(256, 96, 8, 2, "")})
    monkeypatch.setattr(traced, "SECTIONS", {"small": tiny})
    out, traces = tmp_path / "a-where.jsonl", tmp_path / "traces"
    traces.mkdir()
    threads = str(torch.get_num_threads())
    words = ["--cases", "clip_257", "--repeats", "3", "--steps", "1", "--threads", threads, "--out", str(out), "--traces", str(traces)]
    assert breakdown.main(words) == 0
    one, whole = read(out)
    measured = sum(part["ms"] for part in one["parts"].values())
    assert one["python_ms"] == pytest.approx(max(0.0, one["ms"] - measured))
    assert one["parts"]["products"]["multiply_adds"] == 2 * 8 * 2 * 2 * 256 * 96
    peak, products = one["peaks"], one["parts"]["products"]
    assert products["floor_ms"] == pytest.approx(2e-6 * products["multiply_adds"] / peak["gflops"])
    assert one["floor_ms"] == pytest.approx(sum(part["floor_ms"] for part in one["parts"].values()))
    assert whole["ours_calls"] == 7
    assert 0 < whole["ours_ms"] < whole["profiled_ms"]
    assert whole["ours_ms"] + sum(whole["others_ms"].values()) + whole["rest_ms"] <= whole["profiled_ms"] + 1e-6
    assert "i2am_kernels::bi_attention" in (traces / "small-clip_257.json").read_text()
    said = capsys.readouterr().out
    assert "| 256 x 96, 8, 2 |" in said
    assert "| small | clip_257 |" in said
    assert "%**, 7 |" in said


@pytest.mark.parametrize("seed", range(6))
def test_the_page_takes_any_part_of_the_rows(seed: int) -> None:
    """As a call of the GPU pack that was cut off leaves them: every recorded row, and its like on a GPU, kept or lost by chance."""
    chance = random.Random(seed)

    def like_on_a_gpu(row: Row) -> Row:
        return {**row, **({"mode": "graph"} if "mode" in row else {}), "environment": {**row["environment"], **GPU}}

    every = {kind: found + [like_on_a_gpu(row) for row in found] for kind, found in page.everything().items()}
    kept = {
        kind: [row for row in found if chance.random() < share]
        for kind, found in every.items()
        for share in [chance.choice((0.02, 0.1, 0.7))]
    }
    assert page.page(kept)
    for gpu in (False, True):
        tables.summary(tables.latest(kept["operators"], gpu))
    assert tables.cost(kept["pipelines"])
    if seed == 0:
        for draw in page.pictures(kept).values():
            page.plots().close(draw())


def test_a_gpu_table_is_beside_the_fastest_attention_and_says_where_there_is_none(rows: page.Rows) -> None:
    on_a_gpu = [call(runner, 2.0, environment=GPU, mode="graph", section="timings", best="sdpa_cudnn", ratio_best=ratio)
                for runner, ratio in (("sdpa", 1.5), ("sdpa_cudnn", 1.0), ("triton", 3.25))]  # fmt: skip
    on_a_gpu.append(call("streaming", 8.0, environment=GPU, mode="graph", section="timings", best="sdpa_cudnn", ratio_best=12.0))
    slow = call("triton", 9.0, environment=GPU, mode="call", section="timings")  # the host's time is in it
    found = [row for row in [*rows["operators"], *on_a_gpu, slow] if tables.timed(row)]
    text = tables.summary(tables.latest(found, gpu=True))
    assert "| 3072 x 77, 64, 8 | 1 (cudnn) | 12.00 | 3.25 |" in text
    assert "| SDPA ms | ours (streaming) | ours |" in text
    assert targets.ratios("all")(on_a_gpu) == [("layer, batch 2, float32", 3.25)]
    assert targets.calls(on_a_gpu)["layer", "ours", "all"]["runner"] == "triton"
    assert "replayed as CUDA graphs" in text
    assert "a CPU" in tables.summary(tables.latest(found, gpu=False))
    marker = "<!-- table: operators on a GPU -->"
    assert tables.NO_GPU in tables.filled(f"{marker}\n{tables.END}", rows["operators"])
    assert page.page(rows).count("*No row of a GPU yet.*") == 3  # the kinds that have rows


@pytest.mark.parametrize("package", ["triton", "diffusers", "grimp"])
def test_the_page_is_made_where_a_package_is_absent(package: str) -> None:
    """On the machine that has measured, or on one that has only the rows."""
    code = f"import sys; sys.modules[{package!r}] = None; from benchmarks.report import page; print(len(page.page(page.everything())))"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert int(made.stdout) > 10_000


def test_the_cost_of_a_trace_is_that_of_each_kind_of_machine_that_measured_last(rows: page.Rows) -> None:
    environment = {**rows["operators"][0]["environment"], "date": "2026-01-02", "device": "a CPU", "capability": None}
    row = {"runner": "i2am", "section": "sd15-full", "case": "clip_257", "dtype": "float32", "untraced_peak_mb": 1.0, "ms": {},
           "overhead_percent": {"p50": 1.25}, "extra_mb": 13.4, "environment": environment}  # fmt: skip
    hooks = {**row, "runner": "eager_hook", "overhead_percent": {"p50": 29.0}, "extra_mb": 720.5}
    older = {
        **row,
        "overhead_percent": {"p50": 99.0},
        "environment": {**row["environment"], "date": "2026-01-01", "device": "an older CPU"},
    }
    on_a_gpu = {**row, "dtype": "bfloat16", "overhead_percent": {"p50": 2.5}, "environment": {**row["environment"], **GPU}}
    name = tables.COST["sd15-full", "clip_257"]
    alone = tables.cost([older, row, hooks])
    assert f"| {name} | 1.2% | 13 MB | 29%, 720 MB |" in alone
    assert tables.NO_GPU_RUN in alone
    assert "99" not in alone
    both = tables.cost([row, hooks, on_a_gpu])
    assert f"| {name} | 2.5% | 13 MB |  |" in both
    assert "bfloat16, medians" in both
    assert "make gpu-pack" in both
    assert tables.NO_GPU_RUN not in both
    assert "No CPU" in tables.cost([])
