"""The table of a study of words, by DAAM's own loop, by ours and by the pipeline alone, from the recorded rows."""

from __future__ import annotations

from benchmarks.measuring.rows import Row
from benchmarks.measuring.table import commit, newest, place

HEAD = (
    "| model | way | prompts a call | prompts a minute: p20 / p50 / p80 | times the pipeline alone, one a call "
    "| peak MB | apart: images, maps |"
)
NAMES = {"pipeline": "the pipeline alone", "i2am": "`i2am.studies`"}
NONE = "*No row yet: `make bench-studies` records them.*"


def summary(rows: list[Row]) -> str:
    """A line a study, way and batch, the last row of each; what could not be run is listed below."""
    parts = []
    for where in dict.fromkeys(map(placed, rows)):
        here = [row for row in rows if placed(row) == where]
        last = newest([row for row in here if "skipped" not in row], "section", "runner", "batch")
        commits = ", ".join(dict.fromkeys(map(commit, here)))
        parts.append(f"{where}; 64x64 latents, float32, guided; measured at {commits} with `make bench-studies`.\n")
        parts += [HEAD, "|" + "---|" * (HEAD.count("|") - 1), *map(line, last), ""]
        parts += [f"- not run: {way(row)} ({row['section']}): {row['skipped'].splitlines()[0]}" for row in here if "skipped" in row]
    return "\n".join(parts).rstrip() or NONE


def placed(row: Row) -> str:
    return f"{place(row)}, diffusers {row['environment']['diffusers']}"


def way(row: Row) -> str:
    name, _, more = row["runner"].partition(",")
    return NAMES.get(name) or f"{name} {row['peer_version'] or ''}".rstrip() + (f",{more}" if more else ", a picture drawn of each word")


def line(row: Row) -> str:
    numbers = ["red, not reported", ""]
    if not row["red"]:
        speed = " / ".join(f"{row['prompts_per_minute'][p]:.3g}" for p in ("p20", "p50", "p80"))
        numbers = [speed, f"{row['ratio']['p50']:.2f}"]
    errors = ", ".join(f"{row['error_of'][name]:.0e}" if name in row["error_of"] else "-" for name in ("images", "maps"))
    model = f"{row['section']}, {row['prompts']} prompts of {row['steps']} steps"
    return "| " + " | ".join([model, way(row), str(row["batch"]), *numbers, f"{row['peak_mb']:.0f}", errors]) + " |"
