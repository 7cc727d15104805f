"""JoyImageEdit: [generated, references, text] in one call a layer."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from i2am.common.checks import refuse
from i2am.families.family import EXPLAIN, Block, Family, Found, generated, length_of, reference, sequence, text, total
from i2am.families.qwen import behind_template
from i2am.maps.tokens import AnyGrid, Seen


def joyimage(seen: Seen) -> Found:
    """Pictures of one size, [batch, pictures, channels, frames, height, width], the generated one last, which the model puts first."""
    pictures = seen.inputs.get("hidden_states")
    if seen.index or not isinstance(pictures, Tensor):
        return None
    if pictures.ndim == 5:
        pictures = pictures[:, None]
    patch = getattr(seen.denoiser.config, "patch_size", (1, 2, 2))
    frames, height, width = (size // cut for size, cut in zip(pictures.shape[-3:], patch))
    grid = flat((frames, height, width))
    return sequence(seen, [generated(grid), *[reference(grid)] * (pictures.shape[1] - 1), text(length_of(seen))])


def joyimage_plus(seen: Seen) -> Found:
    """Pictures of any sizes, `shape_list` for each row; shorter rows are filled up behind their last reference with hidden tokens."""
    pictures, rows = seen.inputs.get("hidden_states"), seen.inputs.get("shape_list")
    if seen.index or not isinstance(pictures, Tensor) or not rows:
        return None
    shapes = [[flat(shape) for shape in row] for row in rows]
    if any(row != shapes[0] for row in shapes[1:]):
        refuse(f"the pictures of {seen.layer}", "as many and as large in every row", shapes, "Trace one row at a time.")
    made, *others = shapes[0]
    blocks = [generated(made), *(reference(grid) for grid in others)]
    behind = pictures.shape[1] - total(blocks)
    if behind < 0:
        refuse(f"the pictures of {seen.layer}", f"{pictures.shape[1]} tokens", shapes[0], EXPLAIN)
    return sequence(seen, [*blocks, Block("filled", behind), text(length_of(seen))])


def flat(shape: Any) -> AnyGrid:
    """(height, width) of a picture of one frame."""
    frames, height, width = (int(side) for side in shape)
    return (height, width) if frames == 1 else (frames, height, width)


ORDER = "generated, references, text"
JOYIMAGE = Family("JoyImageEdit", ("JoyImageEditTransformer3DModel",), joyimage, ORDER, written=behind_template)
JOYIMAGE_PLUS = Family("JoyImageEdit Plus", ("JoyImageEditPlusTransformer3DModel",), joyimage_plus, ORDER, written=behind_template)
FAMILIES = (JOYIMAGE, JOYIMAGE_PLUS)
