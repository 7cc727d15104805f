"""Marks of a correspondence field, drawn over pictures: arrows on one of them, dots of equal colours on both. See `fields` for words."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from i2am.common.checks import whole_number
from i2am.show.drawing import Picture, font, per_map
from i2am.show.fields import EVEN, LARGE, centres, checked, hue, pale

FINE = 3  # times, each way, that marks are drawn larger and then reduced
LEAST = 0.3  # opacity from which on a patch has a dot on the other picture
FAINT = 0.1  # below it no arrow is drawn
Point = tuple[float, float]
Mark = tuple[Tensor, Tensor, float]  # a patch's place, where it points, how far it is seen


def arrows(positions: Any, spread: Any, images: Any, *, back: bool = True, columns: int = 12, wide: float = EVEN) -> list[Picture]:
    """On a coarse grid of the canvas an arrow for each patch, from the place it comes from to where it is (or on to where it goes), as
    if both pictures were one; coloured by its direction as in `wheel`, seen as far as it knows its place; a dot where it stays."""
    positions, seen = checked(positions, spread, wide)
    found = []
    for picture, at, opacity in zip(per_map(images, len(positions)), positions, seen):
        page = fine(pale(picture))
        draw = ImageDraw.Draw(page, "RGBA")
        kept = thinned(at, opacity, columns, page.height / page.width, FAINT)
        width = 0.11 * page.width / min(columns, at.shape[1])
        for place, other, weight in sorted(kept, key=lambda mark: mark[2]):
            (y, x), (v, u) = ((float(a * page.height), float(b * page.width)) for a, b in ((other, place) if back else (place, other)))
            shape = arrow((x, y), (u, v), width)
            fill = (*hue(math.atan2(v - y, u - x)), round(255 * weight))
            if shape is None:
                draw.ellipse((u - width, v - width, u + width, v + width), fill=(110, 110, 110, round(255 * weight)))
            else:
                draw.polygon(shape, fill=fill, outline=(0, 0, 0, round(120 * weight)), width=FINE // 2)
        found.append(reduced(page))
    return found


def matches(positions: Any, spread: Any, images: Any, others: Any, *, columns: int = 8, wide: float = EVEN) -> list[Picture]:
    """The canvas and the other picture side by side: dots on a coarse grid of the one, and the same colours and numbers where they
    point on the other. Patches that look nearly everywhere have a faint dot and no counterpart."""
    found = []
    for left, right in dotted(positions, spread, images, others, columns=columns, wide=wide):
        page = Image.new("RGB", (left.width + right.width + left.width // 24, left.height), "white")
        page.paste(left, (0, 0))
        page.paste(right, (page.width - right.width, 0))
        found.append(page)
    return found


def dotted(positions: Any, spread: Any, images: Any, others: Any, *, columns: int = 8, wide: float = EVEN) -> list[tuple[Picture, Picture]]:
    """The two pictures of `matches`, equally high, an image each."""
    positions, seen = checked(positions, spread, wide)
    found = []
    for picture, other, at, opacity in zip(per_map(images, len(positions)), per_map(others, len(positions)), positions, seen):
        left = fine(picture)
        right = fine(other, left.height)
        kept = thinned(at, opacity, columns, left.height / left.width)
        shown = [mark for mark in kept if mark[2] >= LEAST]
        colours = palette([place for place, _, _ in shown])
        radius = 0.28 * left.width / min(columns, at.shape[1])
        for page in (left, right):
            draw = ImageDraw.Draw(page, "RGBA")
            if page is left:
                for place, _, weight in kept:
                    if weight < LEAST:
                        dot(draw, page, place, radius / 4, (255, 255, 255), 0.6)
            for i, ((place, there, weight), colour) in enumerate(zip(shown, colours), 1):
                dot(draw, page, place if page is left else there, radius, colour, weight, str(i))
        found.append((reduced(left), reduced(right)))
    return found


def thinned(positions: Tensor, seen: Tensor, columns: int, ratio: float, least: float = 0.0) -> list[Mark]:
    """About so many columns of patches, and rows as far apart; what is not seen is left out."""
    whole_number("columns", columns, 1, "12 is few enough to see the picture under them.")
    h, w = seen.shape
    across = min(columns, w)
    down = max(1, min(h, round(across * ratio)))
    rows, places = ([int((i + 0.5) * n / count) for i in range(count)] for n, count in ((h, down), (w, across)))
    at = centres((h, w))
    return [(at[i, j], positions[i, j], float(seen[i, j])) for i in rows for j in places if seen[i, j] > least]


def palette(places: Sequence[Tensor]) -> list[tuple[int, int, int]]:
    """A colour for each place: hue from left to right, darker from top to bottom, so that neighbours are alike and a flip is seen."""
    if not places:
        return []
    at = torch.stack(list(places))
    low, high = at.amin(0), at.amax(0)
    part = ((at - low) / (high - low).clamp(min=1e-6)).tolist()
    found = [colorsys.hls_to_rgb(0.83 * x, 0.68 - 0.36 * y, 0.95) for y, x in part]
    return [(round(255 * r), round(255 * g), round(255 * b)) for r, g, b in found]


def arrow(start: Point, end: Point, width: float) -> list[Point] | None:
    """The outline of an arrow; none where it would be all head."""
    along = (end[0] - start[0], end[1] - start[1])
    length = math.hypot(*along)
    if length < 2 * width:
        return None
    along = (along[0] / length, along[1] / length)
    neck = length - min(3.2 * width, 0.6 * length)
    shape = [(0, 0.25), (neck, 0.45), (neck, 1.3), (length, 0), (neck, -1.3), (neck, -0.45), (0, -0.25)]
    return [(start[0] + a * along[0] - b * width * along[1], start[1] + a * along[1] + b * width * along[0]) for a, b in shape]


def dot(draw: Any, page: Picture, place: Tensor, radius: float, colour: tuple[int, int, int], weight: float, text: str = "") -> None:
    """A disc with a rim and a number."""
    y, x = float(place[0] * page.height), float(place[1] * page.width)
    alpha = round(255 * weight**0.5)
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), (*colour, alpha), (255, 255, 255, alpha), max(1, round(radius / 7)))
    if text:
        light = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 140
        ink = (0, 0, 0, alpha) if light else (255, 255, 255, alpha)
        draw.text((x, y), text, ink, font=font(max(8, round(1.05 * radius))), anchor="mm")


def fine(picture: Picture, height: int | None = None) -> Picture:
    """As large as marks are drawn, or so high."""
    factor = FINE * max(1, math.ceil(LARGE / max(picture.size))) if height is None else height / picture.height
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, Image.Resampling.BICUBIC)


def reduced(page: Picture) -> Picture:
    return page.resize((page.width // FINE, page.height // FINE), Image.Resampling.BOX)
