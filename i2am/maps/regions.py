"""Masks, points and boxes as weights of a layer's tokens.

Points (y, x) and boxes (top, left, bottom, right) are fractions of the image's height and width, so that one declaration fits
every layer's grid and every image size: pixel (300, 200) of a 512 x 384 image is (300 / 512, 200 / 384). Of a video they count in
every frame, and (frame, y, x) and (frame, top, left, bottom, right) in one; frames are those of the layers' grids, counted from 0.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from i2am.common.checks import counted, refuse, said, whole_number
from i2am.maps.tokens import AnyGrid, Grid, plane

Box = tuple[float, ...]  # (top, left, bottom, right), of one frame of a video (frame, top, left, bottom, right)
Region = Any  # a point, a box, a mask (tensor, array, picture)
CELLS, OF_FRAME = 8, 4  # cells along the longer side of `specific="grid"`: of a picture, and of each frame of a video
MANY = 1000  # regions from which on a trace is slow
PACE = 200  # regions that take as long as the attention of their layer: heads of 40 numbers, on a CPU


def cells(rows: int, columns: int, *, frames: int | None = None) -> list[Box]:
    """Boxes that cover the image as a rows x columns grid, row by row; with frames= each frame of a video so, one after the other."""
    rows, columns = (whole_number(name, n, 1, "i2am.cells(16, 12) has 192.") for name, n in (("rows", rows), ("columns", columns)))
    boxes = [(i / rows, j / columns, (i + 1) / rows, (j + 1) / columns) for i in range(rows) for j in range(columns)]
    if frames is None:
        return list[Box](boxes)
    frames = whole_number("frames", frames, 1, "Count those of the layers' grids.")
    return [(frame, *box) for frame in range(frames) for box in boxes]


def as_mask(mask: Any, name: str, frames: bool = False) -> Tensor:
    """[m, h, w] float32 on the CPU: one mask for every image, or one per image (or prompt); [m, frames, h, w] where a video may have one
    per frame."""
    if isinstance(mask, (list, tuple)) and len(mask):
        masks = [as_mask(one, name, frames) for one in mask]
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
    if (tensor.ndim != 3 and not (frames and tensor.ndim == 4)) or 0 in tensor.shape:
        one = "frames" if frames else "1"
        refuse(name, f"a mask [h, w], [m, h, w] or [m, {one}, h, w]", tuple(tensor.shape), "1 is inside, 0 outside.")
    wrong = ~((tensor >= 0) & (tensor <= 1))
    if wrong.any():
        got = f"values from {tensor.min():g} to {tensor.max():g}{where(wrong)}"
        refuse(name, "between 0 and 1", got, "Divide a mask of bytes by 255.")
    return tensor


def where(found: Tensor) -> str:
    """Which images of a batch [B, ...] have something, for a message."""
    images = found.flatten(1).any(1).nonzero()[:, 0].tolist()
    return f" in image {said(images)[1:-1]} of {len(found)}" if len(found) > 1 else ""


def as_weight(mask: Any, name: str, frames: bool = False) -> Tensor:
    """As `as_mask`, and not empty: what is weighed by nothing has a map of zeros."""
    tensor = as_mask(mask, name, frames)
    empty = ~tensor.flatten(1).any(1)
    if empty.any():
        got = f"nothing but 0{where(empty[:, None])}"
        refuse(name, "above 0 somewhere in every image", got, "Leave such an image out, or the mask: without one every token counts."
               + (" Frames of one video are [1, frames, h, w]." if frames and tensor.ndim == 3 and len(tensor) > 1 else ""))  # fmt: skip
    return tensor


def as_region(region: Region, name: str) -> Region:
    """A checked point, box or mask [m, h, w] or [m, frames, h, w]."""
    if not isinstance(region, (Tensor, np.ndarray, list, tuple)) and not hasattr(region, "convert"):
        refuse(name, "a point (y, x), a box (top, left, bottom, right) or a mask", said(region), "Points and boxes are fractions.")
    if not is_numbers(region):
        return as_weight(region, name, frames=True)
    point = tuple(float(x) for x in region)
    frame, place = split(point)
    if len(place) not in (2, 4) or not all(0 <= x <= 1 for x in place):
        refuse(name, "a point (y, x) or a box (top, left, bottom, right) in fractions of height and width", region,
               "Divide pixels by the image's height and width.")  # fmt: skip
    if not all(number >= 0 and number.is_integer() for number in frame):
        refuse(name, "(frame, y, x) or (frame, top, left, bottom, right) with a whole frame", region,
               "It is the frame of a video's grid, counted from 0; without it a place counts in every frame.")  # fmt: skip
    if len(place) == 4 and not (place[0] < place[2] and place[1] < place[3]):
        refuse(name, "a box (top, left, bottom, right) with top < bottom and left < right", region, "Swap its sides.")
    return (*(int(number) for number in frame), *place)


def split(place: Sequence[float]) -> tuple[Sequence[float], Sequence[float]]:
    """(frame,) or (), and the point or box in it."""
    return place[: len(place) % 2], place[len(place) % 2 :]


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
    if (
        isinstance(specific, (np.ndarray, Tensor))
        and specific.ndim == 2
        and (specific.shape[1] in (2, 4) or (specific.shape[1] in (3, 5) and ((specific > 0) & (specific < 1)).any()))
    ):
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


def default_cells(grid: AnyGrid) -> list[Region]:
    """The cells of "grid": square ones, CELLS of them along the longer side; OF_FRAME of them in each frame of a video."""
    longest, frames = max(plane(grid)), grid[0] if len(grid) == 3 else None
    rows, columns = (max(1, round((OF_FRAME if frames else CELLS) * side / longest)) for side in plane(grid))
    return list(cells(rows, columns, frames=frames))


def images_of(region: Region) -> int:
    """How many images the region speaks of: 1 means every one."""
    return region.shape[0] if isinstance(region, Tensor) else 1


def by_frame(mask: Tensor, grid: AnyGrid, images: int, name: str) -> Tensor:
    """[m, frames, h, w] of a mask [m, h, w], which counts in every frame, [frames, h, w] or [m, frames, h, w]; a picture has one frame."""
    frames, video = (grid[0], True) if len(grid) == 3 else (1, False)
    own = "Take those that the model's own frames stand for."
    if mask.ndim == 4:
        if mask.shape[1] != frames:
            expected = f"of the {frames} frames of a grid of {' x '.join(map(str, grid))}" if video else "of a picture, [m, h, w]"
            refuse(name, expected, f"{mask.shape[1]} frames", own if video else "Leave the frames out.")
        return mask
    if frames > 1 and len(mask) > 1:
        if len(mask) == frames and images % frames == 0:
            refuse(name, f"[m, {frames}, h, w] for {images} videos of {frames} frames", tuple(mask.shape),
                   f"Write mask[None] where it is one per frame, mask[:, None].expand(-1, {frames}, -1, -1) if one per video.")  # fmt: skip
        if len(mask) == frames:
            return mask[None]
        if images % len(mask):
            expected = f"one mask, one for each of {frames} frames, or one per video or prompt ({counted(images, 'video')})"
            refuse(name, expected, f"{len(mask)} masks", own)
    return mask[:, None].expand(-1, frames, -1, -1)


def on_grid(region: Region, grid: AnyGrid, images: int = 1, name: str = "the mask") -> Tensor:
    """[m, tokens]: masks by nearest neighbour; a point is the cell it lies in; a box the cells whose centres it holds, and one that holds
    none the cell of its middle."""
    if not isinstance(region, Tensor):
        return boxes_on_grid([region], grid, name)
    shaped = by_frame(region, grid, images, name)
    return F.interpolate(shaped.flatten(0, 1)[:, None], plane(grid), mode="nearest").view(len(shaped), -1)


def touched(mask: Tensor, grid: AnyGrid, images: int = 1, name: str = "the mask") -> Tensor:
    """As `on_grid`; but a mask that asks for a spot and falls between the centres of a frame's cells is every cell that it touches."""
    shaped = by_frame(mask, grid, images, name)
    frames = shaped.flatten(0, 1)
    nearest = F.interpolate(frames[:, None], plane(grid), mode="nearest").flatten(1)
    lost = ~nearest.any(1)
    nearest[lost] = F.adaptive_max_pool2d(frames[lost][:, None], plane(grid)).flatten(1)
    return nearest.view(len(shaped), -1)


def boxes_on_grid(places: Sequence[Region], grid: AnyGrid, name: str = "the region") -> Tensor:
    """[n, tokens] of points and boxes, all at once."""
    frames = [split(place)[0] for place in places]
    one = boxes_in_frame([split(place)[1] for place in places], plane(grid))
    for frame in frames:
        if frame and len(grid) == 2:
            refuse(name, "a point (y, x) or a box, as its layers make a picture", f"one in frame {frame[0]}", "Leave the frame out.")
        if frame and frame[0] >= grid[0]:
            refuse(name, f"in one of the {grid[0]} frames of a grid of {' x '.join(map(str, grid))}", f"frame {frame[0]}",
                   "They are the model's own frames, counted from 0.")  # fmt: skip
    if len(grid) == 2:
        return one
    shown = torch.tensor([[not frame or frame[0] == i for i in range(grid[0])] for frame in frames], device="cpu")
    return (one[:, None] * shown[:, :, None]).flatten(1)


def boxes_in_frame(places: Sequence[Sequence[float]], grid: Grid) -> Tensor:
    """[n, h * w] of points (y, x) and boxes (top, left, bottom, right)."""
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


def regions_on_grid(regions: Sequence[Region], grid: AnyGrid, images: int) -> Tensor:
    """[images, n, tokens]: a 0/1 row for each region (or the mask's own values) and image."""
    weight = torch.zeros(images, len(regions), math.prod(grid), dtype=torch.float32, device="cpu")
    places = [i for i, region in enumerate(regions) if not isinstance(region, Tensor)]
    if places:
        weight[:, places] = boxes_on_grid([regions[i] for i in places], grid, "specific")
    for i, region in enumerate(regions):
        if isinstance(region, Tensor):
            weight[:, i] = per_image(touched(region, grid, images, f"specific[{i}]"), images, f"specific[{i}]")
    return weight


def per_image(weight: Tensor, images: int, name: str) -> Tensor:
    """[images, tokens]: rows are prompt by prompt, so m masks serve images / m rows each."""
    if images % weight.shape[0]:
        refuse(name, f"one mask, or one per image or prompt ({images} images)", f"{weight.shape[0]} masks", "Their number must divide.")
    return weight.repeat_interleave(images // weight.shape[0], 0)
