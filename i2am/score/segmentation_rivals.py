"""What a word's mask is worth without any attention: the same IoU of the whole picture, a random box, and what is bright or dark.

whole     every pixel
random    a box of 10% to 30% of the picture, of `detection`; it depends on the picture's id and the seed alone
bright    min-max of the luminance above the threshold that the word's map is cut at
dark      the rest
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from i2am.common.checks import refuse
from i2am.maps.tokens import Grid
from i2am.score.detection import random_boxes
from i2am.score.segmentation import PRESET, Scored, line, nearest

RIVALS = ("whole", "random", "bright", "dark")
WEIGHTS = (0.299, 0.587, 0.114)  # of red, green and blue in the luminance
EPSILON = 1e-8


def luminance(picture: Any) -> Tensor:
    """Of a PIL picture, from 0 to 1 by its own darkest and brightest pixel, float32 [H, W]."""
    grey = np.asarray(picture.convert("RGB"), np.float64) @ np.array(WEIGHTS)
    low, high = grey.min(), grey.max()
    return torch.from_numpy(((grey - low) / (high - low + EPSILON)).astype(np.float32))


def random_mask(id: str, size: Grid, seed: int = 0) -> Tensor:
    """The box of this picture as a mask: pixels whose centres it holds."""
    place = int.from_bytes(hashlib.sha256(id.encode("utf-8", "surrogatepass")).digest()[:8], "big")
    x0, y0, x1, y1 = random_boxes(1, size, seed, place)[0].tolist()
    y, x = (np.arange(n) + 0.5 for n in size)
    return torch.from_numpy(((y0 <= y) & (y < y1))[:, None] & ((x0 <= x) & (x < x1)))


class Rivals:
    """The rivals' IoUs beside the rows of a `Segmentation`: by name a row for each of its rows."""

    def __init__(self, thresholds: Sequence[float], seed: int = 0) -> None:
        self.thresholds, self.seed = tuple(thresholds), seed
        self.rows: dict[str, list[Scored]] = {name: [] for name in RIVALS}

    def add(self, rows: Sequence[Scored], masks: dict[str, Tensor], picture: Any) -> None:
        """A picture's rows, their masks by the rows' words, and the picture itself."""
        if not rows:
            return
        size = next(iter(masks.values())).shape
        bright = luminance(picture)
        if bright.shape != size:
            refuse(f"the picture {rows[0].id}", f"{tuple(size)} pixels, as its masks", tuple(bright.shape), "Paint at the masks' size.")
        box, count = random_mask(rows[0].id, (size[0], size[1]), self.seed), len(self.thresholds)
        cuts = [bright > threshold for threshold in self.thresholds]
        for row in rows:
            mask = masks[row.word]
            for name, found in (
                ("whole", (row.share,) * count),
                ("random", (overlap(box, mask),) * count),
                ("bright", tuple(overlap(cut, mask) for cut in cuts)),
                ("dark", tuple(overlap(~cut, mask) for cut in cuts)),
            ):
                self.rows[name].append(row._replace(iou=found, matched=("",) * count))

    def table(self) -> dict[str, list[dict[str, Any]]]:
        """By name a line for each threshold, as `Segmentation.table` has them."""
        return {
            name: [{"threshold": threshold, **line(rows, i)} for i, threshold in enumerate(self.thresholds)]
            for name, rows in self.rows.items()
        }

    def better(self, threshold: float = PRESET) -> str | None:
        """Which of bright and dark has the larger mean at this threshold."""
        place, table = nearest(self.thresholds, threshold), self.table()
        means = {name: table[name][place]["mean"] for name in ("bright", "dark")}
        return None if None in means.values() else max(means, key=lambda name: means[name])


def overlap(one: Tensor, other: Tensor) -> float:
    """IoU of masks, 0 where both are empty."""
    both = int((one & other).sum())
    return both / max(1, int(one.sum()) + int(other.sum()) - both)
