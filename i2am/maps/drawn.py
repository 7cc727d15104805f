"""Maps over their own pictures: what `maps.overlay` and `maps.animate` draw."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from i2am.maps.kept_pictures import refuse_missing

if TYPE_CHECKING:
    from PIL.Image import Image

CHOICE = ("layers", "heads", "groups", "reference", "balance")  # what goes to the level; the rest goes to the picture


def overlaid(maps: Any, images: Any, direction: str, options: dict[str, Any]) -> list[Image]:
    """The unified map over each image, or over the frames of each video."""
    from i2am.show.pictures import overlay

    choice = {name: options.pop(name) for name in CHOICE if name in options}
    unified = maps.unified(direction, **choice)
    return overlay(own(maps, direction, choice) if images is None else images, unified, **options)


def animated(maps: Any, path: str | Path, images: Any, direction: str, options: dict[str, Any]) -> Path:
    """The unified map over the frames of each video, or the time groups over each image, one after the other."""
    from i2am.show.pictures import animate
    from i2am.show.videos import as_videos

    choice = {name: options.pop(name) for name in CHOICE if name in options}
    moving = maps.unified(direction, **choice)  # [B, frames, h, w] of a video
    video = moving.ndim == 4
    if video:
        options = {"labels": [f"frame {i}" for i in range(moving.shape[1])], **options}
    else:
        moving = maps.time(direction, **choice)
    images = own(maps, direction, choice) if images is None else as_videos(images) if video else images
    return animate(images, moving, path, **options)


def own(maps: Any, direction: str, choice: dict[str, Any]) -> list[Any]:
    """The pictures that the maps carry for this canvas, or what to do without them."""
    found = maps.pictures and maps.pictures.on(direction, choice.get("reference"), maps.references)
    return list(found or refuse_missing(direction))
