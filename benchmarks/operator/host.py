"""What the host pays for a call of the Triton backend: from the operator's door to the driver's, with a driver that does nothing.

    python -m benchmarks.operator.host

The kernels are compiled for sm_90 as they would be there; their launches end where the real driver would take them (which is a few
microseconds more each). `triton` is Triton's own way of launching, `remembered` the same step by step with kernels that are looked up,
`planned` how the operator launches a kind of call that it has made before, `door` adds the checks of `bi_attention`. No GPU is needed,
none is measured: on a GPU `benchmarks.gpu` times small layers both as calls and as replayed graphs.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.measuring.command import command, positive, record
from benchmarks.measuring.measure import interleaved
from benchmarks.measuring.rows import Row, percentiles
from benchmarks.measuring.table import commit, place
from benchmarks.operator import judge
from benchmarks.operator.shapes import SHAPES, arguments
from i2am_kernels import launcher, op, plans, triton_backend

LAYERS = ("warp_192", "words_77", "ip_257", "warp_3072")
Launched = list[tuple[Any, ...]]


class Driver:
    """A device of compute capability 9.0 that takes every launch and does nothing with it but count."""

    def __init__(self) -> None:
        self.launched: Launched = []
        self.utils = self

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 90, 32)

    def get_device_properties(self, device: int) -> dict[str, int]:
        return {"max_shared_mem": 227 * 1024, "multiprocessor_count": 132}

    def load_binary(self, name: str, kernel: bytes, shared: int, device: int) -> tuple[str, str, int, int, int]:
        return name, f"{name} {hashlib.sha256(kernel).hexdigest()[:12]}", 0, 0, 1024

    def unload_module(self, module: str) -> None:
        pass

    def launcher_cls(self, source: Any, metadata: Any) -> Callable[..., None]:
        return lambda *words: self.launched.append(words)


def driven() -> Driver:
    """Put the driver in the place of the machine's for the rest of the process."""
    if triton_backend.INTERPRETED:
        sys.exit("benchmarks.operator.host launches compiled kernels: unset TRITON_INTERPRET")
    import triton  # here: the results page reads this module's rows where there is none

    driver = Driver()
    triton.runtime.driver.set_active(driver)
    triton_backend.capability = lambda device: (9, 0)  # type: ignore[assignment]
    triton_backend.cores = lambda device: 132  # type: ignore[assignment]
    triton_backend.missing = op.missing = lambda call: None
    return driver


def measure(name: str, repeats: int, driver: Driver) -> Iterator[Row]:
    """The four ways in turn, so that a slow moment of the machine is everybody's."""
    shape = SHAPES[name]
    given = arguments(shape, 2, torch.bfloat16, torch.device("cpu"))
    call = judge.call_of(given)

    def triton_way() -> None:
        with patch.object(launcher, "REMEMBERS", False):
            triton_backend.launch(call, "own")

    def step_by_step() -> None:
        with patch.object(plans, "ENABLED", False):
            triton_backend.launch(call, "own")

    ways: dict[str, Callable[[], object]] = {
        "planned": lambda: triton_backend.launch(call, "own"),
        "remembered": step_by_step,
        "triton": triton_way,
        "door": lambda: op.bi_attention(**given, backend="triton"),
    }
    with patch.object(triton_backend, "route_of", lambda call: "own"):
        ways["planned"]()  # compiles
        driver.launched.clear()
        ways["planned"]()
        launches = len(driver.launched)
        times = interleaved(ways, repeats, torch.device("cpu"))
    for way, taken in ((way, [1e3 * ms for ms in times[way]]) for way in ways):
        yield {"section": "host", "layer": name, "generated": shape.generated, "reference": shape.reference, "size": shape.size,
               "way": way, "launches": launches, "us": percentiles(taken), "repeats": repeats, "red": False}  # fmt: skip


def line(row: Row) -> str:
    return f"{row['layer']:<10} {row['way']:<11} {row['launches']} launches {row['us']['p50']:7.1f} us"


def summary(rows: list[Row]) -> str:
    """A line a layer: microseconds of each way."""
    parts = []
    for where in dict.fromkeys(place(row) for row in rows):
        last = {(row["layer"], row["way"]): row for row in rows if place(row) == where}
        commits = ", ".join(dict.fromkeys(commit(row) for row in last.values()))
        parts.append(
            f"{where}; microseconds of a call, bfloat16, the driver left out; "
            f"measured at {commits} with `python -m benchmarks.operator.host`.\n"
        )
        parts += ["| G x R, head size | launches | Triton's own way | remembered | planned | with the door |", "|---|---|---|---|---|---|"]
        for layer in dict.fromkeys(layer for layer, _ in last):
            of = {way: row for (name, way), row in last.items() if name == layer}
            some = next(iter(of.values()))
            times = [f"{of[way]['us']['p50']:.0f}" if way in of else "" for way in ("triton", "remembered", "planned", "door")]
            parts.append(f"| {some['generated']} x {some['reference']}, {some['size']} | {some['launches']} | {' | '.join(times)} |")
        parts.append("")
    return "\n".join(parts).rstrip()


def main(words: Sequence[str] | None = None) -> int:
    parser = command("host", __doc__, "-host")
    parser.add_argument("--layers", nargs="+", default=list(LAYERS), choices=SHAPES)
    parser.add_argument("--repeats", type=int, default=501)
    given = parser.parse_args(words)
    positive(given, "repeats")
    given.device, driver = "cpu", driven()
    return record((row for name in given.layers for row in measure(name, given.repeats, driver)), line, given, "-host")


if __name__ == "__main__":
    sys.exit(main())
