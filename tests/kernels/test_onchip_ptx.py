"""What the compiler makes of the sweep that makes both maps in one visit, run instruction by instruction for clusters of every kind: right
maps, and nothing that another order of threads, programs, copies or products would change. No GPU takes part; faults that are planted in
the compiler's text must be noticed."""

import json
import os
import re
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import pytest
from ptx import Cluster, Code
from ptx_memory import Global, Races

from i2am_kernels import onchip

ROOT = Path(__file__).parents[2]
CASES = ("eight programs", "faint columns", "two parts of a head", "weights and a mask", "one program", "sixteen programs")
FAULTS = {  # and what is said of each; the last is no race
    "keys that are not waited for": "a product of what is on its way",
    "keys that the matrix units do not see": "a product of what no fence shows to the matrix units",
    "a product that is not waited for": "a product's number before it is waited for",
    "sums of warps without a barrier": "a read of what another warp writes",
    "sums of peers that are not waited for": "a read of what a peer writes",
    "sums that peers still read": "a write over what a peer reads",
    "a word that all who read it store": "two threads store a word",
    "a score that stays a logarithm": "",
}

pytestmark = pytest.mark.skipif(onchip.onchip_sweep is None, reason="Triton before 3.9 compiles no such sweep")


@lru_cache
def found():
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "tests/helpers/onchip_compiled.py"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", CASES)
def test_a_cluster_makes_both_maps_and_nothing_races(name):
    """Where columns are too faint to be found at once the scores are visited a second time, and only there."""
    case = found()["cases"][name]
    assert case["races"] == {}
    assert case["wrong"] == []
    assert case["visits"] == (2 if name == "faint columns" else 1)


def test_every_case_is_asked_for():
    assert set(found()["cases"]) == set(CASES)
    assert set(found()["faults"]) == set(FAULTS)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_noticed(fault):
    noticed, said = found()["faults"][fault], FAULTS[fault]
    if said:
        assert any(race.startswith(f"{said}: ") for race in noticed["races"]), noticed["races"] or "unnoticed"
    else:
        assert noticed["wrong"]
        assert noticed["races"] == {}


@pytest.mark.parametrize(("line", "error", "said"), [
    ("lop3.b32 %r1, 1, 2, 3, 128;", NotImplementedError, "not known: line 1, lop3.b32"),
    ("add.s32 %r1, %r2, 1;", ValueError, "nothing was put into %r2"),
    ("add.s64 %rd1, %tid.x, 1;", TypeError, "%tid.x is no s64"),
    ("ld.global.b32 { %r1 }, [ %rd1 + 0 ];", IndexError, "outside of the tensors"),
    ("@%p1 bra $L__BB0_1;", AssertionError, "some threads take"),
])  # fmt: skip
def test_what_is_not_known_ends_the_run(line, error, said):
    races = Races()
    cluster = Cluster(Code.of(line), [], Global([], races), races, 0, 1, 0)
    cluster.registers |= {"%rd1": cluster.registers["%tid.x"].astype("u8"), "%p1": cluster.registers["%tid.x"] < 5}
    with pytest.raises(error, match=re.escape(said)):
        cluster.run()


def test_text_that_is_no_instruction_ends_the_reading():
    with pytest.raises(NotImplementedError, match=re.escape("line 2, { .reg .pred p")):
        Code.of("ret;\n{ .reg .pred p; ret; }  ;")
