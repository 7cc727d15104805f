"""The viewer: one HTML file that shows a run's maps over its pictures, without a network, fonts or scripts from elsewhere.

`contents` says what maps and levels there are, `places` where the regions of specific maps lie, `encoding` makes maps into bytes and
`fields` correspondence fields, `size_limit` decides how much detail is kept, `photos` makes pictures into bytes; template.html, the
styles and the scripts are the page.
"""

from __future__ import annotations

import html
import json
import re
import webbrowser
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from torch import Tensor

from i2am.common import outputs
from i2am.common.checks import number, refuse, said
from i2am.common.outputs import write_whole
from i2am.maps.files import versions, versions_in
from i2am.maps.kept_pictures import Pictures
from i2am.maps.levels import AttributionMaps, load
from i2am.viewer.contents import Held, contents_of
from i2am.viewer.encoding import encoded
from i2am.viewer.fields import Fields, fields_of
from i2am.viewer.size_limit import Maps, Part, Photos, fitted, flawless

__all__ = ["page", "view"]

STYLES = ("style.css", "controls.css")
SCRIPTS = (
    "colours.js",
    "data.js",
    "texts.js",
    "state.js",
    "paint.js",
    "fields.js",
    "figures.js",
    "charts.js",
    "frames.js",
    "controls.js",
    "pointer.js",
    "main.js",
)
MARGIN = 4_000  # bytes kept free for the description of the maps, before it is written


def page(maps: AttributionMaps, *, title: str | None = None, max_megabytes: float = 5.0) -> str:
    """The HTML of a run. What does not fit into max_megabytes is made coarser, and the page says so."""
    return within_size(maps, title or maps.about.get("model") or "Attribution maps", max_megabytes, versions())


def view(
    maps: AttributionMaps | str | Path,
    out: str | Path | None = None,
    *,
    images: Any = None,
    references: Any = None,
    title: str | None = None,
    max_megabytes: float = 5.0,
    open_browser: bool = False,
) -> Path:
    """Write the viewer of maps, or of a file of maps, and return where it is: run.html beside run.safetensors unless `out` says.

    images, references: as in `maps.with_pictures`, where the maps carry none. A reference's pictures may be one for all images.
    """
    made_with = versions()
    if not isinstance(maps, AttributionMaps):
        if not isinstance(maps, (str, Path)):
            refuse("maps", "AttributionMaps or the path of a file of them", said(maps), "Pass run.maps.")
        path = Path(maps)
        maps, made_with = load(path), versions_in(path)
        out, title = path.with_suffix(".html") if out is None else out, title or path.stem
    out = outputs.file("run.html" if out is None else out, "out", (".html", ".htm"))
    if images is not None or references is not None:
        maps = maps.with_pictures(images, references)
    title = str(title or "") or maps.about.get("model") or "Attribution maps"
    title = title.encode("utf-8", "backslashreplace").decode()  # a file's name need not be Unicode
    text = within_size(maps, title, max_megabytes, made_with)
    write_whole(out, lambda part: part.write_text(text, encoding="utf-8", newline="\n"))
    if open_browser:
        webbrowser.open(out.resolve().as_uri())
    return out


def within_size(maps: AttributionMaps, title: str, megabytes: float, made_with: dict[str, str]) -> str:
    """The page, under its size."""
    number("max_megabytes", megabytes, "a size above 0", lambda x: x > 0, "5 is the default.")
    held, lacks, notes = contents_of(maps)
    if not any(h.kind in ("r2g", "g2r", "words") for h in held):
        raise ValueError("i2am: this run has no map that could be drawn. " + " ".join(lack.why for lack in lacks))
    pictures = maps.pictures or Pictures()
    run: dict[str, Any] = {"title": title, "facts": head_facts(maps, made_with), "lacks": [vars(lack) for lack in lacks]}
    shell = len(join({"title": "", "run": dumps(run), "blobs": ""})) + MARGIN
    probes: dict[int, list[Tensor]] = {}

    def probe(h: Held) -> list[Tensor]:
        """The first image's maps, from which the size of all is guessed."""
        if id(h) not in probes:
            probes[id(h)] = flawless(h.stacks(0), h.kind)
        return probes[id(h)]

    parts = [part for h in held for part in (Maps(h, len(maps), probe, True), Maps(h, len(maps), probe, False)) if part.levels]
    photos, fields = Photos(pictures), fields_of(maps, notes)
    everything: list[Part] = [*parts, *fields, photos]
    room = megabytes * 1e6 - shell
    while True:
        fitted(everything, room, megabytes)
        sets, blobs = written(parts, len(maps))
        several = len(maps.references) > 1
        said = [*(part.said(probe(part.held), several) for part in parts), *(part.said(several) for part in fields), photos.said()]
        reduced = [sentence for sentence in said if sentence]
        more = [f"To stay under {megabytes:g} MB: {'; '.join(reduced)}."] if reduced else []
        run |= {"pictures": photos.urls(photos.form), "sets": sets, "fields": described(fields, blobs), "notes": notes + more}
        texts = "\n".join(f'<script type="text/plain" id="blob{i}">{blob}</script>' for i, blob in enumerate(blobs))
        whole = join({"title": html.escape(title), "run": dumps(run), "blobs": texts})
        excess = len(whole.encode()) - megabytes * 1e6
        if excess <= 0:
            return whole
        room -= excess  # the other images are larger than the first


def written(parts: Sequence[Maps], images: int) -> tuple[list[dict[str, Any]], list[str]]:
    """The sets of maps as the page reads them, and their bytes: one blob for each part of each image."""
    sets: dict[int, dict[str, Any]] = {}
    blobs: list[str] = []
    for h in {id(part.held): part.held for part in parts}.values():
        mine = [part for part in parts if part.held is h]
        sets[id(h)] = {"kind": h.kind, "reference": h.reference, "names": h.names, "absent": h.absent, "frames": h.frames,
                       "cells": h.cells and {"rows": h.cells.rows, "columns": h.cells.columns, "frames": h.cells.frames},
                       "places": [place.to_json() for place in h.places], "parts": []}  # fmt: skip
        described: list[dict[str, Any]] = []
        for image in range(images):
            stacks = flawless(h.stacks(image), h.kind)
            for i, part in enumerate(part for part in mine if part.detail is not None):
                assert part.detail is not None
                if image == 0:
                    described.append(part.to_json(stacks, part.detail))
                text, top = encoded(part.kept(stacks, part.detail), part.detail.steps)
                described[i]["blobs"].append(len(blobs))
                described[i]["tops"].append(top)
                blobs.append(text)
        sets[id(h)]["parts"] = described
        if any(part.detail is None for part in mine):
            sets[id(h)]["left_out"] = True
    return list(sets.values()), blobs


def described(fields: Sequence[Fields], blobs: list[str]) -> list[dict[str, Any]]:
    """The fields of each reference as the page reads them; their bytes are added to the blobs."""
    found: dict[str, list[dict[str, Any]]] = {}
    for part in fields:
        if (one := part.to_json(blobs)) is not None:
            found.setdefault(part.reference, []).append(one)
    return [{"reference": reference, "parts": parts} for reference, parts in found.items()]


def head_facts(maps: AttributionMaps, made_with: dict[str, str]) -> dict[str, Any]:
    """What the head of the page says of the run."""
    heads = sorted({t.shape[2] for s in maps.sums for t in (s.r2g, s.words) if t is not None})
    video = {} if maps.frames() is None else {"frames": maps.frames()}
    return {"model": maps.about.get("model"), "images": len(maps), **video, "steps": maps.steps, "groups": maps.groups,
            "layers": len(maps.layers), "heads": heads, "references": maps.references, "versions": made_with,
            "prompts": [prompt.text for prompt in maps.prompts]}  # fmt: skip


def dumps(run: dict[str, Any]) -> str:
    """JSON that ends no script."""
    return json.dumps(run, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def join(filled: dict[str, str]) -> str:
    """The template with its styles, scripts and data in place."""
    room = files("i2am.viewer")
    parts = {
        "style": "\n".join(room.joinpath(name).read_text("utf-8") for name in STYLES),
        "script": "\n".join(room.joinpath(name).read_text("utf-8") for name in SCRIPTS),
        **filled,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], room.joinpath("template.html").read_text("utf-8"))
