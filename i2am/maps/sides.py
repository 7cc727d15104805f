"""What a layer's maps weigh: the generated tokens for G2R and regions, the reference's for R2G, columns of words, masses and moments.

All on the CPU, from what the tokens of a call are and what a run was asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from i2am.common.checks import refuse
from i2am.maps.regions import on_grid, per_image, regions_on_grid
from i2am.maps.tokens import Tokens, plane
from i2am.maps.wanted import Wanted
from i2am_kernels import moments

CPU: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}


def of_generated(layer: str, tokens: Tokens, wanted: Wanted, images: int) -> Tensor | None:
    """[B', 1 + n, G']: the inpainting mask over G first, then one 0/1 row per declared region; None for 1/G alone."""
    grid, mask = tokens.generated_grid, wanted.generated_mask
    if mask is None and not wanted.regions:
        return None
    if grid is None:
        refuse(f"the generated grid of {layer}", "known to place a mask or region", "none", "Pass generated_grid=(height, width).")
    size = math.prod(grid)
    whole = torch.ones(1, size, **CPU) if mask is None else on_grid(mask, grid, images, "generated_mask")
    first = per_image(whole / size, images, "generated_mask")
    return torch.cat([first[:, None], regions_on_grid(wanted.regions, grid, images)], 1)


def of_reference(layer: str, tokens: Tokens, wanted: Wanted, images: int) -> Tensor | None:
    """[B', R']: 1/R, or the reference mask over R, and nothing for keys that are not the reference; None for 1/R alone."""
    mask = wanted.reference_mask
    if mask is None and tokens.keys == tokens.reference:
        return None
    part = tokens.reference_part
    count = part.stop - part.start
    weight = torch.zeros(images, tokens.keys[1] - tokens.keys[0], **CPU)
    weight[:, part] = 1 / count
    if mask is not None and count > 1:
        if tokens.reference_grid is None:
            refuse(f"the reference grid of {layer}", "known to place reference_mask", "none",
                   "Pass reference_grid=(height, width), or leave the mask out.")  # fmt: skip
        placed = on_grid(mask, tokens.reference_grid, images, "reference_mask")
        weight[:, part.start : part.start + tokens.special] = 0
        weight[:, part.start + tokens.special : part.stop] *= per_image(placed, images, "reference_mask")
    return weight


def of_tokens(layer: str, tokens: Tokens, columns: Sequence[int], mass: bool, field: bool, images: int) -> Tensor:
    """[B', R', n]: one column per recorded word token, one of the whole reference, then the moments of its grid."""
    first, last = tokens.words or (0, 0)
    if tokens.words is not None and (len(columns) == 0 or max(columns) >= last - first):
        refuse(f"the words of {layer}", f"among its {last - first} text tokens", list(columns), "Shorten the prompt.")
    weight = torch.zeros(images, tokens.keys[1] - tokens.keys[0], len(columns) + mass, **CPU)
    for n, column in enumerate(columns):
        weight[:, first - tokens.keys[0] + column, n] = 1
    if mass:
        weight[:, tokens.reference_part, -1] = 1
    if field and tokens.reference_grid is not None:
        of_grid = moments(plane(tokens.reference_grid), tokens.special, "cpu")
        places = torch.zeros(images, weight.shape[1], len(of_grid), **CPU)
        places[:, tokens.reference_part] = of_grid.mT
        weight = torch.cat([weight, places], 2)
    return weight
