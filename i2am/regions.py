"""Masks, points and boxes as weights of a layer's tokens.

Points (y, x) and boxes (top, left, bottom, right) are fractions of the image's height and width, so that one declaration fits
every layer's grid and every image size: pixel (300, 200) of a 512 x 384 image is (300 / 512, 200 / 384).
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from i2am.tokens import Grid, refuse

Box = tuple[float, float, float, float]
Region = Any  # a point, a box, a mask (tensor, array, picture)
CELLS = 8  # cells along the longer side of `specific="grid"`


def cells(rows: int, columns: int) -> list[Box]:
    """Boxes that cover the image as a rows x columns grid, row by row."""
    return [(i / rows, j / columns, (i + 1) / rows, (j + 1) / columns) for i in range(rows) for j in range(columns)]


def as_mask(mask: Any, name: str) -> Tensor:
    """[m, h, w] float32 on the CPU: one mask for every image, or one per image (or prompt)."""
    if isinstance(mask, (list, tuple)) and len(mask):
        masks = [as_mask(one, name) for one in mask]
        if len({one.shape[1:] for one in masks}) > 1:
            refuse(name, "masks of one size", [tuple(one.shape[1:]) for one in masks], "Resize them first.")
        return torch.cat(masks)
    if hasattr(mask, "convert"):  # a picture: white is 255 and may have colours
        tensor = torch.from_numpy(np.array(mask.convert("L"), dtype=np.float32)) / 255
    elif isinstance(mask, Tensor):
        tensor = mask.detach().float().cpu()
    elif isinstance(mask, np.ndarray) and mask.dtype.kind in "biuf":
        tensor = torch.from_numpy(mask.astype(np.float32))
    else:
        refuse(name, "a mask: a tensor, an array or a picture", repr(mask), "Load a file first: PIL.Image.open(path).")
    if tensor.ndim == 4 and tensor.shape[1] == 1:
        tensor = tensor[:, 0]
    tensor = tensor[None] if tensor.ndim == 2 else tensor
    if tensor.ndim != 3 or 0 in tensor.shape:
        refuse(name, "a mask [h, w], [m, h, w] or [m, 1, h, w]", tuple(tensor.shape), "1 is inside, 0 outside.")
    if not (tensor >= 0).all() or not (tensor <= 1).all():
        refuse(name, "between 0 and 1", f"values from {tensor.min():g} to {tensor.max():g}", "Divide a mask of bytes by 255.")
    return tensor


def as_region(region: Region, name: str) -> Region:
    """A checked point, box or mask [m, h, w]."""
    if not is_numbers(region):
        return as_mask(region, name)
    point = tuple(float(x) for x in region)
    if len(point) not in (2, 4) or not all(0 <= x <= 1 for x in point):
        refuse(name, "a point (y, x) or a box (top, left, bottom, right) in fractions of height and width", region,
               "Divide pixels by the image's height and width.")  # fmt: skip
    if len(point) == 4 and not (point[0] < point[2] and point[1] < point[3]):
        refuse(name, "a box (top, left, bottom, right) with top < bottom and left < right", region, "Swap its sides.")
    return point


def is_numbers(value: object) -> bool:
    """Whether this is a point or a box, and not a list of them or a mask."""
    if isinstance(value, (np.ndarray, Tensor)):
        return value.ndim == 1
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(isinstance(x, Real) for x in value)


def as_regions(specific: Sequence[Region] | str | None) -> list[Region] | None:
    """The declared regions, None for "grid", which waits for the first layer's shape."""
    if specific is None:
        return []
    if isinstance(specific, str):
        if specific != "grid":
            refuse("specific", 'a list of points, boxes and masks, or "grid"', repr(specific), "i2am.cells(16, 12) gives a finer grid.")
        return None
    if not isinstance(specific, (list, tuple)) or is_numbers(specific):
        specific = [specific]
    regions = [as_region(region, f"specific[{i}]") for i, region in enumerate(specific)]
    if not regions:
        refuse("specific", "at least one region", "an empty list", "Leave it out to record none.")
    return regions


def default_cells(grid: Grid) -> list[Region]:
    """The cells of "grid": square ones, CELLS of them along the longer side."""
    longest = max(grid)
    return list(cells(*(max(1, round(CELLS * side / longest)) for side in grid)))


def images_of(region: Region) -> int:
    """How many images the region speaks of: 1 means every one."""
    return region.shape[0] if isinstance(region, Tensor) else 1


def on_grid(region: Region, grid: Grid) -> Tensor:
    """[m, h * w]: masks by nearest neighbour; a point is the cell it lies in; a box the cells whose centres it holds."""
    height, width = grid
    if isinstance(region, Tensor):
        return F.interpolate(region[:, None], grid, mode="nearest").flatten(1)
    weight = torch.zeros(grid, dtype=torch.float32, device="cpu")
    if len(region) == 4:
        down, right = ((torch.arange(n, dtype=torch.float32, device="cpu") + 0.5) / n for n in grid)
        top, left, bottom, end = region
        weight[((down >= top) & (down < bottom))[:, None] & ((right >= left) & (right < end))] = 1
        if weight.any():
            return weight.flatten()[None]
        region = ((top + bottom) / 2, (left + end) / 2)  # thinner than a cell: the cell of its middle
    weight[min(int(region[0] * height), height - 1), min(int(region[1] * width), width - 1)] = 1
    return weight.flatten()[None]


def per_image(weight: Tensor, images: int, name: str) -> Tensor:
    """[images, tokens]: rows are prompt by prompt, so m masks serve images / m rows each."""
    if images % weight.shape[0]:
        refuse(name, f"one mask, or one per image or prompt ({images} images)", f"{weight.shape[0]} masks", "Their number must divide.")
    return weight.repeat_interleave(images // weight.shape[0], 0)
