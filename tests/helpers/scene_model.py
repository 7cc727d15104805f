"""The small text-to-image pipeline with random weights, smaller still."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from i2am.models.pixels import PATCH
from i2am.models.scenes.pipeline import SmallTextPipeline
from i2am.models.scenes.text import SceneTextEncoder
from i2am.models.scenes.train import Model
from i2am.models.scenes.unet import scene_unet

TINY = (6, 8)
SIZE = (TINY[0] * PATCH, TINY[1] * PATCH)
STEPS = 3
PROMPTS = ["a red circle left of a blue square", "a big ring"]


def networks() -> Model:
    return Model(scene_unet((16, 16), heads=2, tokens=32, grid=TINY), SceneTextEncoder(channels=16, heads=2))


def tiny(seed: int = 0) -> SmallTextPipeline:
    torch.manual_seed(seed)
    pipe = networks().pipeline(16.0)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def run(pipe: SmallTextPipeline, prompt: Any = PROMPTS[0], seed: int = 0, **options: Any) -> Tensor:
    """What it paints, [B, 3, H, W], unless the options say otherwise."""
    given: dict[str, Any] = {"generator": torch.Generator().manual_seed(seed), "num_inference_steps": STEPS, "guidance_scale": 1.0,
                             "output_type": "pt"}  # fmt: skip
    given |= options
    return pipe(prompt, return_dict=False, **given)[0]
