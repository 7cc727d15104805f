"""Sums laid out on their canvas and resized: bicubic without antialias, then nothing below 0."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from i2am.common.checks import afford, cited, is_size, is_whole, refuse, said
from i2am.maps.layer_sums import LayerSums
from i2am.maps.layers import Layers, listed
from i2am.maps.regions import where
from i2am.maps.tokens import AnyGrid, Grid

SIDES = {"r2g": "generated", "g2r": "reference", "specific": "reference", "words": "generated", "mass": "generated",
         "field_g2r": "generated", "field_r2g": "reference"}  # fmt: skip
CHUNK = 1 << 26  # numbers resized at a time
NOT_FINITE = (
    "Look for overflow in the model: bfloat16 and float32 reach further than float16. Layers that are whole can be read alone: "
    "layers=lambda name: name not in maps.broken."
)


def squashed(text: str) -> str:
    """Letters and digits alone, for comparing a prompt with what a tokenizer made of it."""
    return "".join(c for c in text.casefold() if c.isalnum())


def picked(indices: Sequence[int] | int | None, size: int, name: str) -> list[int]:
    """The chosen heads or groups, checked."""
    if indices is None:
        return list(range(size))
    found = [indices] if not isinstance(indices, (Sequence, np.ndarray)) else list(indices)
    if not found or not all(is_whole(i) and i < size for i in found):
        refuse(name, f"indices below {size}", said(indices), "They are counted from 0.")
    return found


def grid(sums: LayerSums, direction: str) -> AnyGrid:
    """The canvas of a layer's map, or what to do when it has none."""
    side = SIDES[direction]
    found = sums.generated_grid if side == "generated" else sums.reference_grid
    if found is None:
        count = getattr(sums, direction).shape[-1]
        raise ValueError(
            f"i2am: the {count} {side} tokens of {sums.layer} have no known place on a canvas. If they lie on a grid, say so: "
            f"maps.with_grid({side}=(height, width)" + (", special=1 for a leading CLS token)" if side == "reference" else ")") + ". "
            "Tokens of a resampler have none: read maps.tokens(direction, layer), or choose other layers with layers=."
        )
    return found


def picture(sums: LayerSums, direction: str, what: str) -> Grid:
    """The (height, width) of a layer's canvas, for what has no meaning over a video."""
    found = grid(sums, direction)
    if len(found) == 3:
        got = f"{found[0]} frames in {sums.layer}"
        refuse(what, "asked of pictures", got, "Videos have the maps of every level, words and regions, frame by frame.")
    return found[0], found[1]


def canvas(sums: LayerSums, direction: str) -> Tensor:
    """The sums laid out on their grid, special tokens left out."""
    tensor: Tensor = getattr(sums, direction)
    if SIDES[direction] == "reference":
        tensor = tensor[..., sums.special :]
    return tensor.unflatten(-1, grid(sums, direction))


def common_frames(parts: Sequence[LayerSums], direction: str) -> tuple[int, ...]:
    """(frames,) of the canvas that these layers share, () of a picture's: maps of different moments are not added up."""
    found: dict[tuple[int, ...], list[str]] = {}
    for s in parts:
        found.setdefault(tuple(grid(s, direction)[:-2]), []).append(s.layer)
    if len(found) > 1:
        got = ", ".join(f"{f'{frames[0]} frames' if frames else 'a picture'} in {cited(names)}" for frames, names in found.items())
        refuse(f"the {SIDES[direction]} canvases of one level", "of the same number of frames", got, "Choose layers of one kind: layers=.")
    return next(iter(found))


def check_finite(parts: Sequence[LayerSums], direction: str) -> None:
    """Numbers that are none are in no level."""
    broken = [s for s in parts if direction in s.broken]
    if not broken:
        return
    (first, *_), tensor = broken, getattr(broken[0], direction)
    got = f"NaN or infinity in {len(broken)} of {len(parts)} layers, the first {first.layer}{where(~tensor.isfinite())}"
    refuse(f"the {direction} sums", "finite", got, NOT_FINITE)


def check_room(parts: Sequence[LayerSums], direction: str, level: str, size: AnyGrid, item: int | None) -> None:
    """A level of this size, (height, width) or (frames, height, width), that memory cannot hold: each layer's resized maps, once more
    side by side, and their mean."""
    shapes = [getattr(s, direction).shape for s in parts]  # [B, groups, heads, (n,) tokens]
    images, heads = shapes[0][0], max(shape[2] for shape in shapes)
    each = {"time": shapes[0][1], "head": heads}.get(level, 1) * (shapes[0][3] if len(shapes[0]) == 5 and item is None else 1)
    need = 4 * math.prod(size) * each * (images * (2 * len(parts) + 1) + 2 * heads)
    afford(
        f"{direction} maps of {' x '.join(map(str, size))}", need, "Ask for a smaller size=, for fewer layers, or for one image: maps[0]."
    )


def check_level(level: str, parts: Sequence[LayerSums], direction: str, layers: Layers) -> dict[str, int]:
    """A level that these layers have; how many heads each has."""
    if level not in ("unified", "time", "head", "layer"):
        refuse("level", '"unified", "time", "head" or "layer"', said(level), "The documentation has a table of levels.")
    counts = {s.layer: getattr(s, direction).shape[2] for s in parts}
    if level == "head" and len(set(counts.values())) > 1:
        raise ValueError(
            "i2am: the head level needs layers with the same number of heads, and these have "
            + ", ".join(f"{n} ({sum(c == n for c in counts.values())} layers)" for n in sorted(set(counts.values())))
            + f". Choose with layers=. {listed([f'{name}: {n}' for name, n in counts.items()])}"
        )
    if level == "head" and len(counts) > 1 and isinstance(layers, str) and layers == "pointing":
        refuse("level", 'another than "head" with layers="pointing"', '"head"', "It chooses other heads in each layer: name one layer.")
    return counts


def checked_size(size: Grid) -> Grid:
    if not is_size(size):
        refuse("size", "(height, width)", said(size), "None keeps the largest layer's grid.")
    return int(size[0]), int(size[1])


def resize(sums: Tensor, size: Grid, keep_heads: bool) -> Tensor:
    """[B, groups, heads, ..., h, w] -> the size, clamped at 0; heads are added up unless kept, in pieces that fit in memory. Frames are
    pictures of their own: nothing is interpolated in time."""
    if tuple(sums.shape[-2:]) == tuple(size):
        return sums if keep_heads else sums.sum(2, keepdim=True)
    pieces = []
    for image in sums:
        per_head = []
        for head in image.unbind(1):  # [groups, ..., h, w]
            flat = head.reshape(-1, 1, *head.shape[-2:])
            step = max(1, CHUNK // (size[0] * size[1]))
            big = torch.cat([F.interpolate(f, size, mode="bicubic", align_corners=False).clamp_(min=0) for f in flat.split(step)])
            per_head.append(big.view(*head.shape[:-2], *size))
        pieces.append(torch.stack(per_head, 1) if keep_heads else torch.stack(per_head, 1).sum(1, keepdim=True))
    return torch.stack(pieces)
