"""A slow-down of the CPU path, seen without a clock: `python -m benchmarks.operator.gate` compares three small calls with recorded bounds.

Two kinds of counts, one thread. What is dispatched, always: ATen calls, exponentials, multiply-adds, bytes written. Instructions,
where valgrind is: callgrind counts a whole call through the public door, Python included, as this torch runs it with AVX2. Every
count must be within 10% of benchmarks/results/gate.json; better ones are to be recorded as well, by `--record`, so that a bound
means something. Counts belong to a torch; instructions also to a Python and a maker of CPUs, for which libraries choose their
code. The kernels' SASS has its bounds in tests/kernels/test_codegen.py.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.measuring.rows import RESULTS
from benchmarks.operator.shapes import Shape, arguments
from i2am_kernels import bi_attention

BOUNDS = RESULTS / "gate.json"
SHAPES = {  # small: valgrind takes a thousand times as long for a fused multiply-add
    "sweeps": Shape(1900, 1850, 8, 1, "the library's forward, then blocks of keys, the last one short"),
    "tile": Shape(256, 192, 40, 2, "everything in one sweep"),
    "one_token": Shape(768, 1, 40, 2, "next to no work: Python counts"),
}
WITHIN = 0.1
Counts = dict[str, dict[str, int]]  # of each shape


def inputs(name: str) -> dict[str, Any]:
    return arguments(SHAPES[name], 1, torch.float32, torch.device("cpu"))


def operations() -> Counts:
    """What each call dispatches: the same at every run."""
    from benchmarks.operator.counted import Work, counted  # not under valgrind, where an import takes its time

    threads, found = torch.get_num_threads(), {}
    torch.set_num_threads(1)
    for name in SHAPES:
        whole = Work()
        for work in counted(inputs(name)).values():
            whole += work
        found[name] = {key: value for key, value in asdict(whole).items() if key != "seconds"}
    torch.set_num_threads(threads)
    return found


def instructions() -> Counts:
    """What each call executes under callgrind, less what asking for a count does; half a minute."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/out",
                   sys.executable, "-m", "benchmarks.operator.gate", "--inside"]  # fmt: skip
        alone = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "ATEN_CPU_CAPABILITY": "avx2", "PYTHONHASHSEED": "0"}
        ended = subprocess.run(command, cwd=RESULTS.parent.parent, env={**os.environ, **alone}, capture_output=True, text=True)
        dumps = [Path(folder) / f"out.{number}" for number in range(2, len(SHAPES) + 3)]
        if ended.returncode or not all(dump.exists() for dump in dumps):
            raise RuntimeError(f"callgrind must leave {len(dumps)} counts, it ended with {ended.returncode}: {ended.stderr[-2000:]}")
        blank, *totals = (int(re.findall(r"^totals: (\d+)", dump.read_text(), re.M)[0]) for dump in dumps)
    return {name: {"instructions": total - blank} for name, total in zip(SHAPES, totals)}


def inside() -> None:
    """Under valgrind: a count of nothing, then one of each call."""

    def control(word: str) -> None:
        subprocess.run(["callgrind_control", word, str(os.getpid())], check=True, capture_output=True)

    calls = [partial(bi_attention, **inputs(name), backend="streaming") for name in SHAPES]
    with torch.no_grad():
        for call in calls:
            call()
        control("--instr=on")
        control("--dump")  # which begins the next count
        control("--dump")
        for call in calls:
            call()
            control("--dump")


def keys() -> tuple[str, str]:
    """What the two kinds of counts belong to."""
    found = re.findall(r"vendor_id\s*:\s*(\S+)", Path("/proc/cpuinfo").read_text()) if Path("/proc/cpuinfo").exists() else []
    version = ".".join(platform.python_version_tuple()[:2])
    return f"torch {torch.__version__}", f"torch {torch.__version__}, Python {version}, {(found or [platform.machine()])[0]}"


def compare(bounds: Counts, found: Counts) -> list[str]:
    """A line for every count outside of its bound."""
    wrong = []
    for name, counts in found.items():
        for what, count in counts.items():
            bound = bounds.get(name, {}).get(what)
            if bound is None:
                wrong.append(f"{name}: {what} has no bound")
            elif abs(count - bound) > WITHIN * bound:
                change = f"{count / bound - 1:+.0%}" if bound else "from nothing"
                wrong.append(f"{name}: {what} {bound} -> {count} ({change})")
    return wrong


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.operator.gate", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--record", action="store_true", help="write the bounds instead of checking them")
    parser.add_argument("--no-valgrind", action="store_true", help="leave the instructions out")
    parser.add_argument("--bounds", type=Path, default=BOUNDS)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    if given.inside:
        inside()
        return 0
    dispatched, executed = keys()
    found = {dispatched: operations()}
    missing = [tool for tool in ("valgrind", "callgrind_control") if shutil.which(tool) is None]
    if given.no_valgrind or missing:
        print(f"instructions: not counted: {'--no-valgrind' if given.no_valgrind else ', '.join(missing) + ' not installed'}")
    else:
        found[executed] = instructions()
    bounds: dict[str, Counts] = json.loads(given.bounds.read_text()) if given.bounds.exists() else {}
    if given.record:
        given.bounds.write_text(json.dumps({**bounds, **found}, indent=1, sort_keys=True) + "\n")
        print(f"recorded {', '.join(found)} in {given.bounds}")
        return 0
    wrong = []
    for key, counts in found.items():
        if key in bounds:
            wrong += compare(bounds[key], counts)
            print(f"{key}: {sum(map(len, counts.values()))} counts of {len(counts)} calls")
        else:
            print(f"{key}: not checked: no bounds for it. Record them on a commit that is known to be good, with --record.")
    print("\n".join(wrong) or "every checked count is within 10% of its bound")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
