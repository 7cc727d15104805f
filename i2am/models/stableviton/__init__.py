"""StableVITON (CVPR 2024) for diffusers: written from the architecture's facts, fed by `convert` from the published checkpoint.

The checkpoint comes under its authors' licence (CC BY-NC-SA 4.0), which holds for converted weights as well: no commercial use.

Begin with: `pipeline.py`; `convert.py` reads the checkpoint, `names.py` says which tensor goes where.
"""

from i2am.models.stableviton.convert import convert
from i2am.models.stableviton.encoders import ImageEncoder, SpatialEncoder
from i2am.models.stableviton.pipeline import StableVITONPipeline
from i2am.models.stableviton.unet import StableVITONUNet

__all__ = ["ImageEncoder", "SpatialEncoder", "StableVITONPipeline", "StableVITONUNet", "convert"]
