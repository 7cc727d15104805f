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
from i2am.show.drawing import COLOURS, Picture, Scale, as_images, as_maps, blend, checked_labels, font, per_map, ranges, resized, text_width
from i2am.show.sheets import levels, sheet
from i2am.show.videos import are_videos, chosen_frames, strips, videos_of

__all__ = ["animate", "heat", "levels", "overlay", "sheet", "strip"]


def overlay(
    images: Any, maps: Any, *, colours: str = COLOURS, alpha: float = 0.6, scale: Scale = "each", threshold: float | None = None,
    frames: Sequence[int] | int | None = None,
) -> list[Picture]:  # fmt: skip
    """Maps [B, h, w] over B images, or over one. Maps [B, frames, h, w] over B videos, or over one: a row of the frames, or of those of
    frames=, for each.

    scale: "each" map's own least and greatest value (after resizing, so that the peak shows; of a video that of all frames), "shared" by
    all maps, or (low, high) to compare pictures. threshold: where the level is not above it, the image stays as it is.
    """
    if getattr(maps, "ndim", 0) == 4:
        tensor = as_maps(maps, "maps", "[B, frames, h, w]")
        videos = videos_of(images, tensor.shape[1], len(tensor))
        return strips(videos, tensor, chosen_frames(frames, tensor.shape[1]), (1, 1), colours, alpha, scale, threshold)
    no_frames(frames)
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


def strip(
    map: Any, size: tuple[int, int] | None = None, *, colours: str = COLOURS, scale: Scale = "each",
    frames: Sequence[int] | int | None = None,
) -> Picture:  # fmt: skip
    """One video's map [frames, h, w] alone: its frames in a row, each at size (height, width) or a pixel for each of its cells."""
    tensor = as_maps(map, "map", "[frames, h, w]")
    if size is not None and not is_size(size):
        refuse("size", "(height, width) of a frame", said(size), "None draws one pixel for each cell.")
    cell = (tensor.shape[1], tensor.shape[2]) if size is None else (int(size[0]), int(size[1]))
    return strips(None, tensor[None], chosen_frames(frames, len(tensor)), cell, colours, 1.0, scale, None)[0]


def no_frames(frames: Any) -> None:
    """Pictures have none to choose from."""
    if frames is not None:
        refuse("frames", "left out for maps of pictures, [B, h, w]", said(frames), "Maps of videos are [B, frames, h, w].")


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
    """A looping GIF or WebP, by the suffix: maps [groups, h, w] over one image, or [B, groups, h, w] over B images side by side; maps
    [(B,) frames, h, w] of videos over as many pictures each.

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
    videos = moving(images, len(tensor), count)
    pictures = [video[0] for video in videos]
    big = [resized(maps, picture.size[::-1]) for picture, maps in zip(pictures, tensor)]
    gap = 8 if len(pictures) > 1 else 0
    width, height = sum(picture.width + gap for picture in pictures) - gap, max(picture.height for picture in pictures)
    size = max(1, int(min(max(14, height / 20), *(0.96 * width / max(text_width(label, 1), 1) for label in labels))))
    strip = math.ceil(1.6 * size)
    frames = [Image.new("RGB", (width, height + strip), "white") for _ in labels]
    for frame, label in zip(frames, labels):
        ImageDraw.Draw(frame).text((width / 2, strip / 2), label, "black", font=font(size), anchor="mm")
    x = 0
    for video, maps, span in zip(videos, big, ranges(big, scale)):
        for frame, picture, map in zip(frames, video, maps):
            frame.paste(blend(picture, map, span, colours, alpha, threshold), (x, strip))
        x += video[0].width + gap
    if form == ".gif":  # one palette for all frames: with one each, equal colours would flicker
        factor = max(1, round(math.sqrt(len(frames) * width * height / 250_000)))
        seen = Image.fromarray(np.concatenate([np.asarray(frame.reduce(factor)) for frame in frames]))
        palette = seen.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1)
        frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    options: dict[str, Any] = {"quality": 90} if form == ".webp" else {}
    options |= {"format": form[1:].upper(), "append_images": frames[1:], "duration": round(duration * 1000)}
    write_whole(path, lambda part: frames[0].save(part, save_all=True, loop=0, **options))
    return path


def moving(images: Any, count: int, frames: int) -> list[list[Picture]]:
    """The picture behind each frame of what moves, for each of `count` maps: one image for all frames, or a video."""
    if not are_videos(images) and (count > 1 or len(as_images(images)) != frames):
        return [[picture] * frames for picture in per_map(images, count)]
    return [video * frames if len(video) == 1 else video for video in videos_of(images, frames, count)]
