"""The map of one word, and how DAAM draws it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from i2am.common.extras import need
from i2am.compat.daam_evaluate import compute_ioa
from i2am.maps.words import show


@dataclass(frozen=True, eq=False)
class WordHeatMap:
    """The map [h, w] of one word."""

    heatmap: Tensor
    word: str | None = None
    word_idx: int | None = None

    @property
    def value(self) -> Tensor:
        return self.heatmap

    def expand_as(
        self, image: Any, absolute: bool = False, threshold: float | None = None, plot: bool = False, **plot_options: Any
    ) -> Tensor:
        """At the image's height and width: bicubic, min-max unless absolute, nothing below 0; with a threshold a mask of 0 and 1."""
        height, width = np.asarray(image).shape[:2]
        expanded = show(self.heatmap, size=(height, width), absolute=absolute, threshold=threshold or None)
        if plot:
            self.plot_overlay(image, absolute=absolute, threshold=threshold, **plot_options)
        return expanded

    def plot_overlay(self, image: Any, out_file: str | Path | None = None, color_normalize: bool = True, ax: Any = None,
                     crop: int | None = None, **expand_options: Any) -> None:  # fmt: skip
        """The map in jet under the image, which is as transparent as the map is high; on pyplot's figure unless `ax` is given."""
        plot_overlay_heat_map(image, self.expand_as(image, **expand_options), self.word, out_file, crop, color_normalize, ax)

    def compute_ioa(self, other: WordHeatMap) -> float:
        """Intersection over area, soft: sum(a b) / sum(a); a map of another size is brought to the other's first and cut at 1."""
        return compute_ioa(self.heatmap, other.heatmap)


def plot_overlay_heat_map(im: Any, heat_map: Tensor, word: str | None = None, out_file: str | Path | None = None,
                          crop: int | None = None, color_normalize: bool = True, ax: Any = None) -> None:  # fmt: skip
    """A map of the image's size in jet under the image. crop: pixels that are cut off every side; color_normalize: jet from the map's
    least to its greatest value, or from 0 to 1."""
    need("overlays", "matplotlib")
    from matplotlib import pyplot

    heat, pixels = heat_map.detach().cpu().squeeze(), np.asarray(im, dtype=np.float32)[..., :3] / 255
    if crop:
        heat, pixels = heat[crop:-crop, crop:-crop], pixels[crop:-crop, crop:-crop]
    if ax is None:
        pyplot.clf()
        ax = pyplot.gca()
    limits = {} if color_normalize else {"vmin": 0.0, "vmax": 1.0}
    ax.imshow(heat.numpy(), cmap="jet", **limits)
    ax.imshow(np.concatenate([pixels, 1 - heat.clamp(0, 1).numpy()[..., None]], -1))
    if word is not None:
        ax.set_title(word)
    if out_file is not None:
        ax.figure.savefig(out_file)


def plot_mask_heat_map(im: Any, heat_map: Tensor, threshold: float = 0.4) -> None:
    """The image where a map of its size lies above the threshold, black elsewhere; on pyplot's figure."""
    need("overlays", "matplotlib")
    from matplotlib import pyplot

    mask = (heat_map.detach().cpu().squeeze() > threshold).to(torch.float32).numpy()
    pyplot.imshow(np.asarray(im, dtype=np.float32)[..., :3] / 255 * mask[..., None])
