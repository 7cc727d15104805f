"""The GPU pack's three calls in miniature and with planted trouble: what is well comes home, what is not is blamed by name."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.gpu.row_store import land
from benchmarks.gpu.verdict import verdict
from benchmarks.measuring import rows
from benchmarks.report import page, tables

ROOT = Path(__file__).parents[2]


def command(call, folder, *words):
    return [sys.executable, "-m", "benchmarks.gpu", call, "--quick", "--device", "cpu", "--out", str(folder), "--seconds", "450", *words]


def settings(interpreter):
    return {**os.environ, "TRITON_INTERPRET": "1" if interpreter else "0", "OMP_NUM_THREADS": "1"}


def pack(call, folder, *words, interpreter=True):
    done = subprocess.run(command(call, folder, *words), cwd=ROOT, env=settings(interpreter), capture_output=True, text=True, timeout=500)
    assert "Traceback" not in done.stderr, done.stderr
    return done, [row for path in folder.glob("*.jsonl") if path.is_file() for row in rows.read(path)]


def of(found, **what):
    return [row for row in found if all(row.get(key) == value for key, value in what.items())]


TROUBLE = ("wrong:streaming:19", "sticky:triton_own:19", "hang:streaming:270", "killed:triton_flash:270", "uncompiled:triton:270")


def test_the_first_call_brings_home_what_is_well_and_blames_what_is_not(tmp_path):
    only = ("--only", "device", "people-0", "people-1", "batch-8")  # tiles are the second's
    done, found = pack("first", tmp_path, "--trouble", *TROUBLE, "--patience", "12", *only)
    assert done.returncode == 1
    checks = {(row["case"], row["runner"]): row for row in found if row["section"] == "correctness"}
    red = {key for key, row in checks.items() if row.get("red")}
    assert red == {("tiny_19", "streaming"), ("tiny_19", "triton_own"),
                   ("tiny_270", "streaming"), ("tiny_270", "triton_flash"), ("tiny_270", "triton")}  # fmt: skip
    runners = {"streaming", "triton", "triton_own", "triton_flash", "triton_cudnn", "triton_onchip", "reference"}
    assert set(checks) == {(case, runner) for case in ("tiny_19", "tiny_270") for runner in runners}
    assert "illegal memory access" in checks["tiny_19", "triton_own"]["error"]
    assert "no sign of life for 12 s" in checks["tiny_270", "streaming"]["error"]
    assert "exit code -9" in checks["tiny_270", "triton_flash"]["error"]
    assert "PassManager" in checks["tiny_270", "triton"]["error"]
    assert {"place", "copy", "product"} <= {row.get("item") for row in of(found, section="device")}

    timed = of(found, section="timings")
    assert {row["runner"] for row in timed if "ms" in row} >= {"sdpa", "triton", "eager"}  # as measured: the gate is what a reader sees
    assert all("red_ms" in row and "ms" not in row for row in timed if row["runner"] == "streaming")  # wrong in its own numbers
    said = done.stdout
    assert "RED correctness tiny_19 triton_own" in said
    assert "streaming RED (" in said  # timed all the same
    assert "triton RED (" in said  # a red check of this runner, head size and dtype
    assert "eager RED" not in said

    again, twice = pack("first", tmp_path, *only)  # goes on behind what is done, and that is everything
    assert "batch-8" not in again.stdout
    assert len(of(twice, section="timings")) == len(timed)


def test_the_second_call_starts_again_behind_a_lost_device(tmp_path):
    only = ("general-float32", "one_tile-float32", "gradients-float32", "behaviour-float32", "backward", "tiles", "routes", "flex")
    done, found = pack("second", tmp_path, "--trouble", "sticky:triton:270", "--only", *only)
    assert done.returncode == 1
    red = [row for row in found if row.get("red")]
    assert {(row["case"], row["runner"]) for row in red} == {("plain", "triton"), ("logit +200", "triton")}
    assert {row["section"] for row in found} >= {"correctness", "determinism", "compile", "graph", "tune", "route", "timings", "done"}
    assert all(row["red"] is False for section in ("determinism", "compile") for row in of(found, section=section))
    checked = {(row["case"], row["runner"]) for row in found if row["section"] == "correctness" and row.get("red") is False}
    assert {("plain", "triton_own"), ("plain", "triton_flash"), ("plain", "streaming"), ("logit +200", "triton_own")} <= checked
    assert {("gradient of everything", "triton_backward"), ("gradient of everything", "streaming_backward")} <= checked
    both_ways = of(found, shape="warp_3072_backward")
    assert {row["runner"] for row in both_ways if "ms" in row} == {"sdpa", "triton_backward"}
    assert '"flash"' in done.stdout or '"own"' in done.stdout  # a line of ROUTES
    assert {row["sweep"] for row in of(found, section="tune") if "ms" in row} == {"forward", "keys", "queries", "one_tile"}
    assert "Tile(" in done.stdout


def test_the_third_call_runs_pipelines_layers_and_an_evaluation_and_the_report_takes_its_rows(tmp_path):
    done, found = pack("third", tmp_path / "out", interpreter=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith((tmp_path / "out" / "third.txt").read_text())
    kinds = {path.name.partition(rows.slug(found[0]["environment"]["device"]))[2] for path in (tmp_path / "out").glob("*.jsonl")}
    assert kinds == {".jsonl", ".pipelines.jsonl", "-layer-set.jsonl", "-evaluation.jsonl"}
    assert "evaluation ours batch 2" in done.stdout
    assert "layers stableviton ours" in done.stdout

    grown = land(tmp_path / "out", tmp_path / "results")
    assert len(grown) == 4
    assert land(tmp_path / "out", tmp_path / "results") == []  # each row once
    taken = {**{key: [] for key in page.everything()},
             "operators": [row for row in found if "generated" in row and tables.timed(row)],
             "pipelines": [row for row in found if "untraced_peak_mb" in row],
             "layer-set": [row for row in found if "family" in row],
             "evaluation": [row for row in found if "images_per_second" in row]}  # fmt: skip
    for kind in ("operators", "pipelines", "layer-set", "evaluation"):
        assert taken[kind], kind
        assert page.page({**{key: [] for key in taken}, kind: taken[kind]})
    assert "*No row of a GPU yet.*" in page.page(taken)


def test_a_call_that_is_cut_off_keeps_its_rows_and_goes_on_behind_them(tmp_path):
    only = ("--only", "device", "people-0", "people-1")
    running = subprocess.Popen(command("first", tmp_path, *only), cwd=ROOT, env=settings(True), stdout=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while not [row for path in tmp_path.glob("*.jsonl") for row in rows.read(path) if row["section"] == "correctness"]:
        assert time.monotonic() < end
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.wait()
    time.sleep(0.5)
    workers = [path for path in Path("/proc").glob("[0-9]*/cmdline") if f"tied\0{running.pid}\0".encode() in content(path)]
    assert not workers  # which would hold the device
    done, found = pack("first", tmp_path, *only)
    assert done.returncode == 0, done.stdout
    assert len(of(found, section="device", item="place")) == 1
    assert {row["case"] for row in of(found, section="correctness")} == {"tiny_19", "tiny_270"}


def content(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_a_full_folder_is_said_and_the_output_has_the_rows(tmp_path):
    device = rows.environment(torch.device("cpu"))["device"]
    (tmp_path / f"{rows.slug(device)}.jsonl").symlink_to("/dev/full")
    done, _ = pack("first", tmp_path, "--only", "device")
    assert done.returncode == 1
    assert "rows are above and NOT in the folder: OSError: [Errno 28]" in done.stdout
    assert "'tb_per_s'" in done.stdout
    assert "everything asked for was run" in done.stdout.splitlines()[-1]


def test_without_time_everything_is_left_out_by_name(tmp_path):
    done, found = pack("first", tmp_path, "--seconds", "0")
    assert found == []
    assert "no time for: device: everything; people-0: everything" in done.stdout


def test_a_group_that_cannot_begin_is_blamed_once(tmp_path):
    done, found = pack("first", tmp_path, "--only", "device", "--trouble", "nonsense:triton")
    assert [row["section"] for row in found] == ["crash"]
    assert "Correct it." in found[0]["error"]
    assert "ENDED BADLY device" in verdict(found, [])
    assert done.returncode == 1
