"""The embedded text-to-image model: small enough to ship, made so that what a word means is known and its maps can be judged.

Begin with: `pipeline.py`; its parts are `unet.py` and `text.py`, and `train.py` makes the weights.
"""

from i2am.models.scenes.pipeline import BOUND, WEIGHTS, SmallTextPipeline, load
from i2am.models.scenes.text import SceneTextEncoder, SceneTokenizer
from i2am.models.scenes.unet import SceneUNet

__all__ = ["BOUND", "WEIGHTS", "SceneTextEncoder", "SceneTokenizer", "SceneUNet", "SmallTextPipeline", "load"]
