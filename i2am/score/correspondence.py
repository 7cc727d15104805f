"""Does attention correspond? Scores of the field alone, without any truth, each [B]; higher is better.

    returning        the share of patches that, followed to the reference and back again, end within `within` patches of themselves
    inside           the share of patches whose position on the reference lies in the garment's mask
    sharpness        1 - spread / the spread of looking everywhere, the mean over patches
    smoothness       the share of neighbouring patches whose positions on the reference lie within `within` patches of each other
    correspondence   the mean over patches of (sharpness there * sharpness back)^2 / (1 + (patches from home)^2), less that outside the mask

The first four are from 0 to 1 and each can be fooled: attention that looks everywhere is smooth, one that sees nothing but places
returns. The last one is from -1 to 1: a patch that shows the garment has one place it comes from, and what lies outside the mask has
none. It was chosen among several forms by how it follows the truth, and `benchmarks/results/small-world.md` shows all beside it.

Patches are those of the inpainting mask: elsewhere a model has no reason to look at the reference. One that attends to nothing fails.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from i2am.common.checks import instance, number, refuse
from i2am.maps.field import Field
from i2am.maps.levels import AttributionMaps
from i2am.maps.regions import as_mask, on_grid, per_image
from i2am.maps.tokens import Grid
from i2am.maps.ways import followed

EVERYWHERE = math.sqrt(1 / 6)  # the spread of a uniform distribution over a picture, in fractions
NAMES = ("correspondence", "returning", "inside", "sharpness", "smoothness")


def correspondence(there: Field, back: Field, mask: Any, *, within: float = 1.0) -> Tensor:
    """How much better the mask's patches know their place on the reference than those outside it; NaN where either is empty.

    `there` leads to the other picture and `back` from it, as maps.field("g2r") and maps.field("r2g") do. within: how many patches from
    home count half.
    """
    away, to = _away(there, back).double(), there.positions.double().movedim(-1, 1)
    narrow = _narrow(there) * followed(to, _narrow(back)[:, None])[:, 0].nan_to_num(0.0)
    known, region = narrow**2 / (1 + (away / _within(within)) ** 2), _region(mask, there)
    return _share(known, region) - _share(known, 1 - region)


def returning(there: Field, back: Field, mask: Any = None, *, within: float = 1.0) -> Tensor:
    """The share of patches that come home."""
    return _share(_away(there, back) <= _within(within), _region(mask, there))


def inside(field: Field, mask: Any, garment_mask: Any) -> Tensor:
    """The share of the mask's patches that come from the garment; NaN where the mask is empty."""
    _check("field", field)
    garment = per_image(as_mask(garment_mask, "garment_mask"), len(field), "garment_mask")
    height, width = garment.shape[-2:]
    at = field.positions.nan_to_num(-1.0) * torch.tensor([height, width])
    y, x = (at[..., axis].floor().long().clamp(0, size - 1) for axis, size in ((0, height), (1, width)))
    worn = garment.flatten(1).gather(1, (y * width + x).flatten(1)).view(y.shape) > 0.5
    return _share(worn & field.positions.isfinite().all(-1), _region(mask, field))


def sharpness(field: Field, mask: Any = None) -> Tensor:
    """How narrowly each patch looks: 1 of a single spot, 0 of looking everywhere, or at two ends."""
    _check("field", field)
    return _share(_narrow(field), _region(mask, field))


def smoothness(field: Field, mask: Any = None, *, within: float = 2.0) -> Tensor:
    """The share of pairs of patches beside and below each other, both in the mask, that come from nearby."""
    _check("field", field)
    region, at = _region(mask, field), field.positions.double() * torch.tensor(_grid(field))
    near, both = [], []
    for axis in (1, 2):
        size = at.shape[axis]
        jump = (at.narrow(axis, 1, size - 1) - at.narrow(axis, 0, size - 1)).norm(dim=-1)
        near.append((jump <= _within(within)).flatten(1))
        both.append((region.narrow(axis, 1, size - 1) * region.narrow(axis, 0, size - 1)).flatten(1))
    return _share(torch.cat(near, 1), torch.cat(both, 1))


def scores(maps: AttributionMaps, mask: Any, garment_mask: Any = None, **choice: Any) -> dict[str, Tensor]:
    """All of them by name, [B] each; "inside" where there is a garment_mask. layers=, heads=, groups=, reference= and weigh= as for
    `maps.field`."""
    instance("maps", maps, AttributionMaps, "run.maps is one.")
    there, back = (maps.field(direction, **choice) for direction in ("g2r", "r2g"))
    found = {"correspondence": correspondence(there, back, mask), "returning": returning(there, back, mask)}
    if garment_mask is not None:
        found["inside"] = inside(there, mask, garment_mask)
    return found | {"sharpness": sharpness(there, mask), "smoothness": smoothness(there, mask)}


def _check(name: str, field: Field) -> None:
    instance(name, field, Field, 'maps.field("g2r") is one.')
    if field.positions.ndim != 4:
        refuse(name, 'of level "unified": [B, H, W]', list(field.positions.shape[:-1]), "Choose a layer, head or group instead: layers=.")


def _away(there: Field, back: Field) -> Tensor:
    """[B, H, W]: how far from itself each patch ends, in patches."""
    _check("there", there)
    _check("back", back)
    return there.away(back)


def _narrow(field: Field) -> Tensor:
    """[B, H, W]: 1 for a single spot, 0 for looking everywhere or nowhere."""
    return (1 - field.spread.double() / EVERYWHERE).nan_to_num(0.0).clamp(0, 1)


def _within(within: float) -> float:
    return number("within", within, "a number of patches above 0", lambda x: 0 < x < math.inf, "1 is a patch.")


def _grid(field: Field) -> Grid:
    return field.positions.shape[1], field.positions.shape[2]


def _region(mask: Any, field: Field) -> Tensor:
    """[B, H, W] 0 or 1: the patches that count."""
    if mask is None:
        return torch.ones(field.positions.shape[:3])
    return (per_image(on_grid(as_mask(mask, "mask"), _grid(field)), len(field), "mask") > 0.5).float().view(field.positions.shape[:3])


def _share(values: Tensor, region: Tensor) -> Tensor:
    """[B] float32, the mean over the region; NaN where it is empty."""
    values, region = values.double().flatten(1), region.double().flatten(1)
    return ((values * region).sum(1) / region.sum(1)).float()
