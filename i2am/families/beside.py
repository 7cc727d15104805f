"""Two pictures in one latent: what is generated is on the left, and its reference, of the same size, on the right (DreamLite)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from i2am.common.checks import refuse
from i2am.families.family import Family, Found, latent
from i2am.families.unet import halves
from i2am.maps.orders import columns_apart
from i2am.maps.tokens import Grid, Seen, Tokens, grid_of


def stacked_beside(seen: Seen) -> Found:
    """Self-attention over a latent whose left half is generated and whose right half is the reference."""
    whole = whole_grid(seen)
    if seen.index or "attn2" in seen.layer or seen.keys != seen.queries or whole is None:
        return None
    half, order = seen.queries // 2, columns_apart(whole)
    grid = whole[0], whole[1] // 2
    return Tokens(reference=(half, 2 * half), generated=(0, half), generated_grid=grid, reference_grid=grid,
                  query_order=order, key_order=order)  # fmt: skip


def whole_grid(seen: Seen) -> Grid | None:
    """The grid of both pictures, whose width must fall into halves on every level."""
    size = latent(seen)
    whole = None if size is None else grid_of(seen.queries, *size)
    if size is not None and whole is not None and not halves(whole[1], size[1]):
        refuse(f"the pictures side by side in {seen.layer}", "of even width on every level", whole, "Pad the latent, or write a rule.")
    return whole


def dreamlite(seen: Seen) -> Found:
    """attn1: both pictures; attn2: the prompt, which the left picture asks. Without an image the right half is blank: no reference."""
    if seen.layer.endswith("attn1"):
        return stacked_beside(seen) if has_reference(seen) else None
    whole = whole_grid(seen)
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
