"""Pictures with masks and levels at random, the same everywhere."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

NOUNS = ("cat", "dog", "traffic light", "person", "ring")


class Picture(NamedTuple):
    id: str
    found: dict[str, Tensor]  # levels [H, W]
    masks: dict[str, Tensor]


def drawn(count: int = 8, size: tuple[int, int] = (12, 12), seed: int = 19) -> list[Picture]:
    """Masks of some nouns; levels of some of these and of others, higher where the noun's mask is."""
    rng, pictures = np.random.default_rng(seed), []
    for i in range(count):
        masks, found = {}, {}
        for noun in NOUNS:
            mask, level = rng.random(size) < 0.3, rng.random(size).astype(np.float32)
            if rng.random() < 0.7:
                masks[noun] = torch.from_numpy(mask)
            if rng.random() < 0.7:
                found[noun] = torch.from_numpy((level + mask) / 2)
        pictures.append(Picture(f"{i:04d}", found, masks))
    return pictures
