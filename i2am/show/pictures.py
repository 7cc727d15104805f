"""Maps as pictures: laid over images, alone, and moving over time; labelled sheets are in `sheets`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from i2am.common import outputs
from i2am.common.checks import is_size, number, refuse, said
from i2am.common.outputs import write_whole
from i2am.show.drawing import COLOURS, Picture, Scale, as_maps, blend, checked_labels, font, per_map, ranges, resized, text_width
from i2am.show.sheets import levels, sheet

__all__ = ["animate", "heat", "levels", "overlay", "sheet"]


def overlay(
    images: Any, maps: Any, *, colours: str = COLOURS, alpha: float = 0.6, scale: Scale = "each", threshold: float | None = None
) -> list[Picture]:
    """Maps [B, h, w] over B images, or over one.

    scale: "each" map's own least and greatest value (after resizing, so that the peak shows), "shared" by all maps, or (low, high)
    to compare pictures. threshold: where the level is not above it, the image stays as it is.
    """
    tensor = as_maps(maps, "maps", "[B, h, w]")
    pictures = per_map(images, len(tensor))
    big = [resized(map, picture.size[::-1]) for picture, map in zip(pictures, tensor)]
    return [blend(picture, map, span, colours, alpha, threshold) for picture, map, span in zip(pictures, big, ranges(big, scale))]


def heat(map: Any, size: tuple[int, int] | None = None, *, colours: str = COLOURS, scale: Scale = "each") -> Picture:
    """One map [h, w] alone, at size (height, width) or a pixel for each of its cells."""
    tensor = as_maps(map, "map", "[h, w]")
    if size is not None and not is_size(size):
        refuse("size", "(height, width)", said(size), "None draws one pixel for each cell.")
    big = tensor if size is None else resized(tensor, (int(size[0]), int(size[1])))
    return blend(None, big, ranges([big], scale)[0], colours, 1.0, None)


def animate(
    images: Any,
    maps_over_time: Any,
    path: str | Path,
    *,
    duration: float = 0.5,
    labels: Sequence[str] | None = None,
    colours: str = COLOURS,
    alpha: float = 0.6,
    scale: Scale = "shared",
    threshold: float | None = None,
) -> Path:
    """A looping GIF or WebP, by the suffix: maps [groups, h, w] over one image, or [B, groups, h, w] over B images side by side.

    Each frame is shown for duration seconds. No scale changes between frames, so growth shows: "shared" is one range for all,
    "each" one for each image.
    """
    path = outputs.file(path, "path", (".gif", ".webp"))
    form = path.suffix.lower()
    number("duration", duration, "between 0.02 and 60 seconds a frame", lambda x: 0.02 <= x <= 60, "Viewers slow down what is faster.")
    if getattr(maps_over_time, "ndim", 0) == 3:  # one image
        maps_over_time = maps_over_time[None]
    tensor = as_maps(maps_over_time, "maps_over_time", "[B, groups, h, w]")
    count = tensor.shape[1]
    labels = checked_labels("labels", [f"group {i + 1} of {count}" for i in range(count)] if labels is None else labels, count, "group")
    pictures = per_map(images, len(tensor))
    big = [resized(maps, picture.size[::-1]) for picture, maps in zip(pictures, tensor)]
    gap = 8 if len(pictures) > 1 else 0
    width, height = sum(picture.width + gap for picture in pictures) - gap, max(picture.height for picture in pictures)
    size = max(1, int(min(max(14, height / 20), *(0.96 * width / max(text_width(label, 1), 1) for label in labels))))
    strip = math.ceil(1.6 * size)
    frames = [Image.new("RGB", (width, height + strip), "white") for _ in labels]
    for frame, label in zip(frames, labels):
        ImageDraw.Draw(frame).text((width / 2, strip / 2), label, "black", font=font(size), anchor="mm")
    x = 0
    for picture, maps, span in zip(pictures, big, ranges(big, scale)):
        for frame, map in zip(frames, maps):
            frame.paste(blend(picture, map, span, colours, alpha, threshold), (x, strip))
        x += picture.width + gap
    if form == ".gif":  # one palette for all frames: with one each, equal colours would flicker
        factor = max(1, round(math.sqrt(len(frames) * width * height / 250_000)))
        seen = Image.fromarray(np.concatenate([np.asarray(frame.reduce(factor)) for frame in frames]))
        palette = seen.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1)
        frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    options: dict[str, Any] = {"quality": 90} if form == ".webp" else {}
    options |= {"format": form[1:].upper(), "append_images": frames[1:], "duration": round(duration * 1000)}
    write_whole(path, lambda part: frames[0].save(part, save_all=True, loop=0, **options))
    return path
