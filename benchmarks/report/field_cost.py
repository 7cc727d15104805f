"""What the field, and weighing the values, cost beside the maps, from recorded rows."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.measuring.rows import Row
from benchmarks.measuring.table import commit, newest, place

ADDED = {"field": "with maps and field", "values": "with maps that weigh values"}


def summary(rows: Sequence[Row], kind: str = "field", how: str = "benchmarks.pipeline.field_cost") -> str:
    """The documentation's table, of the machine that measured last."""
    if not rows:
        return f"*Nothing has been recorded yet: `python -m {how} --full`.*"
    here = newest([row for row in rows if place(row) == place(rows[-1])], "case")
    lines = [f"| what | untraced ms | with maps | {ADDED[kind]} | on top of the maps |", "|---|---|---|---|---|"]
    for row in here:
        name = f"a call of {row['generated']} x {row['reference']}, {row['size']}, {row['heads']}" if row["what"] == "call" else row["case"]
        took = " | ".join(f"{row['ms'][of]:.3g}" if row["ms"][of] < 1000 else f"{row['ms'][of]:.0f}" for of in ("untraced", "maps", kind))
        lines.append(f"| {name} | {took} | {row['on_top_percent']:+.1f}% |")
    commits = ", ".join(dict.fromkeys(commit(row) for row in here))
    return "\n".join([*lines, "", f"{place(rows[-1])}; float32, medians; measured at {commits} with `python -m {how} --full`."])
