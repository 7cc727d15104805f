"""Signed distances (negative inside) of garments and bodies, in garment coordinates.

The garment's coordinates are the body's: x to the right from the spine, y down, shoulders near -0.3, hem near 0.4. Whatever is
drawn on a pixel is drawn through the garment coordinates of that pixel, so the correspondence of two pictures is known exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from i2am.data.synthetic.numbers import Numbers

Range = tuple[float, float]
ARM = (math.cos(0.85), math.sin(0.85))  # the direction of a hanging arm


def ellipse(x: Tensor, y: Tensor, across: float, down: float) -> Tensor:
    """Roughly the distance to an ellipse about the origin."""
    return (((x / across) ** 2 + (y / down) ** 2).sqrt() - 1) * min(across, down)


def capsule(x: Tensor, y: Tensor, start: tuple[Tensor, Tensor], end: tuple[Tensor, Tensor], radius: Tensor | float) -> Tensor:
    """The distance to a thick line."""
    across, down = end[0] - start[0], end[1] - start[1]
    x, y = x - start[0], y - start[1]
    along = ((x * across + y * down) / (across**2 + down**2)).clamp_(0, 1)
    return ((x - along * across).square_() + (y - along * down).square_() + 1e-9).sqrt_() - radius


@dataclass(frozen=True)
class Place:
    """Where a garment lies in a picture: turned, scaled and shifted; [B, 1, 1] each."""

    scale: Tensor
    cos: Tensor
    sin: Tensor
    right: Tensor
    low: Tensor

    @staticmethod
    def drawn(of: Numbers, scale: Range, right: Range, low: Range) -> Place:
        large, turn = of(*scale), of(-0.22, 0.22)
        return Place(large, torch.cos(turn), torch.sin(turn), of(*right), of(*low))

    def into(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Garment coordinates of places in the picture."""
        x, y = x - self.right, y - self.low
        return (self.cos * x + self.sin * y) / self.scale, (self.cos * y - self.sin * x) / self.scale

    def back(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Places in the picture of garment coordinates."""
        x, y = x * self.scale, y * self.scale
        return self.cos * x - self.sin * y + self.right, self.cos * y + self.sin * x + self.low


@dataclass(frozen=True)
class Bend:
    """A smooth bend: a leaning spine, a drooping or rising line of shoulders, each arm raised or lowered; [B, 1, 1] each."""

    spine: Tensor
    droop: Tensor
    wave: Tensor
    girth: Tensor
    left: Tensor
    right: Tensor

    @staticmethod
    def drawn(of: Numbers) -> Bend:
        return Bend(of(-0.2, 0.2), of(-0.25, 0.25), of(-0.03, 0.03), of(0.92, 1.1), of(-0.5, 0.45), of(-0.5, 0.45))

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        x = (x + self.spine * y * y.abs() + self.wave * torch.sin(5 * y)) * self.girth
        beyond = (x.abs() - 0.17).clamp(min=0)
        raised = torch.where(x < 0, self.left, self.right) * beyond**2 / (beyond + 0.12)
        return x, y + self.droop * x * x + raised


@dataclass(frozen=True)
class Cut:
    """What a garment is cut like: [B, 1, 1] each."""

    sleeve: Tensor
    hem: Tensor
    width: Tensor
    neck: Tensor
    flare: Tensor
    vee: Tensor

    @staticmethod
    def drawn(of: Numbers) -> Cut:
        return Cut(of(0.05, 0.42), of(0.28, 0.46), of(0.24, 0.30), of(0.09, 0.15), of(-0.02, 0.09), of.chance(0.3))

    @property
    def shoulder(self) -> tuple[Tensor, Tensor]:
        return self.width - 0.05, torch.full_like(self.width, -0.28)

    def throat(self, x: Tensor, y: Tensor) -> Tensor:
        """The distance to the neckline, round or pointed."""
        around = (x**2 + (y + 0.42) ** 2 + 1e-9).sqrt() - self.neck
        if not self.vee.any():
            return around
        pointed = torch.maximum(x.abs() * 1.25 + (y + 0.30) * 0.72 - 0.10, -0.6 - y)
        return torch.minimum(around, torch.where(self.vee, pointed, around))

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """The distance to the whole garment."""
        half = self.width + self.flare * (y + 0.1).clamp(-0.2, 0.6)
        torso = torch.maximum(torch.maximum(x.abs() - half, -0.38 - y - 0.1 * x.abs()), y - self.hem)
        across, down = self.shoulder
        tip = (across + self.sleeve * ARM[0], down + self.sleeve * ARM[1])
        body = torch.minimum(torso, capsule(x.abs(), y, (across, down), tip, 0.095))
        return torch.maximum(body, -self.throat(x, y))


@dataclass(frozen=True)
class Body:
    """The distances to the parts of a body, [B, H, W] each."""

    head: Tensor
    hair: Tensor
    neck: Tensor
    torso: Tensor
    upper: Tensor
    lower: Tensor
    legs: Tensor

    @staticmethod
    def of(x: Tensor, y: Tensor, cut: Cut, skirt: Tensor, hair: Tensor) -> Body:
        side = x.abs()
        across, down = cut.shoulder
        elbow = (across + 0.40 * ARM[0], down + 0.40 * ARM[1])
        hand = (elbow[0] - 0.02, elbow[1] + 0.36)
        half = cut.width - 0.02 + skirt * (y - 0.3).clamp(0, 1)
        return Body(
            head=ellipse(x, y + 0.62, 0.125, 0.165),
            hair=torch.minimum(ellipse(x, y + 0.66, 0.16, 0.18), torch.maximum(side - 0.15, torch.maximum(-0.66 - y, y + 0.62 - hair))),
            neck=torch.maximum(side - 0.07, torch.maximum(-0.6 - y, y + 0.28)),
            torso=torch.maximum(side - cut.width + 0.03, torch.maximum(-0.34 - y, y - 0.4)),
            upper=capsule(side, y, (across, down), elbow, 0.066),
            lower=capsule(side, y, elbow, hand, 0.052),
            legs=torch.maximum(side - half, 0.33 - y),
        )

    @property
    def skin(self) -> Tensor:
        return reduce(torch.minimum, (self.head, self.neck, self.torso, self.upper, self.lower))
