"""The suite's numerical part as other processors would run it: other instruction sets of ATen, oneDNN and MKL, other numbers of threads.

    python tests/helpers/cpus.py              every way, one after another: `make test-cpus`
    python tests/helpers/cpus.py --brief      one of them on a few files, as continuous integration does
    python tests/helpers/cpus.py --only avx2  one way; further arguments go to pytest

What a library was told is read back from it where it says; a way that this processor cannot go is left out, by name.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parents[1]
BRIEF = [
    "kernels/test_addresses", "families/test_families", "kernels/test_laws", "maps/test_levels", "maps/test_recorder",
    "models/test_small_train", "attach/test_words_traced",
]  # fmt: skip
NUMERICAL = [
    *BRIEF,
    "kernels/test_awkward", "evaluation/test_built_in", "compat/test_daam", "compat/test_i2am_release", "kernels/test_definition",
    "evaluation/test_run", "evaluation/test_processes", "score/test_faithfulness", "kernels/test_fuzz", "score/test_imacs",
    "score/test_imacs_metric", "helpers/test_oracle", "kernels/test_parts", "score/test_pointing", "score/test_quality",
    "attach/test_references", "maps/test_regions", "kernels/test_shapes", "models/test_small", "models/test_stableviton",
    "attach/test_trace", "score/test_truth", "maps/test_words",
]  # fmt: skip


class Way(NamedTuple):
    """The environment of one run, and the flag of /proc/cpuinfo that it needs."""

    environment: dict[str, str]
    needs: str = ""


WAYS = {
    "plain": Way({"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE", "OMP_NUM_THREADS": "1"}),
    "threads": Way({"OMP_NUM_THREADS": "3", "MKL_DYNAMIC": "FALSE"}),  # else MKL takes no more than there are cores, and torch with it
    "avx2": Way(
        {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "OMP_NUM_THREADS": "1"}, "avx2"
    ),
    "avx512": Way(
        {
            "ATEN_CPU_CAPABILITY": "avx512",
            "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
            "MKL_ENABLE_INSTRUCTIONS": "AVX512",
            "OMP_NUM_THREADS": "2",
        },
        "avx512f",
    ),
    "fixed": Way({"MKL_CBWR": "AVX2", "OMP_NUM_THREADS": "2"}, "avx2"),  # MKL's own way to the same bits
}
CAPABILITIES = {"default": "DEFAULT", "avx2": "AVX2", "avx512": "AVX512"}


def flags() -> set[str]:
    """What the processor can do, as Linux says."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return set(next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), []))


def went(environment: dict[str, str]) -> tuple[str, bool]:
    """What torch says of a process that was started so, and whether that is what was asked for."""
    code = "import torch; print(torch.backends.cpu.get_cpu_capability(), torch.get_num_threads())"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    capability, threads = done.stdout.split()
    asked = CAPABILITIES.get(environment.get("ATEN_CPU_CAPABILITY", ""), capability)
    said = f"ATen {capability}, {threads} thread{'s' * (threads != '1')}"
    return said, (capability, threads) == (asked, environment["OMP_NUM_THREADS"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=tuple(WAYS), help="some ways alone")
    parser.add_argument("--brief", action="store_true", help=f"the way {next(iter(WAYS))!r} on {len(BRIEF)} files")
    asked, more = parser.parse_known_args()
    files = [str(TESTS / f"{name}.py") for name in (BRIEF if asked.brief else NUMERICAL)]
    names = asked.only or (list(WAYS)[:1] if asked.brief else list(WAYS))
    cpu, lines = flags(), []
    for name in names:
        way = WAYS[name]
        if way.needs and way.needs not in cpu:
            lines.append(f"{name:8} left out: this processor has no {way.needs}")
            continue
        environment = {**os.environ, **way.environment, "OMP_WAIT_POLICY": "PASSIVE"}
        said, right = went(environment)
        if not right:
            lines.append(f"{name:8} FAILED: torch runs otherwise than it was told: {said}")
            continue
        print(f"\n{name}: {said}; {' '.join(f'{key}={value}' for key, value in way.environment.items())}", flush=True)
        start = time.perf_counter()
        # Triton's interpreter, which takes the most time, computes in numpy; a family's larger batch tells little more than its single
        some = "not triton and not 3-square" if asked.brief else "not triton"
        command = [sys.executable, "-m", "pytest", "-n", "auto", "--dist", "loadfile", "-k", some, *files, *more]
        code = subprocess.run(command, env=environment).returncode
        lines.append(f"{name:8} {'passed' if code == 0 else f'FAILED ({code})'} in {time.perf_counter() - start:.0f} s: {said}")
    print("\n" + "\n".join(lines))
    return int(any("FAILED" in line for line in lines) or all("left out" in line for line in lines))


if __name__ == "__main__":
    sys.exit(main())
