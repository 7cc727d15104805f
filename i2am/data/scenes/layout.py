"""What there is in scene 7 and where: drawn from the numbers of scene 7, the same in any batch and on any canvas.

Lengths are fractions of the canvas's height, x of it across.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from i2am.data.scenes.grammar import BESIDE, COLOURS, PLACES, SHAPES, SIZES, Sentence, Thing, beside, both, one, touching

T = TypeVar("T")
KINDS = {"one": 0.15, "one placed": 0.15, "and": 0.2, "both placed": 0.15, "beside": 0.2, "touching": 0.15}
RADII = {"small": (0.11, 0.14), "big": (0.2, 0.25), "": (0.13, 0.23)}
EDGE = 0.03  # between a thing and the canvas's edge
BOUND = dict(zip(COLOURS, SHAPES * 2))  # the one shape of each colour, where they are bound


@dataclass(frozen=True)
class Spot:
    """Where a thing lies."""

    x: float
    y: float
    radius: float
    turn: float


@dataclass(frozen=True)
class Layout:
    """A scene before it is drawn."""

    sentence: Sentence
    things: tuple[Thing, ...]
    spots: tuple[Spot, ...]


class Draws:
    """Takes a scene's numbers one after the other."""

    def __init__(self, numbers: Sequence[float]) -> None:
        self.numbers = iter(numbers)

    def __call__(self, low: float = 0.0, high: float = 1.0) -> float:
        return low + max(0.0, high - low) * next(self.numbers)

    def chance(self, share: float) -> bool:
        return next(self.numbers) < share

    def choice(self, of: Sequence[T]) -> T:
        return of[min(int(next(self.numbers) * len(of)), len(of) - 1)]

    def weighted(self, of: dict[str, float]) -> str:
        at = next(self.numbers) * sum(of.values())
        for name, share in of.items():
            at -= share
            if at < 0:
                return name
        return name


def laid_out(numbers: Sequence[float], aspect: float, bound: bool = False) -> Layout:
    """The scene of these numbers on a canvas that is `aspect` times as wide as high."""
    of = Draws(numbers)
    kind = of.weighted(KINDS)
    things = chosen(of, bound)
    radii = [of(*RADII[thing.size]) * min(1.0, aspect / 1.2) for thing in things]  # smaller where two would not fit side by side
    turns = [of(-0.2, 0.2) for _ in things]
    place, relation, swap, upright = of.choice(list(PLACES)), of.choice(BESIDE), of.chance(0.5), of.chance(0.3)
    if kind in ("one", "one placed"):
        where = place if kind == "one placed" else ""
        x, y = alone(of, radii[0], where, aspect)
        return Layout(one(things[0], where), things[:1], (Spot(x, y, radii[0], turns[0]),))
    if kind == "touching":
        sentence, centres = touching(things), in_touch(of, radii, aspect)
    else:
        if kind == "both placed":
            side = place if place != "middle" else "left"
            sentence, upright, swap = both(things, side), side in ("top", "bottom"), side in ("right", "bottom")
        elif kind == "beside":
            sentence, upright, swap = beside(things, relation), relation in BESIDE[2:], relation in ("right of", "below")
        else:
            sentence = both(things)
        centres = apart(of, radii, upright, swap, aspect)
    return Layout(sentence, things, tuple(Spot(x, y, radius, turn) for (x, y), radius, turn in zip(centres, radii, turns)))


def chosen(of: Draws, bound: bool) -> tuple[Thing, ...]:
    """Two things of different shapes and colours."""
    colour = of.choice(COLOURS)
    others = [c for c in COLOURS if BOUND[c] != BOUND[colour]] if bound else [c for c in COLOURS if c != colour]
    colours = (colour, of.choice(others))
    first, second = of(), of()
    shape = SHAPES[int(first * len(SHAPES)) % len(SHAPES)]
    left = [s for s in SHAPES if s != shape]
    free = (shape, left[int(second * len(left)) % len(left)])
    shapes = (BOUND[colours[0]], BOUND[colours[1]]) if bound else free
    return tuple(Thing(s, c, of.choice(SIZES) if of.chance(0.4) else "", of.chance(0.85)) for s, c in zip(shapes, colours))


def alone(of: Draws, radius: float, place: str, aspect: float) -> tuple[float, float]:
    """The centre of the only thing."""
    edge = radius + EDGE
    x, y = of(edge, aspect - edge), of(edge, 1 - edge)
    near, low = of(edge, max(edge, 0.28 * aspect)), of(edge, max(edge, 0.33))
    if place == "middle":
        return aspect / 2 + of(-0.04, 0.04), 0.5 + of(-0.04, 0.04)
    x = {"left": near, "right": aspect - near}.get(place, x)
    return x, {"top": low, "bottom": 1 - low}.get(place, y)


def apart(of: Draws, radii: Sequence[float], upright: bool, swap: bool, aspect: float) -> list[tuple[float, float]]:
    """The centres of two things in halves of their own: the first to the left or above, unless swapped."""
    long, short = (1.0, aspect) if upright else (aspect, 1.0)
    slack = 1.0 if upright else 1.1  # a thing may come near to the middle, not to the other thing
    along = [of(r + EDGE, max(r + EDGE, long / 2 - slack * r)) for r in radii]
    across = [of(r + EDGE, short - r - EDGE) for r in radii]
    if upright:  # one above the other, and not a canvas away
        across[1] = min(max(across[0] + (across[1] - across[0]) * 0.4, radii[1] + EDGE), short - radii[1] - EDGE)
    along[0 if swap else 1] = long - along[0 if swap else 1]
    return [(b, a) if upright else (a, b) for a, b in zip(along, across)]


def in_touch(of: Draws, radii: Sequence[float], aspect: float) -> list[tuple[float, float]]:
    """The centres of two things that touch, side by side or a little aslant."""
    slant = of(-0.45, 0.45) + (math.pi if of.chance(0.5) else 0)
    reach = (radii[0] + radii[1]) * 0.78  # a star or a cross reaches less far between its points
    dx, dy = reach * math.cos(slant), reach * math.sin(slant)
    edges = [r + EDGE for r in radii]
    x = of(max(edges[0], edges[1] - dx), min(aspect - edges[0], aspect - edges[1] - dx))
    y = of(max(edges[0], edges[1] - dy), min(1 - edges[0], 1 - edges[1] - dy))
    return [(x, y), (x + dx, y + dy)]
