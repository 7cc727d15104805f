"""The rows people compare over time: `pytest benchmarks --benchmark-autosave`, then `--benchmark-compare`; numbers come first."""

from __future__ import annotations

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.operator import judge
from benchmarks.operator.one_call import OURS, RUNNERS, judged
from benchmarks.operator.shapes import CPU_BATCH, SHAPES, arguments

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")
DTYPE = torch.bfloat16 if GPU else torch.float32
BACKEND = "triton" if GPU else "streaming"
CASES = [(shape, "all") for shape in ("warp_3072", "warp_768", "warp_192", "ip_257", "words_77")] + [("warp_3072", "half")]


@pytest.mark.parametrize("runner", ["sdpa", BACKEND])
@pytest.mark.parametrize(("shape", "rows"), CASES)
def test_call(benchmark: BenchmarkFixture, shape: str, rows: str, runner: str) -> None:
    benchmark.group = f"{shape} {rows}"
    given = arguments(SHAPES[shape], 8 if GPU else CPU_BATCH, DTYPE, DEVICE, rows)
    call = judge.call_of(given)
    true = judge.answer(call, torch.float64)

    def run() -> torch.Tensor:
        out = RUNNERS[runner](given)
        if GPU:
            torch.cuda.synchronize()
        return out

    found = judged(runner, run, given, true, judge.allowed(call, true, runner in OURS))
    assert not found["red"], found
    benchmark.extra_info["errors"] = found["error_of"]
    benchmark.pedantic(run, rounds=5, warmup_rounds=1)
