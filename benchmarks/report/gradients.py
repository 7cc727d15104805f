"""What gradients through the maps cost, from recorded rows."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.measuring.rows import Row
from benchmarks.measuring.table import commit, newest, place

HOW = "python -m benchmarks.operator.gradients --full"
ASKED = {"forward": 1.15, "both_ways": 2.2}  # x the forward with maps, x attention forward and back
HEAD = ("| G x R, head size, heads | forward with maps, ms | kept for gradients: x that | attention forward and back, ms | "
        "both maps and their gradients: x that | back alone | eager | MB: attention, ours, eager | largest error |")  # fmt: skip


def summary(rows: Sequence[Row]) -> str:
    """The documentation's table, of the machine that measured last."""
    if not rows:
        return f"*Nothing has been recorded yet: `{HOW}`.*"
    here = newest([row for row in rows if place(row) == place(rows[-1])], "case")
    lines = [HEAD, "|" + "---|" * (HEAD.count("|") - 1), *map(line, here)]
    timed = [row for row in here if not row["red"]]
    met = {name: sum(row["ratio"][name]["p50"] <= most for row in timed) for name, most in ASKED.items()}
    commits = ", ".join(dict.fromkeys(commit(row) for row in here))
    loads, waiting = [row["load"] for row in here], here[-1]["waiting"]
    how = HOW if waiting is None else f"OMP_WAIT_POLICY={waiting} {HOW}"
    said = (f"{place(rows[-1])}; batch {here[-1]['batch']}, float32, medians, ratios with p20 to p80; **bold** is over what is asked. "
            f"Asked: forward at most {ASKED['forward']}, met by {met['forward']} of {len(here)}; forward and back at most "
            f"{ASKED['both_ways']}, met by {met['both_ways']} of {len(here)}; measured at {commits} with `{how}`, "
            f"the machine's load average {min(loads):.1f} to {max(loads):.1f}, this among it.")  # fmt: skip
    return "\n".join([*lines, "", said])


def line(row: Row) -> str:
    what = f"| {row['generated']} x {row['reference']}, {row['size']}, {row['heads']} |"
    error = f"{max(row['error_of'].values()):.0e}"
    if row["red"]:
        return f"{what} red |" + " |" * 6 + f" {error} |"
    ms, peak = row["ms"], row["peak_mb"]
    sizes = ", ".join(f"{peak[name]:.0f}" if name in peak else "-" for name in ("attention_both", "both", "eager"))
    eager = f"{row['ratio']['eager']['p50']:.1f}" if "eager" in row["ratio"] else "-"
    return (f"{what} {short(ms['maps']['p50'])} | {spread(row, 'forward')} | {short(ms['attention_both']['p50'])} | "
            f"{spread(row, 'both_ways')} | {row['ratio']['back']['p50']:.2f} | {eager} | {sizes} | {error} |")  # fmt: skip


def spread(row: Row, name: str) -> str:
    """A ratio, bold where it is over what is asked, and between what most of its rounds were."""
    of = row["ratio"][name]
    middle = f"{of['p50']:.2f}"
    return (f"**{middle}**" if of["p50"] > ASKED[name] else middle) + f" ({of['p20']:.2f} to {of['p80']:.2f})"


def short(ms: float) -> str:
    return f"{ms:.3g}" if ms < 1000 else f"{ms:.0f}"
