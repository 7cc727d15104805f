"""The README's tables from the recorded rows: `python -m benchmarks.readme` writes each between its two markers.

The operator's has one line per shape, the baselines side by side as ratios to plain SDPA of the same run, the pipelines' one
per traced run; a test fails when the README says anything else than the rows do.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.evaluation_report import summary as evaluation
from benchmarks.hook_report import summary as hook
from benchmarks.peers_report import summary as peers
from benchmarks.rows import RESULTS, SMALL_WORLD, Row, read
from benchmarks.rows import recorded as rows_of
from benchmarks.table import commit, pipelines, place
from benchmarks.world_report import summary as small_world

ROOT = Path(__file__).parent.parent
END = "<!-- end of table -->"
COLUMNS = (("streaming", "all"), ("triton", "all"), ("eager", "all"), ("four_flash", "all"), ("streaming", "half"), ("triton", "half"))
NAMES = {"streaming": "ours", "triton": "ours (Triton)", "eager": "eager, two softmaxes", "four_flash": "four flash calls"}


def recorded() -> list[Row]:
    """The rows of the operator's benchmark and of the pipelines'."""
    others = [path for kind in ("evaluation", "release-hook", "peers") for path in RESULTS.glob(f"*-{kind}.jsonl")]
    rows = [row for path in sorted(set(RESULTS.glob("*.jsonl")) - set(others)) for row in read(path) if "runner" in row]
    return [row for row in rows if "untraced_peak_mb" in row or ("shape" in row and timed(row))]


def latest(rows: list[Row]) -> list[Row]:
    """The rows of the place that measured last; the results page has all places."""
    rows = [row for row in rows if "shape" in row]
    last = max(rows, key=lambda row: row["environment"]["date"], default=None)
    return [row for row in rows if last is not None and place(row) == place(last)]


def timed(row: Row) -> bool:
    return row.get("section", "timings") == "timings" and row.get("mode", "call") == "call"


def summary(rows: list[Row]) -> str:
    """A table per device, batch and dtype."""
    rows = [row for row in rows if "shape" in row]
    parts = []
    for where, batch, dtype in dict.fromkeys((place(row), row["batch"], row["dtype"]) for row in rows):
        here = [row for row in rows if (place(row), row["batch"], row["dtype"]) == (where, batch, dtype) and "ms" in row]
        found = {(row["shape"], row["runner"], row["rows"]): row for row in here}
        columns = [column for column in COLUMNS if any(key[1:] == column for key in found)]
        heads = [f"{NAMES[name]}{', conditional half' if rows_ == 'half' else ''}" for name, rows_ in columns]
        commits = ", ".join(dict.fromkeys(commit(row) for row in found.values()))
        parts.append(
            f"{where}; batch {batch}, {dtype}; measured at {commits} with `make bench`.\n"
            "Times are ratios to scaled_dot_product_attention without maps in the same run; memory is a call's peak, output included.\n"
        )
        parts.append("| G x R, head size, heads | SDPA ms | " + " | ".join(heads) + " | MB: ours, eager | largest error |")
        parts.append("|---" * (len(heads) + 4) + "|")
        for shape in dict.fromkeys(row["shape"] for row in here):
            parts.append(line(shape, columns, found))
        parts.append("")
    return "\n".join(parts).rstrip()


def line(shape: str, columns: list[tuple[str, str]], found: dict[tuple[str, str, str], Row]) -> str:
    plain = found[shape, "sdpa", "all"]
    cells = [f"{row['ratio']:.2f}" if (row := found.get((shape, *column))) else "" for column in columns]
    ours = next(found[shape, name, "all"] for name in ("triton", "streaming") if (shape, name, "all") in found)
    eager = found.get((shape, "eager", "all"))
    memory = f"{ours['peak_mb']:.0f}, {eager['peak_mb']:.0f}" if eager else f"{ours['peak_mb']:.0f}, "
    sizes = f"{plain['generated']} x {plain['reference']}, {plain['size']}, {plain['heads']}"
    worst = max(ours["error_of"].values())
    return f"| {sizes} | {plain['ms']['p50']:.3g} | " + " | ".join(cells) + f" | {memory} | {worst:.0e} |"


TABLES: dict[str, Callable[[list[Row]], str]] = {
    "<!-- table: operators -->": lambda rows: summary(latest(rows)),
    "<!-- table: pipelines -->": pipelines,
    "<!-- table: evaluation -->": lambda _: evaluation(rows_of("evaluation")),
    "<!-- table: peers -->": lambda _: peers(rows_of("peers")),
    "<!-- table: release hook -->": lambda _: hook(rows_of("release-hook")),
    "<!-- table: small world -->": lambda _: small_world(read(SMALL_WORLD)),
}


def filled(readme: str, rows: list[Row]) -> str:
    """The README with the tables in their places."""
    for begin, made in TABLES.items():
        if begin in readme:
            before, rest = readme.split(begin)
            readme = f"{before}{begin}\n{made(rows)}\n{END}{rest.split(END, 1)[1]}"
    return readme


def main() -> None:
    path = ROOT / "README.md"
    path.write_text(filled(path.read_text(), recorded()))
    print(f"wrote the tables of {len(recorded())} rows into {path.name}")


if __name__ == "__main__":
    main()
