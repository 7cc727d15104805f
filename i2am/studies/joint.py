"""Words beside a reference: on a model that reads a prompt and has a reference in its attention, which word uses which part of it.

Of each picture and word: M = the word's mask, its map min-max > 0.4, as DAAM draws it; w_c = the share of M in each cell c of the picture.

    inside = sum_M R2G / sum R2G                    area = |M| / |picture|      iou of M with R2G's own mask
    used = sum_j sum_c w_c S_cj / sum_j sum_c S_cj, the share of what the picture takes from the reference that this region takes
    peak, box: of sum_c w_c S_cj, the region's map on the reference: its largest cell, and what is above 0.4 of it
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from i2am.common.checks import number, refuse, said
from i2am.common.outputs import write_whole
from i2am.maps.levels import AttributionMaps
from i2am.maps.words import iou, show
from i2am.show.drawing import Picture
from i2am.show.pictures import overlay
from i2am.studies.condensed import cells_in, of_region, per_cell, taken
from i2am.studies.looks import SIDE, captioned, content_words
from i2am.studies.painted import Painted
from i2am.studies.results import table

TABLE, THRESHOLD = "joint.csv", 0.4
PLACED = ("peak_y", "peak_x", "top", "left", "bottom", "right")  # fractions of the reference's height and width
COLUMNS = ("id", "word", "reference", "inside", "area", "iou", "used", *PLACED)
WAYS = ("mask", "map")
Row = dict[str, Any]


def joint(
    painted: Sequence[Painted], *, words: Mapping[str, Sequence[str]] | Sequence[str] | None = None, weigh: str = "mask",
    threshold: float = THRESHOLD, out: str | Path | None = None,
) -> list[Row]:  # fmt: skip
    """A row for each picture, word and reference. words: by id, or the same for all; the content words of each prompt by default.

    weigh: what a region's cells count with, the word's "mask" or its "map" (min-max). out: a folder for joint.csv and a sheet a picture.
    None stands where there is nothing to say: an empty mask, or a reference whose tokens have no place, or are one.
    """
    number("threshold", threshold, "a level, from 0 to below 1", lambda x: 0 <= x < 1, "DAAM's is 0.4.")
    if weigh not in WAYS:
        refuse("weigh", f"one of {', '.join(WAYS)}", said(weigh), "The mask is the region that the other columns speak of.")
    rows = list[Row]()
    for one in tqdm(painted, desc="words beside the reference", unit="image", delay=2):
        maps, mine = one.beside(), one.words()
        if maps is None:
            continue
        asked = content_words(mine) if words is None else words.get(one.asked.id, ()) if isinstance(words, Mapping) else words
        shown: list[tuple[str, Any]] = []
        for word in asked:
            for reference in maps.references:
                row, where = of_word(mine[word][0], maps, reference, weigh, threshold)
                rows.append({"id": one.asked.id, "word": word, "reference": reference, **row})
                shown += sides(one.picture(), mine[word][0], maps, reference, where, word) if out is not None else []
        if out is not None and shown:
            folder = Path(out) / "joint"
            folder.mkdir(parents=True, exist_ok=True)
            sheet = captioned(shown, one.asked.prompt, columns=6 if len(shown) > 8 else 4 if len(shown) > 2 else 2)
            write_whole(folder / f"{one.asked.id}.jpg", partial(sheet.save, format="JPEG", quality=88))
    if out is not None:
        write_whole(Path(out) / TABLE, lambda part: part.write_text(table(rows, COLUMNS), "utf-8"))
    return rows


def of_word(word: Tensor, maps: AttributionMaps, reference: str, weigh: str, threshold: float) -> tuple[Row, Tensor | None]:
    """One word's numbers, and its region's map on the reference [H, W], where there is one."""
    size = (int(word.shape[-2]), int(word.shape[-1]))
    acting, mask = maps.unified("r2g", size, reference=reference)[0], show(word, threshold=threshold)
    row: Row = {
        "inside": known((acting * mask).sum() / acting.sum()) if mask.any() else None,
        "area": known(mask.mean()),
        "iou": known(iou(mask, show(acting, threshold=threshold))),
        **dict.fromkeys(("used", *PLACED)),
    }
    cells = cells_in(maps)
    if cells is None or not any(s.specific is not None for s in maps.sums if s.source == reference) or not mask.any():
        return row, None
    weights = per_cell(mask if weigh == "mask" else show(word), *cells)
    row["used"] = known(taken(maps, weights, reference) / taken(maps, torch.ones_like(weights), reference))
    if any(s.reference_grid is None for s in maps.sums if s.source == reference and s.specific is not None):
        return row, None
    where = of_region(maps, weights, reference=reference)
    return row | places(where, threshold), where


def places(where: Tensor, threshold: float) -> Row:
    """Where a map [h, w] has its peak, and the box of what is above the threshold, in fractions."""
    height, width = where.shape
    y, x = divmod(int(where.argmax()), width)
    above = show(where, threshold=threshold) > 0
    found = [y + 0.5, x + 0.5] + [math.nan] * 4
    if above.any():
        down, across = above.any(1).nonzero(), above.any(0).nonzero()
        found[2:] = [int(down[0]), int(across[0]), int(down[-1]) + 1, int(across[-1]) + 1]
    return {name: known(value / (height, width)[i % 2]) for i, (name, value) in enumerate(zip(PLACED, found))}


def known(value: Any) -> float | None:
    """A number, or None."""
    return float(value) if math.isfinite(float(value)) else None


def sides(picture: Picture, word: Tensor, maps: AttributionMaps, reference: str, where: Tensor | None, name: str) -> list[tuple[str, Any]]:
    """The picture under the word's map, and the reference under its region's."""
    named = f" of {reference}" if len(maps.references) > 1 else ""
    kept = maps.pictures.references.get(reference) if maps.pictures else None
    there = Image.fromarray(kept[0].permute(1, 2, 0).numpy()) if kept is not None else None
    left = overlay(larger(picture), word[None])[0]
    if where is None:
        return [(name, left)]
    if there is None:
        there = Image.new("RGB", (SIDE, max(1, round(SIDE * where.shape[0] / where.shape[1]))), "grey")
    return [(name, left), (f"{name}: takes{named}", overlay(larger(there), where[None])[0])]


def larger(picture: Picture) -> Picture:
    """At the size of a look."""
    scale = SIDE / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BICUBIC)
