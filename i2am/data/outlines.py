"""Masks as COCO's format writes them: polygons, run lengths, run lengths packed into a text.

Run lengths go down the columns, and the first run is outside. A pixel lies inside a polygon if its centre does, by the even-odd rule, where
pixel (row, column) reaches from column to column + 1; COCO's own code draws a little wider where a border runs through a pixel. Of several
polygons each adds its pixels.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import numpy as np

from i2am.common.checks import is_size, is_whole, refuse, said
from i2am.maps.tokens import Grid

Array = np.ndarray[Any, Any]
POLYGONS, LENGTHS = "[[x, y, x, y, x, y, ...], ...]", '{"size": [height, width], "counts": a list or a text}'


def inside(segmentation: Any, size: Grid, what: str) -> Array:
    """The mask, bool [H, W], of a segmentation that `check_outline` found good."""
    if isinstance(segmentation, dict):
        return of_lengths(lengths(segmentation["counts"], what), size)
    mask = np.zeros(size, bool)
    for polygon in segmentation:
        mask |= of_polygon(np.asarray(polygon, np.float64).reshape(-1, 2), size)
    return mask


def check_outline(segmentation: Any, size: Grid, what: str) -> None:
    """Refuse what is no segmentation of a picture of this size; nothing is drawn."""
    if isinstance(segmentation, list) and segmentation:
        if not all(is_polygon(one) for one in segmentation):
            refuse(what, POLYGONS, said(segmentation), "A polygon has at least three corners.")
        return
    if not isinstance(segmentation, dict) or "counts" not in segmentation or not is_size(segmentation.get("size")):
        refuse(what, f"{POLYGONS} or {LENGTHS}", said(segmentation), "Boxes alone are no masks.")
    if tuple(segmentation["size"]) != tuple(size):
        refuse(f'"size" of {what}', f"the picture's {list(size)}", said(segmentation["size"]), "It is [height, width].")
    runs = lengths(segmentation["counts"], what)
    if int(runs.sum()) != size[0] * size[1]:
        refuse(f'"counts" of {what}', f"runs of {size[0] * size[1]:,} pixels in all", f"{int(runs.sum()):,}", "They go down the columns.")


def is_polygon(value: object) -> bool:
    return isinstance(value, list) and len(value) >= 6 and len(value) % 2 == 0 and all(
        isinstance(x, Real) and not isinstance(x, bool) and math.isfinite(x) for x in value
    )  # fmt: skip


def lengths(counts: Any, what: str) -> Array:
    """The runs as whole numbers, outside and inside in turns."""
    if isinstance(counts, str):
        runs = unpacked(counts)
        if runs is None or (runs < 0).any():
            refuse(f'"counts" of {what}', "a text of packed run lengths", said(counts), "Is it whole?")
        return runs
    if not isinstance(counts, list) or not all(is_whole(one) for one in counts):
        refuse(f'"counts" of {what}', "a list of whole numbers or a text", said(counts), "They are run lengths.")
    return np.asarray(counts, np.int64)


def unpacked(text: str) -> Array | None:
    """A text's numbers, None if it is none. Five bits a letter, the lowest first; bit 5 says that more follow, bit 4 of a last letter is
    the sign. From the fourth number on each is what is added to the one before the last."""
    codes = np.frombuffer(text.encode("utf-8"), np.uint8).astype(np.int64) - 48
    if not len(codes):
        return np.zeros(0, np.int64)
    last = (codes & 32) == 0
    if (codes < 0).any() or (codes > 63).any() or not last[-1]:
        return None
    starts = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
    place = np.arange(len(codes)) - np.repeat(starts, np.diff([*starts, len(codes)]))
    if place.max() > 10:
        return None
    found = np.add.reduceat((codes & 31) << (5 * place), starts)
    found -= np.where(codes[last] & 16, 1 << (5 * (place[last] + 1)), 0)
    for first in (1, 2):
        found[first::2] = found[first::2].cumsum()
    return found


def of_lengths(runs: Array, size: Grid) -> Array:
    values = np.arange(len(runs)) % 2 == 1
    return np.ascontiguousarray(np.repeat(values, runs).reshape(size[1], size[0]).T)


def of_polygon(corners: Array, size: Grid) -> Array:
    """A scan line through the centres of each row: whoever has an odd number of borders on the left is inside."""
    height, width = size
    crossings = np.zeros((height, width + 1), np.int64)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, 0)):
        low, high = sorted((y0, y1))
        rows = np.arange(max(0, math.ceil(low - 0.5)), min(height, math.ceil(high - 0.5)))  # half-open: a corner counts once
        if len(rows):
            x = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
            np.add.at(crossings, (rows, np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)), 1)
    return crossings[:, :width].cumsum(1) % 2 == 1
