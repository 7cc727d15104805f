"""The release's picture files: the same names, sizes and colours, written without OpenCV and without pyplot's global figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from i2am.maps.tokens import Grid

Picture = np.ndarray  # uint8 [H, W, 3]


def minmax(maps: Tensor) -> Tensor:
    """Each map [..., h, w] between 0 and 1."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low) / (high - low + 1e-8)


def bicubic(maps: Tensor, size: Grid) -> Tensor:
    """Maps [B, h, w] at another size."""
    return F.interpolate(maps[:, None].float(), size, mode="bicubic")[:, 0]


def as_picture(values: Tensor) -> Picture:
    """A picture [H, W, 3] in [-1, 1] as bytes, cut off as the release does."""
    return ((values.detach().float().cpu().numpy() + 1.0) * 127.5).clip(0, 255).astype(np.uint8)


def heated(picture: Picture, level: Tensor) -> Picture:
    """0.7 of the picture and 0.5 of the level's colour: OpenCV's JET, blue before red, as the release shows it."""
    x = (level.clamp(0, 1) * 255).byte().numpy()[..., None] / 255.0
    colours = np.clip(1.5 - np.abs(4 * x - np.array([1.0, 2.0, 3.0])), 0, 1) * 255
    return np.clip(np.rint(0.7 * picture + 0.5 * np.rint(colours)), 0, 255).astype(np.uint8)


def write(values: Tensor | Picture, path: Path, box: tuple[int, int] | None = None) -> None:
    """A picture, or a map in matplotlib's jet, as the release's savefig frames it; `box` marks one cell (row, column)."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.patches import Rectangle
    except ImportError as error:
        raise ImportError("i2am: pictures need matplotlib. pip install 'i2am[pictures]'") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    figure = Figure()
    axes = figure.subplots()
    axes.imshow(values.numpy() if isinstance(values, torch.Tensor) else values, cmap="jet")
    if box is not None:
        axes.add_patch(Rectangle((box[1] - 0.5, box[0] - 0.5), 1, 1, edgecolor="red", facecolor="none"))
    axes.axis("off")
    figure.savefig(path, bbox_inches="tight", pad_inches=0)
