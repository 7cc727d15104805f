"""The evaluation's table, from the recorded rows."""

from __future__ import annotations

from benchmarks.measuring.rows import Row
from benchmarks.measuring.table import commit, newest, place


def summary(rows: list[Row]) -> str:
    """A line per runner, batch and number of processes."""
    parts = []
    for where in dict.fromkeys(place(row) for row in rows):
        here = newest([row for row in rows if place(row) == where], "model", "steps", "runner", "batch", "processes")
        commits = ", ".join(dict.fromkeys(commit(row) for row in here))
        first = here[0]
        parts.append(
            f"{where}; model {first['model']}, {first['steps']} steps, {max(row['images'] for row in here)} pairs, median of "
            f"{first['rounds']} rounds; measured at {commits} with `python -m benchmarks.evaluation.throughput`.\n"
        )
        parts.append(
            "| way | batch, processes | images/s | x the release's | with all levels | maps, scores | MB held: first, last third |"
        )
        parts.append("|---|---|---|---|---|---|---|")
        parts += [line(row) for row in here if row["runner"] != "bare"]
        parts.append("")
    return "\n".join(parts).rstrip()


def line(row: Row) -> str:
    name = "ours" if row["runner"] == "ours" else "the release's way restated: a run for each direction"
    cells = [name, f"{row['batch']}, {row['processes']}", f"{row['images_per_second']:.2f}", f"{row.get('ratio', float('nan')):.2f}"]
    if row["runner"] == "ours":
        share = row.get("share_maps")
        memory = f"{row['mb_first_third']:.0f}, {row['mb_last_third']:.0f}" if "mb_first_third" in row else ""
        cells += [f"{row['ratio_levels']:.1f}", "" if share is None else f"{share:.0%}", memory]
    else:
        cells += ["", "", ""]
    return "| " + " | ".join(cells) + " |"
