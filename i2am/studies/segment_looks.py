"""Pictures of a segmentation: the true outline, the word map, and what the cut map hit, missed and took too much."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from i2am.show.pictures import overlay

SIDE = 256  # pixels of the longer side, at least
OUTLINE, UNDER = (255, 255, 255), (0, 0, 0)
HIT, MISSED, TOO_MUCH = (46, 160, 67), (66, 133, 244), (240, 140, 0)
DIM = 0.35  # of the picture where nothing is


def enlarged(picture: Any) -> Any:
    """Small pictures a whole number of times as large."""
    times = max(1, SIDE // max(picture.size))
    return picture if times == 1 else picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)


def as_large(mask: Tensor, picture: Any) -> Any:
    """A mask at the size of an enlarged picture."""
    large = Image.fromarray(mask.numpy().astype(np.uint8)).resize(picture.size, Image.Resampling.NEAREST)
    return np.asarray(large) > 0


def border(mask: Any, wide: int) -> Any:
    """Pixels of a mask [H, W] that are at most so far from its outside; the picture's border is no outside."""
    x = torch.from_numpy(~mask).float()[None, None]
    return mask & (torch.nn.functional.max_pool2d(x, 2 * wide + 1, 1, wide)[0, 0].numpy() > 0)


def outlined(picture: Any, mask: Tensor) -> Any:
    """The picture, with the mask's outline in white on black."""
    large = enlarged(picture)
    inside, pixels = as_large(mask, large), np.array(large)
    wide = max(1, round(max(large.size) / 170))
    outside = ~inside
    pixels[border(outside, wide)] = UNDER
    pixels[border(inside, wide)] = OUTLINE
    return Image.fromarray(pixels)


def over(picture: Any, level: Tensor) -> Any:
    """The word map over the picture."""
    return enlarged(overlay(picture, level[None], scale=(0.0, 1.0))[0])


def cut(picture: Any, level: Tensor, mask: Tensor, threshold: float) -> Any:
    """The picture dimmed, and the cut map over it: green where the mask is, orange where it is not; blue is what it missed."""
    large = enlarged(picture.convert("L").convert("RGB"))
    found, inside = (as_large(one, large) for one in (level > threshold, mask))
    pixels = np.array(large).astype(np.float32) * DIM
    for where, colour in ((found & inside, HIT), (inside & ~found, MISSED), (found & ~inside, TOO_MUCH)):
        pixels[where] = 0.35 * pixels[where] / DIM + 0.65 * np.array(colour)
    return Image.fromarray(pixels.round().astype(np.uint8))
