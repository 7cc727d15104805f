"""How fast, how big, how exact is one call: the operator beside its baselines, interleaved in one process.

    python -m benchmarks.operator.one_call --shapes warp_3072 words_77 --batch 2 --dtype float32 --rows both
    python -m benchmarks.operator.one_call --shapes warp_768 --key-heads 2 --rows all       # query heads share key heads

A line is printed as each row is done and the row is on disk before that. A runner whose numbers are wrong gets a row
with "red", whose times no table shows, and the exit code is 1. `python -m benchmarks.measuring.table FILE` makes a table of the rows.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.measuring import health
from benchmarks.measuring.measure import captured, interleaved, peak_bytes
from benchmarks.measuring.rows import RESULTS, Row, Writer, environment, percentiles, slug
from benchmarks.operator import judge
from benchmarks.operator.baselines import BASELINES, Unsupported, picked
from benchmarks.operator.shapes import CPU_BATCH, SHAPES, Shape, arguments
from i2am_kernels import bi_attention, moments, onchip
from i2am_kernels.fields import MOMENTS
from i2am_kernels.forward import has_forward
from i2am_kernels.op import choose
from i2am_kernels.triton_backend import launch

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
Runner = Callable[[dict[str, Any]], Tensor]


def ours(backend: str, given: dict[str, Any]) -> Tensor:
    """Through the public door, as a user calls it."""
    return bi_attention(**given, backend=backend)


def by(route: str, given: dict[str, Any]) -> Tensor:
    """The Triton backend by one route, behind the door: with one forward sweep, or with both maps from one visit."""
    call = judge.call_of(given)
    choose("triton", call)  # ValueError where Triton cannot take the call
    if route == "onchip" and (reason := onchip.missing(call)):
        raise Unsupported(reason)
    if route not in ("own", "onchip") and not has_forward(route, call):
        raise Unsupported(f"{route} has no forward that returns L for this call")
    return launch(call, route)


class WithField:
    """The operator with the correspondence field both ways beside the maps, into buffers of its own that stay with the call."""

    def __init__(self, backend: str):
        self.backend = backend
        self.query: Tensor | None = None
        self.field: dict[str, Tensor] = {}

    def __call__(self, given: dict[str, Any]) -> Tensor:
        if self.query is not given["query"]:
            self.query, self.field = given["query"], field_of(given)
        return ours(self.backend, {**given, **self.field})


def field_of(given: dict[str, Any]) -> dict[str, Tensor]:
    """Buffers and weights of the field of a call that has both maps, each canvas as a grid of one row."""
    r2g, g2r = given["r2g"], given["g2r"]
    batch, heads, generated = r2g.shape
    reference = g2r.shape[-1]
    here, there = (moments((1, tokens), device=r2g.device).expand(batch, -1, -1) for tokens in (generated, reference))
    return {
        "token_maps": r2g.new_zeros(batch, heads, MOMENTS, generated), "token_weight": there.mT,
        "column_maps": r2g.new_zeros(batch, heads, MOMENTS, reference), "column_weight": here,
    }  # fmt: skip


def repeated(backend: str, given: dict[str, Any]) -> Tensor:
    """A grouped call as it had to be made without enable_gqa: its keys and values repeated in memory first."""
    if not given.get("enable_gqa"):
        raise Unsupported("a call whose query heads share no key heads repeats none")
    group = given["query"].shape[1] // given["key"].shape[1]
    keys = {name: given[name].repeat_interleave(group, 1) for name in ("key", "value")}
    return ours(backend, {**given, **keys, "enable_gqa": False})


def baseline(name: str, given: dict[str, Any]) -> Tensor:
    if given.get("enable_gqa") and name not in FLOORS:
        raise Unsupported(f"{name} takes as many key heads as query heads")
    return BASELINES[name](judge.call_of(given))


OURS: dict[str, Runner] = {
    "streaming": partial(ours, "streaming"),
    "triton": partial(ours, "triton"),
    "triton_own": partial(by, "own"),
    "triton_flash": partial(by, "flash"),
    "triton_cudnn": partial(by, "cudnn"),
    "triton_onchip": partial(by, "onchip"),
}
REPEATED: dict[str, Runner] = {"streaming_repeated": partial(repeated, "streaming"), "triton_repeated": partial(repeated, "triton")}
FIELDS: dict[str, Runner] = {"streaming_field": WithField("streaming"), "triton_field": WithField("triton")}
RUNNERS: dict[str, Runner] = {
    "sdpa": partial(baseline, "sdpa"),
    **OURS,
    **FIELDS,
    **REPEATED,
    **{name: partial(baseline, name) for name in BASELINES if name != "sdpa"},
}
FLOORS = ("sdpa", "sdpa_cudnn", "sdpa_flash", "sdpa_efficient")  # attention without maps: the best of them is the floor
DEFAULT = ("sdpa", "streaming", "triton", "eager", "four_flash", "flex", "colreduce")
GROUPED = ("sdpa", "streaming", "triton", *REPEATED)  # the same of a call whose query heads share key heads


def measure(
    name: str, shape: Shape, batch: int, dtype: torch.dtype, rows: str, device: torch.device,
    runners: Iterable[str] = DEFAULT, repeats: int = 9, seconds: float = float("inf"), graphs: bool = False,
    begin: Callable[[str], bool] = lambda runner: True, available: dict[str, Runner] = RUNNERS,
) -> Iterator[Row]:  # fmt: skip
    """One row per runner on one shape: numbers first, then memory, then times; where the numbers are wrong as `red_ms`, in no table.

    `begin` is told each runner before it runs, then "times" before they take turns, and says whether to go on with that.
    """
    torch.compiler.reset()  # a compiled baseline must not meet its recompilation limit
    what = {"shape": name, "generated": shape.generated, "reference": shape.reference, "size": shape.size, "heads": shape.heads,
            "batch": batch, "dtype": str(dtype).removeprefix("torch."), "rows": rows, "mode": "graph" if graphs else "call"}  # fmt: skip
    what |= {} if shape.key_heads is None else {"key_heads": shape.key_heads, "load": round(os.getloadavg()[0], 1)}
    given = arguments(shape, batch, dtype, device, rows)
    call = judge.call_of(given)
    true = judge.answer(call, torch.float64)
    limits = {precise: judge.allowed(call, true, precise) for precise in (True, False)}
    done: dict[str, Row] = {}
    for runner in dict.fromkeys(["sdpa", *runners]):
        if not begin(runner):
            continue
        row = done[runner] = {**what, "runner": runner}
        run = partial(available[runner], given)
        try:
            row |= judged(runner, run, given, true, limits[runner in OURS or runner in FIELDS or runner in REPEATED])
            if not row["red"]:
                row["peak_mb"] = round(peak_bytes(run, device) / 1e6, 3)
            if runner == "sdpa" and device.type == "cuda":
                row["picked"] = picked(call)
        except (Unsupported, ValueError) as reason:
            row["skipped"] = str(reason)
        except torch.OutOfMemoryError as reason:
            row["skipped"] = f"out of memory: {str(reason).splitlines()[0]}"
        except Exception as broken:  # one runner's crash is a row of its own, not the end of the run
            row["error"] = health.told(broken, device)
    timed = begin("times")
    runs: dict[str, Callable[[], object]] = {n: partial(available[n], given) for n, row in done.items() if "red" in row and timed}
    if graphs:
        runs = dict(replays(runs, done, device))
    with torch.no_grad():
        times = interleaved(runs, repeats, device, seconds)
    took = {runner: percentiles(taken) for runner, taken in times.items()}
    floors = {name: took[name]["p50"] for name in took if name in FLOORS and not done[name]["red"]}
    best = min(floors, key=lambda name: floors[name], default=None)
    for runner, ms in took.items():
        row = done[runner]
        row |= {"red_ms" if row["red"] else "ms": ms, "repeats": len(times[runner])}
        if "sdpa" in floors and not row["red"]:
            row["ratio"] = round(ms["p50"] / floors["sdpa"], 4)
        if best is not None and len(floors) > 1 and not row["red"]:
            row |= {"best": best, "ratio_best": round(ms["p50"] / floors[best], 4)}
    yield from done.values()


def judged(runner: str, run: Callable[[], Tensor], given: dict[str, Any], true: judge.Answer, limits: dict[str, float]) -> Row:
    """The errors of one run into empty buffers, beside what they may be."""
    for name in judge.BUFFERS:
        if given.get(name) is not None:
            given[name].zero_()
    with torch.no_grad():
        got = judge.picked(judge.call_of(given), run())
    found = judge.errors({"output": got["output"]} if runner in FLOORS else got, true)
    return {"error_of": found, "allowed": {name: limits[name] for name in found}, "red": judge.red(found, limits)}


def replays(
    runs: dict[str, Callable[[], object]], done: dict[str, Row], device: torch.device
) -> Iterator[tuple[str, Callable[[], object]]]:
    """Each run as the replay of a CUDA graph; one that cannot be captured says so in its row."""
    for runner, run in runs.items():
        try:
            with torch.no_grad():
                yield runner, captured(run).replay
        except Exception as broken:
            done[runner]["error"] = health.told(broken, device)


def line(row: Row) -> str:
    """One row for a reader who is waiting."""
    what = f"{row['shape']:<13} B{row['batch']:<3} {row['dtype']:<9} {row['rows']:<5} {row['runner']:<15}"
    if "ms" in row:
        worst = max(row["error_of"].values())
        result = f"{row['ms']['p50']:10.3f} ms {row.get('ratio', 0):7.2f} x {row['peak_mb']:9.1f} MB   error {worst:.0e}"
    elif row.get("red"):
        result = f"RED {row['error_of']} allowed {row['allowed']}"
    else:
        result = f"skipped: {row['skipped']}" if "skipped" in row else f"ERROR {row.get('error', 'not timed')}"
    return f"{what} {result.splitlines()[0][:160]}"


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.operator.one_call", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shapes", nargs="+", help=f"of {', '.join(SHAPES)}; default all, on a CPU all but joint (minutes a call)")
    parser.add_argument("--runners", nargs="+", help=f"of {', '.join(RUNNERS)}; sdpa always runs")
    parser.add_argument("--batch", type=int, default=CPU_BATCH)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rows", default="both", help="which batch rows have maps: all, half (the conditional half) or both")
    parser.add_argument("--key-heads", type=int, help="which the query heads share in groups; default as many as query heads")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="default benchmarks/results/<device>.jsonl, with --key-heads <device>-grouped.jsonl")
    given = parser.parse_args(words)
    device = torch.device(given.device)
    shapes = given.shapes or [name for name in SHAPES if device.type != "cpu" or name != "joint"]
    runners = given.runners or list(GROUPED if given.key_heads else DEFAULT)
    for option, names, known in (("shapes", shapes, SHAPES), ("runners", runners, RUNNERS), ("dtype", [given.dtype], DTYPES),
                                 ("rows", [given.rows], ("all", "half", "both"))):  # fmt: skip
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ValueError(f"--{option} must be of {', '.join(known)}, got {', '.join(unknown)}. Correct the name.")
    for option in ("batch", "repeats", "threads"):
        if getattr(given, option) < 1:
            raise ValueError(f"--{option} must be 1 or more, got {getattr(given, option)}. Raise it.")
    if given.key_heads is not None:
        odd = [name for name in shapes if given.key_heads < 1 or SHAPES[name].heads % given.key_heads]
        if odd:
            raise ValueError(
                f"--key-heads must divide the heads of every shape, got {given.key_heads} for {', '.join(odd)}. Choose another."
            )
    torch.set_num_threads(given.threads)
    place = environment(device)
    path = given.out or RESULTS / f"{slug(place['device'])}{'-grouped' if given.key_heads else ''}.jsonl"
    writer, failed = Writer(path, place), False
    for name in shapes:
        for rows in ("all", "half") if given.rows == "both" and given.batch > 1 else ("all" if given.rows == "both" else given.rows,):
            shape = SHAPES[name]._replace(key_heads=given.key_heads)
            for row in measure(name, shape, given.batch, DTYPES[given.dtype], rows, device, runners, given.repeats):
                writer.write(row)
                print(line(row), flush=True)
                failed |= row.get("red", False) or "error" in row
    print(f"rows in {path}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
