"""What the losses read of a run: the chosen layers, with their gradient, and masks on their grids."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from i2am.common.checks import cited, instance, refuse
from i2am.maps.canvas import check_finite, picture
from i2am.maps.layer_sums import LayerSums
from i2am.maps.layers import Layers
from i2am.maps.levels import AttributionMaps
from i2am.maps.regions import as_mask, on_grid, per_image, where
from i2am.maps.tokens import Grid

GRADIENT = "Trace with differentiable=True, under torch.enable_grad()."


def layers_of(maps: AttributionMaps, sums: str, layers: Layers, reference: int | str | None) -> list[LayerSums]:
    """The chosen layers that have these sums; they are finite, and at least one carries gradient."""
    instance("maps", maps, AttributionMaps, "They are run.maps of a trace, or recorder.maps.")
    videos = [s.layer for s in maps.sums for grid in (s.generated_grid, s.reference_grid) if grid is not None and len(grid) == 3]
    if videos:
        refuse("the maps of a loss", "of pictures", f"videos in {cited(videos)}",
               "Make a loss of maps.unified and the other levels, which carry gradient: [B, frames, H, W].")  # fmt: skip
    found = maps.parts(sums, layers, reference)
    if not any(getattr(s, sums).requires_grad for s in found):
        refuse("maps", "ones that carry gradient", "maps without", GRADIENT)
    check_finite(found, sums)
    return found


def on_layer(mask: Tensor, name: str, sums: LayerSums, direction: str, resize: str = "nearest") -> Tensor:
    """[B, h, w] on the layer's grid and device: masks [m, H, W], which must have the grid's proportions."""
    h, w = picture(sums, direction, name)
    height, width = mask.shape[1:]
    if not alike((h, w), (height, width)):
        turned = "Transpose it." if alike((h, w), (width, height)) else "It covers the picture that the map lies on: resize or crop it."
        refuse(name, f"as high and wide as {sums.layer}'s grid of {h} x {w}, or in proportion", f"{height} x {width}", turned)
    laid = on_grid(mask, (h, w)) if resize == "nearest" else F.adaptive_avg_pool2d(mask, (h, w)).flatten(1)
    sums_of = getattr(sums, direction)
    return per_image(laid, sums_of.shape[0], name).unflatten(-1, (h, w)).to(sums_of)


def alike(grid: Grid, size: Grid) -> bool:
    """Whether a picture has a grid's proportions, within one cell, as grids round."""
    (h, w), (height, width) = grid, size
    return (h - 1) * width < height * w and height * (w - 1) < h * width


def garment(mask: Any, sums: LayerSums) -> Tensor:
    """[B, h, w] of 0 and 1 on the generated grid: nearest, and at least 1/2."""
    inside = (on_layer(as_mask(mask, "mask"), "mask", sums, "field_g2r") >= 0.5).to(sums.field_g2r)
    empty = ~inside.flatten(1).any(1)
    if empty.any():
        h, w = inside.shape[1:]
        refuse("mask", f"at least 1/2 on some cell of {sums.layer}'s grid of {h} x {w}", f"less on all{where(empty[:, None])}",
               "Leave such an image out, or take layers of finer grids.")  # fmt: skip
    return inside


def mean_of(losses: list[Tensor]) -> Tensor:
    """Over layers, on the first one's device."""
    return sum((loss.to(losses[0].device) for loss in losses[1:]), losses[0]) / len(losses)
