"""Rows as a Markdown table: `python -m benchmarks.measuring.table FILE...`. Losing rows stay; what was skipped is listed below."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measuring.rows import Row, read

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


def newest(rows: list[Row], *keys: str) -> list[Row]:
    """Of repeated measurements, rows that agree in these, the last."""
    return list({tuple(row[key] for key in keys): row for row in rows}.values())


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
        last = newest(here, "shape", "batch", "rows", "dtype", "runner", "mode")
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


PIPELINES = (
    "| UNet | case | maps of layers | untraced ms, steps | overhead %: p20 / p50 / p80 | extra MB a time group | largest error "
    "| release's hooks: overhead %, extra MB, unified R2G off by |"
)


def pipelines(rows: list[Row]) -> str:
    """One table per device, versions and dtype: a traced run a line, the release's way at its end, where it was run."""
    rows = [row for row in rows if "untraced_peak_mb" in row]  # a GPU's correctness rows have cases and runners, too
    parts = []
    for where, dtype in dict.fromkeys((place(row), row["dtype"]) for row in rows):
        here = [row for row in rows if (place(row), row["dtype"]) == (where, dtype)]
        last = {(row["section"], row["case"], row["runner"]): row for row in here}
        commits = ", ".join(dict.fromkeys(commit(row) for row in last.values()))
        traced = {key: row for key, row in last.items() if row["runner"] == "i2am"}
        versions = ", ".join(dict.fromkeys(f"diffusers {row['environment']['diffusers']}" for row in traced.values()))
        pairs = ", ".join(dict.fromkeys(f"{row['pairs']} ({row['section']})" for row in traced.values() if "ms" in row))
        parts.append(f"{where}, {versions}; one image, guided, {dtype}; pairs of runs: {pairs or 'none'}; measured at {commits}.\n")
        parts.append(PIPELINES + "\n|" + "---|" * (PIPELINES.count("|") - 1))
        parts += [pipeline(row, last.get((section, case, "eager_hook"))) for (section, case, _), row in traced.items()]
        parts.append("")
    return "\n".join(parts).rstrip()


def pipeline(row: Row, hooks: Row | None) -> str:
    """One traced run, and the release's hooks on the same context."""
    if "ms" in row:
        percent = " / ".join(f"{row['overhead_percent'][p]:.1f}" for p in ("p20", "p50", "p80"))
        time = f"{row['untraced_ms']['p50']:.0f}, {row['steps']}"
    else:
        percent, time = "red", "not reported"
    release = ""
    if hooks is not None and "ms" in hooks:
        release = f"{hooks['overhead_percent']['p50']:.0f}, {hooks['extra_mb']:.1f}, {hooks['error_of']['unified']:.0e}"
    batch, guided = row.get("batch", 1), row.get("guided", True)
    case = ", ".join([row["case"], *[f"{batch} images"] * (batch > 1), *["not guided"] * (not guided)])  # beside what the line above says
    names, worst = f"{', '.join(row['maps'])} of {row['layers']}", max(row["error_of"].values())
    return f"| {row['section']} | {case} | {names} | {time} | {percent} | {row['extra_mb']:.1f} | {worst:.0e} | {release} |"


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measuring.table", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    given = parser.parse_args(words)
    for path in given.files:
        if not path.is_file():
            raise ValueError(f"expected a file of rows, got {path}. `python -m benchmarks.operator.one_call` writes one.")
    rows = [row for path in given.files for row in read(path)]
    print("\n\n".join(part for part in (table(rows), pipelines(rows)) if part))
    return 0


if __name__ == "__main__":
    sys.exit(main())
