"""Names, numbers and plots as the report writes them; plots are SVG, coloured by the page's style."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

Columns = Mapping[str, Sequence["float | None"]]

LEFT, RIGHT, BOTTOM = 40, 292, 166  # of a plot, in a picture 300 wide
BINS = 24  # at most; fewer of few values
MANY = 300  # points, from which they are drawn smaller
NAMES = {"imacs_g": "IMACS<sub>g</sub>", "imacs_r": "IMACS<sub>r</sub>", "ssim": "SSIM", "lpips": "LPIPS", "fid": "FID", "kid": "KID"}


TITLES = NAMES | {name: name.capitalize() for name in ("correspondence", "returning", "inside", "sharpness", "smoothness")}


def label(name: str) -> str:
    return TITLES.get(name) or escape(name)


def number(x: float | None) -> str:
    if x is None:
        return '<span class="none">none</span>'
    return signed(f"{round(x, 4) + 0:.4f}" if x == 0 or 1e-3 <= abs(x) < 1e5 else f"{x:.3g}")


def signed(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")


def plainly(name: str) -> str:
    return label(name).replace("<sub>", "_").replace("</sub>", "")


def bar(x: float | None) -> str:
    """A correlation from the middle to its side."""
    if x is None:
        return ""
    left, right = 50 + 50 * min(x, 0), 50 - 50 * max(x, 0)
    return f'<i class="rho" style="--left: {left:.1f}%; --right: {right:.1f}%"></i>'


def step(span: float, most: int) -> float:
    """The round distance (1, 2 or 5 times a power of ten) of which at most so many fit."""
    power = 10.0 ** math.floor(math.log10(span / most))
    return next(m * power for m in (1, 2, 5, 10) if m * power * most >= span * (1 - 1e-9))


def ticks(low: float, high: float, most: int) -> list[float]:
    by = step(high - low, most)
    return [i * by for i in range(math.ceil(low / by - 1e-9), math.floor(high / by + 1e-9) + 1)]


def axis(values: Sequence[float], most: int = 5) -> tuple[float, float, list[float]]:
    """A range that holds the values with a margin, and its ticks."""
    low, high = min(values), max(values)
    margin = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
    return low - margin, high + margin, ticks(low - margin, high + margin, most)


def frame(down: Sequence[tuple[float, str]], along: Sequence[tuple[float, str]]) -> str:
    """Grid lines and their texts, at places in pixels."""
    lines = [
        f'<path class="grid" d="M{LEFT} {y:.1f}H{RIGHT}"/><text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
        for y, text in down
    ]
    return "".join(lines) + "".join(f'<text x="{x:.1f}" y="{BOTTOM + 17}" text-anchor="middle">{text}</text>' for x, text in along)


def svg(what: str, parts: str) -> str:
    return f'<svg viewBox="0 0 300 {BOTTOM + 22}" role="img" aria-label="{what}">{parts}</svg>'


def histogram(values: Sequence[float], found: Mapping[str, Any], name: str, things: str = "pairs") -> str:
    width = step(max(max(values) - min(values), 0.01 * abs(values[0])) or 1.0, min(BINS, 4 + round(2 * len(values) ** 0.5)))
    bins = Counter(math.floor(x / width + 1e-9) for x in values)
    first, last, most = min(bins), max(bins) + 1, max(bins.values())
    low, high = first * width, last * width

    def across(x: float) -> float:
        return LEFT + (RIGHT - LEFT) * (x - low) / (high - low)

    def up(count: float) -> float:
        return BOTTOM - (BOTTOM - 22) * count / most

    wide = across(low + width) - LEFT - 1
    bars = "".join(
        f'<rect x="{across(i * width) + 0.5:.1f}" y="{up(n):.1f}" width="{wide:.1f}" height="{BOTTOM - up(n):.1f}">'
        f"<title>{signed(f'{i * width:.6g}')} to {signed(f'{(i + 1) * width:.6g}')}: {n:,}</title></rect>"
        for i, n in sorted(bins.items())
    )
    mean, left, right = (across(found[key]) for key in ("mean", "low", "high"))
    anchor = "start" if mean < LEFT + 30 else "end" if mean > RIGHT - 30 else "middle"
    counts = sorted({round(n) for n in ticks(0, most, 3)})
    return svg(
        f"Histogram of {plainly(name)}: {len(values):,} {things}",
        frame([(up(n), f"{n:,}") for n in counts], [(across(x), signed(f"{x:g}")) for x in ticks(low, high, 5)])
        + f'<g class="bars">{bars}</g>'
        + f'<rect class="sure" x="{left:.1f}" y="16" width="{max(1.0, right - left):.1f}" height="{BOTTOM - 16}"/>'
        + f'<path class="mean" d="M{mean:.1f} 16V{BOTTOM}"/>'
        + f'<text class="peak" x="{mean:.1f}" y="11" text-anchor="{anchor}">{number(found["mean"])}</text>',
    )


def scatter(one: Mapping[str, Any], columns: Columns) -> str:
    """Every pair of images as a dot; dots that would lie on each other are drawn once."""
    points = [(a, b) for a, b in zip(columns[one["a"]], columns[one["b"]]) if a is not None and b is not None]
    (left, right, along), (low, high, down) = axis([a for a, _ in points]), axis([b for _, b in points])

    def across(x: float) -> float:
        return LEFT + (RIGHT - LEFT) * (x - left) / (right - left)

    def up(y: float) -> float:
        return BOTTOM - (BOTTOM - 8) * (y - low) / (high - low)

    dots = sorted({(round(2 * across(a)) / 2, round(2 * up(b)) / 2) for a, b in points})
    path = "".join(f"M{x:g} {y:g}h0" for x, y in dots)
    return svg(
        f"Scatter plot of {plainly(one['b'])} over {plainly(one['a'])}: {one['n']:,} pairs",
        frame([(up(y), signed(f"{y:g}")) for y in down], [(across(x), signed(f"{x:g}")) for x in along])
        + f'<path class="dots{" many" * (len(points) >= MANY)}" d="{path}"/>',
    )
