"""GLM-Image: pictures are read once, before the first step, and their keys are put in front of every layer's own."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from i2am.common.checks import refuse
from i2am.families.crossing import patched
from i2am.families.family import Block, Family, Found, generated, length_of, reference, sequence, text
from i2am.maps.tokens import Grid, Seen


def glm_image(seen: Seen) -> Found:
    """Keys [pictures, text, generated], queries [text, generated]; text and generated alone without a picture, and where one is read."""
    if seen.index:
        return None
    own = [text(length_of(seen)), generated(patched(seen))]
    return sequence(seen, [*pictures_read(seen), *own], own)


def pictures_read(seen: Seen) -> list[Block]:
    """The pictures whose keys are kept: the denoiser was called with each, image by image of the batch, before the first step."""
    caches = seen.inputs.get("kv_caches")
    if caches is None or caches[0].mode != "read":
        return []
    read = [call for call in seen.ahead if call["encoder_hidden_states"].shape[1] == 0]  # without a text
    grids = [grid_read(call["hidden_states"], seen.denoiser.config.patch_size) for call in read]
    rows = len(caches[0].k_caches)
    first = grids[: len(grids) // max(1, rows)]
    if not first or first * rows != grids:
        refuse(f"the pictures that {type(seen.denoiser).__name__} reads", "as many for every image of the batch, of the same sizes", grids,
               "Open the trace before the pipeline is called, and generate images of other pictures one by one.")  # fmt: skip
    return [reference(grid) for grid in first]


def grid_read(states: Tensor, patch: int) -> Grid:
    """The grid of a latent [1, channels, height, width]."""
    return states.shape[-2] // patch, states.shape[-1] // patch


def attends(name: str, module: Any) -> bool:
    """All of its layers are alike."""
    return name.endswith("attn1")


FAMILIES = (Family("GLM-Image", ("GlmImageTransformer2DModel",), glm_image, "pictures' kept keys, text, generated", attends),)
