"""How time and memory grow with the tokens, the batch, the heads, the layers and the steps of a run.

    python -m benchmarks.operator.growth --out growth.jsonl       # rows and, beside them, growth.png

A run is `steps` steps of `layers` attention calls on the same random inputs; every layer adds up an R2G and a G2R map in one
buffer for all steps, which the run makes itself, so that its peak memory holds them. One number grows while the others stay at
those of BASE; tokens are those of either side, so that G x R grows by 4 where G + R grows by 2. A slope is that of the straight
line through log y over log x, by least squares: y grows as x to that power. A power below 1 is a fixed part and a linear one: ours
holds scratch that is fitted to the cache. The last rows of a file are the slopes. A run whose sums are not the definition's maps
times the number of steps gets no times.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.measuring.command import command, positive
from benchmarks.measuring.measure import Run, interleaved, peak_bytes
from benchmarks.measuring.rows import RESULTS, Row, Writer, environment, percentiles, slug
from benchmarks.measuring.table import commit, place
from benchmarks.operator import judge
from benchmarks.operator.layer_set import RUNNERS, worst
from benchmarks.operator.shapes import Shape, arguments


class Point(NamedTuple):
    """The size of a run; tokens are those of either side, G = R."""

    tokens: int
    batch: int
    heads: int
    layers: int
    steps: int


BASE = Point(1024, 1, 4, 1, 1)
SIZE = 64  # of a head
SECONDS = 8.0  # a point; three rounds at least
DOUBLED = (1, 2, 4, 8, 16)
SWEEPS = {"tokens": (512, 1024, 2048, 4096, 8192), **dict.fromkeys(("batch", "heads", "layers", "steps"), DOUBLED)}
QUICK = {name: (64, 128, 256) if name == "tokens" else (1, 2) for name in SWEEPS}


class Ran(NamedTuple):
    """What a run leaves: the last output, and each layer's sums."""

    output: Tensor
    sums: list[dict[str, Tensor]]


@torch.no_grad()
def run(runner: str, point: Point, given: dict[str, Any]) -> Ran:
    names = () if runner == "sdpa" else ("r2g", "g2r")
    sums = [{name: torch.zeros_like(given[name]) for name in names} for _ in range(point.layers)]
    for _ in range(point.steps):
        for buffers in sums:
            output = torch.empty(0)  # a model has used the last one before it asks for the next
            output = RUNNERS[runner]({**given, **buffers})
    return Ran(output, sums)


def measure(sweep: str, point: Point, device: torch.device, repeats: int = 7, seconds: float = SECONDS) -> Iterator[Row]:
    """One row per runner: numbers and memory of a first run, then the times of those whose numbers are right."""
    given = arguments(Shape(point.tokens, point.tokens, SIZE, point.heads, ""), point.batch, torch.float32, device)
    call = judge.call_of(given)
    true = judge.answer(call, torch.float64)
    limits = {precise: judge.allowed(call, true, precise) for precise in (True, False)}
    what = {"sweep": sweep, **point._asdict(), "size": SIZE, "dtype": "float32"}
    done: dict[str, Row] = {}
    runs: dict[str, Run] = {}
    for runner in RUNNERS:
        again = partial(run, runner, point, given)
        ran, peak = first(again, device)
        found = errors(ran, point, given, true)
        if runner == "sdpa":
            found = {"output": found["output"]}
        allowed = limits[runner != "eager"]
        row = done[runner] = {**what, "runner": runner, "error_of": found, "allowed": allowed, "red": judge.red(found, allowed)}
        del ran
        if not row["red"]:
            row["peak_mb"] = round(peak / 1e6, 3)
            runs[runner] = again
    for runner, taken in interleaved(runs, repeats, device, seconds).items():
        done[runner] |= {"ms": percentiles(taken), "repeats": len(taken)}
    for row in done.values():
        if "ms" in row and "ms" in done["sdpa"]:
            row["ratio"] = round(row["ms"]["p50"] / done["sdpa"]["ms"]["p50"], 4)
    yield from done.values()


def first(once: Callable[[], Ran], device: torch.device) -> tuple[Ran, int]:
    """A run and its peak memory in bytes."""
    kept: list[Ran] = []
    peak = peak_bytes(lambda: kept.append(once()), device)
    return kept[0], peak


def errors(ran: Ran, point: Point, given: dict[str, Any], true: judge.Answer) -> dict[str, float]:
    """The worst layer's, of a step's mean."""
    means = ({name: total / point.steps for name, total in sums.items()} for sums in ran.sums)
    return worst(judge.errors(judge.picked(judge.call_of({**given, **layer}), ran.output), true) for layer in means)


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """The power with which y grows in x."""
    across, up = ([math.log(value) for value in values] for values in (x, y))
    middle, height = sum(across) / len(across), sum(up) / len(up)
    return sum((a - middle) * (b - height) for a, b in zip(across, up)) / sum((a - middle) ** 2 for a in across)


def slopes(rows: list[Row]) -> Iterator[Row]:
    """A row per sweep and runner, of the measured points."""
    for sweep in dict.fromkeys(row["sweep"] for row in rows):
        for runner in RUNNERS:
            of = [row for row in rows if (row["sweep"], row["runner"]) == (sweep, runner) and "ms" in row]
            x = [row[sweep] for row in of]
            if len(of) < 2:
                continue
            yield {
                "fit": sweep, "runner": runner, "from": x[0], "to": x[-1], "points": len(of),
                "others": {name: of[0][name] for name in Point._fields if name != sweep},
                "time_slope": round(slope(x, [row["ms"]["p50"] for row in of]), 3),
                "memory_slope": round(slope(x, [row["peak_mb"] for row in of]), 3),
                "last_time_slope": round(slope(x[-2:], [row["ms"]["p50"] for row in of[-2:]]), 3),
                "last_memory_slope": round(slope(x[-2:], [row["peak_mb"] for row in of[-2:]]), 3),
            }  # fmt: skip


def fixed(fits: list[Row]) -> str:
    """The numbers that stay while others grow."""
    others = {name: value for fit in fits for name, value in fit["others"].items()}
    return ", ".join(f"{name} {value}" for name, value in others.items()) + f", head size {SIZE}"


def power(fit: Row, name: str) -> str:
    return f"{round(fit[name], 2) + 0.0:.2f}"  # no minus zero


COLOURS = {"sdpa": "0.45", "ours": "#1f5fbf", "eager": "#d9661f"}
LABELS = {"sdpa": "attention alone", "ours": "ours, both maps", "eager": "eager, both maps"}


def plot(rows: list[Row], path: Path) -> None:
    """Time above memory, a sweep a column, both axes logarithmic; dashed lines are the fits."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import NullFormatter
    except ImportError as missing:
        raise ImportError("i2am: the plot needs matplotlib. Install it with pip install 'i2am[pictures]'.") from missing
    points, fits = [row for row in rows if "ms" in row], {(row["fit"], row["runner"]): row for row in rows if "fit" in row}
    sweeps = list(dict.fromkeys(row["sweep"] for row in points))
    figure = Figure((3.6 * len(sweeps), 7.2), dpi=110, facecolor="white", layout="constrained")
    figure.suptitle(f"Time and peak memory of a run as one number grows; the others stay: {fixed(list(fits.values()))}", fontsize=11)
    axes = figure.subplots(2, len(sweeps), squeeze=False, sharey="row")
    for column, sweep in zip(axes.T, sweeps):
        for axis, kind in zip(column, ("time", "memory")):
            for runner, colour in COLOURS.items():
                of = [row for row in points if (row["sweep"], row["runner"]) == (sweep, runner)]
                if not of:
                    continue
                x = [row[sweep] for row in of]
                y = [row["ms"]["p50"] if kind == "time" else row["peak_mb"] for row in of]
                label = LABELS[runner]
                if (sweep, runner) in fits:
                    label += f": slope {power(fits[sweep, runner], f'{kind}_slope')}"
                    by = fits[sweep, runner][f"{kind}_slope"]
                    height = sum(math.log(b) - by * math.log(a) for a, b in zip(x, y)) / len(x)
                    axis.plot(x, [math.exp(height) * a**by for a in x], "--", color=colour, linewidth=1, alpha=0.7)
                axis.plot(x, y, "o", color=colour, markersize=5, label=label)
            axis.set_xscale("log", base=2)
            axis.set_yscale("log")
            axis.set_xticks(x, [str(value) for value in x])
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.grid(color="0.9")
            axis.legend(fontsize=8, loc="upper left", framealpha=0.9)
        column[1].set_xlabel("tokens on either side, G = R" if sweep == "tokens" else sweep)
    for axis, text in zip(axes[:, 0], ("milliseconds a run", "peak MB of a run")):
        axis.set_ylabel(text)
        low, high = axis.get_ylim()
        axis.set_ylim(low, high * (high / low) ** 0.3)  # room for the legends
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def line(row: Row) -> str:
    """One row for a reader who is waiting."""
    if "fit" in row:
        powers = f"time ~ {row['time_slope']:.2f}  memory ~ {row['memory_slope']:.2f}"
        return f"{row['fit']:<7} {row['from']} to {row['to']}  {row['runner']:<6} {powers}"
    what = f"{row['sweep']:<7} {row[row['sweep']]:<6} {row['runner']:<6}"
    if row["red"]:
        return f"{what} RED {row['error_of']} allowed {row['allowed']}"
    result = f"{row['ms']['p50']:10.2f} ms {row.get('ratio', 0):6.2f} x {row['peak_mb']:9.2f} MB"
    return f"{what} {result}   error {max(row['error_of'].values()):.0e}"


HEAD = (
    "| grows | way | time ~ x^, between the last two | memory ~ x^, between the last two | at the largest: ms, x SDPA | MB "
    "| largest error |"
)


def summary(rows: list[Row]) -> str:
    """A table per device and versions: a line per sweep and way, with the powers and the largest point."""
    parts = []
    for where in dict.fromkeys(place(row) for row in rows):
        here = [row for row in rows if place(row) == where]
        points = {(row["sweep"], row["runner"], row[row["sweep"]]): row for row in here if "sweep" in row}
        fits = {(row["fit"], row["runner"]): row for row in here if "fit" in row}
        commits = ", ".join(dict.fromkeys(commit(row) for row in (*points.values(), *fits.values())))
        parts.append(f"{where}; float32; what does not grow: {fixed(list(fits.values()))}; measured at {commits} with "
                     "`python -m benchmarks.operator.growth`. A power below 1 is a fixed part and a linear one.\n")  # fmt: skip
        parts.append(HEAD + "\n|" + "---|" * (HEAD.count("|") - 1))
        for (sweep, runner), fit in fits.items():
            of = [row for (name, way, _), row in points.items() if (name, way) == (sweep, runner)]
            last = points.get((sweep, runner, fit["to"]), {})
            error = max((error for row in of for error in row["error_of"].values()), default=float("nan"))
            powers = [f"{power(fit, f'{kind}_slope')}, {power(fit, f'last_{kind}_slope')}" for kind in ("time", "memory")]
            at = f"{last['ms']['p50']:.1f}" if "ms" in last else "-"
            at += f", {last['ratio']:.2f}" if "ratio" in last else ""
            name = LABELS[runner] + (", some red" if any(row["red"] for row in of) else "")
            cells = [
                f"{sweep}, {fit['from']} to {fit['to']}",
                name,
                *powers,
                at,
                f"{last.get('peak_mb', float('nan')):.1f}",
                f"{error:.0e}",
            ]
            parts.append(f"| {' | '.join(cells)} |")
        parts.append("")
    return "\n".join(parts).rstrip()


def main(words: Sequence[str] | None = None) -> int:
    parser = command("growth", __doc__, "-growth")
    parser.add_argument("--sweeps", nargs="+", default=list(SWEEPS), choices=SWEEPS)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="a few tiny points: a walk through, no measurement")
    given = parser.parse_args(words)
    positive(given, "repeats")
    torch.set_num_threads(given.threads)
    device = torch.device(given.device)
    where = environment(device)
    path = given.out or RESULTS / f"{slug(where['device'])}-growth.jsonl"
    writer, measured, begin = Writer(path, where), [], time.perf_counter()
    for sweep in given.sweeps:
        base = BASE._replace(tokens=64) if given.quick else BASE
        for value in (QUICK if given.quick else SWEEPS)[sweep]:
            for row in measure(sweep, base._replace(**{sweep: value}), device, given.repeats):
                writer.write(row)
                measured.append(row)
                print(f"{time.perf_counter() - begin:5.0f} s  {line(row)}", flush=True)
    for row in list(slopes(measured)):
        writer.write(row)
        measured.append(row)
        print(line(row))
    plot(measured, path.with_suffix(".png"))
    print(f"rows in {path}, plot in {path.with_suffix('.png')}")
    return 1 if any(row.get("red") for row in measured) else 0


if __name__ == "__main__":
    sys.exit(main())
