"""A small StableVITON with random weights."""

from __future__ import annotations

import copy
from functools import cache

import diffusers
from checkpoints import shapes

from benchmarks.parity.stableviton import SMALL, weights
from i2am.models.stableviton import StableVITONPipeline
from i2am.models.stableviton.convert import fill
from i2am.models.stableviton.release import scheduler


@cache
def built() -> StableVITONPipeline:
    models = SMALL.parts()
    fill(models, weights(shapes("small")))
    return StableVITONPipeline(**{part: model.eval() for part, model in models.items()}, scheduler=scheduler())


def tiny(name: str = "DDIMScheduler") -> StableVITONPipeline:
    """Tests may change its scheduler, not its weights; DDIM calls the model once a step."""
    pipe = copy.copy(built())
    pipe.register_modules(scheduler=getattr(diffusers, name).from_config(scheduler().config))
    pipe.set_progress_bar_config(disable=True)
    return pipe
