"""The numbers a pair is made of: a row of uniform draws, seeded by (seed, place), so that pair 7 is pair 7 in any batch."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from i2am.common.checks import is_whole, refuse

COUNT = 560  # draws a pair
Holder = TypeVar("Holder")
TRAINING = 2**32  # training pairs have seeds from here on; whatever is below is held out


def numbers(count: int, seed: int = 0, first: int = 0) -> Tensor:
    """[count, COUNT] float32 in [0, 1): the rows of pairs first ... first + count - 1."""
    for name, value, least in (("count", count, 1), ("seed", seed, 0), ("first", first, 0)):
        if not is_whole(value, least):
            refuse(name, f"a whole number of at least {least}", repr(value), "Pairs are counted from 0.")
    # numpy reads short entropy as if zeros followed, so held-out seeds, which are one word, take more words than training's two
    more = () if seed >= TRAINING else (0, 1)
    rows = [np.random.Generator(np.random.SFC64((seed, first + i, *more))).random(COUNT, dtype=np.float32) for i in range(count)]
    return torch.from_numpy(np.stack(rows))


class Numbers:
    """Takes the draws one after the other, each scaled to its range and shaped to multiply [B, H, W]."""

    def __init__(self, drawn: Tensor) -> None:
        self.drawn, self.at = drawn, 0

    def take(self, *shape: int) -> Tensor:
        """[B, *shape] in [0, 1)."""
        count = math.prod(shape)
        part = self.drawn[:, self.at : self.at + count]
        assert part.shape[1] == count, f"a pair needs more than {COUNT} draws"
        self.at += count
        return part.reshape(len(part), *shape)

    def __call__(self, low: float, high: float) -> Tensor:
        """[B, 1, 1] in [low, high)."""
        return low + (high - low) * self.take(1, 1)

    def chance(self, share: float | Tensor) -> Tensor:
        """[B, 1, 1] bool, true in this share of the pairs."""
        return self.take(1, 1) < share

    def choice(self, count: int) -> Tensor:
        """[B, 1, 1] long, 0 ... count - 1."""
        return (self.take(1, 1) * count).long().clamp(max=count - 1)


def rows(holder: Holder, which: slice) -> Holder:
    """These pairs' rows of a tensor, or of all that a dataclass or a list holds."""
    if isinstance(holder, (Tensor, list, tuple)):
        return cast(Holder, holder[which] if isinstance(holder, Tensor) else type(holder)(rows(one, which) for one in holder))
    return type(holder)(*(rows(getattr(holder, f.name), which) for f in fields(cast(Any, holder))))
