"""All families, and the one of a denoiser: by the name of its class, never by a guess."""

from __future__ import annotations

from typing import Any

from i2am.families import (
    beside,
    crossing,
    flux,
    glm,
    hunyuan_video,
    joint,
    joyimage,
    omnigen,
    prompted,
    qwen,
    streams,
    unet_images,
    video,
    wan,
    zimage,
)
from i2am.families.family import Family, class_names

FAMILIES: tuple[Family, ...] = (
    *flux.FAMILIES,
    *joint.FAMILIES,
    *streams.FAMILIES,
    *qwen.FAMILIES,
    *zimage.FAMILIES,
    *joyimage.FAMILIES,
    *crossing.FAMILIES,
    *beside.FAMILIES,
    *prompted.FAMILIES,
    *wan.FAMILIES,
    *omnigen.FAMILIES,
    *glm.FAMILIES,
    *hunyuan_video.FAMILIES,
    *video.FAMILIES,
    *unet_images.FAMILIES,
)


def family_of(denoiser: Any, pipe: Any = None) -> Family | None:
    """The family of a pipeline, or else of its denoiser, or of a class that they derive from."""
    for thing, names in ((pipe, "pipelines"), (denoiser, "denoisers")):
        by_name = {name: family for family in FAMILIES for name in getattr(family, names)}
        found = next((by_name[name] for name in class_names(thing) if name in by_name), None)
        if found is not None:
            return found
    return None
