"""The pages of the studies: one HTML file each, without scripts, whose plots are SVG and whose pictures travel inside it.

    page(title, lede, [section("Words", "What is seen.", table(...)), section("Examples", "", looks([...])), how(report)])

A cell, a title of an example and what is said are HTML: what a user wrote goes through `text` first. Titles of the page, its sections and
facts, and what pictures show are plain text.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from PIL.Image import Image, Resampling

from i2am.evaluation.report_charts import histogram, number, scatter, signed
from i2am.evaluation.report_parts import document, facts_table, flat, heading

__all__ = ["Pictures", "card", "cards", "facts", "histogram", "how", "interval", "look", "looks", "notes", "number", "page", "percent",
           "row", "scatter", "section", "share", "signed", "sure", "table", "tabs", "text"]  # fmt: skip

BYTES = 5_000_000  # of a page's pictures; what is beyond them is left out, and said
TABS = 12  # at most, as many as page.css knows
FOOTER = """Attention is not causation: a map says where weights went, not what would change without them. A word's map is compared with a
mask by its shape alone; how much weight it has in all does not count."""
text = escape


def page(title: str, lede: str, parts: Sequence[str], *, brand: str = "i2am studies", footer: str = FOOTER) -> str:
    """The HTML of a study. lede is HTML, a sentence or two of what came out; parts are sections."""
    body = f"""<header>
<p class="brand">{escape(brand)}</p>
<h1>{escape(title)}</h1>
<p class="lede">{lede}</p>
</header>
<main>
{"".join(filter(None, parts))}</main>"""
    return document(title, body, footer, files("i2am.studies").joinpath("page.css").read_text("utf-8"))


def section(title: str, say: str = "", *parts: str, name: str = "") -> str:
    """name: what a link leads to, #name."""
    said = f'<p class="say">{say}</p>\n' if say else ""
    begin = f'<section id="{escape(name)}">' if name else "<section>"
    return f"{begin}\n<h2>{escape(title)}</h2>\n{said}{''.join(parts)}\n</section>\n"


def row(*cells: str, kind: str = "") -> str:
    """A line of a table, its first cell its name. kind "own" is the study's own result among others', "others" what was published."""
    first, *rest = cells
    named = f' class="{kind}"' if kind else ""
    return f'<tr{named}><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>'


def table(label: str, heads: Sequence[str], rows: Sequence[str]) -> str:
    """Numbers in columns; rows by `row`. It scrolls where the window is too narrow."""
    return (
        f'<div class="rows" role="region" aria-label="{escape(label)}" tabindex="0"><table><thead><tr>{heading(heads)}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def percent(x: float | None) -> str:
    return number(x) if x is None else signed(f"{100 * x:.1f}")


def interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{number(low)} to {number(high)}"


def sure(mean: float | None, half: float | None) -> str:
    """A mean and half of its interval."""
    return number(mean) if mean is None or half is None else f"<b>{number(mean)}</b> <small>&plusmn; {number(half)}</small>"


def share(x: float | None, low: float | None = None, high: float | None = None) -> str:
    """A bar for a number from 0 to 1, and its interval as a line over it."""
    if x is None:
        return ""
    to, left, right = (100 * min(max(one, 0.0), 1.0) for one in (x, x if low is None else low, x if high is None else high))
    return f'<i class="share" style="--to: {to:.1f}%; --low: {left:.1f}%; --high: {100 - right:.1f}%"></i>'


def notes(*lines: str) -> str:
    return f'<ul class="notes">{"".join(f"<li>{one}</li>" for one in lines if one)}</ul>' if any(lines) else ""


def facts(title: str, found: Mapping[str, Any], *, open: bool = False) -> str:
    """Facts that unfold, nested ones with their names joined by dots."""
    return f"<details{' open' * open}><summary>{escape(title)}</summary>{facts_table(flat(found))}</details>" if found else ""


def how(say: str, parts: Mapping[str, Mapping[str, Any]]) -> str:
    """How it was measured: by title facts that unfold."""
    return section("How it was measured", say, f'<div class="rows">{"".join(facts(title, found) for title, found in parts.items())}</div>')


def card(title: str, plot: str, side: str = "") -> str:
    """A plot and its title."""
    beside = f'<small class="side">{side}</small>' if side else ""
    return f"<figure><figcaption>{title}{beside}</figcaption>{plot}</figure>"


def cards(*figures: str, wide: bool = False) -> str:
    return f'<div class="charts{" wide" * wide}">{"".join(figures)}</div>'


def look(pictures: Sequence[tuple[str, str]], title: str, score: str = "", more: str = "") -> str:
    """Pictures side by side, each (data URL, what it shows), under one title. A URL that is "" is a picture without room."""
    shown = "".join(
        f'<span class="shot"><img src="{url}" alt="{escape(what)}" title="{escape(what)}"><small>{escape(what)}</small></span>'
        for url, what in pictures
        if url
    )
    shots = f'<div class="shots">{shown}</div>' if shown else ""
    told = f"<small>{more}</small>" if more else ""
    absent = "" if shown else "<small>Left out, as this page would grow too large.</small>"
    return f"<figure>{shots}<figcaption><span>{title}</span><b>{score}</b>{told}{absent}</figcaption></figure>"


def looks(figures: Sequence[str], title: str = "") -> str:
    """Examples in a grid."""
    head = f"<h3>{title}</h3>" if title else ""
    return f'{head}<div class="looks">{"".join(figures)}</div>' if figures else ""


def tabs(name: str, panels: Mapping[str, str]) -> str:
    """One of several contents at a time; name is the group's own on its page, and titles are HTML. Printed, all are shown."""
    assert len(panels) <= TABS, "page.css knows fewer tabs"
    heads = "".join(
        f'<input type="radio" name="{name}" id="{name}-{i}"{" checked" * (i == 0)}><label for="{name}-{i}">{title}</label>'
        for i, title in enumerate(panels)
    )
    bodies = "".join(f'<div class="panel">{one}</div>' for one in panels.values())
    return f'<div class="tabs">{heads * (len(panels) > 1)}{bodies}</div>'


class Pictures:
    """Pictures as data URLs, as long as there is room for them; those asked for first are there first."""

    def __init__(self, room: int = BYTES) -> None:
        self.room, self.left_out = room, 0

    def add(self, picture: Image, *, side: int = 256, sharp: bool = False, quality: int = 85) -> str:
        """The picture, its longer side at most `side` pixels, or "". sharp: masks and small grids, kept as they are and without loss."""
        picture.load()
        factor = side / max(picture.size)
        if factor < 1 or (sharp and factor >= 2):
            by = factor if factor < 1 else int(factor)
            picture = picture.resize(
                (max(1, round(picture.width * by)), max(1, round(picture.height * by))), Resampling.NEAREST if sharp else Resampling.LANCZOS
            )
        file = io.BytesIO()
        if sharp:
            picture.save(file, "PNG", optimize=True)
        else:
            picture.convert("RGB").save(file, "JPEG", quality=quality)
        url = f"data:image/{'png' if sharp else 'jpeg'};base64,{base64.b64encode(file.getvalue()).decode()}"
        if len(url) > self.room:
            self.left_out += 1
            return ""
        self.room -= len(url)
        return url
