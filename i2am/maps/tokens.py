"""What the tokens of one attention call are: which keys are the reference, which are words, which queries the image."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from i2am.common.checks import is_grid, is_range, is_whole, refuse, said

Grid = tuple[int, int]
AnyGrid = tuple[int, ...]  # (height, width), of a video (frames, height, width)
Range = tuple[int, int]


@dataclass(frozen=True)
class Tokens:
    """The part of one attention call that is recorded; every range is (start, stop).

    reference and words are ranges of keys, generated of queries (default: all). special counts the leading reference tokens
    (CLS) that have no place on the canvas. source tells several references of one layer apart. A grid is (height, width); of a video
    (frames, height, width), the tokens of its first frame first. Where what is generated and the reference lie interleaved, query_order
    and key_order say the call's places one after the other, as the ranges count them.
    """

    reference: Range | None = None
    words: Range | None = None
    generated: Range | None = None
    generated_grid: AnyGrid | None = None
    reference_grid: AnyGrid | None = None
    special: int = 0
    source: str = "reference"
    shared: bool = False  # the call holds other references beside this one, so that what it takes of the attention is recorded
    query_order: tuple[int, ...] | None = None
    key_order: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.reference is None and self.words is None:
            refuse("Tokens", "told where the reference or the words sit", "neither", "Return None for a call without reference tokens.")
        for name, part in (("reference", self.reference), ("words", self.words), ("generated", self.generated)):
            if part is not None and not is_range(part):
                refuse(name, "a range of tokens, (start, stop)", said(part), "Name the first token and the one behind the last.")
        if not is_whole(self.special):
            refuse("special", "the number of leading special tokens", said(self.special), "A CLS token counts 1.")
        if not isinstance(self.source, str):
            refuse("source", "a name", said(self.source), "It tells several references of one layer apart.")
        if self.reference is not None and self.reference_grid is not None:
            count = self.reference[1] - self.reference[0]
            check_grid("reference", self.reference_grid, count - self.special, f"{count} tokens, {self.special} of them special")
        if self.generated is not None and self.generated_grid is not None:
            count = self.generated[1] - self.generated[0]
            check_grid("generated", self.generated_grid, count, f"{count} tokens")

    @property
    def keys(self) -> Range:
        """The smallest range of keys that holds the reference and the words: what one call of the operator looks at."""
        parts = [part for part in (self.reference, self.words) if part is not None]
        return min(start for start, _ in parts), max(stop for _, stop in parts)

    @property
    def reference_part(self) -> slice:
        """Where the reference sits among those keys."""
        assert self.reference is not None
        return slice(self.reference[0] - self.keys[0], self.reference[1] - self.keys[0])


@dataclass(frozen=True)
class Seen:
    """One attention call, as a rule sees it before the first map is recorded."""

    layer: str  # the module's dotted name
    module: Any
    index: int  # n-th attention call of this layer: 0 the layer's own context, 1... adapters
    queries: int
    keys: int
    inputs: dict[str, Any] = field(default_factory=dict)  # what the denoiser was called with, by parameter name
    image: str | None = None  # the adapter's image, where several adapters or images share the layer
    denoiser: Any = None  # the module that denoises, with its config
    pipe: Any = None  # None where a bare denoiser is traced
    ahead: tuple[dict[str, Any], ...] = ()  # what it was called with before the run's first step, where it was; sizes only


def check_grid(side: str, grid: AnyGrid, count: int, described: str) -> None:
    """A grid must hold exactly the canvas's tokens."""
    if not is_grid(grid) or math.prod(grid) != count:
        expected = f"(height, width), or (frames, height, width) of a video, with (frames *) height * width = {count} ({described})"
        refuse(f"{side}_grid", expected, said(grid), "Special tokens do not count.")


def plane(grid: AnyGrid) -> Grid:
    """The (height, width) of a grid."""
    return grid[-2], grid[-1]


def usual_frames(grids: Iterable[AnyGrid | None]) -> int | None:
    """How many frames most of these grids have; None of pictures."""
    found = [None if len(grid) == 2 else grid[0] for grid in grids if grid is not None]
    return max(found, key=found.count, default=None)


def halvings(height: int, width: int, limit: int = 64) -> list[Grid]:
    """The grids a latent of this size has on its way down; odd sizes round up, as strided convolutions and padding do."""
    grids = [(height, width)]
    while grids[-1] != (1, 1) and len(grids) < limit:
        grids.append((-(-grids[-1][0] // 2), -(-grids[-1][1] // 2)))
    return grids


def grid_of(count: int, height: int, width: int) -> Grid | None:
    """The grid of `count` tokens that a latent of this size passes through, if there is one."""
    return next((grid for grid in halvings(height, width) if grid[0] * grid[1] == count), None)
