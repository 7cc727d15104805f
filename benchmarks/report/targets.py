"""What is asked of the recorded rows, and how far they meet it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.measuring.rows import Row
from benchmarks.measuring.table import commit
from benchmarks.report import tables

RED = math.inf  # wrong numbers have no speed and meet no target
Rows = dict[str, list[Row]]
Found = list[tuple[str, float]]  # what a target speaks of: a row's name, and its number


class Target(NamedTuple):
    """What is asked of one kind of rows: a number at most, or at least."""

    asked: str
    limit: float
    at_most: bool
    gpu: bool
    kind: str
    of: Callable[[list[Row]], Found]

    def meets(self, value: float) -> bool:
        return value <= self.limit if self.at_most else value >= self.limit


def is_ours(row: Row) -> bool:
    """Whether this is the backend that "auto" takes there."""
    return bool(row["runner"] == ("triton" if tables.on_gpu(row) else "streaming"))


def calls(rows: list[Row]) -> dict[tuple[str, str, str], Row]:
    """The last call of each shape, way and batch rows; one name for our backends. A place's usual batch and dtype: its first row's."""
    timed = [row for row in rows if "ms" in row and (row["batch"], row["dtype"]) == (rows[0]["batch"], rows[0]["dtype"])]
    return {(row["shape"], "ours" if is_ours(row) else row["runner"], row["rows"]): row for row in timed}


def ratios(which: str, size: int | None = None) -> Callable[[list[Row]], Found]:
    def found(rows: list[Row]) -> Found:
        ours = [row for row in rows if is_ours(row) and row["rows"] == which and size in (None, row["size"])]
        last = {(row["shape"], row["batch"], row["dtype"]): row for row in ours if "ms" in row or row.get("red")}
        return [
            (f"{shape}, batch {batch}, {dtype}", tables.ratio(row) if "ratio" in row else RED)
            for (shape, batch, dtype), row in last.items()
        ]

    return found


def overheads(rows: list[Row]) -> Found:
    """At SD1.5's width, the median of the pairs."""
    last = {row["case"]: row for row in rows if row["section"] == "sd15-full" and row["runner"] == "i2am"}
    return [(case, row["overhead_percent"]["p50"] if "ms" in row else RED) for case, row in last.items()]


def speeds(key: str) -> Callable[[list[Row]], Found]:
    def found(rows: list[Row]) -> Found:
        last = {(row["batch"], row["processes"]): row for row in rows if row["runner"] == "ours"}
        return [(f"batch {batch}, {n} process{'es' * (n > 1)}", row[key]) for (batch, n), row in last.items()]

    return found


def operator_memory(rows: list[Row]) -> Found:
    """Over the peak of attention alone, where the tokens are those of a 64x48 grid."""
    found = calls(rows)
    over = {key: row["peak_mb"] - found[key[0], "sdpa", "all"]["peak_mb"] for key, row in found.items()
            if row["generated"] == 64 * 48 and (key[0], "sdpa", "all") in found}  # fmt: skip
    return [(shape, over[shape, "eager", "all"] / mb) for (shape, way, which), mb in over.items()
            if (way, which) == ("ours", "all") and (shape, "eager", "all") in over]  # fmt: skip


def traced_memory(rows: list[Row]) -> Found:
    """What the release's hooks keep over what a trace keeps, on 64x48 latents."""
    last = {(row["case"], row["runner"]): row for row in rows if row["section"] == "sd15-full"}
    return [(case, last[case, "eager_hook"]["extra_mb"] / row["extra_mb"]) for (case, runner), row in last.items()
            if runner == "i2am" and (case, "eager_hook") in last]  # fmt: skip


TARGETS = {
    "operator, CPU": Target("x SDPA, at most", 1.6, True, False, "operators", ratios("all")),
    "operator, CPU, conditional half": Target("x SDPA, at most", 1.3, True, False, "operators", ratios("half")),
    "pipeline, CPU, SD1.5's width": Target("% overhead, at most", 8.0, True, False, "pipelines", overheads),
    "evaluation, CPU": Target("x the release's way, at least", 4.0, False, False, "evaluation",
                                                           speeds("ratio_levels")),
    "evaluation, CPU, one level": Target("x the release's way, at least", 4.0, False, False, "evaluation", speeds("ratio")),
    "extra memory, operator at 64x48": Target("x smaller than eager, at least", 50.0, False, False, "operators", operator_memory),
    "extra memory, pipeline at 64x48": Target("x smaller than the hooks, at least", 50.0, False, False, "pipelines", traced_memory),
    "operator, GPU, head size 64": Target("x SDPA, at most", 1.7, True, True, "operators", ratios("all", 64)),
    "operator, GPU, head size 64, conditional half": Target("x SDPA, at most", 1.35, True, True, "operators", ratios("half", 64)),
    "pipeline, GPU, SD1.5's width": Target("% overhead, at most", 3.0, True, True, "pipelines", overheads),
    "evaluation, GPU": Target("x the release's way, at least", 20.0, False, True, "evaluation", speeds("ratio_levels")),
}  # fmt: skip


def device(row: Row) -> str:
    return row["environment"]["device"]


def on(rows: list[Row], gpu: bool) -> dict[str, list[Row]]:
    """The rows of each device of a kind."""
    here = [row for row in rows if tables.on_gpu(row) == gpu]
    return {name: [row for row in here if device(row) == name] for name in dict.fromkeys(map(device, here))}


def table(rows: Rows) -> str:
    """A line a target and device; one line where no row speaks of it."""
    lines = ["| target | asked | on, at | best row | worst row | met by |", "|---" * 6 + "|"]
    for name, target in TARGETS.items():
        asked = f"{target.limit:g} {target.asked}"
        found = {machine: of for machine, here in on(rows[target.kind], target.gpu).items() if (of := target.of(here))}
        for machine, of in found.items():
            ordered = sorted(of, key=lambda one: one[1], reverse=not target.at_most)
            best, worst = (f"{value:.3g} ({which})" for which, value in (ordered[0], ordered[-1]))
            held = sum(target.meets(value) for _, value in of)
            state = "met" if held == len(of) else "**missed**"
            commits = dict.fromkeys(commit(row) for row in on(rows[target.kind], target.gpu)[machine])
            where = ", ".join([machine, *commits])
            lines.append(f"| {name} | {asked} | {where} | {best} | {worst} | {state}: {held} of {len(of)} |")
        if not found:
            lines.append(f"| {name} | {asked} | | | | no row yet |")
    return "\n".join(lines)
