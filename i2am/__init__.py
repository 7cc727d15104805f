"""See which part of a reference image made which part of a generated image.

`i2am_kernels` holds the operator that adds the maps up; this package attaches it to models and reads the maps.
"""

from typing import TYPE_CHECKING, Any

from i2am.files import load
from i2am.imacs import imacs
from i2am.maps import AttributionMaps
from i2am.recorder import Recorder
from i2am.regions import cells
from i2am.tokens import Seen, Tokens
from i2am.trace import trace
from i2am.viewer import view

__all__ = ["AttributionMaps", "Recorder", "Seen", "Tokens", "cells", "imacs", "load", "trace", "view"]

if TYPE_CHECKING:
    from i2am.metric import Imacs as Imacs
    from i2am.vitonhd import VitonHD as VitonHD


def __getattr__(name: str) -> Any:
    """`Imacs` and `VitonHD` need packages that are only there with the extras "metrics" and "pictures"."""
    if name == "Imacs":
        from i2am.metric import Imacs

        return Imacs
    if name == "VitonHD":
        from i2am.vitonhd import VitonHD

        return VitonHD
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
