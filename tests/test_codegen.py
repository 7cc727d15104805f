"""What the compiler makes of the kernels, for GPUs that are not here and for the oldest and the newest Triton.

Every launch of a call with both maps, and of one with word maps, at five head sizes: no spilled register, no more shared
memory than the architecture has, at most 1.05 exponentials a score in the map sweeps (each visits the scores once), few
shuffles. A regression of the kernels shows here long before a GPU sees it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.codegen import HEAD_SIZES, SHARED_LIMIT, TARGETS

ROOT = Path(__file__).parent.parent
OLDEST = ROOT / ".triton-3.6"  # brought by `make test`


@pytest.fixture(scope="module", params=["newest", "oldest"])
def rows(request):
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    if request.param == "oldest":
        assert OLDEST.is_dir(), f"{OLDEST.name} is missing: run `make test`, or pip install --target {OLDEST.name} --no-deps triton==3.6.0"
        environment["PYTHONPATH"] = str(OLDEST)
    runs = [  # sizes of 1 become constants in the kernels: other code than the interpreter runs
        ["--cases", "plain", "--heads", *map(str, HEAD_SIZES)],
        ["--cases", "words", "one key", "one query", "--heads", "64", "160"],
    ]
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.codegen", *words],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for words in runs
    ]  # fmt: skip
    found = []
    for process in running:
        output, errors = process.communicate(timeout=900)
        assert process.returncode == 0, errors
        found += [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    if request.param == "oldest":
        assert found[0]["triton"].startswith("3.6.")
    print("\n" + "\n".join(map(str, found)))
    return found


def test_every_target_and_head_size_compiles(rows):
    seen = {(row["target"], row["sweep"], row["head"]) for row in rows}
    for target in TARGETS:
        for size in HEAD_SIZES:
            for sweep in ("forward_sweep", "keys_sweep", "queries_sweep"):
                assert (target, sweep, size) in seen
        assert (target, "one_tile_sweep", 64) in seen


def test_nothing_spills_and_everything_fits(rows):
    for row in rows:
        assert row["spill_bytes"] == 0 or row["case"] in ("one key", "one query"), row
        assert row["shared_kib"] <= SHARED_LIMIT[row["target"]], row


def test_one_exponential_a_score_in_each_map_sweep(rows):
    counted = [
        row
        for row in rows
        if row["case"] in ("plain", "words") and row["sweep"] in ("keys_sweep", "queries_sweep") and row["target"].startswith("sm_")
    ]
    assert counted
    for row in counted:
        assert 0.99 <= row["exponentials"] <= 1.05, row
        if row["target"] != "sm_80":
            assert row["shuffles"] < 0.3, row
        if row["target"] == "sm_90":
            assert row["instructions"] < 9, row
