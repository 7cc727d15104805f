"""The embedded text-to-image model: small enough to ship, made so that what a word means is known and its maps can be judged.

Begin with: `pipeline.py`; its parts are `unet.py` and `text.py`, and `train.py` makes the weights.
"""

from i2am.models.scenes.pipeline import WEIGHTS, WEIGHTS_BOUND, SmallTextPipeline, load
from i2am.models.scenes.text import SceneTextEncoder, SceneTokenizer
from i2am.models.scenes.unet import SceneUNet

__all__ = ["WEIGHTS", "WEIGHTS_BOUND", "SceneTextEncoder", "SceneTokenizer", "SceneUNet", "SmallTextPipeline", "load"]
