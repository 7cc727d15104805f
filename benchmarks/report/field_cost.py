"""What the field costs beside the maps, from recorded rows."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.measuring.rows import Row
from benchmarks.measuring.table import commit, newest, place

KINDS = ("untraced", "maps", "field")


def summary(rows: Sequence[Row]) -> str:
    """The documentation's table, of the machine that measured last."""
    here = newest([row for row in rows if place(row) == place(rows[-1])], "case")
    lines = ["| what | untraced ms | with maps | with maps and field | on top of the maps |", "|---|---|---|---|---|"]
    for row in here:
        name = f"a call of {row['generated']} x {row['reference']}, {row['size']}, {row['heads']}" if row["what"] == "call" else row["case"]
        took = " | ".join(f"{row['ms'][kind]:.3g}" if row["ms"][kind] < 1000 else f"{row['ms'][kind]:.0f}" for kind in KINDS)
        lines.append(f"| {name} | {took} | {row['on_top_percent']:+.1f}% |")
    commits = ", ".join(dict.fromkeys(commit(row) for row in here))
    how = "`python -m benchmarks.pipeline.field_cost --full`"
    return "\n".join([*lines, "", f"{place(rows[-1])}; float32, medians; measured at {commits} with {how}."])
