"""Joint attention: text, generated picture and references are one sequence, and every layer is one call over it."""

from __future__ import annotations

from typing import Any

from i2am.families.family import Family, Found, length_of
from i2am.families.unet import adapter
from i2am.maps.tokens import Seen, Tokens


def sd3(seen: Seen) -> Found:
    """[generated, text]; an IP-Adapter's call has the layer's own keys in front of the image's."""
    if seen.index:
        return adapter(seen)
    length = length_of(seen)
    if getattr(seen.module, "add_k_proj", None) is None or not 0 < length < seen.keys:
        return None
    return Tokens(words=(seen.keys - length, seen.keys), generated=(0, seen.keys - length), source="words")


def crosses(name: str, module: Any) -> bool:
    """SD3.5's second attention of a block looks at the picture alone."""
    return getattr(module, "add_k_proj", None) is not None or not name.endswith("attn2")


SD3 = Family("Stable Diffusion 3", ("SD3Transformer2DModel",), sd3, "generated, text; an adapter's image in a call of its own", crosses)
FAMILIES = (SD3,)
