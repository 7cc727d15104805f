"""Maps of layers with different grids, heads and special tokens, filled with numbers."""

from typing import Any

import torch
from torch import Tensor

from i2am import AttributionMaps
from i2am.maps.layer_sums import LayerSums

LAYERS = {  # generated grid, reference grid, special tokens, heads; r2g is "large" in another layer than g2r
    "down.0.attn2": ((3, 2), (5, 7), 1, 2),
    "down.1.attn2": ((6, 4), (2, 3), 0, 4),
    "mid.attn2": ((12, 8), (5, 7), 1, 2),
}


def sums_of(layer: str, images: int, groups: int, source: str = "reference") -> LayerSums:
    canvas, reference, special, heads = LAYERS[layer]
    g, r = canvas[0] * canvas[1], reference[0] * reference[1] + special

    def draw(*shape: int) -> Tensor:
        return torch.rand(images, groups, heads, *shape, device="cpu").pow(4)  # peaked, so that bicubic falls below 0

    return LayerSums(layer, source, canvas, reference, special, draw(g), draw(r), draw(2, r), draw(3, g))


def run_of(images: int = 2, groups: int = 3, layers: Any = LAYERS, **options: Any) -> AttributionMaps:
    options = {"steps": 4, "regions": ("point 0 0", "box 0 0 1 1"), **options}
    return AttributionMaps(tuple(sums_of(layer, images, groups) for layer in layers), **options)
