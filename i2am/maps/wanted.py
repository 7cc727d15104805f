"""What a run was asked to weigh: the same for every layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from i2am.common.checks import fields_said
from i2am.maps.regions import Region, images_of


@dataclass(frozen=True)
class Wanted:
    """What a recorder was asked to weigh, the same for every layer."""

    groups: int | None  # None: what fits the run
    generated_mask: Tensor | None = None  # [m, h, w]
    reference_mask: Tensor | None = None
    regions: Sequence[Region] = ()
    columns: Sequence[int] | None = None  # which word tokens; None means every one
    backend: str = "auto"
    field: bool = False
    weigh: str = "weights"
    shares: bool = False
    differentiable: bool = False
    __repr__ = fields_said

    @property
    def per_image(self) -> bool:
        """Whether some weight speaks of single images, so that their number must be known before the first call."""
        masks = [mask for mask in (self.generated_mask, self.reference_mask, *self.regions) if mask is not None]
        return any(images_of(mask) > 1 for mask in masks)
