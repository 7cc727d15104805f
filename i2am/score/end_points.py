"""How far the field ends from the truth: the end-point error, as of optical flow, in patches of the reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from i2am.common.checks import fields_said, instance, number, refuse
from i2am.data.truth import ABOUT, Truth
from i2am.maps.levels import AttributionMaps
from i2am.maps.tokens import plane


@dataclass(frozen=True, eq=False)
class EndPoints:
    """The errors of all garment patches of all images, [N] float64; a patch that attends to nothing is infinitely far. `a + b` has both."""

    errors: Tensor
    __repr__ = fields_said

    def __add__(self, other: EndPoints) -> EndPoints:
        return EndPoints(torch.cat([self.errors, other.errors]))

    def quantile(self, share: float) -> float:
        """The error that so many patches do not exceed; NaN without patches."""
        number("share", share, "from 0 to 1", lambda x: 0 <= x <= 1, "0.5 is the median.")
        return self.errors.quantile(share, interpolation="lower").item() if len(self.errors) else float("nan")

    @property
    def median(self) -> float:
        return self.quantile(0.5)

    def within(self, patches: float = 1.0) -> float:
        """The share of patches whose field ends so near to the truth; NaN without patches."""
        return (self.errors <= patches).double().mean().item()


def end_points(maps: AttributionMaps, truth: Truth, *, cover: float = 0.9, **choice: Any) -> EndPoints:
    """The errors of maps.field("g2r") against a known correspondence; layers=, heads=, groups=, reference=, size= and weigh= as there."""
    instance("maps", maps, AttributionMaps, "run.maps is one.")
    instance("truth", truth, Truth, ABOUT)
    number("cover", cover, "a share above 0, up to 1", lambda x: 0 < x <= 1, "0.9 wants most of a patch worn.")
    per = truth.serves(len(maps))
    positions = maps.field("g2r", **choice).positions.double()
    if positions.ndim != 4:
        refuse("level", '"unified"', "another", "Choose a layer, head or group instead: layers=.")
    reference = max((plane(s.reference_grid) for s in maps.sums if s.reference_grid is not None), key=lambda grid: grid[0] * grid[1])
    at = truth.on_grid((positions.shape[1], positions.shape[2]), reference, cover)
    counts, place = (part.repeat_interleave(per, 0) for part in (at.counts, at.place))
    away = (positions * torch.tensor(reference) - place).norm(dim=-1)
    return EndPoints(away.nan_to_num(torch.inf)[counts])
