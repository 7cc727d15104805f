"""Videos: their frames side by side in a row, and who has which pictures. Frames are those of the maps, counted from 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw
from torch import Tensor

from i2am.common.checks import is_whole, refuse, said
from i2am.show.drawing import Picture, Scale, as_images, blend, font, is_array, ranges, resized, text_width

WIDE = 2400  # pixels that a row of frames takes at most


def are_videos(images: Any) -> bool:
    """Whether these are videos, and not pictures or one video."""
    if is_array(images):
        return images.ndim == 5
    listed = images if isinstance(images, (list, tuple)) else ()
    several = [isinstance(one, (list, tuple)) or (is_array(one) and one.ndim >= 4) for one in listed]
    if any(several) and not all(several):
        refuse("images", "a video's pictures, or a list of videos", "both in one list", "A video of one picture is [picture].")
    return any(several)


def as_videos(images: Any) -> list[list[Picture]]:
    """The frames of each video, of what diffusers returns: lists of pictures, arrays [B, frames, H, W, C], tensors [B, frames, C, H, W],
    lists of these; [frames, H, W, C], [frames, C, H, W] and a list of pictures are one video."""
    return [as_images(one) for one in images] if are_videos(images) else [as_images(images)]


def videos_of(images: Any, frames: int, count: int | None = None) -> list[list[Picture]]:
    """As `as_videos`, each with as many pictures as the maps have frames, or with one for all of them; `count` of them, or one for all."""
    videos = as_videos(images)
    for video in videos:
        if len(video) not in (1, frames):
            among, rest = divmod(len(video) - 1, max(frames - 1, 1))
            step = among if frames > 1 and among > 1 and not rest else max(2, len(video) // frames)
            refuse("images", f"one for each of the {frames} frames of the maps, or one for all", f"a video of {len(video)}",
                   f"A frame of the model may stand for several of the video's: pick one for each, such as video[::{step}]. Frames that "
                   "the model was given are not among them.")  # fmt: skip
        if len({picture.size for picture in video}) > 1:
            refuse("images", "frames of one size", [picture.size for picture in video[:4]], "Resize them first.")
    if count is not None and len(videos) not in (1, count):
        refuse("images", f"one video, or as many as there are maps ({count})", counted_videos(videos),
               "Pass the batch that the maps were traced on; [[picture], [picture]] are videos of one picture each.")  # fmt: skip
    return videos * count if count is not None and len(videos) == 1 else videos


def counted_videos(videos: Sequence[Sequence[Picture]]) -> str:
    return f"{len(videos)} of {', '.join(str(len(video)) for video in videos[:4])} pictures"


def chosen_frames(frames: Sequence[int] | int | None, count: int) -> list[int]:
    """The frames that are asked for, of so many."""
    if frames is None:
        return list(range(count))
    listed: Any = [frames] if is_whole(frames) else frames
    if not isinstance(listed, (list, tuple, range)) or not listed or not all(is_whole(i) and i < count for i in listed):
        refuse("frames", f"some of the {count} frames of the maps", said(frames), "They are counted from 0.")
    return [int(i) for i in listed]


def strips(videos: Sequence[Sequence[Picture]] | None, maps: Tensor, frames: Sequence[int], size: tuple[int, int], colours: str,
           alpha: float, scale: Scale, threshold: float | None) -> list[Picture]:  # fmt: skip
    """A row of frames for each of the maps [B, frames, h, w]: over its video, or alone at a size. Colours have one range for a video."""
    rows: list[list[Picture] | None] = []
    big = []
    for i, video in enumerate(maps):
        under = None if videos is None else [videos[i][frame if len(videos[i]) > 1 else 0] for frame in frames]
        cell = cell_of(size if under is None else under[0].size[::-1], len(frames))
        rows.append(under and [small(one, len(frames)) for one in under])
        big.append(resized(video[list(frames)], cell, antialias=cell[0] < video.shape[-2]))
    found = []
    for under, shown, span in zip(rows, big, ranges(big, scale)):
        found.append(row([blend(under[i] if under else None, one, span, colours, alpha, threshold) for i, one in enumerate(shown)], frames))
    return found


def cell_of(size: tuple[int, int], frames: int) -> tuple[int, int]:
    """(height, width) of one of so many frames in a row, no larger than a picture is."""
    height, width = size
    factor = min(1.0, WIDE / (frames * (width + gap_of(width))))
    return max(1, round(height * factor)), max(1, round(width * factor))


def small(picture: Picture, frames: int) -> Picture:
    """A picture as one of so many frames in a row."""
    return picture.resize(cell_of(picture.size[::-1], frames)[::-1], Image.Resampling.LANCZOS)


def gap_of(width: int) -> int:
    return max(2, round(0.03 * width))


def row(pictures: Sequence[Picture], frames: Sequence[int]) -> Picture:
    """Pictures of one size side by side, each under its frame's number."""
    width, height = pictures[0].size
    gap, label = gap_of(width), f"frame {max(frames)}"
    size = min(max(9.0, height / 14), 0.96 * width / text_width(label, 1))
    named = size >= 7  # smaller than that nobody reads it: the number alone
    size = size if named else min(max(7.0, height / 14), 0.96 * width / text_width(str(max(frames)), 1))
    head = round(1.7 * size)
    page = Image.new("RGB", (len(pictures) * (width + gap) - gap, head + height), "white")
    for i, (frame, picture) in enumerate(zip(frames, pictures)):
        left = i * (width + gap)
        page.paste(picture, (left, head))
        text = f"frame {frame}" if named else str(frame)
        ImageDraw.Draw(page).text((left + width / 2, head / 2), text, "black", font=font(max(1, int(size))), anchor="mm")
    return page
