"""Maps with everything that a file can hold."""

from __future__ import annotations

from typing import Any

import torch

from i2am import AttributionMaps
from i2am.maps.layer_sums import LayerSums
from i2am.maps.prompt import Prompt


def sums_of(
    layer: str, images: int, canvas: tuple[int, int] | None, reference: int, source: str = "reference", **options: Any
) -> LayerSums:
    g = canvas[0] * canvas[1] if canvas else 7
    shape = (images, 2, 3)
    return LayerSums(layer, source, canvas, **{
        "reference_grid": (reference, 2), "special": 1, "r2g": torch.rand(*shape, g, device="cpu"),
        "g2r": torch.rand(*shape, 2 * reference + 1, device="cpu"), "specific": torch.rand(*shape, 2, 2 * reference + 1, device="cpu"),
        "words": torch.rand(*shape, 3, g, device="cpu"), **options,
    })  # fmt: skip


def run_of() -> AttributionMaps:
    tokens = ("<s>", "a</w>", "\u732b</w>", "\u00c4</w>", "", "</s>")
    return AttributionMaps(
        (
            sums_of("down.0", 2, (4, 3), 5),
            sums_of("d\u00f6wn '1'\n", 2, (8, 6), 5, "scarf \U0001f9e3"),
            sums_of("pooled", 2, None, 0, g2r=None, specific=None, reference_grid=None, special=0),
            sums_of("words alone", 2, (2, 2), 0, g2r=None, specific=None, r2g=None, reference_grid=None, special=0),
        ),
        steps=7,
        regions=("point 0.5 0.25", "box 0 0 1 1"),
        columns=(1, 2, 3),
        prompts=(Prompt("a \u732b \u00c4", tokens, (True, False, False, False, False, True)), Prompt("", tokens, (True,) * 6)),
        about={"model": "Some\u00d6nePipeline", "": "x"},
    )
