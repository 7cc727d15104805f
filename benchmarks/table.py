"""Rows as a Markdown table: `python -m benchmarks.table FILE...`. Losing rows stay; what was skipped is listed below."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.rows import Row, read

HEAD = (
    "| shape | G, R, d, heads | batch, rows | dtype | runner | ratio to SDPA | ms p20 / p50 / p80 "
    "| peak MB | error: output, R2G, G2R | commit |"
)
OUTPUTS = ("output", "r2g", "g2r")


def place(row: Row) -> str:
    """The line over a table: what all of its rows share."""
    where = row["environment"]
    device = where["device"] + (f" (sm_{where['capability'].replace('.', '')})" if where["capability"] else f", {where['threads']} threads")
    triton = f", Triton {where['triton']}" if where["triton"] else ""
    return f"{device}; torch {where['torch']}{triton}, Python {where['python']}"


def commit(row: Row) -> str:
    where = row["environment"]
    return (where["commit"] or "unknown")[:8] + ("+" if where["dirty"] else "")


def cells(row: Row) -> list[str]:
    if row["red"]:
        ratio, ms, peak = "red", "not reported", ""
    elif "ms" in row:
        ratio, ms = f"{row['ratio']:.2f}", " / ".join(f"{row['ms'][p]:.3g}" for p in ("p20", "p50", "p80"))
        peak = f"{row['peak_mb']:.1f}"
    else:
        ratio, ms, peak = "not timed", row.get("error", ""), f"{row.get('peak_mb', 0):.1f}"
    found = ", ".join(f"{row['error_of'][name]:.0e}" for name in OUTPUTS if name in row["error_of"])
    runner = row["runner"] + (", graph" if row["mode"] == "graph" else "")
    sizes = ", ".join(str(row[name]) for name in ("generated", "reference", "size", "heads"))
    return [row["shape"], sizes, f"{row['batch']}, {row['rows']}", row["dtype"], runner, ratio, ms, peak, found, commit(row)]


def table(rows: list[Row]) -> str:
    """One table per device and versions, in the order of the rows; a repeated measurement shows its last row."""
    rows = [row for row in rows if "runner" in row and "shape" in row]
    parts = []
    for where in dict.fromkeys(place(row) for row in rows):
        here = [row for row in rows if place(row) == where]
        last = {(row["shape"], row["batch"], row["rows"], row["dtype"], row["runner"], row["mode"]): row for row in here}.values()
        lines = [f"**{where}**", "", HEAD, "|" + " --- |" * (HEAD.count("|") - 1)]
        lines += ["| " + " | ".join(cells(row)) + " |" for row in last if "red" in row]
        missing = [row for row in last if "red" not in row]
        if missing:
            lines.append("")
        for reason in dict.fromkeys(row.get("skipped") or row["error"] for row in missing):
            which = [row for row in missing if (row.get("skipped") or row["error"]) == reason]
            names = ", ".join(dict.fromkeys(f"{row['runner']} ({row['shape']})" for row in which))
            lines.append(f"- {'not run' if 'skipped' in which[0] else 'failed'}: {names}: {reason.splitlines()[0]}")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    given = parser.parse_args(words)
    for path in given.files:
        if not path.is_file():
            raise ValueError(f"expected a file of rows, got {path}. `python -m benchmarks.operators` writes one.")
    print(table([row for path in given.files for row in read(path)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
