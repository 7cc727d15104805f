"""See which part of a reference image made which part of a generated image.

`i2am_kernels` holds the operator that adds the maps up; this package attaches it to models and reads the maps.
"""

from i2am.files import load
from i2am.maps import AttributionMaps
from i2am.recorder import Recorder
from i2am.regions import cells
from i2am.tokens import Seen, Tokens
from i2am.trace import trace

__all__ = ["AttributionMaps", "Recorder", "Seen", "Tokens", "cells", "load", "trace"]
