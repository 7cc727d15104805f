"""The embedded try-on model: small enough to ship with the package and to run on a laptop, honest enough to test attribution on.

Begin with: `pipeline.py`; its parts are `unet.py` and `encoder.py`, and `train.py` makes the weights.
"""

from i2am.models.small.encoder import GarmentEncoder
from i2am.models.small.pipeline import WEIGHTS, SmallTryOnPipeline, load
from i2am.models.small.unet import SmallUNet

__all__ = ["WEIGHTS", "GarmentEncoder", "SmallTryOnPipeline", "SmallUNet", "load"]
