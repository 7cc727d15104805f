"""The best and the worst pairs of an evaluation, as pictures that travel inside its page."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from i2am.evaluation.report_charts import Columns, label, number

Chosen = dict[str, dict[str, list[int]]]  # metric -> "Best", "Worst" -> places of rows

LOOKS = 6
SORTED = ("correspondence", "imacs_g", "imacs_r")


def best_and_worst(columns: Columns) -> Chosen:
    """By correspondence, and by each IMACS, of which there is a score."""
    return {name: extremes(columns[name]) for name in SORTED if any(x is not None for x in columns.get(name, ()))}


def extremes(column: Sequence[float | None]) -> dict[str, list[int]]:
    """The places of the best and of the worst scores, of equals the first is the better; no pair is both."""
    order = sorted((i for i, x in enumerate(column) if x is not None), key=lambda i: -(column[i] or 0))
    best = order[: min(LOOKS, (len(order) + 1) // 2)]
    return {"Best": best, "Worst": order[len(best) :][-LOOKS:][::-1]}


def data_urls(chosen: Chosen, rows: Sequence[Mapping[str, Any]], looks: Path, room: int) -> dict[int, str]:
    """Data URLs by the place of the row; "" where there is a picture but no room for it. The most extreme pairs come first."""
    places = [places for parts in chosen.values() for places in parts.values()]
    often = Counter(place for some in places for place in some)
    found: dict[int, str] = {}
    for place in dict.fromkeys(some[rank] for rank in range(LOOKS) for some in places if rank < len(some)):
        file = looks / f"{Path(rows[place]['name']).stem}.jpg"
        if not file.is_file():
            continue
        url = "data:image/jpeg;base64," + base64.b64encode(file.read_bytes()).decode()
        size = len(image(rows[place], url).encode("utf-8", "backslashreplace")) * often[place]
        found[place] = url if size <= room else ""
        room -= size if size <= room else 0
    return found


def pairs(chosen: Chosen, rows: Sequence[Mapping[str, Any]], columns: Columns, pictures: Mapping[int, str], g2r: bool) -> str:
    """g2r: there is a map on the garment."""
    if not chosen:
        return ""
    garment = "the garment with G2R, what of it was used" if g2r else "the garment"
    field = "correspondence" in columns
    moved = " the garment as attention alone would move it;" if field else ""
    heads = " Maps are of the heads that point, where no layers were chosen." if field else ""
    tabs = "".join(
        f'<input type="radio" name="by" id="by-{i}"{" checked" * (i == 0)}><label for="by-{i}">by {label(name)}</label>'
        for i, name in enumerate(chosen)
    )
    panels = "".join(
        '<div class="panel">'
        + "".join(
            f'<h3>{title} by {label(name)}</h3><div class="looks">'
            + "".join(look(place, name, rows[place], columns, pictures) for place in places)
            + "</div>"
            for title, places in parts.items()
            if places
        )
        + "</div>"
        for name, parts in chosen.items()
    )
    return f"""<section>
<h2>Best and worst pairs</h2>
<p class="say">From left to right: {garment}; the generated picture with R2G, where the garment acted;{moved} and the person's
own picture. Bright is much, each map on its own scale.{heads}</p>
<div class="tabs">{tabs * (len(chosen) > 1)}{panels}</div>
</section>
"""


def image(row: Mapping[str, Any], url: str) -> str:
    alt = f"Pair {row['name']}: the garment, the generated picture and the person's own picture, maps laid over the first two"
    return f'<img src="{url}" alt="{escape(alt)}">'


def look(place: int, by: str, row: Mapping[str, Any], columns: Columns, pictures: Mapping[int, str]) -> str:
    name, url = escape(row["name"]), pictures.get(place)
    worn = "" if row["cloth"] == row["name"] else f" with {escape(row['cloth'])}"
    others = " &middot; ".join(f"{label(other)} {number(column[place])}" for other, column in columns.items() if other != by)
    full = "<small>Left out, as this page would grow too large: its picture in looks/.</small>" if url == "" else ""
    absent = "<small>No picture was kept.</small>" if url is None else ""
    return (
        f"<figure>{image(row, url) if url else ''}<figcaption><span>{name}{worn}</span><b>{label(by)} {number(columns[by][place])}</b>"
        f"<small>{others}</small>{full}{absent}</figcaption></figure>"
    )
