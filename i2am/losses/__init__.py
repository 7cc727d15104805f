"""Losses on attribution maps: the paper's refinement terms, and how much of a map lies outside of a region.

    with i2am.trace(unet, differentiable=True) as run:
        noise = unet(latents, timestep, ...)
    loss, parts = i2am.losses.total(run.maps, mask, layers="up_blocks.1*")

Imports: maps, common, i2am_kernels.
Begin with: `refining.py` (maps in, losses out), then `centres.py` and `concentrating.py` (the formulas, on plain tensors).
"""

from i2am.losses.centres import disorder, variation
from i2am.losses.concentrating import concentration
from i2am.losses.guiding import mass_outside
from i2am.losses.presets import PRESETS
from i2am.losses.refining import cwg, dcml, total, tv

__all__ = ["PRESETS", "concentration", "cwg", "dcml", "disorder", "mass_outside", "refining", "total", "tv", "variation"]
