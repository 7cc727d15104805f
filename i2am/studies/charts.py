"""A study's plots beside those of an evaluation: curves over a setting, as SVG that the page's style colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from i2am.evaluation.report_charts import BOTTOM, LEFT, RIGHT, axis, frame, number, signed, svg, ticks

COLOURS = 6  # that page.css has for curves
Curve = Sequence[tuple[float, float, float, float]]  # x, y, and y's low and high


def curves(what: str, found: Mapping[str, Curve]) -> str:
    """Each curve with its interval as a band, over one x axis; a legend says which is which."""
    xs = [x for curve in found.values() for x, *_ in curve]
    left, right = min(xs), max(xs)
    low, high, down = axis([y for curve in found.values() for _, *ys in curve for y in ys])
    low, high = max(low, 0.0) if min(down) >= 0 else low, high

    def across(x: float) -> float:
        return LEFT + (RIGHT - LEFT) * ((x - left) / (right - left) if right > left else 0.5)

    def up(y: float) -> float:
        return BOTTOM - (BOTTOM - 8) * (y - low) / (high - low)

    drawn = []
    for i, (name, curve) in enumerate(found.items()):
        band = [(x, top) for x, _, _, top in curve] + [(x, bottom) for x, _, bottom, _ in reversed(curve)]
        dots = "".join(
            f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="3"><title>{escape(name)}, {x:g}: {number(y)}</title></circle>'
            for x, y, *_ in curve
        )
        drawn.append(
            f'<g class="curve c{i % COLOURS}"><path class="band" d="{path([(across(x), up(y)) for x, y in band])}Z"/>'
            f'<path class="line" d="{path([(across(x), up(y)) for x, y, *_ in curve])}"/>{dots}</g>'
        )
    along = ticks(left, right, 6) if right > left else [left]
    plot = svg(escape(what), frame([(up(y), signed(f"{y:g}")) for y in down if y >= low], [(across(x), signed(f"{x:g}")) for x in along])
               + "".join(drawn))  # fmt: skip
    named = "".join(f'<span class="c{i % COLOURS}">{escape(name)}</span>' for i, name in enumerate(found))
    return f'{plot}<p class="legend">{named}</p>'


def path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
