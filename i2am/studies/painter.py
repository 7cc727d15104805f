"""One process's pipeline at work: some prompts painted inside a trace, and each one's files written."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from i2am.attach.trace import trace
from i2am.common.checks import refuse
from i2am.common.outputs import write_whole
from i2am.data.prompts import Asked
from i2am.evaluation.batches import in_parts
from i2am.evaluation.painter import picture, seed_of, without_numbers
from i2am.evaluation.shards import Row
from i2am.maps.levels import AttributionMaps
from i2am.maps.regions import cells
from i2am.maps.tokens import Grid
from i2am.maps.words import WordMaps
from i2am.studies.calls import Calls, read_picture
from i2am.studies.condensed import cells_of, condensed
from i2am.studies.painted import files

Around = Callable[[Any], contextlib.AbstractContextManager]
Seen = Callable[[Asked, Grid], None]  # a prompt, and (height, width) of its picture


def seed_for(one: Asked, study: int) -> int:
    """The prompt's own seed, or one made of the study's and the id: it depends on no batch, order or process."""
    return seed_of(study, one.id, "") if one.seed is None else one.seed


@dataclass
class Painter:
    """Paints prompts of a list by their places. around: what is entered around every call, such as attention that is held fixed. whole:
    whether a chunk must be painted in one call."""

    calls: Calls
    asked: Sequence[Asked]
    out: Path
    device: torch.device
    keep_going: bool = False
    say: Callable[[str], None] = print
    around: Around = contextlib.nullcontext
    whole: bool = False
    cells: Grid | None = None  # of the picture, where there is a reference
    most: int | None = None
    painted: int = 0
    notes: list[str] = field(default_factory=list)

    def rows(self, chunk: Sequence[int]) -> list[Row]:
        """The lines of every prompt of a chunk, whose files are written."""
        return in_parts(len(chunk), None if self.whole else self.most, lambda some: self.part(chunk[some]), self.smaller, self.device)

    def smaller(self, size: int) -> None:
        """Memory ran out."""
        if self.whole:
            refuse("a group that is painted together", "small enough for the memory", "too large", "Paint smaller pictures or groups.")
        self.most = size
        self.notes.append(f"Out of memory: went on with batches of {size}.")
        self.say(self.notes[-1])

    def part(self, places: Sequence[int]) -> list[Row]:
        """One call."""
        some = [self.asked[place] for place in places]
        seeds = [seed_for(one, self.calls.options.seed) for one in some]
        images, maps = self.paint(some, seeds)
        lost = without_numbers(images, maps)
        if lost and not self.keep_going:
            refuse("the pictures and their maps", "finite", f"NaN or infinity in {', '.join(some[i].id for i in lost)}",
                   "Half precision overflows in some models: use float32; or leave such prompts out with --keep-going.")  # fmt: skip
        rows: list[Row] = []
        for i, (place, one) in enumerate(zip(places, some)):
            row: Row = {"index": place, "id": one.id, "seed": seeds[i], "prompt": one.prompt}
            if i in lost:
                row["failed"] = lost[i]
            else:
                row["beside"] = self.keep(one, images[i], maps[i])
            rows.append(row)
        self.painted += len(some)
        return rows

    def paint(self, some: Sequence[Asked], seeds: Sequence[int], short: bool = False) -> tuple[Tensor, AttributionMaps]:
        """The images [B, 3, H, W] and their maps. short: in few steps and with nothing around, to see what there is."""
        around = contextlib.nullcontext if short else self.around
        options, pictures = self.calls.options, [read_picture(one) for one in some if one.image is not None]
        regions = None if self.cells is None else cells(*self.cells)
        with around(self.calls.pipe), trace(
            self.calls.pipe, groups=1, words=True, layers=options.layers, reference=options.reference, guidance=options.guidance,
            specific=regions,
        ) as run:  # fmt: skip
            images = self.calls.paint(some, pictures, seeds, short)
        return images, run.maps

    def look_first(self, one: Asked, seen: Seen | None = None) -> None:
        """One prompt in few steps: what cannot be traced is refused before the work is begun, and the reference's layers are seen."""
        self.cells = None
        try:
            images, maps = self.paint([one], [seed_for(one, self.calls.options.seed)], short=True)
        except ValueError as error:  # a pipeline checks its own arguments, such as sizes
            if str(error).startswith(("i2am:", "words:")):
                raise
            refuse("size, guidance_scale, the list's pictures and other arguments", f"what {type(self.calls.pipe).__name__} takes",
                   f"its error {str(error).rstrip('.')!r}", "Nothing was painted: change what it names.")  # fmt: skip
        if seen is not None:
            seen(one, (images.shape[-2], images.shape[-1]))
        self.words_of(maps, one)
        beside = [s for s in maps.sums if s.g2r is not None]
        grids = [s.generated_grid for s in beside]
        if self.calls.options.beside and beside and all(grid is not None and len(grid) == 2 for grid in grids):
            self.cells = cells_of([(grid[-2], grid[-1]) for grid in grids if grid is not None], self.calls.options.parts)

    def words_of(self, maps: AttributionMaps, one: Asked) -> WordMaps:
        """The word maps of one picture."""
        if all(sums.words is None for sums in maps.sums):
            refuse("model", "a pipeline whose attention reads the prompt", type(self.calls.pipe).__name__,
                   "i2am explain shows what each of its attention calls holds.")  # fmt: skip
        return maps.words(None if maps.prompts else one.prompt).own()

    def peak(self, count: int, some: Sequence[Asked]) -> int:
        """The most memory that a GPU holds for a call of this many, beyond what is there now; measured on few steps."""
        batch = [some[i % len(some)] for i in range(count)]
        before = torch.cuda.memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        self.paint(batch, range(count), short=True)
        return torch.cuda.max_memory_allocated(self.device) - before

    def keep(self, one: Asked, image: Tensor, maps: AttributionMaps) -> bool:
        """One picture's files; they are on disk, whole, before it counts as done. Whether one of a reference is among them."""
        where = files(self.out, one)
        painted = picture(image.clamp(0, 1))
        write_whole(where["image"], partial(painted.save, format="PNG", compress_level=1))
        self.words_of(maps, one).save(where["maps"])
        beside = self.calls.options.beside and bool(maps.references)
        if beside:
            references = [] if one.image is None or len(maps.references) > 1 else [read_picture(one)]
            shown = {name: [references[0]] for name in maps.references} if references else None
            condensed(maps, self.cells).with_pictures([painted], shown).save(where["reference"])
        return beside
