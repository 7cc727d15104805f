"""Pictures of a correspondence field: the other picture warped by it, and a colour wheel; arrows and dots are in `field_marks`.

A field is positions [B, h, w, 2], where on the other picture each patch of the canvas points, (y, x) in fractions, and its spread
[B, h, w], the square root of the trace of the covariance there. Attention that lies evenly over the other picture has a spread of
EVEN = sqrt(1/6). A patch is seen as far as it knows its place, opacity = (1 - (spread / wide)^2)^3: the part of the variance of looking
everywhere that is gone, cubed so that only what points is seen; nothing where the position is NaN or the spread beyond `wide`.

Displacements lead from the reference to the generated image, whichever of both is the canvas: with back=True positions say where a patch
comes from (the canvas is the generated image), with back=False where it goes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from i2am.common.checks import is_size, number, refuse, said
from i2am.show.drawing import Picture, as_tensor, font, per_map

EVEN = math.sqrt(1 / 6)
STILL = 0.62  # grey of a patch that stays where it is
PALE = 0.6  # how much of a canvas goes to white under what is drawn on it
LARGE = 640  # pixels that the longer side of a picture with marks has at least


def warp(
    positions: Any, spread: Any, source: Any, canvas: Any = None, size: tuple[int, int] | None = None, *, wide: float = EVEN
) -> list[Picture]:
    """What attention alone would paint: every pixel of the canvas is that of the source which its patch points at.

    The more a patch looks everywhere, the more is seen of the canvas, in pale grey, or of white where there is none. Positions are
    linear between patches, and so is the source between pixels. size: (height, width), by default that of the canvas.
    """
    positions, seen = checked(positions, spread, wide)
    sources, under = per_map(source, len(positions)), None if canvas is None else per_map(canvas, len(positions))
    found = []
    for i, (at, opacity) in enumerate(zip(positions, seen)):
        shape = sized(size, under[i].size[::-1] if under else blown(at.shape[:2], max(sources[i].size)))
        places, weight = between(at, opacity, shape)
        small = sources[i]
        if small.width > 2 * shape[1] or small.height > 2 * shape[0]:  # pixels would be left out
            small = small.resize((min(small.width, shape[1]), min(small.height, shape[0])), Image.Resampling.LANCZOS)
        pixels = torch.from_numpy(np.array(small)).permute(2, 0, 1)[None].float()
        sampled = F.grid_sample(pixels, places.flip(-1)[None] * 2 - 1, mode="bilinear", padding_mode="border", align_corners=False)[0]
        ground = np.full((*shape, 3), 255.0) if under is None else np.asarray(pale(under[i].resize(shape[::-1])), dtype=np.float64)
        found.append(mixed(ground, sampled.permute(1, 2, 0).double().numpy(), weight.numpy()))
    return found


def wheel(
    positions: Any, spread: Any, size: tuple[int, int] | None = None, *, back: bool = True, reach: float | None = None,
    key: bool = True, wide: float = EVEN,
) -> list[Picture]:  # fmt: skip
    """Displacements as colours, as optical flow is drawn: hue is the direction in the picture's pixels, saturation the length.

    What stays in place is grey and what looks everywhere white. Full colour stands for `reach`, a part of the picture's longer side; by
    default the length that 95 in 100 patches do not exceed, each by its opacity, of all these pictures. The key in the corner says it.
    """
    positions, seen = checked(positions, spread, wide)
    shape = sized(size, blown(positions.shape[1:3], LARGE))
    sides = torch.tensor(shape, dtype=torch.float32, device="cpu") / max(shape)
    fields = [between(at, opacity, shape) for at, opacity in zip(positions, seen)]
    moved = [(centres(shape) - at if back else at - centres(shape)) * sides for at, _ in fields]
    if reach is None:
        reach = reached(torch.stack(moved).norm(dim=-1).flatten(), torch.stack([weight for _, weight in fields]).flatten())
    number("reach", reach, "a part of the picture's longer side, above 0", lambda x: 0 < x <= 2, "None finds it.")
    found = []
    for (_, weight), by in zip(fields, moved):
        picture = mixed(np.full((*shape, 3), 255.0), turned(by / reach), weight.numpy())
        found.append(with_key(picture, reach) if key else picture)
    return found


def turned(by: Tensor) -> np.ndarray:
    """[..., 2], lengths up to 1 -> colours [..., 3]: hue by direction, grey in the middle."""
    length = by.norm(dim=-1).clamp(max=1)[..., None].double().numpy()
    return (1 - length) * 255 * STILL + length * hues(torch.atan2(by[..., 0], by[..., 1]).double().numpy())


def hues(angle: np.ndarray) -> np.ndarray:
    """Angles, 0 to the right and a quarter turn down -> full colours [..., 3]: red to the right, then yellow, green, blue, clockwise."""
    sixth = (angle / (2 * math.pi) % 1)[..., None] * 6
    ramp = abs((sixth + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1
    return 255 * np.clip(ramp, 0, 1)


def hue(angle: float) -> tuple[int, int, int]:
    red, green, blue = hues(np.array(angle)).round().astype(int).tolist()
    return red, green, blue


def with_key(picture: Picture, reach: float) -> Picture:
    """The same with a small wheel in the lower right corner, and the length that its rim stands for."""
    side = max(13, round(min(picture.size) / 5) | 1)
    fine = 3 * side
    across = torch.linspace(-1, 1, fine, device="cpu")
    by = torch.stack(torch.meshgrid(across, across, indexing="ij"), -1)
    disc = Image.fromarray(turned(by).round().astype(np.uint8))
    mask = Image.fromarray(((by.norm(dim=-1) <= 1).numpy() * 255).astype(np.uint8))
    rim = Image.new("L", (fine, fine))
    ImageDraw.Draw(rim).ellipse((0, 0, fine - 1, fine - 1), outline=255, width=max(1, fine // 40))
    disc.paste((255, 255, 255), mask=rim)
    room = max(2, side // 8)
    left, top = picture.width - side - room, picture.height - side - room
    found = picture.copy()
    found.paste(disc.resize((side, side), Image.Resampling.LANCZOS), (left, top), mask.resize((side, side), Image.Resampling.LANCZOS))
    if side >= 40:  # below that nobody can read it
        text = f"{100 * reach:.2g} % of the longer side"
        write = {"font": font(max(9, side // 8)), "stroke_width": 2, "stroke_fill": "white"}
        ImageDraw.Draw(found).text((picture.width - room, top - room // 2), text, "black", anchor="rb", **write)
    return found


def checked(positions: Any, spread: Any, wide: float) -> tuple[Tensor, Tensor]:
    """Positions [B, h, w, 2] within the picture, and how far each is seen [B, h, w]; 0 where there is none."""
    positions, spread = as_tensor(positions, "positions", "[B, h, w, 2]"), as_tensor(spread, "spread", "[B, h, w]")
    if positions.ndim != 4 or positions.shape[-1] != 2 or 0 in positions.shape:
        refuse("positions", "[B, h, w, 2], (y, x) in fractions", tuple(positions.shape), "Draw one level at a time.")
    if spread.shape != positions.shape[:-1]:
        refuse("spread", f"{tuple(positions.shape[:-1])}, as the positions are", tuple(spread.shape), "A Field has both.")
    number("wide", wide, "a spread above 0", lambda x: x > 0, f"{EVEN:.3f} is that of looking everywhere.")
    known = positions.isfinite().all(-1) & spread.isfinite()
    seen = (1 - (spread.nan_to_num(wide, wide) / wide) ** 2).clamp(min=0) ** 3
    return torch.where(known[..., None], positions, torch.nan), torch.where(known, seen, 0.0)


def between(positions: Tensor, seen: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Positions [H, W, 2] and opacity [H, W] of every pixel, linear between patches [h, w, 2] and beyond the last ones' centres."""
    known = positions.isfinite().all(-1)
    at = torch.cat([beyond(beyond(positions, 0), 1).nan_to_num(0.0), beyond(beyond(known.float()[..., None], 0, 0.0), 1, 0.0)], -1)
    at = torch.cat([at[..., :2] * at[..., 2:], at[..., 2:], beyond(beyond(seen[..., None], 0, 0.0), 1, 0.0)], -1).permute(2, 0, 1)[None]
    h, w = positions.shape[:2]
    ends = torch.tensor([h + 1.0, w + 1.0], dtype=torch.float32, device="cpu")
    places = (centres(size) * (ends - 1) + 0.5) * 2 / ends - 1  # among the patches and those beyond
    y, x, weight, opacity = F.grid_sample(at, places.flip(-1)[None], mode="bilinear", padding_mode="border", align_corners=True)[0]
    return (torch.stack([y, x], -1) / weight.clamp(min=1e-6)[..., None]).clamp(0, 1), opacity.clamp(0, 1)


def beyond(values: Tensor, dim: int, slope: float = 1.0) -> Tensor:
    """One row more at either end, on the straight line through the last two, or the last again where the next is not known."""
    ends = []
    for last, next in ((0, 1), (-1, -2)):
        edge = values.select(dim, last)
        step = edge - values.select(dim, next) if values.shape[dim] > 1 else torch.zeros_like(edge)
        ends.append((edge + slope * step.nan_to_num(0.0)).unsqueeze(dim))
    return torch.cat([ends[0], values, ends[1]], dim)


def centres(size: tuple[int, int]) -> Tensor:
    """[H, W, 2]: the middle of every pixel or patch, (y, x) in fractions."""
    y, x = ((torch.arange(n, dtype=torch.float32, device="cpu") + 0.5) / n for n in size)
    return torch.stack(torch.meshgrid(y, x, indexing="ij"), -1)


def sized(size: Any, default: tuple[int, ...]) -> tuple[int, int]:
    if size is not None and not is_size(size):
        refuse("size", "(height, width)", said(size), "None takes that of the picture.")
    height, width = default if size is None else size
    return int(height), int(width)


def blown(grid: Any, side: int) -> tuple[int, int]:
    """A grid's shape, as many whole times as the longer side allows."""
    factor = max(1, side // max(grid))
    return int(grid[0]) * factor, int(grid[1]) * factor


def reached(lengths: Tensor, weights: Tensor) -> float:
    """The length that 95 in 100 do not exceed, each by its weight."""
    order = lengths.argsort()
    total = weights[order].double().cumsum(0)
    place = int(torch.searchsorted(total, 0.95 * total[-1])) if total[-1] > 0 else 0
    return max(0.01, min(2.0, float(lengths[order][min(place, len(lengths) - 1)])))


def pale(picture: Picture) -> Picture:
    """In grey, most of the way to white."""
    return Image.blend(picture.convert("L").convert("RGB"), Image.new("RGB", picture.size, "white"), PALE)


def mixed(ground: np.ndarray, colour: np.ndarray, weight: np.ndarray) -> Picture:
    """A colour over a ground [H, W, 3], each pixel by its weight [H, W]."""
    share = weight[..., None]
    return Image.fromarray(((1 - share) * ground + share * colour).round().astype(np.uint8))
