"""What a page can show of a run: its kinds of maps, and every level of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from i2am.maps.canvas import SIDES
from i2am.maps.levels import AttributionMaps
from i2am.maps.tokens import usual_frames
from i2am.maps.words import WordMaps
from i2am.viewer.places import Cells, Place, placed


@dataclass(frozen=True)
class Level:
    """One map of a level: which level, which group, head or layer of it, and its name."""

    level: str
    place: int
    name: str


@dataclass
class Held:
    """The maps of one kind and reference: "r2g", "g2r", "cells", "regions" (specific maps) or "words".

    `names` names the items, one list for the whole batch or one per image; `absent` says which levels there are not, and why. `frames` are
    those of the canvas that the maps lie on, None of a picture.
    """

    kind: str
    reference: str | None
    levels: list[Level]
    names: list[list[str]]
    stacks: Callable[[int], list[Tensor]]  # image -> [items, (frames,) h, w] for each level
    absent: dict[str, str] = field(default_factory=dict)
    cells: Cells | None = None
    places: list[Place] = field(default_factory=list)
    frames: int | None = None


@dataclass
class Lack:
    """Maps that a run does not have, and why."""

    kind: str
    reference: str | None
    why: str


def contents_of(maps: AttributionMaps) -> tuple[list[Held], list[Lack], list[str]]:
    """What there is, what there is not, and what was left out on the way."""
    held: list[Held] = []
    lacks: list[Lack] = []
    notes: list[str] = []
    for reference in maps.references:
        for direction in ("r2g", "g2r", *(("specific",) if maps.regions else ())):
            found = one(maps, direction, reference, notes)
            if isinstance(found, Lack):
                lacks.append(found)
            elif direction == "specific":
                held += specific(found, maps)
            else:
                held.append(found)
    if any(s.words is not None for s in maps.sums):
        found = words(maps, notes)
        (lacks if isinstance(found, Lack) else held).append(found)  # type: ignore[arg-type]
    return held, lacks, notes


def one(maps: AttributionMaps, direction: str, reference: str | None, notes: list[str]) -> Held | Lack:
    """The levels of a direction, from the layers whose tokens have a place."""
    side = f"{SIDES[direction]}_grid"
    try:
        names = maps.names(direction, reference=reference)
        of = [s for s in maps.sums if s.layer in names and (direction == "words" or s.source == reference)]
        frames = usual_frames(getattr(s, side) for s in of)
        layers = [s.layer for s in of if getattr(s, side) and usual_frames([getattr(s, side)]) == frames]
        if not layers:
            maps.level(direction, reference=reference)  # says why
    except ValueError as error:
        return Lack(direction, reference, str(error).removeprefix("i2am: "))
    if len(layers) < len(names):
        few = [name for name in names if name not in layers]
        some = f" of {reference}" if len(maps.references) > 1 and reference else ""
        why = "whose tokens have no known place" + (" among these frames" if frames else "")
        notes.append(f"{direction}{some} is without {len(few)} of {len(names)} layers, {why}: {', '.join(few[:3])}"
                     + (" and others." if len(few) > 3 else "."))  # fmt: skip
    heads = {getattr(s, direction).shape[2] for s in maps.sums if s.layer in layers and getattr(s, direction) is not None}
    levels, absent = [Level("unified", 0, "unified")], {}
    if maps.groups > 1:
        levels += [Level("time", i, f"group {i + 1} of {maps.groups}") for i in range(maps.groups)]
    else:
        absent["time"] = "The run was recorded as one time group."
    if len(heads) == 1 and max(heads) > 1:
        levels += [Level("head", i, f"head {i}") for i in range(max(heads))]
    elif len(heads) == 1:
        absent["head"] = "The layers have one head."
    else:
        counts = " and ".join(map(str, sorted(heads)))
        absent["head"] = f"The layers have different numbers of heads ({counts}), so no head is the same in all of them."
    if len(layers) > 1:
        levels += [Level("layer", i, name) for i, name in enumerate(layers)]
    else:
        absent["layer"] = "One layer was recorded."

    def stacks(image: int) -> list[Tensor]:
        mine = maps[image]
        choice: dict[str, Any] = {"reference": reference, "layers": lambda name: name in layers}
        found = [mine.level(direction, **choice)[0]]
        for level in ("time", "head"):
            if level not in absent:
                found += mine.level(direction, level, **choice)[0].unbind()
        if "layer" not in absent:  # each on its own grid
            found += [mine.level(direction, **{**choice, "layers": lambda name, layer=layer: name == layer})[0] for layer in layers]
        return found if direction in ("specific", "words") else [tensor[None] for tensor in found]

    return Held(direction, reference, levels, [[direction]], stacks, absent, frames=frames)


def specific(found: Held, maps: AttributionMaps) -> list[Held]:
    """The specific maps of cells that tile the image, and those of all other regions."""
    cells, places = placed(maps.regions)

    def part(kind: str, regions: list[int], **more: Any) -> Held:
        def stacks(image: int) -> list[Tensor]:
            return [tensor[regions] for tensor in found.stacks(image)]

        names = [[maps.regions[i] for i in regions]]
        return Held(kind, found.reference, found.levels, names, stacks, found.absent, frames=found.frames, **more)

    parts = [] if cells is None else [part("cells", list(cells.regions), cells=cells)]
    return parts + ([part("regions", [place.region for place in places], places=places)] if places else [])


def words(maps: AttributionMaps, notes: list[str]) -> Held | Lack:
    """Word maps: every word of each image's prompt; single tokens where the run knows no text."""
    found = one(maps, "words", None, notes)
    if isinstance(found, Lack):
        return found
    count = next(s.words.shape[3] for s in maps.sums if s.words is not None)
    columns = range(count) if maps.columns is None else maps.columns
    if not maps.prompts:
        notes.append("The run saw embeddings alone, and no text: words are numbered by their tokens.")
        numbered = [[f"token {column}" for column in columns]]
        return Held("words", None, found.levels, numbered, found.stacks, found.absent, frames=found.frames)

    def of(image: int, tokens: Tensor) -> WordMaps:
        return WordMaps(maps[image].prompts, columns, tokens[None])

    def stacks(image: int) -> list[Tensor]:
        import torch

        return [torch.cat([of(image, tokens)[word] for word in names[image]]) for tokens in found.stacks(image)]

    blank = next(s.words for s in maps.sums if s.words is not None)[0, 0, 0, :, :1, None]  # [n, 1, 1]
    names = [list(of(image, blank)) for image in range(len(maps))]
    if not all(names):
        return Lack("words", None, "A prompt of this batch has no word whose maps were traced.")
    return Held("words", None, found.levels, names, stacks, found.absent, frames=found.frames)
