"""Where the regions of a run lie, read back from their names: cells that tile the image, and all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

Box = tuple[float, ...]
SAME = 1e-4  # names keep six digits of a fraction; two edges closer than this are one


@dataclass(frozen=True)
class Cells:
    """Boxes that tile the image: edges in fractions of its height and width, and the region of each cell, row by row; of a video those of
    its frames, frame by frame."""

    rows: tuple[float, ...]
    columns: tuple[float, ...]
    regions: tuple[int, ...]
    frames: tuple[int, ...] | None = None  # None: cells of a picture, or of every frame at once

    @property
    def grid(self) -> tuple[int, int]:
        return len(self.rows) - 1, len(self.columns) - 1


@dataclass(frozen=True)
class Place:
    """A region that is no cell: a point (y, x), a box (top, left, bottom, right), or nothing where its place was not kept; in one frame
    of a video, or in all."""

    region: int
    name: str
    kind: str
    at: tuple[float, ...] = ()
    frame: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {"region": self.region, "kind": self.kind, "at": self.at, **({} if self.frame is None else {"frame": self.frame})}


def place_named(region: int, name: str) -> Place:
    """The place in a region's name; what is not understood has none."""
    first, *rest = name.split()
    if first == "frame" and len(rest) > 1 and rest[0].isdecimal():
        return replace(place_named(region, " ".join(rest[1:])), name=name, frame=int(rest[0]))
    kind, *numbers = first, *rest
    try:
        at = tuple(float(number) for number in numbers)
    except ValueError:
        at = ()
    count = {"point": 2, "box": 4}.get(kind)
    if count != len(at) or not all(0 <= x <= 1 for x in at):
        return Place(region, name, kind if kind == "mask" else "other")
    return Place(region, name, kind, at)


def placed(names: Sequence[str]) -> tuple[Cells | None, list[Place]]:
    """The cells among the regions, if there are some, and the rest."""
    places = [place_named(i, name) if name.split() else Place(i, name, "other") for i, name in enumerate(names)]
    cells = cells_among([place for place in places if place.frame is None]) or framed_cells(places)
    taken = set() if cells is None else set(cells.regions)
    return cells, [place for place in places if place.region not in taken]


def framed_cells(places: Sequence[Place]) -> Cells | None:
    """The cells of single frames, if all frames that have some are cut alike."""
    frames = sorted({place.frame for place in places if place.frame is not None})
    found = {frame: cells_among([place for place in places if place.frame == frame]) for frame in frames}
    held = {frame: cells for frame, cells in found.items() if cells is not None}
    if not held:
        return None
    first = next(iter(held.values()))
    if any((cells.rows, cells.columns) != (first.rows, first.columns) for cells in held.values()):
        return None
    return replace(first, regions=tuple(region for cells in held.values() for region in cells.regions), frames=tuple(held))


def cells_among(places: Sequence[Place]) -> Cells | None:
    """The cells among places of one frame: all of its boxes, or cells(rows, columns) among others, a run from corner to corner."""
    cells = tiling([place for place in places if place.kind == "box"])
    for start, first in enumerate(places if cells is None else ()):
        if first.kind != "box" or max(first.at[:2]) > SAME:
            continue
        stop = next((i for i, p in enumerate(places) if i > start and p.kind == "box" and min(p.at[2:]) > 1 - SAME), None)
        cells = None if stop is None else tiling([place for place in places[start : stop + 1] if place.kind == "box"])
        if cells is not None:
            break
    return cells


def tiling(boxes: Sequence[Place]) -> Cells | None:
    """The boxes as a grid, whatever their order; None unless they cover the image once, in straight rows and columns."""
    if len(boxes) < 2:
        return None
    rows, columns = (edges([box.at[side] for box in boxes for side in sides]) for sides in ((0, 2), (1, 3)))
    if min(rows[0], columns[0]) > SAME or (len(rows) - 1) * (len(columns) - 1) != len(boxes):
        return None
    if any(abs(got - want) > SAME for found in (rows, columns) for got, want in ((found[0], 0), (found[-1], 1))):
        return None
    at: dict[tuple[int, int], int] = {}
    for box in boxes:
        top, left, bottom, right = (nearest(found, at) for found, at in zip((rows, columns, rows, columns), box.at))
        if bottom != top + 1 or right != left + 1:
            return None
        at[top, left] = box.region
    if len(at) != len(boxes):
        return None
    return Cells(tuple(rows), tuple(columns), tuple(at[place] for place in sorted(at)))


def edges(numbers: Sequence[float]) -> list[float]:
    """The distinct numbers, in order."""
    found: list[float] = []
    for number in sorted(numbers):
        if not found or number - found[-1] > SAME:
            found.append(number)
    return found


def nearest(found: Sequence[float], number: float) -> int:
    return min(range(len(found)), key=lambda i: abs(found[i] - number))
