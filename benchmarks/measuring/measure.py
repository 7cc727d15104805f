"""Time and memory of calls: interleaved, so that a slow minute of the machine is everybody's, and medians, not minima."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import lru_cache

import torch
from torch.profiler import ProfilerActivity, profile

from i2am_kernels import parts

Run = Callable[[], object]


def interleaved(runs: Mapping[str, Run], repeats: int, device: torch.device, seconds: float = float("inf")) -> dict[str, list[float]]:
    """Milliseconds of each run in A B C A B C order, after a warm-up round; fewer rounds (3 at least) when the time is up."""
    if repeats < 1:
        raise ValueError(f"repeats must be 1 or more, got {repeats}. Use an odd number, so that the median is a measured value.")
    once = cuda_ms if device.type == "cuda" else cpu_ms
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(2 if device.type == "cuda" else 1):
        for run in runs.values():
            once(run)
    begin = time.perf_counter()
    for done in range(repeats):
        if done >= 3 and time.perf_counter() - begin > seconds:
            break
        for name, run in runs.items():
            times[name].append(once(run))
    return times


def cpu_ms(run: Run) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1e3


def cuda_ms(run: Run) -> float:
    """Time between two events on the device, from a cold L2 cache; where a call is short the device waits for the host in it.

    That wait is part of a call; a `captured` run has next to none.
    """
    cache_eraser().zero_()
    start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    run()
    stop.record()
    stop.synchronize()
    return start.elapsed_time(stop)


@lru_cache
def cache_eraser() -> torch.Tensor:
    l2 = getattr(torch.cuda.get_device_properties(torch.cuda.current_device()), "L2_cache_size", 0) or 64 << 20
    return torch.empty(4 * l2, dtype=torch.int8, device="cuda")


def captured(run: Run) -> torch.cuda.CUDAGraph:
    """The run as a CUDA graph, after warm-up on a side stream as PyTorch's notes on graphs ask."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph


def peak_bytes(run: Run, device: torch.device) -> int:
    """Tensor memory at the worst moment of one run over what was there before it, the output included."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    parts.KEPT.memory = None  # what a call keeps for the next counts as its own
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it announces every start and stop
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    results = getattr(profiler.profiler, "kineto_results", None)
    assert results is not None
    events = [event for event in results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak
