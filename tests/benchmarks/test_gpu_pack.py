"""The GPU pack's parts, one by one: its plan, its worker, its files, its gate and its verdict."""

import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import __main__ as pack
from benchmarks.gpu import cases, driver, gradients, plan, planted
from benchmarks.gpu.driver import taken
from benchmarks.gpu.items import LOST, Item, work
from benchmarks.gpu.row_store import Home, append, gated, land
from benchmarks.gpu.verdict import verdict
from benchmarks.measuring import health, rows
from benchmarks.operator import one_call
from benchmarks.operator.shapes import TINY

PLACE = {"device": "NVIDIA H200", "capability": "9.0", "commit": "c" * 40, "dirty": False}
CHECK = {
    "section": "correctness",
    "case": "plain",
    "runner": "triton",
    "size": 64,
    "masked": False,
    "dtype": "bfloat16",
    "environment": PLACE,
}
TIMED = {"section": "timings", "shape": "ip_257", "generated": 4096, "reference": 257, "size": 64, "heads": 10, "batch": 8,
         "dtype": "bfloat16", "rows": "all", "mode": "graph", "runner": "triton", "red": False, "error_of": {"r2g": 1e-6}, "peak_mb": 1.0,
         "ms": {"p20": 1.0, "p50": 2.0, "p80": 3.0}, "ratio": 2.0, "environment": PLACE}  # fmt: skip


def test_the_calls_end_in_their_time_and_name_groups_that_exist():
    for call, stages in plan.CALLS.items():
        assert sum(stage.seconds for stage in stages) <= plan.LIMITS[call] - 10, call
        for group in (group for stage in stages for group in stage.groups):
            assert (group in plan.GROUPS) != (group in plan.MODULES), group
    assert set(plan.LIMITS) == set(plan.CALLS)
    assert set(plan.GROUPS) | set(plan.MODULES) >= plan.MINIATURE
    assert sum(plan.LIMITS.values()) <= 1000
    assert plan.CALLS["second"][-1].groups == ("flex",)  # compiles for half a minute a shape
    groups = ("batch-8", "look", "field", "backward", "tiles", "routes", "half", "batches", "calls", "float16", "flex", "flux")
    timed = {*groups, *plan.MODULES}
    assert all(len(stage.groups) == 1 for stages in plan.CALLS.values() for stage in stages if timed & set(stage.groups))


@pytest.mark.parametrize("name", plan.GROUPS)
def test_every_group_has_items_with_names_of_their_own(name):
    for quick in (True, False) if name != "people-2" else (False,):  # the miniature has two of people's shapes
        section, items = plan.group(name, torch.device("meta"), quick)
        assert section
        assert items
        assert len({item.name for item in items}) == len(items)


def test_the_cases_cover_the_list():
    every = [case for family in cases.FAMILIES.values() for case in family]
    assert {8, 40, 64, 80, 128, 160, 256} <= {case.size for case in every}
    assert {1, 3, 17} <= {case.weightings for case in every}
    assert {6, 20} <= {case.columns for case in every}
    assert {"", "bool"} <= {case.mask for case in every if case.grids}
    assert {"logit", "columns", "row_offsets", "column_offsets"} <= {case.logits for case in every}
    assert {("bool", True), ("bool", False), ("additive", False)} <= {(case.mask, case.alone) for case in every}
    assert len({case.name for case in every}) == len(every)
    assert set(gradients.CASES) <= {case.name for case in cases.FAMILIES["general"]}


def worked(asked, leave_out=()):
    said = []
    return work(asked, "section", leave_out, said.append, torch.device("cpu")), said


def parts(names, ends, begin):
    for name in names:
        if begin(name, runner=name):
            if name in ends:
                raise ends[name]
            yield {"runner": name}


def test_a_worker_says_what_it_begins_and_goes_on_behind_an_error():
    items = [Item("a", 1.0, partial(parts, "xyz", {"y": RuntimeError("broken")})), Item("b", 1.0, partial(parts, "x", {}))]
    code, said = worked(items)
    assert code == 0
    assert [row.get("begin") for row in said if "begin" in row] == ["a", "a | x", "a | y", "b", "b | x"]
    assert [row.get("done") for row in said if "done" in row] == ["a", "b"]
    assert [row["error"] for row in said if "error" in row] == ["RuntimeError: broken"]


def test_a_worker_ends_with_a_lost_device_and_leaves_out_what_it_is_told():
    items = [Item("a", 1.0, partial(parts, "xyz", {"y": health.DeviceLost("gone")})), Item("b", 1.0, partial(parts, "x", {}))]
    code, said = worked(items)
    assert code == LOST
    assert said[-1] == {"lost": "gone"}
    code, said = worked(items, ["a | y", "b"])
    assert code == 0
    assert [row["runner"] for row in said if "runner" in row] == ["x", "z"]


def test_an_item_that_loses_the_device_before_it_begins_a_part_ends_the_process(monkeypatch):
    def lost(device):
        raise health.DeviceLost("gone")

    def broken(begin):
        raise RuntimeError("CUDA error")
        yield

    monkeypatch.setattr(health, "alive", lost)
    code, said = worked([Item("a", 1.0, broken), Item("b", 1.0, partial(parts, "x", {}))])
    assert code == LOST
    assert said[-1] == {"lost": "gone"}


def test_a_row_that_is_cut_in_the_middle_is_waited_for_and_one_behind_it_is_whole(tmp_path):
    path = tmp_path / "rows.jsonl"
    looks = taken(path)
    assert next(looks) == []
    path.write_text('{"a": 1}\n{"b"')
    assert next(looks) == [{"a": 1}]
    with path.open("a") as file:
        file.write(": 2}\n")
    assert next(looks) == [{"b": 2}]
    with path.open("a") as file:
        file.write('{"c')
    append(path, '{"d": 4}')
    assert path.read_text().splitlines()[-2:] == ['{"c', '{"d": 4}']


def test_rows_wait_for_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "out").write_text("no folder")
    home = Home(tmp_path / "out")
    home.write(CHECK)
    assert len(home.unsaved) == 1
    assert home.trouble
    (tmp_path / "out").unlink()
    home.write(TIMED, "-layer-set")
    assert home.unsaved == []
    assert rows.read(tmp_path / "out" / "nvidia-h200.jsonl") == [CHECK]
    assert rows.read(tmp_path / "out" / "nvidia-h200-layer-set.jsonl") == [TIMED]


@pytest.mark.parametrize(
    ("change", "silent"),
    [({}, True), ({"runner": "triton_flash"}, False), ({"size": 40}, False), ({"masked": True}, False), ({"dtype": "float16"}, False)],
)
def test_a_red_check_silences_its_own_runner_size_mask_and_dtype(change, silent):
    kept = gated([{**CHECK, "red": True, **change}, TIMED])[1]
    assert ("ms" not in kept) == silent
    assert ("ratio" not in kept) == silent
    if silent:
        assert kept["red_ms"] == TIMED["ms"]
        assert "correctness of plain" in kept["why"]


def test_what_lands_is_gated_and_lands_once(tmp_path):
    home = Home(tmp_path / "out")
    for row in ({**CHECK, "red": True}, TIMED, {**TIMED, "runner": "eager"}):
        home.write(row)
    landed = land(tmp_path / "out", tmp_path / "results")
    assert [path.name for path in landed] == ["nvidia-h200.jsonl"]
    found = rows.read(landed[0])
    assert ["ms" in row for row in found[1:]] == [False, True]
    assert land(tmp_path / "out", tmp_path / "results") == []
    assert rows.read(landed[0]) == found
    with pytest.raises(ValueError, match="land needs a folder with rows"):
        land(tmp_path)
    home.write({**TIMED, "quick": True})
    with pytest.raises(ValueError, match="where a miniature"):
        land(tmp_path / "out")


def test_the_verdict_has_lines_to_paste_and_the_best_attention():
    floor = {**TIMED, "runner": "sdpa", "picked": "FLASH_ATTENTION", "ms": {"p50": 1.0}}
    best = {**TIMED, "runner": "sdpa_cudnn", "ms": {"p50": 0.5}, "best": "sdpa_cudnn"}
    ours = {**TIMED, "best": "sdpa_cudnn", "ratio_best": 4.0}
    tuned = [{**TIMED, "section": "tune", "sweep": "keys", "tile": tile, "table": table, "ms": {"p50": ms}}
             for tile, table, ms in (([64, 64, 4, 2], True, 2.0), ([128, 64, 8, 3], False, 1.0))]  # fmt: skip
    tuned.append({**tuned[0], "sweep": "one_tile", "size": 80, "reference": 77, "tile": [64, 128, 4, 2]})
    route = [{**TIMED, "section": "route", "runner": f"triton_{name}", "ms": {"p50": ms}} for name, ms in (("own", 2.0), ("cudnn", 1.0))]
    said = verdict([floor, best, ours, *tuned, *route], ["flex: ip_257"])
    assert "0.5 ms sdpa_cudnn, torch takes flash; x that: triton 4.00" in said
    assert '"keys": {64: Tile(128, 64, 8, 3)}  # 1.0000 ms at 257 keys, the table\'s (64, 64, 4, 2) 2.0000 ms' in said
    assert '"one_tile 128": {80: Tile(64, 128, 4, 2)}' in said
    assert '((9, 0), 64): "cudnn",  # own 2.0000 ms, cudnn 1.0000 ms' in said
    assert said.endswith("no time for: flex: ip_257")
    for ms, faster in ((0.8, True), (1.2, False)):  # both maps in one visit, behind the fastest forward
        one = {**TIMED, "section": "route", "runner": "triton_onchip", "ms": {"p50": ms}}
        said = verdict([*route, one], [])
        assert (f"((9, 0), 64),  # of ONCHIP: {ms:.4f} ms, cudnn 1.0000 ms" in said) == faster
        assert '((9, 0), 64): "cudnn"' in said


def test_a_runner_that_is_wrong_is_timed_apart():
    def spoiled(given):
        out = one_call.RUNNERS["streaming"](given)
        given["r2g"].mul_(2)
        return out

    available = {**one_call.RUNNERS, "streaming": spoiled}
    begun = []
    found = {row["runner"]: row for row in one_call.measure(
        "tiny", TINY, 2, torch.float32, "all", torch.device("cpu"), ("streaming", "eager"), 3, available=available,
        begin=lambda name: begun.append(name) is None)}  # fmt: skip
    assert begun == ["sdpa", "streaming", "eager", "times"]
    assert "red_ms" in found["streaming"]
    assert not {"ms", "ratio", "ratio_best"} & set(found["streaming"])
    assert "ms" in found["eager"]
    assert "RED" in one_call.line(found["streaming"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["first", "--out", "x", "--device", "cpu"], "--device must be cuda, or cpu with --quick"),
        (["first"], "first needs --out"),
        (["land"], "land needs the folder"),
    ],
)
def test_bad_words_are_named(words, message):
    with pytest.raises(ValueError, match=message):
        pack.main(words)


def test_bad_trouble_is_named():
    with pytest.raises(ValueError, match="--trouble must be KIND:RUNNER"):
        planted.plant(["wrong:nobody"])


def test_a_call_needs_torch_triton_and_numpy_alone():
    lacking = ("diffusers", "transformers", "matplotlib", "PIL", "accelerate", "tqdm", "pandas", "scipy", "safetensors", "huggingface_hub")
    without = f"import sys; sys.modules.update(dict.fromkeys({lacking}))"
    code = f"{without}; import benchmarks.gpu.__main__, benchmarks.gpu.worker, benchmarks.gpu.plan"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0


def test_a_benchmark_that_fails_is_blamed_and_one_that_lacks_a_package_is_named(tmp_path, monkeypatch):
    failing = plan.Module(".pipelines", (), ("pipeline.traced", "--cases", "nonsense"))
    lacking = plan.Module(".pipelines", (), ("pipeline.traced",), needs=("no_such_package",))
    monkeypatch.setattr(driver, "MODULES", {"sd15": failing, "sdxl": lacking})
    monkeypatch.setattr(driver, "BEGAN", time.monotonic())
    call = driver.Call("third", Home(tmp_path), driver.Options("cpu", quick=True, seconds=60.0))
    call.group("sd15", call.end)
    call.group("sdxl", call.end)
    (row,) = call.home.rows
    assert row["red"]
    assert row["error"].startswith("exit code 2")
    assert "nonsense" in row["error"]
    assert row["environment"]["device"] == "unknown cpu"
    assert call.left_out == ["sdxl: needs no_such_package: carry the wheel and pip install --no-deps it"]
    assert "ENDED BADLY sd15" in verdict(call.home.rows, call.left_out)
