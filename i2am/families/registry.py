"""All families, and the one of a denoiser: by the name of its class, never by a guess."""

from __future__ import annotations

from typing import Any

from i2am.families import beside, crossing, flux, glm, hunyuan_video, joint, joyimage, omnigen, prompted, qwen, streams, video, wan, zimage
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
)


def family_of(denoiser: Any) -> Family | None:
    """The family of a denoiser, or of a class that it derives from."""
    by_name = {name: family for family in FAMILIES for name in family.denoisers}
    return next((by_name[name] for name in class_names(denoiser) if name in by_name), None)
