"""Scenes as pictures: things with smooth edges on a soft ground, a whole batch at once, and which pixels are whose."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from i2am.common.checks import fields_said, is_size, is_whole, refuse, said
from i2am.data.scenes.grammar import COLOURS, SHAPES, Sentence
from i2am.data.scenes.layout import Layout, laid_out
from i2am.data.synthetic.numbers import Numbers, numbers
from i2am.data.synthetic.textures import hsv
from i2am.maps.tokens import Grid

SIZE = (64, 96)  # of the canvas that the small model paints
PALETTE = torch.tensor([[0.86, 0.12, 0.12], [0.10, 0.60, 0.20], [0.12, 0.25, 0.88], [0.96, 0.86, 0.10],
                        [0.56, 0.14, 0.70], [0.10, 0.80, 0.86], [0.95, 0.95, 0.95], [0.05, 0.05, 0.05]])  # fmt: skip
HATCHED = 0.2  # how much lighter and darker a thing's hatching is than its colour
GROUND = 400  # the place among a scene's numbers from which on they are the ground's and the light's


@dataclass(frozen=True)
class Scenes:
    """`pictures` [B, 3, H, W] in [-1, 1]; `things` [B, 2, H, W] bool: the pixels that show each thing."""

    pictures: Tensor
    things: Tensor
    layouts: tuple[Layout, ...]

    __repr__ = fields_said

    def __len__(self) -> int:
        return len(self.layouts)

    @property
    def sentences(self) -> tuple[Sentence, ...]:
        return tuple(layout.sentence for layout in self.layouts)

    @property
    def prompts(self) -> list[str]:
        return [sentence.text for sentence in self.sentences]

    def masks(self, index: int) -> dict[str, Tensor]:
        """[H, W] bool of each noun, adjective and verb of a scene."""
        return {word: self.things[index, list(which)].any(0) for word, which in self.sentences[index].things().items()}


def draw_scenes(count: int, *, seed: int = 0, first: int = 0, size: Grid = SIZE, bound: bool = False) -> Scenes:
    """Scenes first ... first + count - 1 of a seed, at any size (height, width).

    bound: every colour comes with one shape only, and the ground takes a pale tint of the first thing's colour.
    """
    if not is_size(size):
        refuse("size", "(height, width)", said(size), f"The small model paints {SIZE}.")
    if not is_whole(count, 1):
        refuse("count", "a whole number of at least 1", repr(count), "Scenes are counted from 0.")
    drawn = numbers(count, seed, first)
    layouts = tuple(laid_out(row, size[1] / size[0], bound) for row in drawn[:, :GROUND].tolist())
    return painted(layouts, drawn[:, GROUND:], size, bound)


def painted(layouts: Sequence[Layout], light: Tensor, size: Grid, bound: bool = False) -> Scenes:
    """The pictures of these layouts; `light` [B, ...] are the numbers of their grounds."""
    height, width = size
    y = ((torch.arange(height) + 0.5) / height)[:, None].expand(height, width)
    x = ((torch.arange(width) + 0.5) / height).expand(height, width)
    of = Numbers(light)
    picture = ground(of, x, y)
    jitter = of.take(2, 3) * 0.06 - 0.03
    if bound:
        tint = torch.stack([PALETTE[COLOURS.index(layout.things[0].colour)] for layout in layouts])
        picture = torch.lerp(picture, tint[:, :, None, None], 0.35)
    covers = torch.zeros(len(layouts), 2, height, width)
    hatched = torch.stack([hatching(x, y) for hatching in HATCHINGS.values()]) * HATCHED
    for shape, distance in DISTANCES.items():
        rows = [(i, n) for i, layout in enumerate(layouts) for n, thing in enumerate(layout.things) if thing.shape == shape]
        if not rows:
            continue
        spots = torch.tensor([[s.x, s.y, s.radius, s.turn] for s in (layouts[i].spots[n] for i, n in rows)])
        left, top, radius, turn = (one[:, None, None] for one in spots.unbind(1))
        across, down = (x - left) / radius, (y - top) / radius
        across, down = turn.cos() * across + turn.sin() * down, turn.cos() * down - turn.sin() * across
        cover = (0.5 - distance(across, down) * radius * height).clamp(0, 1)
        covers[[i for i, _ in rows], [n for _, n in rows]] = cover
    for n in (1, 0):  # the first thing lies on top
        those = [layout.things[min(n, len(layout.things) - 1)] for layout in layouts]
        colours = torch.stack([PALETTE[COLOURS.index(thing.colour)] for thing in those]) + jitter[:, n]
        own = colours[:, :, None, None] + hatched[[SHAPES.index(thing.shape) for thing in those], None]
        picture = torch.lerp(picture, own.clamp(0, 1), covers[:, n : n + 1])
    seen = covers > 0.5
    things = torch.stack([seen[:, 0], seen[:, 1] & ~seen[:, 0]], 1)
    return Scenes(picture.clamp(0, 1) * 2 - 1, things, tuple(layouts))


def ground(of: Numbers, x: Tensor, y: Tensor) -> Tensor:
    """[B, 3, H, W] in [0, 1]: from one soft tint to another, with a faint swell; lighter or darker than what lies on it."""
    value, hue = of(0.3, 0.74), of(0, 1)
    first = hsv(hue, of(0, 0.25), value)
    second = hsv((hue + of(-0.15, 0.15)) % 1, of(0, 0.25), (value + of(-0.18, 0.18)).clamp(0.28, 0.76))
    angle = of(0, 2 * math.pi)
    along = (angle.cos() * (x - 0.75) + angle.sin() * (y - 0.5) + 0.5).clamp(0, 1)
    swell: Tensor = torch.zeros_like(along)
    for _ in range(2):
        turn, wave = of(0, 2 * math.pi), of(5, 16)
        swell = swell + torch.sin(wave * (turn.cos() * x + turn.sin() * y) + of(0, 2 * math.pi)) * of(0.005, 0.025)
    colours = torch.lerp(first.expand(-1, -1, *x.shape), second.expand(-1, -1, *x.shape), along[:, None])
    return colours / 2 + 0.5 + swell[:, None]


def polygon(corners: Sequence[tuple[float, float]]) -> Callable[[Tensor, Tensor], Tensor]:
    """The signed distance to a polygon, negative inside."""

    def distance(x: Tensor, y: Tensor) -> Tensor:
        nearest: Tensor | None = None
        inside = torch.zeros_like(x, dtype=torch.bool)
        for (ax, ay), (bx, by) in zip(corners, [*corners[1:], corners[0]]):
            ex, ey, px, py = bx - ax, by - ay, x - ax, y - ay
            along = ((px * ex + py * ey) / (ex * ex + ey * ey)).clamp(0, 1)
            square = (px - ex * along) ** 2 + (py - ey * along) ** 2
            nearest = square if nearest is None else torch.minimum(nearest, square)
            crosses = (ay <= y) != (by <= y)
            inside ^= crosses & (px < py * (ex / ey if ey else 0.0))
        assert nearest is not None
        return torch.where(inside, -1.0, 1.0) * nearest.sqrt()

    return distance


def around(count: int, *radii: float) -> list[tuple[float, float]]:
    """Corners of a star or a regular polygon, the first on top."""
    turns = [2 * math.pi * i / count for i in range(count)]
    return [(radii[i % len(radii)] * math.sin(turn), -radii[i % len(radii)] * math.cos(turn)) for i, turn in enumerate(turns)]


def lines(across: float, down: float) -> Callable[[Tensor, Tensor], Tensor]:
    """A hatching, -1 ... 1, at pixels counted in heights of the canvas: lines at 16 times these frequencies."""
    return lambda x, y: torch.sin(32 * math.pi * (across * x + down * y))


def circle(x: Tensor, y: Tensor) -> Tensor:
    return (x * x + y * y).sqrt() - 0.95


def box(x: Tensor, y: Tensor, half: float, high: float) -> Tensor:
    return torch.maximum(x.abs() - half, y.abs() - high)


DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "circle": circle,
    "square": lambda x, y: box(x, y, 0.82, 0.82),
    "triangle": polygon([(0.0, -0.95), (0.95, 0.75), (-0.95, 0.75)]),
    "star": polygon(around(10, 1.08, 0.45)),
    "cross": lambda x, y: torch.minimum(box(x, y, 0.98, 0.32), box(x, y, 0.32, 0.98)),
    "ring": lambda x, y: ((x * x + y * y).sqrt() - 0.72).abs() - 0.27,
}
HATCHINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "circle": lambda x, y: torch.zeros_like(x),
    "square": lines(0, 1),
    "triangle": lines(1, 0),
    "star": lambda x, y: lines(1, 0)(x, y) * lines(0, 1)(x, y),
    "cross": lines(1, 1),
    "ring": lines(1, -1),
}
assert tuple(DISTANCES) == tuple(HATCHINGS) == SHAPES
