"""What the device is and what it can do at most: name, clocks as found, a copy, a matrix product, and which attention torch picks."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial

import torch

from benchmarks.gpu.items import Begin, Item
from benchmarks.measuring.measure import interleaved
from benchmarks.measuring.rows import Row, percentiles
from benchmarks.operator import judge, shapes
from benchmarks.operator.baselines import picked

QUERY = "name,driver_version,clocks.sm,clocks.mem,clocks.max.sm,power.limit,temperature.gpu,memory.total"


def items(device: torch.device, quick: bool) -> list[Item]:
    works = {"place": partial(place, device), "copy": partial(copy, device, quick), "product": partial(product, device, quick),
             "picks": partial(picks, device)}  # fmt: skip
    return [Item(name, 60.0, work) for name, work in works.items()]


def place(device: torch.device, begin: Begin) -> Iterator[Row]:
    """Versions, and the card's state as it was found: nothing of it is changed."""
    row: Row = {"item": "place", "cudnn": torch.backends.cudnn.version()}
    if device.type == "cuda":
        about = torch.cuda.get_device_properties(device)
        row |= {"cores": about.multi_processor_count, "memory_gb": round(about.total_memory / 1e9, 1)}
    if shutil.which("nvidia-smi"):
        said = subprocess.run(["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader"], capture_output=True, text=True, timeout=20)
        row["smi"] = dict(zip(QUERY.split(","), (word.strip() for word in said.stdout.split(","))))
    yield row


def times(run: Callable[[], object], device: torch.device) -> dict[str, float]:
    return percentiles(interleaved({"run": run}, 9, device)["run"])


def copy(device: torch.device, quick: bool, begin: Begin) -> Iterator[Row]:
    """Bytes read and written a second."""
    source = torch.randn((1 << 16) if quick else (1 << 30), device=device)
    target = torch.empty_like(source)
    ms = times(lambda: target.copy_(source), device)
    yield {"item": "copy", "ms": ms, "tb_per_s": round(2 * source.nbytes / ms["p50"] / 1e9, 3)}


def product(device: torch.device, quick: bool, begin: Begin) -> Iterator[Row]:
    """A bfloat16 product of random numbers: on zeros a card can be faster than it is on data."""
    side = 128 if quick else 8192
    left, right = torch.randn(2, side, side, device=device).bfloat16()
    ms = times(lambda: left @ right, device)
    yield {"item": "product", "ms": ms, "tflop_per_s": round(2 * side**3 / ms["p50"] / 1e9, 1)}


def picks(device: torch.device, begin: Begin) -> Iterator[Row]:
    """Which of its kernels torch takes by itself, at each shape that is timed."""
    for name, shape in shapes.SHAPES.items() if device.type == "cuda" else ():
        for dtype in (torch.bfloat16, torch.float16, torch.float32):
            call = judge.call_of(shapes.arguments(shape, 1, dtype, device))
            yield {"item": "picks", "shape": name, "dtype": str(dtype).removeprefix("torch."), "picked": picked(call)}
