"""What a trace costs on every family's small pipeline, from recorded rows."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.measuring.rows import Row
from benchmarks.measuring.table import commit, newest, place

COMMAND = "python -m benchmarks.pipeline.family_cost"


def summary(rows: Sequence[Row]) -> str:
    """The documentation's table, of the machine that measured last."""
    if not rows:
        return f"*Nothing has been recorded yet: `{COMMAND}`.*"
    here = newest([row for row in rows if place(row) == place(rows[-1])], "case")
    lines = ["| pipeline | layers | references | untraced ms | traced ms | overhead | output |", "|---|---|---|---|---|---|---|"]
    for row in here:
        if row["red"]:
            lines.append(f"| {row['case']} | | | | | red | {row['error_of']} |")
            continue
        output = "no numbers" if row["output"] is None else "the same bits" if row["output"] == 0 else f"{row['output']:.0e} off"
        ms = " | ".join(f"{row['ms'][of]:.0f}" for of in ("untraced", "traced"))
        lines.append(f"| {row['case']} | {row['layers']} | {row['references']} | {ms} | {row['overhead_percent']:+.0f}% | {output} |")
    commits, last = ", ".join(dict.fromkeys(commit(row) for row in here)), here[-1]
    how = f"{last['steps']} steps, batch 1, float32, medians of {last['repeats']} rounds; output: of the largest latent"
    return "\n".join([*lines, "", f"{place(rows[-1])}; {how}; measured at {commits} with `{COMMAND}`."])
