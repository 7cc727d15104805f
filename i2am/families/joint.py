"""Joint attention: text, generated picture and references are one sequence, and every layer is one call over it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from i2am.common.checks import refuse
from i2am.families.family import EXPLAIN, Family, Found, generated, length_of, reference, sequence, text
from i2am.families.unet import adapter
from i2am.maps.tokens import Grid, Seen, Tokens


def flux(seen: Seen) -> Found:
    """[text, generated, references]: `img_ids` number the pictures, and what is generated has number 0 (Kontext)."""
    if seen.index:
        return adapter(seen)
    pictures = numbered_grids(seen, "img_ids")
    if pictures is None:
        return None
    numbers = list(pictures)
    if numbers[0] != 0:
        refuse(f"the first picture of {seen.layer}", "number 0 of img_ids, what is generated", numbers, EXPLAIN)
    made, *others = pictures.values()
    # `length_of` would count text that the call leaves out
    before = text(seen.keys - sum(h * w for h, w in pictures.values()))
    return sequence(seen, [before, generated(made), *(reference(grid) for grid in others)])


def numbered_grids(seen: Seen, name: str) -> dict[float, Grid] | None:
    """Which pictures there are, by number and in their order, and the grid of each: from positions [tokens, (number, row, column, ...)]."""
    ids = seen.inputs.get(name)
    if not isinstance(ids, Tensor):
        return None
    ids = ids[0] if ids.ndim == 3 else ids
    grids: dict[float, Grid] = {}
    for number in dict.fromkeys(ids[:, 0].tolist()):
        rows, columns = (ids[ids[:, 0] == number][:, axis].unique().numel() for axis in (1, 2))
        count = int((ids[:, 0] == number).sum())
        if rows * columns != count:
            refuse(f"the image positions of {seen.layer}", "a full grid per image", f"{count} for image {number:g}", EXPLAIN)
        grids[number] = (rows, columns)
    return grids


def qwen(seen: Seen) -> Found:
    """[text, generated, references]: `img_shapes` has the (frames, height, width) of each picture, what is generated first."""
    shapes = seen.inputs.get("img_shapes")
    if seen.index or not shapes:
        return None
    first = shapes[0] if isinstance(shapes[0], (list, tuple)) and isinstance(shapes[0][0], (list, tuple)) else shapes
    grids = [(int(h), int(w)) for _, h, w in first]
    before = text(seen.keys - sum(h * w for h, w in grids))
    return sequence(seen, [before, generated(grids[0]), *(reference(grid) for grid in grids[1:])])


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


FLUX = Family("Flux", ("FluxTransformer2DModel",), flux, "text, generated, references")
QWEN = Family("Qwen-Image", ("QwenImageTransformer2DModel",), qwen, "text, generated, references")
SD3 = Family("Stable Diffusion 3", ("SD3Transformer2DModel",), sd3, "generated, text; an adapter's image in a call of its own", crosses)
FAMILIES = (FLUX, QWEN, SD3)
