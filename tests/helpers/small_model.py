"""The embedded model at small widths, with random weights."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import torch
from torch import Tensor

from i2am.models.pixels import PATCH
from i2am.models.small.encoder import GarmentEncoder
from i2am.models.small.pipeline import SmallTryOnPipeline
from i2am.models.small.schedule import scheduler
from i2am.models.small.unet import small_unet

TINY, REAL = (8, 6), (32, 24)  # grids of tokens; pictures are four times as large
HEADS, STEPS, GROUPS = 2, 3, 2


@cache
def built(grid: tuple[int, int]) -> SmallTryOnPipeline:
    torch.manual_seed(0)
    unet = small_unet((32, 32), heads=HEADS, tokens=32, grid=grid)
    encoder = GarmentEncoder(grid, channels=16, tokens=32, heads=HEADS)
    return SmallTryOnPipeline(unet.eval(), encoder.eval(), scheduler())


def tiny(grid: tuple[int, int] = TINY) -> SmallTryOnPipeline:
    pipe = copy.deepcopy(built(grid))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def inputs(count: int = 1, grid: tuple[int, int] = TINY, seed: int = 0) -> dict[str, Tensor]:
    """Pictures whose values are bytes, so that files of them lose nothing."""
    height, width, generator = PATCH * grid[0], PATCH * grid[1], torch.Generator().manual_seed(seed)
    person, garment, body = (torch.randint(0, 256, (count, 3, height, width), generator=generator) / 255 for _ in range(3))
    mask = torch.zeros(count, 1, height, width)
    mask[:, :, height // 4 + 1 : height // 2 + 3, 5:-5] = 1
    return {"image": person, "mask_image": mask, "garment": garment, "densepose": body}


def run(pipe: SmallTryOnPipeline, given: dict[str, Any] | None = None, seed: int = 1, **options: Any) -> Any:
    settings = {"num_inference_steps": STEPS, "output_type": "pt", "generator": torch.Generator().manual_seed(seed)}
    return pipe(**{**settings, **(inputs() if given is None else given), **options})[0]
