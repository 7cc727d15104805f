"""The release hook's table, from the recorded rows."""

from __future__ import annotations

from benchmarks.measuring.rows import Row
from benchmarks.measuring.table import commit, newest, place

WAYS = {
    "eager_hook": "the release's hook restated: one direction, one level",
    "drop_in": "ours: both directions, every level and layer",
    "same_layers": "ours, the same layers alone",
}


def summary(rows: list[Row]) -> str:
    """A line per section, direction and runner."""
    parts = []
    for where in dict.fromkeys(place(row) for row in rows):
        here = newest([row for row in rows if place(row) == where], "section", "case", "runner")
        commits = ", ".join(dict.fromkeys(commit(row) for row in here))
        parts.append(f"{where}; 64x48 latents, one image; measured at {commits} with `python -m benchmarks.evaluation.release_hook`.\n")
        parts.append("| network | asked for | way | plain ms | overhead, ms | times smaller | extra MB | times smaller |")
        parts.append("|---" * 8 + "|")
        parts += [line(row) for row in here]
        parts.append("")
    return "\n".join(parts).rstrip()


def line(row: Row) -> str:
    times = row.get("times_smaller", {})
    smaller = {name: f"{times[name]:.3g}" if name in times else "" for name in ("overhead", "memory")}
    numbers = [f"{row['untraced_ms']['p50']:.0f}", f"{row['overhead_ms']['p50']:.0f}", smaller["overhead"], f"{row['extra_mb']:.1f}"]
    return "| " + " | ".join([row["section"], row["case"], WAYS[row["runner"]], *numbers, smaller["memory"]]) + " |"
