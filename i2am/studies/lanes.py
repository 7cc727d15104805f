"""Values in lanes, one a group: every picture a dot over one axis, each lane's mean and its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from i2am.evaluation.report_charts import number, signed, ticks

WIDE, LEFT, TALL = 1000, 16, 84  # pixels: of the plot, of its margin, of a lane
DOT, STEPS = 4.0, 8  # a dot's radius, and how many lie beside each other across a lane
Dot = tuple[float, str, str]  # its value, its class, and what it says


def lanes(
    what: str, dots: Mapping[str, Sequence[Dot]], means: Mapping[str, Mapping[str, Any]], *, low: float = 0.0, high: float = 1.0
) -> str:  # fmt: skip
    """The SVG. Dots that would lie on each other step aside, the same way every time. means: "mean", "low" and "high" by lane."""
    height = TALL * len(dots) + 26
    parts = [
        f'<path class="grid" d="M{across(x, low, high):.1f} 4V{height - 22}"/>'
        f'<text x="{across(x, low, high):.1f}" y="{height - 6}" text-anchor="middle">{signed(f"{x:g}")}</text>'
        for x in ticks(low, high, 10)
    ]
    for lane, (name, some) in enumerate(dots.items()):
        middle, mean = TALL * lane + 52, means[name]
        parts.append(f'<text class="lane" x="{WIDE - LEFT}" y="{TALL * lane + 22}" text-anchor="end">{escape(name)}</text>')
        if mean["mean"] is not None:
            left, at, right = (across(mean[key], low, high) for key in ("low", "mean", "high"))
            parts.append(
                f'<rect class="sure" x="{left:.1f}" y="{middle - 24}" width="{max(1.0, right - left):.1f}" height="48"/>'
                f'<path class="mean" d="M{at:.1f} {middle - 24}V{middle + 24}"/>'
                f'<text class="peak" x="{min(max(at, LEFT + 30), WIDE - 30):.1f}" y="{middle - 29}" text-anchor="middle">'
                f"{number(mean['mean'])}</text>"
            )
        parts += [
            f'<circle class="{kind}" cx="{x:.1f}" cy="{middle + y:.1f}" r="{DOT:g}"><title>{escape(said)}</title></circle>'
            for x, y, kind, said in placed(some, low, high)
        ]
    return f'<svg class="lanes" viewBox="0 0 {WIDE} {height}" role="img" aria-label="{escape(what)}">{"".join(parts)}</svg>'


def across(x: float, low: float, high: float) -> float:
    return LEFT + (WIDE - 2 * LEFT) * (x - low) / (high - low)


def placed(dots: Sequence[Dot], low: float, high: float) -> list[tuple[float, float, str, str]]:
    """Each dot in the place nearest to the middle that no other has taken."""
    taken: dict[int, int] = {}
    found = []
    for value, kind, said in sorted(dots):
        x = across(value, low, high)
        column = round(x / (2 * DOT))
        taken[column] = order = taken.get(column, -1) + 1
        step = (order + 1) // 2 * (1 if order % 2 else -1)
        found.append((x, (step % STEPS if step >= 0 else -(-step % STEPS)) * 2 * DOT * 0.85, kind, said))
    return found
