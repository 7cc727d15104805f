"""Two pictures in one latent: what is generated is on the left, and its reference, of the same size, on the right (DreamLite)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from i2am.families.family import Family, Found
from i2am.families.unet import sides_grid, stacked_beside
from i2am.maps.orders import columns_apart
from i2am.maps.tokens import Seen, Tokens


def dreamlite(seen: Seen) -> Found:
    """attn1: both pictures; attn2: the prompt, which the left picture asks. Without an image the right half is blank: no reference."""
    if seen.layer.endswith("attn1"):
        return stacked_beside(seen) if has_reference(seen) else None
    whole = sides_grid(seen)
    if seen.index or whole is None:
        return None
    grid = whole[0], whole[1] // 2
    return Tokens(words=(0, seen.keys), source="words", generated=(0, seen.queries // 2), generated_grid=grid,
                  query_order=columns_apart(whole))  # fmt: skip


def has_reference(seen: Seen) -> bool:
    """Whether the right half of the last row, which is a conditional one, holds a picture."""
    sample = seen.inputs.get("sample")
    return isinstance(sample, Tensor) and bool(sample[-1, :, :, sample.shape[-1] // 2 :].any())


def attends(name: str, module: Any) -> bool:
    """Both kinds: a layer without a name of these is none of DreamLite's."""
    return name.endswith(("attn1", "attn2"))


FAMILIES = (Family("DreamLite", ("DreamLiteUNetModel",), dreamlite, "generated | reference in attn1, the prompt in attn2", attends),)
