"""Correspondence fields in a page: unified, of each time group and of each layer, from either picture to the other.

A field's bytes, plane by plane, for each level and then for each direction: y high, y low, x high, x low, deviation of y, of x, and their
correlation. A position is code / 65534, code 65535 where there is none; a deviation (byte / 255)^2 / 2, no distribution on [0, 1] having
a larger one; a correlation byte / 127 - 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from i2am.maps.field import Field
from i2am.maps.levels import AttributionMaps
from i2am.viewer.contents import Level
from i2am.viewer.encoding import packed
from i2am.viewer.size_limit import Part

DIRECTIONS = ("g2r", "r2g")
NOWHERE, LAST = 65535, 65534
UNIFIED = (1, 2, 4)  # patches, each way, that are taken together
OTHERS = (1, 2, 4, None)  # None: left out


class Fields(Part):
    """The unified fields of a reference, or those of its time groups and layers."""

    def __init__(self, maps: AttributionMaps, reference: str, layers: Sequence[str], unified: bool) -> None:
        self.reference, self.unified = reference, unified
        self.ladder: tuple[int | None, ...] = UNIFIED if unified else OTHERS
        self.levels, self.fields = unified_of(maps, reference) if unified else others_of(maps, reference, layers)
        weight = 6.0 if unified else 2.0
        super().__init__(lambda rung: sum(map(len, self.texts(self.ladder[rung]))),
                         [weight * math.log2(factor) if factor else 12.0 for factor in self.ladder])  # fmt: skip

    @property
    def coarse(self) -> int | None:
        return self.ladder[self.rung]

    def texts(self, coarse: int | None) -> list[str]:
        """One for each image."""
        if coarse is None:
            return []
        planes = [[encoded(field, coarse) for field in pair] for pair in self.fields]
        images = len(self.fields[0][0])
        return [packed(b"".join(plane[image].tobytes() for pair in planes for plane in pair)) for image in range(images)]

    def to_json(self, blobs: list[str]) -> dict[str, Any] | None:
        """What the page must know; the bytes go to the end of the blobs."""
        if self.coarse is None:
            return None
        texts = self.texts(self.coarse)
        blobs += texts
        grids = [{d: list(shape(field, self.coarse)) for d, field in zip(DIRECTIONS, pair)} for pair in self.fields]
        levels = [{"level": one.level, "place": one.place, "name": one.name, "grids": grid} for one, grid in zip(self.levels, grids)]
        return {"levels": levels, "blobs": list(range(len(blobs) - len(texts), len(blobs)))}

    def said(self, several: bool) -> str | None:
        """What was given up, in words."""
        what = "the fields" + (f" of {self.reference}" if several else "") + ("" if self.unified else " of single time groups and layers")
        if self.coarse is None:
            return f"{what} are left out"
        full, kept = (max((shape(pair[0], coarse) for pair in self.fields), key=math.prod) for coarse in (1, self.coarse))
        return None if full == kept else "{} have {} \u00d7 {} patches instead of {} \u00d7 {}".format(what, *kept, *full)


def fields_of(maps: AttributionMaps, notes: list[str]) -> list[Fields]:
    """The fields of every reference that has some."""
    found = []
    for reference in maps.references:
        if not any(s.source == reference and s.has_field for s in maps.sums):
            continue
        try:
            layers = maps.names("field_g2r", reference=reference)
            parts = [Fields(maps, reference, layers, unified) for unified in (True, False)]
        except ValueError as error:  # sums that are not finite, layers without a way back
            notes.append(f"No field. {str(error).removeprefix('i2am: ')}")
            continue
        found += [part for part in parts if part.levels]
    return found


Pairs = list[tuple[Field, Field]]


def pair(maps: AttributionMaps, reference: str, **choice: Any) -> tuple[Field, Field]:
    there, back = (maps.field(direction, reference=reference, **choice) for direction in DIRECTIONS)
    return there, back


def unified_of(maps: AttributionMaps, reference: str) -> tuple[list[Level], Pairs]:
    return [Level("unified", 0, "unified")], [pair(maps, reference)]


def others_of(maps: AttributionMaps, reference: str, layers: Sequence[str]) -> tuple[list[Level], Pairs]:
    """Time groups, and layers on their own grids; none where there is only one."""
    levels, fields = [], []
    timed = pair(maps, reference, level="time") if maps.groups > 1 else ()
    for i in range(maps.groups if timed else 0):
        levels.append(Level("time", i, f"group {i + 1} of {maps.groups}"))
        there, back = (replace(one, positions=one.positions[:, i], covariance=one.covariance[:, i]) for one in timed)
        fields.append((there, back))
    for i, name in enumerate(layers if len(layers) > 1 else ()):
        levels.append(Level("layer", i, name))
        fields.append(pair(maps, reference, layers=lambda other, name=name: other == name))
    return levels, fields


def shape(field: Field, coarse: int) -> tuple[int, int]:
    h, w = field.positions.shape[1:3]
    return -(-h // coarse), -(-w // coarse)


def encoded(field: Field, coarse: int) -> np.ndarray:
    """[B, 7, h, w] bytes."""
    y, x, yy, yx, xx = pooled(field, coarse).unbind(1)
    nowhere = (~(y + x + yy + yx + xx).isfinite()).numpy()
    planes = []
    for position in (y, x):
        code = (position.clamp(0, 1) * LAST).nan_to_num(0.0).round().int().numpy()
        code[nowhere] = NOWHERE
        planes += [code >> 8, code & 255]
    deviations = [variance.clamp(0, 0.25).nan_to_num(0.0).sqrt() for variance in (yy, xx)]
    planes += [(255 * (2 * deviation).sqrt()).round().int().numpy() for deviation in deviations]
    correlation = (yx / (deviations[0] * deviations[1])).nan_to_num(0.0, 0.0, 0.0).clamp(-1, 1)
    planes.append((127 * (correlation + 1)).round().int().numpy())
    return np.stack(planes, 1).astype(np.uint8)


def pooled(field: Field, coarse: int) -> Tensor:
    """[B, 5, h, w]: y, x, yy, yx, xx of patches that are taken together: the mixture of what they attend to."""
    (y, x), (yy, yx, xx) = field.positions.double().unbind(-1), field.covariance.double().unbind(-1)
    if coarse == 1:
        return torch.stack([y, x, yy, yx, xx], 1)
    moments = torch.stack([torch.ones_like(y), y, x, yy + y * y, yx + y * x, xx + x * x], 1)
    moments = torch.where(moments.isfinite().all(1, keepdim=True), moments, 0.0)
    mass, y, x, yy, yx, xx = F.interpolate(moments, shape(field, coarse), mode="area").unbind(1)
    y, x = y / mass, x / mass
    return torch.stack([y, x, yy / mass - y * y, yx / mass - y * x, xx / mass - x * x], 1)
