"""What is asked of a study's pictures: everything that they and their maps depend on, beside the machine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from i2am.common.checks import is_size, is_whole, refuse, said
from i2am.maps.tokens import Grid

OURS = {
    "prompt": "The list has them.",
    "generator": "Every prompt has a seed of its own.",
    "num_images_per_prompt": "A table may list a prompt more than once, each with a seed.",
    "num_inference_steps": "It is --steps.",
    "guidance_scale": "It is --guidance-scale.",
    "negative_prompt": "It is --negative-prompt.",
    "height": "It is --size.",
    "width": "It is --size.",
    "output_type": "Pictures are what is studied.",
    "return_dict": "The engine reads what comes back.",
}


@dataclass(frozen=True)
class Options:
    """What is asked of the pictures. None: the model's own.

    seed: of the study; each prompt's own is made of it and the prompt's id, unless the list says one. limit: the first prompts alone.
    layers: those whose attention is recorded. arguments: further ones of the pipeline's call, the same for all. reference, guidance: as
    for a trace. beside: keep also where the model's reference acts. parts: (rows, columns) in which the picture is cut for that; by
    default at most 8 along the longer side.
    """

    steps: int | None = None
    guidance_scale: float | None = None
    seed: int = 0
    size: Grid | None = None
    negative_prompt: str | None = None
    limit: int | None = None
    layers: tuple[str, ...] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    reference: str = "auto"
    guidance: str = "auto"
    dtype: str = "float32"
    beside: bool = True
    parts: Grid | None = None

    def __post_init__(self) -> None:
        for name, least in (("limit", 1), ("steps", 1), ("seed", 0)):
            value = getattr(self, name)
            if not is_whole(value, least) and not (value is None and name != "seed"):
                refuse(name, f"a whole number of at least {least}", said(value), "Leave it out for the default.")
        for name in ("size", "parts"):
            if getattr(self, name) is not None and not is_size(getattr(self, name)):
                refuse(name, "(height, width)", said(getattr(self, name)), "Leave it out for the model's own.")
        if self.guidance_scale is not None and not 0 <= self.guidance_scale < math.inf:
            refuse("guidance_scale", "a number of at least 0", said(self.guidance_scale), "Up to 1 most models paint without guidance.")
        if isinstance(self.layers, str) or not (self.layers is None or all(isinstance(name, str) for name in self.layers)):
            refuse("layers", "names or patterns", said(self.layers), 'For example ("*attn2",); None traces all that read the prompt.')
        for name in self.arguments:
            if name in OURS:
                refuse("arguments", "of the pipeline's call, but not what a study decides", said(name), OURS[name])

    def asked(self) -> dict[str, Any]:
        """Keywords of the pipeline's call that are the same for every prompt."""
        size = {} if self.size is None else {"height": self.size[0], "width": self.size[1]}
        found = {"num_inference_steps": self.steps, "guidance_scale": self.guidance_scale}
        return {**{name: value for name, value in found.items() if value is not None}, **size, **self.arguments}
