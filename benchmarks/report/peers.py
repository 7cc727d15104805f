"""The table of DAAM and attention-map-diffusers beside i2am, from the recorded rows."""

from __future__ import annotations

from benchmarks.measuring.rows import Row
from benchmarks.measuring.table import commit, newest, place

HEAD = "| model | maps | way | plain ms | overhead %: p20 / p50 / p80 | extra MB | maps apart |"


def summary(rows: list[Row]) -> str:
    """A line per section, peer and runner, the last row of each; what could not be run is listed below."""
    parts = []
    for where in dict.fromkeys(map(placed, rows)):
        last = newest([row for row in rows if placed(row) == where], "section", "case", "runner")
        commits = ", ".join(dict.fromkeys(map(commit, last)))
        what = "64x64 latents, one image, float32, Stable Diffusion guided"
        parts.append(f"{where}; {what}; measured at {commits} with `make bench-peers`.\n")
        parts += [HEAD, "|" + "---|" * (HEAD.count("|") - 1)]
        parts += [line(row) for row in last if "skipped" not in row]
        parts += ["", *(f"- not run: {way(row)} ({row['section']}): {row['skipped'].splitlines()[0]}" for row in last if "skipped" in row)]
        parts += [f"- {note}" for note in dict.fromkeys(filter(None, map(asked, last)))] + [""]
    return "\n".join(parts).rstrip()


def placed(row: Row) -> str:
    return f"{place(row)}, diffusers {row['environment']['diffusers']}"


def way(row: Row) -> str:
    return "ours" if row["runner"] == "i2am" else f"{row['runner']} {row['peer_version'] or ''}".rstrip()


def line(row: Row) -> str:
    numbers = ["", "red, not reported", ""]
    if not row["red"]:
        percent = " / ".join(f"{row['overhead_percent'][p]:.1f}" for p in ("p20", "p50", "p80"))
        numbers = [f"{row['untraced_ms']['p50']:.0f}", percent, f"{row['extra_mb']:.1f}"]
    what = [f"{row['section']}, {row['steps']} steps", f"{row['maps']} of {row['layers']} layers", way(row)]
    return "| " + " | ".join([*what, *numbers, f"{row['error_of']['maps']:.0e}"]) + " |"


def asked(row: Row) -> str:
    """What a peer asks for, and what stood in for a package of it."""
    if row["runner"] == "i2am" or not row["asks_for"]:
        return ""
    empty = f", an empty module for {', '.join(row['stand_ins'])}" if row["stand_ins"] else ""
    return f"{way(row)} asks for {' and '.join(row['asks_for'])}; here it ran unchanged with the versions above{empty}."
