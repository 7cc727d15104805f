"""What an evaluation needs of a model: a pipeline to trace, and a function that paints a batch of pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from i2am.common.checks import is_size, is_whole, refuse
from i2am.data.vitonhd import PARTS
from i2am.maps.tokens import Grid
from i2am.score.imacs import Convention
from i2am.score.imacs import convention as by_name

Batch = dict[str, Any]  # "name", "cloth": lists; "person", "garment", "agnostic", "densepose": [B, 3, H, W] in [0, 1]; masks [B, H, W]


class Paint(Protocol):
    """Images [B, 3, H, W] in [0, 1] of a batch of pairs, with one generator (of the CPU) per pair."""

    def __call__(self, batch: Batch, *, steps: int, guidance_scale: float, generators: list[torch.Generator]) -> Tensor: ...


@dataclass(frozen=True)
class TryOn:
    """A model to be evaluated.

    pipeline: what `i2am.trace` watches while `paint` runs; a diffusers pipeline, or another owner of a denoiser and a scheduler.
    size: (height, width) at which pictures are read, painted and scored. parts: what `paint` reads beside person, garment and masks.
    steps, guidance_scale, convention: defaults. trace: further options of i2am.trace. about: what a report should say of the model.
    """

    pipeline: Any
    paint: Paint
    size: Grid
    steps: int = 50
    guidance_scale: float = 5.0
    parts: Sequence[str] = ()
    convention: str | Convention = "method"
    trace: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not callable(self.paint):
            refuse("paint", "a function of a batch", repr(self.paint), "The documentation shows the ten lines of a model.")
        if not is_size(self.size):
            refuse("size", "(height, width)", repr(self.size), "VITON-HD models take (512, 384) or (1024, 768).")
        if not is_whole(self.steps, 1):
            refuse("steps", "a whole number of at least 1", repr(self.steps), "The paper takes 50.")
        if not 0 <= self.guidance_scale < math.inf:
            refuse("guidance_scale", "a number of at least 0", repr(self.guidance_scale), "Up to 1 the model paints without guidance.")
        if strange := [part for part in self.parts if part not in PARTS]:
            refuse("parts", f"some of {', '.join(PARTS)}", repr(strange), "They are read from the data, for paint.")
        by_name(self.convention)
