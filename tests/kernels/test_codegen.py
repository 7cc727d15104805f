"""What the compiler makes of the kernels, for GPUs that are not here and for the oldest and the newest Triton.

Every launch of a call with both maps at six head sizes, with masks, in float32, with references of one tile, with word maps:
no spilled register, no more shared memory than the architecture has, at most 1.05 exponentials a score in the map sweeps (each
visits the scores once; words are another visit), few shuffles; of its gradient as many exponentials a score as softmaxes give
something back. A regression of the kernels shows here long before a GPU sees it.
"""

import itertools
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.operator.codegen import HEAD_SIZES, SHARED_LIMIT, TARGETS

ROOT = Path(__file__).parents[2]
OLDEST = ROOT / ".triton-3.6"  # brought by `make test`
# Several runs of the command in one process, which finds out about torch and Triton once, and takes apart once what two of them launch
PROGRAM = """
import functools, json, sys
from benchmarks.operator import codegen

codegen.taken_apart = functools.cache(codegen.taken_apart)
for sys.argv[1:] in json.loads(sys.argv[1]):
    codegen.main()
"""
# Bytes a thread that cost little: a few registers of hundreds. (sweep, target, dtype, head size): at most
SMALL = {
    ("one_tile_sweep", "sm_80", "bfloat16", 64): 8,
    ("forward_sweep", "sm_80", "bfloat16", 256): 32,  # with a mask
    ("forward_sweep", "sm_90", "float32", 128): 80,
    ("keys_sweep", "sm_80", "float32", 128): 200,
    ("queries_sweep", "sm_80", "float32", 128): 128,
    ("keys_sweep", "sm_80", "bfloat16", 160): 8,  # with a field
    ("queries_sweep", "sm_80", "bfloat16", 160): 8,
    ("keys_backward_sweep", "sm_80", "bfloat16", 64): 8,  # with a mask
    ("sums_sweep", "sm_80", "bfloat16", 40): 8,  # of a field
    ("sums_sweep", "sm_80", "bfloat16", 64): 8,
    ("sums_sweep", "sm_100", "bfloat16", 64): 8,
    ("keys_backward_sweep", "sm_100", "bfloat16", 40): 72,  # still the fewest instructions
    ("keys_backward_sweep", "sm_100", "bfloat16", 128): 8,
    ("onchip_sweep", "sm_90", "bfloat16", 64): 112,  # with weights of the queries; outside of the loop over the keys
    ("onchip_sweep", "sm_90", "bfloat16", 80): 8,
    ("onchip_sweep", "sm_90", "bfloat16", 128): 112,  # with a mask or weights
}

MORE = {  # what one of the two compiles; a Hopper is tuned with the oldest
    "newest": [
        ["--cases", "field", "--heads", "40", "64", "80", "128", "160"],
        ["--cases", "backward", "--heads", "40", "64", "80", "128", "160"],
        ["--cases", "backward masked", "backward field", "--heads", "64", "128", "--targets", "sm_80", "sm_90", "sm_100"],
        ["--cases", "backward output", "backward rows", "backward columns", "--heads", "64", "--targets", "sm_80", "sm_90"],
        ["--cases", "backward", "--heads", "64", "--targets", "sm_80", "sm_90", "--dtypes", "float16", "float32"],
        ["--cases", "few keys", "image", "words masked", "--heads", "64", "--targets", "sm_80", "sm_90", "sm_100"],
        ["--cases", "masked", "added", "--heads", "256", "--targets", "sm_80"],
        ["--cases", "grouped", "--heads", "64", "128", "--targets", "sm_80", "sm_90", "sm_100"],
        ["--cases", "plain", "--heads", "64", "128", "--targets", "sm_80", "--dtypes", "float32"],
        ["--cases", "onchip", "--heads", "64", "128", "160", "--targets", "sm_90"],
        ["--cases", "onchip 3072", "--heads", "40", "64", "--targets", "sm_90"],
        ["--cases", "onchip weighted", "onchip masked", "--heads", "64", "--targets", "sm_90"],
    ],
    "oldest": [
        ["--cases", "field", "--heads", "64", "--targets", "sm_80", "sm_90"],
        ["--cases", "backward", "--heads", "40", "64", "80", "128", "160", "--targets", "sm_80", "sm_90", "sm_100"],
        ["--cases", "backward field", "--heads", "64", "--targets", "sm_90"],
        ["--cases", "few keys", "image", "--heads", "64", "--targets", "sm_90"],
        ["--cases", "plain", "masked", "added", "--heads", "64", "256", "--targets", "sm_90"],
        ["--cases", "plain", "--heads", "40", "64", "128", "--targets", "sm_90", "--dtypes", "float32"],
    ],
}


@pytest.fixture(scope="module", params=["newest", "oldest"])
def rows(request):
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    if request.param == "oldest":
        assert OLDEST.is_dir(), f"{OLDEST.name} is missing: run `make test`, or pip install --target {OLDEST.name} --no-deps triton==3.6.0"
        environment["PYTHONPATH"] = str(OLDEST)
    runs = [  # sizes of 1 become constants in the kernels: other code than the interpreter runs
        ["--cases", "plain", "--heads", *map(str, HEAD_SIZES)],
        ["--cases", "words", "--heads", "64", "160"],
        ["--cases", "one key", "one query", "--heads", "64"],
        ["--cases", "backward one key", "backward one query", "--heads", "64", "--targets", "sm_80", "sm_90", "sm_100"],
        *MORE[request.param],
    ]

    def run(share):
        command = [sys.executable, "-c", PROGRAM, json.dumps(share)]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1800)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    backward = [words for words in runs if words[1].startswith("backward")]
    forward = [words for words in runs if words not in backward]  # the two launch nothing in common
    with ThreadPoolExecutor(2) as pool:
        found = list(itertools.chain.from_iterable(pool.map(run, (forward, backward))))
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
        allowed = SMALL.get((row["sweep"], row["target"], row["dtype"], row["head"]), 0)
        assert row["spill_bytes"] <= allowed or row["case"].endswith(("one key", "one query")), row
        assert row["shared_kib"] <= SHARED_LIMIT[row["target"]], row
        if row["target"] == "sm_80":  # its tiles are those of consumer GPUs, which have less
            assert row["shared_kib"] <= 99, row


def test_the_one_tile_visits_its_scores_once(rows):
    """Sums over rows cross threads once a program, not once a step; masks that differ from query to query have other tiles."""
    counted = [row for row in rows if row["sweep"] == "one_tile_sweep" and row["head"] == 64 and "exponentials" in row]
    assert {row["BLOCK_R"] for row in counted} >= {16, 128, 256}
    for row in counted:
        if row["case"] in ("words", "image"):
            assert row["exponentials"] < 1.2, row
            assert row["shuffles"] < 1.1, row
            assert row["instructions"] < (24 if row["target"] == "sm_100" else 20), row


def test_one_exponential_a_score_in_each_map_sweep(rows):
    counted = [
        row
        for row in rows
        if row["case"] == "plain" and row["sweep"] in ("keys_sweep", "queries_sweep") and row["target"].startswith("sm_")
        and row["dtype"] == "bfloat16" and row["head"] <= 160
    ]  # fmt: skip
    assert counted
    for row in counted:
        assert 0.99 <= row["exponentials"] <= 1.05, row
        if row["target"] != "sm_80":
            assert row["shuffles"] < 0.3, row
        if row["target"] == "sm_90":
            assert row["instructions"] < (6.5 if row["head"] <= 64 else 9), row


def test_one_visit_takes_one_exponential_and_one_product_for_both_maps(rows):
    """Fewer instructions than the sweep of the keys and that of the queries together. Triton before 3.9 compiles no such sweep."""
    counted = [row for row in rows if row["sweep"] == "onchip_sweep"]
    assert {row["head"] for row in counted} == ({40, 64, 128, 160} if rows[0]["triton"] >= "3.9" else set())
    for row in counted:
        assert 0.99 <= row["exponentials"] <= 1.1, row
        assert row["shuffles"] < 0.4, row
        assert row["instructions"] < {40: 9, 64: 9.6, 128: 11.5, 160: 15}[row["head"]], row
        assert 2 * row["shared_kib"] <= SHARED_LIMIT["sm_90"], row  # two programs a multiprocessor
        assert row["registers"] <= 255, row


def test_a_field_takes_no_second_exponential(rows):
    """Six words beside R2G and six sums of C's columns beside G2R come off the same exponential; Triton 3.6 takes that of the factors
    in every thread."""
    counted = [row for row in rows if row["case"] == "field" and row["sweep"] in ("keys_sweep", "queries_sweep") and "exponentials" in row]
    assert {row["head"] for row in counted} >= {64}
    for row in counted:
        wide = row["head"] > 128 and row["sweep"] == "keys_sweep"  # whose tiles make each thread take the factors' as well
        most = 1.5 if row["triton"].startswith("3.6.") else 2.0 if wide else 1.25 if row["target"] == "sm_80" else 1.02
        assert 0.99 <= row["exponentials"] <= most, row
        assert row["instructions"] < (22 if wide else 17.5 if row["target"] == "sm_80" else 15.5), row


def test_the_gradient_takes_one_exponential_a_softmax_that_gives_something_back(rows):
    """P and C in both large sweeps, P alone for the values; the sums before them are another visit each."""
    softmaxes = {"backward output": 1, "backward rows": 1, "backward columns": 1}
    counted = [row for row in rows if "exponentials" in row and not row["case"].endswith(("one key", "one query"))]
    large = [row for row in counted if row["sweep"] in ("keys_backward_sweep", "queries_backward_sweep")]
    assert {row["head"] for row in large} >= {40, 64, 80, 128, 160}
    for row in large:
        most = softmaxes.get(row["case"], 2) if row.get("keys", True) else 1
        assert 0.99 * most <= row["exponentials"] <= 1.02 * most, row
        assert row["shuffles"] < 0.05 or row["case"] == "backward masked", row
        if row["target"] == "sm_90" and row["head"] == 64 and row["dtype"] == "bfloat16" and row["triton"] > "3.9":
            alone = row["case"] not in ("backward", "backward field", "backward masked")
            assert row["instructions"] < (13.5 if alone else 20 if row["case"] == "backward" else 34), row
    sums = [row for row in counted if row["sweep"] == "sums_sweep"]
    assert {row["norm"] for row in sums} == {"found", "lines", "others"}
    for row in sums:  # a mask lies along the keys, which makes more threads take those of a running maximum
        assert 0.99 <= row["exponentials"] <= (1.55 if row["case"] == "backward masked" else 1.15), row
