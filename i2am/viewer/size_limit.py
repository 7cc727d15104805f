"""How much of a run a page keeps, so that it stays under its size: what takes most gives way first, and the page says what did."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from i2am.common.checks import refuse
from i2am.maps.kept_pictures import Pictures
from i2am.viewer.contents import Held
from i2am.viewer.encoding import coarser, encoded, merged
from i2am.viewer.photos import urls

TITLES = {"cells": "maps of single cells", "regions": "maps of the regions", "words": "word maps",
          "r2g": "R2G maps", "g2r": "G2R maps"}  # fmt: skip


@dataclass(frozen=True)
class Detail:
    """steps: values a map can take; coarse: patches and merged: cells, each way, that are taken together."""

    steps: int = 255
    coarse: int = 1
    merged: int = 1


# from everything to next to nothing; None leaves the maps out
UNIFIED = (Detail(), Detail(127), Detail(63), Detail(63, 1, 2), Detail(63, 2, 1), Detail(63, 2, 2), Detail(63, 2, 4), Detail(63, 4, 4),
           Detail(63, 4, 8))  # fmt: skip
OTHERS = (Detail(), Detail(127), Detail(63), Detail(127, 2), Detail(63, 2), Detail(63, 3), Detail(63, 2, 2), Detail(63, 3, 2),
          Detail(63, 4, 2), Detail(63, 4, 3), None)  # fmt: skip
PICTURES = ((768, 90), (512, 85), (384, 80), (256, 70))  # pixels of the longer side, quality


@dataclass
class Part:
    """Something of the page that can be made smaller: its unified maps, its other levels, or the pictures."""

    size: Callable[[int], int]  # rung -> bytes for the whole batch, estimated from one image
    losses: list[float]  # how much worse each rung is than everything
    rung: int = 0
    sizes: dict[int, int] = field(default_factory=dict)

    def bytes(self, rung: int | None = None) -> int:
        rung = self.rung if rung is None else rung
        if rung not in self.sizes:
            self.sizes[rung] = self.size(rung)
        return self.sizes[rung]


def loss(detail: Detail | None) -> float:
    """Halvings of detail: patches and cells count fully, steps that the eye does not see hardly."""
    if detail is None:
        return 12.0
    return 0.3 * math.log2(255 / detail.steps) ** 1.5 + 2 * math.log2(detail.coarse) + 2.2 * math.log2(detail.merged)


class Maps(Part):
    """The unified maps of a kind, or all its other levels."""

    def __init__(self, held: Held, images: int, probe: Callable[[Held], list[Tensor]], unified: bool) -> None:
        self.held, self.unified = held, unified
        self.levels = [i for i, level in enumerate(held.levels) if (level.level == "unified") == unified]
        ladder = UNIFIED if unified else OTHERS
        weight = 3.0 if unified else 1.0
        super().__init__(lambda rung: images * self.probed(probe(held), ladder[rung]), [weight * loss(detail) for detail in ladder])
        self.ladder = ladder

    @property
    def detail(self) -> Detail | None:
        return self.ladder[self.rung]

    def probed(self, stacks: list[Tensor], detail: Detail | None) -> int:
        return 0 if detail is None else len(encoded(self.kept(stacks, detail), detail.steps)[0])

    def kept(self, stacks: list[Tensor], detail: Detail) -> list[Tensor]:
        """These levels of one image, with as much detail as is kept."""
        return [self.reduced(stacks[i], detail) for i in self.levels]

    def reduced(self, maps: Tensor, detail: Detail) -> Tensor:
        if self.held.cells is not None:
            before = len(self.held.cells.frames or (None,))
            maps = merged(maps, self.held.cells.grid, before, self.held.frames or 1, detail.merged)
        return coarser(maps, detail.coarse)

    def to_json(self, stacks: list[Tensor], detail: Detail) -> dict[str, Any]:
        """What the page must know to read the bytes back; `items` are left to the names where they differ from image to image."""
        levels = [{"level": level.level, "place": level.place, "name": level.name, "grid": list(tensor.shape[1:])}
                  for level, tensor in zip((self.held.levels[i] for i in self.levels), self.kept(stacks, detail))]  # fmt: skip
        return {"steps": detail.steps, "merged": detail.merged, "levels": levels, "tops": [], "blobs": []}

    def said(self, stacks: list[Tensor], several: bool) -> str | None:
        """What was given up, in words; of which reference, where there are several."""
        detail = self.detail
        if not self.levels or detail == Detail():
            return None
        what = TITLES[self.held.kind] + (f" of {self.held.reference}" if several and self.held.reference else "")
        what += "" if self.unified else " for single time groups, heads and layers"
        if detail is None:
            return f"{what} are left out"
        full, kept = (max((t.shape for t in self.kept(stacks, d)), key=lambda shape: shape[-1] * shape[-2]) for d in (Detail(), detail))
        lost = [f"{detail.steps + 1} values instead of 256"] if detail.steps < 255 else []
        if detail.coarse > 1:
            lost.append(f"{kept[1]} \u00d7 {kept[2]} patches instead of {full[1]} \u00d7 {full[2]}")
        if detail.merged > 1 and self.held.cells is not None:
            rows, columns = self.held.cells.grid
            fewer = (-(-side // detail.merged) for side in (rows, columns))
            lost.append("{} \u00d7 {} cells".format(*fewer) + f" instead of {rows} \u00d7 {columns}")
        return f"{what} have {', '.join(lost)}"


class Photos(Part):
    """The pictures."""

    def __init__(self, pictures: Pictures) -> None:
        self.pictures = pictures
        super().__init__(lambda rung: len(str(self.urls(PICTURES[rung]))), [6 * math.log2(768 / side) for side, _ in PICTURES])

    @property
    def form(self) -> tuple[int, int]:
        return PICTURES[self.rung]

    def urls(self, form: tuple[int, int]) -> dict[str, object]:
        """All of them; a set of one serves every image. Of a video a list."""
        return {"generated": urls(self.pictures.generated, form),
                "references": {name: urls(found, form) for name, found in self.pictures.references.items()}}  # fmt: skip

    def said(self) -> str | None:
        """Whether they are smaller here than they were."""
        sizes = [max(p.shape[-2:]) for found in (self.pictures.generated, *self.pictures.references.values()) for p in found]
        side, quality = self.form
        less = f", at quality {quality}" if self.rung else ""
        return f"pictures are shown at {side} pixels along their longer side{less}" if sizes and (max(sizes) > side or self.rung) else None


def fitted(parts: list[Part], room: float, megabytes: float) -> None:
    """Make parts smaller until everything fits: always what loses least for the bytes that are still too many."""
    while (excess := sum(part.bytes() for part in parts) - room) > 0:
        moves = [((part.losses[rung] - part.losses[part.rung]) / min(part.bytes() - part.bytes(rung), excess), part.bytes(rung), i, rung)
                 for i, part in enumerate(parts) for rung in range(part.rung + 1, len(part.losses))
                 if part.bytes(rung) < part.bytes()]  # fmt: skip
        if not moves:
            least = math.ceil(10 * megabytes + excess / 1e5) / 10
            refuse("max_megabytes", f"at least {least:.1f} for this run", f"{megabytes:g}", "Show fewer images: view(maps[:4], ...).")
        *_, i, rung = min(moves)
        parts[i].rung = rung


def flawless(stacks: list[Tensor], kind: str) -> list[Tensor]:
    """Sums that a page can draw, [items, h, w]: of a video each frame is an item."""
    bad = sum(int((~tensor.isfinite()).sum()) for tensor in stacks)
    if bad:
        refuse(f"the {kind} maps", "finite", f"{bad} NaN or infinite values", "Look for overflow in the traced run's attention.")
    return [tensor.clamp(min=0).to(torch.float32).flatten(0, -3) for tensor in stacks]
