"""Pictures of entanglement: the masks of several words in one picture, and how two pictures differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from i2am.maps.words import show
from i2am.show.pictures import heat, overlay

COLOURS = ((255, 176, 0), (60, 120, 255))  # of the first mask and of the second, told apart by those who see fewer colours
Picture = Image.Image


def over(picture: Picture, map: Tensor) -> Picture:
    """One word's map [h, w] over its picture."""
    return overlay(picture, map[None])[0]


def masks(picture: Picture, maps: Sequence[Tensor], threshold: float) -> Picture:
    """The masks of up to two words' maps over the picture in grey; where both lie, both colours, on white."""
    found = [inside(map, picture, threshold) for map in maps]
    grey = np.asarray(picture.convert("L").convert("RGB"), dtype=np.float32)
    total = np.sum(found, axis=0)[..., None]
    colour = sum(mask[..., None] * np.asarray(shade, dtype=np.float32) for mask, shade in zip(found, COLOURS))
    page = np.where(total == 0, 0.8 * grey, 0.35 * grey + 0.65 * np.where(total > 1, 255.0, colour))
    for mask, shade in zip(found, COLOURS):
        page[edge(mask)] = shade
    return Image.fromarray(page.round().clip(0, 255).astype(np.uint8))


def inside(map: Tensor, picture: Picture, threshold: float) -> Any:
    """A word's mask at the picture's size, an array of 0 and 1."""
    return show(map, size=(picture.height, picture.width), threshold=threshold).nan_to_num(0.0).numpy()


def edge(mask: Any) -> Any:
    """The pixels of a mask that have a neighbour outside of it."""
    framed = np.pad(mask > 0, 1, constant_values=True)
    around = framed[:-2, 1:-1] & framed[2:, 1:-1] & framed[1:-1, :-2] & framed[1:-1, 2:]
    return (mask > 0) & ~around


def pixels(picture: Picture) -> Tensor:
    """[1, 3, H, W] in [0, 1]."""
    return torch.from_numpy(np.asarray(picture.convert("RGB"), dtype=np.float32).copy()).permute(2, 0, 1)[None] / 255


def apart(one: Picture, other: Picture) -> Tensor:
    """[H, W], how far two pictures are from each other at each pixel: the mean over the colours."""
    return (pixels(one) - pixels(other)).abs().mean(1)[0]


def difference(map: Tensor, most: float, outline: Any) -> Picture:
    """`apart` as heat, from 0 to `most`, with the edge of the noun's mask in white."""
    return outlined(heat(map, scale=(0.0, max(most, 1e-6))), outline)


def outlined(picture: Picture, mask: Any) -> Picture:
    """With the edge of a mask in white."""
    page = np.asarray(picture).copy()
    page[edge(mask)] = 255
    return Image.fromarray(page)
