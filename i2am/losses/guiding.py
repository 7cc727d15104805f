"""Losses for guidance: where a map should lie, and how much of it lies elsewhere.

mass_outside = 1 - sum of the map inside of a region / sum of the map
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from i2am.common.checks import refuse
from i2am.losses.presets import one_of
from i2am.losses.reading import layers_of, mean_of, on_layer
from i2am.maps.canvas import canvas
from i2am.maps.layers import Layers
from i2am.maps.levels import AttributionMaps
from i2am.maps.regions import as_mask, where


def mass_outside(
    maps: AttributionMaps,
    region: Any,
    direction: str,
    *,
    layers: Layers = None,
    reference: int | str | None = None,
    resize: str = "nearest",
) -> Tensor:
    """[B]: the share of each image's map that lies outside of a region, the mean over the chosen layers, with gradient.

    region: 1 inside, of any size, on the canvas of the direction: the generated image for "r2g", the reference for "g2r"; one or one per
    image. resize: onto each layer's grid by the "nearest" pixel, or by its "area", which weighs cells on the region's edge. Special tokens
    (CLS) lie on no canvas and do not count. Sum it for guidance, so that no image's gradient depends on the others' number.
    """
    one_of("direction", direction, ("r2g", "g2r"), "The last letter is the canvas that the region lies on.")
    one_of("resize", resize, ("nearest", "area"), '"area" weighs cells on the edge.')
    weight = as_mask(region, "region")
    losses = []
    for sums in layers_of(maps, direction, layers, reference):
        inside = on_layer(weight, "region", sums, direction, resize)
        empty = ~inside.flatten(1).any(1)
        if empty.any():
            h, w = inside.shape[1:]
            refuse("region", f"above 0 on some cell of {sums.layer}'s grid of {h} x {w}", f"0 on all{where(empty[:, None])}",
                   'Pass resize="area", or take layers of finer grids.')  # fmt: skip
        found = canvas(sums, direction).sum((1, 2))  # [B, h, w]
        mass = found.sum((1, 2))
        lost = mass <= 0
        if lost.any():
            refuse(
                f"the {direction} map of {sums.layer}", "above 0 somewhere", f"0 everywhere{where(lost[:, None])}", "Choose other layers."
            )
        losses.append(1 - (found * inside).sum((1, 2)) / mass)
    return mean_of(losses)
