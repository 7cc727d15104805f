"""Masks, points and boxes as weights of a layer's tokens.

Points (y, x) and boxes (top, left, bottom, right) are fractions of the image's height and width, so that one declaration fits
every layer's grid and every image size: pixel (300, 200) of a 512 x 384 image is (300 / 512, 200 / 384).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from i2am.common.checks import refuse, said, whole_number
from i2am.maps.tokens import Grid

Box = tuple[float, float, float, float]
Region = Any  # a point, a box, a mask (tensor, array, picture)
CELLS = 8  # cells along the longer side of `specific="grid"`
MANY = 1000  # regions from which on a trace is slow
PACE = 200  # regions that take as long as the attention of their layer: heads of 40 numbers, on a CPU


def cells(rows: int, columns: int) -> list[Box]:
    """Boxes that cover the image as a rows x columns grid, row by row."""
    rows, columns = (whole_number(name, n, 1, "i2am.cells(16, 12) has 192.") for name, n in (("rows", rows), ("columns", columns)))
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
    elif isinstance(mask, Tensor) and not mask.is_complex():
        tensor = mask.detach().float().cpu()
    elif isinstance(mask, np.ndarray) and mask.dtype.kind in "biuf":
        tensor = torch.from_numpy(mask.astype(np.float32))
    else:
        refuse(name, "a mask: a tensor, an array or a picture", said(mask), "Load a file first: PIL.Image.open(path).")
    if tensor.ndim == 4 and tensor.shape[1] == 1:
        tensor = tensor[:, 0]
    tensor = tensor[None] if tensor.ndim == 2 else tensor
    if tensor.ndim != 3 or 0 in tensor.shape:
        refuse(name, "a mask [h, w], [m, h, w] or [m, 1, h, w]", tuple(tensor.shape), "1 is inside, 0 outside.")
    wrong = ~((tensor >= 0) & (tensor <= 1))
    if wrong.any():
        got = f"values from {tensor.min():g} to {tensor.max():g}{where(wrong)}"
        refuse(name, "between 0 and 1", got, "Divide a mask of bytes by 255.")
    return tensor


def where(found: Tensor) -> str:
    """Which images of a batch [B, ...] have something, for a message."""
    images = found.flatten(1).any(1).nonzero()[:, 0].tolist()
    return f" in image {said(images)[1:-1]} of {len(found)}" if len(found) > 1 else ""


def as_weight(mask: Any, name: str) -> Tensor:
    """As `as_mask`, and not empty: what is weighed by nothing has a map of zeros."""
    tensor = as_mask(mask, name)
    empty = ~tensor.flatten(1).any(1)
    if empty.any():
        got = f"nothing but 0{where(empty[:, None])}"
        refuse(name, "above 0 somewhere in every image", got, "Leave such an image out, or the mask: without one every token counts.")
    return tensor


def as_region(region: Region, name: str) -> Region:
    """A checked point, box or mask [m, h, w]."""
    if not isinstance(region, (Tensor, np.ndarray, list, tuple)) and not hasattr(region, "convert"):
        refuse(name, "a point (y, x), a box (top, left, bottom, right) or a mask", said(region), "Points and boxes are fractions.")
    if not is_numbers(region):
        return as_weight(region, name)
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
            refuse("specific", 'a list of points, boxes and masks, or "grid"', said(specific), "i2am.cells(16, 12) gives a finer grid.")
        return None
    if isinstance(specific, (np.ndarray, Tensor)) and specific.ndim == 2 and specific.shape[1] in (2, 4):
        refuse("specific", "a list where it is points or boxes", said(specific), "Write x.tolist(), or [x] for a mask this narrow.")
    if not isinstance(specific, (list, tuple)) or is_numbers(specific):
        specific = [specific]
    regions = [as_region(region, f"specific[{i}]") for i, region in enumerate(specific)]
    if not regions:
        refuse("specific", "at least one region", "an empty list", "Leave it out to record none.")
    if len(regions) > MANY:
        warnings.warn(f"i2am: {len(regions):,} regions make the attention of every traced layer about {1 + len(regions) / PACE:.0f} times "
                      f"as slow and take {len(regions):,} times G2R's memory. i2am.cells(16, 12) has 192.", stacklevel=4)  # fmt: skip
    return regions


def default_cells(grid: Grid) -> list[Region]:
    """The cells of "grid": square ones, CELLS of them along the longer side."""
    longest = max(grid)
    return list(cells(*(max(1, round(CELLS * side / longest)) for side in grid)))


def images_of(region: Region) -> int:
    """How many images the region speaks of: 1 means every one."""
    return region.shape[0] if isinstance(region, Tensor) else 1


def on_grid(region: Region, grid: Grid) -> Tensor:
    """[m, h * w]: masks by nearest neighbour; a point is the cell it lies in; a box the cells whose centres it holds, and one that holds
    none the cell of its middle."""
    if not isinstance(region, Tensor):
        return boxes_on_grid([region], grid)
    return F.interpolate(region[:, None], grid, mode="nearest").flatten(1)


def touched(mask: Tensor, grid: Grid) -> Tensor:
    """As `on_grid`; but a mask that asks for a spot and falls between the centres of the cells is every cell that it touches."""
    nearest = on_grid(mask, grid)
    lost = ~nearest.any(1)
    nearest[lost] = F.adaptive_max_pool2d(mask[lost][:, None], grid).flatten(1)
    return nearest


def boxes_on_grid(places: Sequence[Region], grid: Grid) -> Tensor:
    """[n, h * w] of points and boxes, all at once."""
    exact = torch.tensor([(*place, *place)[:4] for place in places], dtype=torch.float64, device="cpu")
    sides, cells, inside = exact.float(), [torch.arange(n, device="cpu") for n in grid], list[Tensor]()
    for axis, cell in enumerate(cells):
        centres = (cell.float() + 0.5) / len(cell)
        inside.append((centres >= sides[:, axis, None]) & (centres < sides[:, axis + 2, None]))
    thin = ~(inside[0].any(1) & inside[1].any(1))  # points are
    for axis, cell in enumerate(cells):
        middle = ((exact[:, axis] + exact[:, axis + 2]) / 2 * len(cell)).long().clamp(max=len(cell) - 1)
        inside[axis] = torch.where(thin[:, None], cell == middle[:, None], inside[axis])
    return (inside[0][:, :, None] & inside[1][:, None, :]).flatten(1).to(torch.float32)


def regions_on_grid(regions: Sequence[Region], grid: Grid, images: int) -> Tensor:
    """[images, n, h * w]: a 0/1 row for each region (or the mask's own values) and image."""
    weight = torch.zeros(images, len(regions), grid[0] * grid[1], dtype=torch.float32, device="cpu")
    places = [i for i, region in enumerate(regions) if not isinstance(region, Tensor)]
    if places:
        weight[:, places] = boxes_on_grid([regions[i] for i in places], grid)
    for i, region in enumerate(regions):
        if isinstance(region, Tensor):
            weight[:, i] = per_image(touched(region, grid), images, f"specific[{i}]")
    return weight


def per_image(weight: Tensor, images: int, name: str) -> Tensor:
    """[images, tokens]: rows are prompt by prompt, so m masks serve images / m rows each."""
    if images % weight.shape[0]:
        refuse(name, f"one mask, or one per image or prompt ({images} images)", f"{weight.shape[0]} masks", "Their number must divide.")
    return weight.repeat_interleave(images // weight.shape[0], 0)
