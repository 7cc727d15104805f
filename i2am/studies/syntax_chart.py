"""How relations lie between two shares: the mean IoD of each across, its mean IoH upwards, as SVG that the page's style colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

LEFT, RIGHT, TOP, BOTTOM = 46, 590, 8, 344  # pixels of the plot, in a picture of WIDE x HIGH
WIDE, HIGH = 600, 386
LETTER, LINE = 6.6, 14  # pixels: a letter's width, a line's height
Box = tuple[float, float, float, float]


def plane(rows: Sequence[tuple[str, Mapping[str, Any]]], what: str) -> str:
    """rows: names and what `mean_of` gives; those without a mean are left out."""
    shown = [(name, one) for name, one in rows if one["iod"]["mean"] is not None and one["ioh"]["mean"] is not None]
    ends = [end(one, measure, "high") for _, one in shown for measure in ("iod", "ioh")]
    high = min(1.0, -(-max([0.1, *ends]) // 0.1) * 0.1)

    def across(x: float) -> float:
        return LEFT + (RIGHT - LEFT) * min(x / high, 1.0)

    def up(y: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * min(y / high, 1.0)

    by = 0.2 if high > 0.5 else 0.1 if high > 0.2 else 0.05
    ticks = [i * by for i in range(int(high / by + 1e-9) + 1)]
    parts = [f'<path class="grid" d="M{LEFT} {up(x):.1f}H{RIGHT}M{across(x):.1f} {TOP}V{BOTTOM}"/>'
             f'<text x="{LEFT - 6}" y="{up(x) + 4:.1f}" text-anchor="end">{100 * x:.0f}</text>'
             f'<text x="{across(x):.1f}" y="{BOTTOM + 17}" text-anchor="middle">{100 * x:.0f}</text>' for x in ticks]  # fmt: skip
    parts.append(f'<path class="mean" d="M{LEFT} {BOTTOM}L{RIGHT} {TOP}"/>')
    taken = [(across(one["iod"]["mean"]) - 5, up(one["ioh"]["mean"]) - 5, 10.0, 10.0) for _, one in shown]
    for name, one in shown:
        x, y = across(one["iod"]["mean"]), up(one["ioh"]["mean"])
        lines = (f"M{across(end(one, 'iod', 'low')):.1f} {y:.1f}H{across(end(one, 'iod', 'high')):.1f}"
                 f"M{x:.1f} {up(end(one, 'ioh', 'low')):.1f}V{up(end(one, 'ioh', 'high')):.1f}")  # fmt: skip
        told = f"{name}: mIoD {100 * one['iod']['mean']:.1f} %, mIoH {100 * one['ioh']['mean']:.1f} %, {one['count']:,} pairs"
        parts.append(f'<g class="c0"><path class="line" style="opacity: 0.3" d="{lines}"/><circle cx="{x:.1f}" cy="{y:.1f}" r="4" '
                     f'style="fill: var(--own)"><title>{escape(told)}</title></circle></g>')  # fmt: skip
        parts.append(labelled(name, x, y, taken))
    parts.append(f'<text x="{(LEFT + RIGHT) / 2:.0f}" y="{HIGH - 6}" text-anchor="middle">mIoD %</text>'
                 f'<text x="12" y="{(TOP + BOTTOM) / 2:.0f}" text-anchor="middle" transform="rotate(-90 12 {(TOP + BOTTOM) / 2:.0f})">'
                 "mIoH %</text>")  # fmt: skip
    return f'<svg viewBox="0 0 {WIDE} {HIGH}" role="img" aria-label="{escape(what)}">{"".join(parts)}</svg>'


def end(one: Mapping[str, Any], measure: str, side: str) -> float:
    """Of an interval; the mean, where there is none."""
    found = one[measure]
    return found["mean"] if found[side] is None else found[side]


def labelled(name: str, x: float, y: float, taken: list[Box]) -> str:
    """A dot's name where it covers nothing; without such a place the dot's own title says it."""
    wide = LETTER * len(name)
    for left, base in (
        (x + 7, y + 4),
        (x - 7 - wide, y + 4),
        (x - wide / 2, y - 8),
        (x - wide / 2, y + 17),
        (x + 5, y - 6),
        (x + 5, y + 15),
    ):
        box = (left, base - LINE + 3, wide, float(LINE))
        inside = left >= LEFT and left + wide <= RIGHT and box[1] >= TOP and base <= BOTTOM
        if inside and not any(overlap(box, other) for other in taken):
            taken.append(box)
            return f'<text x="{left:.1f}" y="{base:.1f}">{escape(name)}</text>'
    return ""


def overlap(one: Box, two: Box) -> bool:
    return all(one[axis] < two[axis] + two[axis + 2] and two[axis] < one[axis] + one[axis + 2] for axis in (0, 1))
