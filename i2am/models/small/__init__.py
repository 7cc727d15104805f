"""The embedded try-on model: small enough to ship with the package and to run on a laptop, honest enough to test attribution on."""

from i2am.models.small.encoder import GarmentEncoder
from i2am.models.small.pipeline import WEIGHTS, SmallTryOnPipeline, load
from i2am.models.small.unet import SmallUNet

__all__ = ["WEIGHTS", "GarmentEncoder", "SmallTryOnPipeline", "SmallUNet", "load"]
