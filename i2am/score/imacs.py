"""IMACS, the Inpainting Mask Attention Consistency Score: does a map lie inside a mask, and how much of it lies outside?

    A -> minmax -> bicubic to the mask's size -> minmax -> X;   X[X <= threshold] = 0
    IMACS = sum(X m) / sum(m)  -  penalty * sum(X (1 - m)) / sum(1 - m)          in [-penalty, 1]

minmax(x) = (x - min) / (max - min + 1e-8), per image. IMACS_g scores the R2G map against the inpainting mask, IMACS_r the G2R map
against the garment mask. It is no measure of correspondence: a map that points nowhere in particular, inside the mask, scores well.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from i2am.common.checks import instance, is_floating, number, refuse, said
from i2am.maps.layers import Layers, listed
from i2am.maps.levels import AttributionMaps
from i2am.maps.regions import as_mask, per_image, where
from i2am.maps.tokens import Grid

EPSILON = 1e-8
OF_VIDEO = "Score the frames of a video as pictures: map.flatten(0, 1), mask.flatten(0, 1)."


def imacs(
    map: Tensor, mask: Any, *, threshold: float = 0.4, penalty: float = 3.0, invert: bool = False, force_mask: bool = False
) -> Tensor:
    """One float32 score per image, [B], for maps [B, h, w] and masks of 1 inside, 0 outside; a number [] for one map [h, w].

    mask: [B, H, W], [B, 1, H, W], [H, W] for every image, pictures or arrays, between 0 and 1; m masks serve B / m images each. Its size
    is the size at which the map is scored. Soft masks are used as they are: a pixel of 0.3 is 0.3 inside and 0.7 outside.
    threshold: from 0 to below 1. penalty: 0 or more.
    invert: score 1 - X, inverted after the second minmax and before the threshold, as the authors' releases do for some models.
    force_mask: multiply the map by the mask (bicubic to the map's grid) before the first minmax.

    NaN is a score that does not exist, of a mask that is empty or full, which has no inside or no outside; a warning names the image.
    `i2am.Imacs` counts them. A map with a value that is not finite is refused. A constant map is X = 0 and scores 0, or 1 - penalty
    inverted; a map that is constant but for rounding is scored on its rounding, as minmax makes it large. A map whose shape is not the
    mask's is stretched to it, with a warning: a picture that the model saw cropped needs its mask cropped in the same way.
    """
    score = scored(map, mask, threshold=threshold, penalty=penalty, invert=invert, force_mask=force_mask)
    lost = score.isnan()
    if lost.any():
        empty = "a mask that is empty or full has no inside or no outside"
        warnings.warn(f"i2am: no IMACS (NaN){where(lost[:, None])}: {empty}.", stacklevel=2)
    return score[0] if map.ndim == 2 else score


def scored(
    map: Tensor, mask: Any, *, threshold: float = 0.4, penalty: float = 3.0, invert: bool = False, force_mask: bool = False
) -> Tensor:
    """`imacs`, [B], without a word on masks that give NaN."""
    check_options(threshold, penalty)
    x, m = _checked(map, mask)
    if force_mask:
        x = x * _resized(m, (x.shape[-2], x.shape[-1]))
    x = _minmax(_resized(_minmax(x), (m.shape[-2], m.shape[-1])))
    x = 1 - x if invert else x
    x = torch.where(x <= threshold, 0.0, x)
    outside = 1 - m
    return _sum(x * m) / _sum(m) - penalty * _sum(x * outside) / _sum(outside)  # 0 / 0 is NaN


def check_options(threshold: float, penalty: float) -> None:
    number("threshold", threshold, "from 0 to below 1", lambda x: 0 <= x < 1, "0.4 is the authors'.")
    number("penalty", penalty, "0 or more", lambda x: 0 <= x < math.inf, "3 is the authors'.")


def _checked(map: Tensor, mask: Any) -> tuple[Tensor, Tensor]:
    """Maps [B, h, w] and one mask per map [B, H, W], float32, where the maps are."""
    if not is_floating(map, 2, 3) or 0 in map.shape:
        refuse("map", "a floating tensor [B, h, w] or [h, w]", said(map), f'maps.unified("r2g") is one. {OF_VIDEO}')
    x = map.float()
    x = x[None] if x.ndim == 2 else x
    wrong = ~x.isfinite()
    if wrong.any():
        refuse("map", "finite", f"NaN or infinity{where(wrong)}", "Look for overflow in the traced run's attention.")
    m = per_image(as_mask(mask, "mask"), len(x), "mask").to(x.device)
    if not alike((x.shape[-2], x.shape[-1]), (m.shape[-2], m.shape[-1])):
        shapes = (f"{one.shape[-2]} x {one.shape[-1]}" for one in (x, m))
        warnings.warn("i2am: maps of {} are stretched to masks of {}. If the model saw the picture cropped, crop the mask in the same "
                      "way.".format(*shapes), stacklevel=4)  # fmt: skip
    return x, m


def alike(*sizes: Grid) -> bool:
    """Whether both are the same picture, the smaller one a grid of it that is cut off or filled up at its borders."""
    small, large = sorted(sizes, key=math.prod)
    scales = [(side / (n + 1), side / max(n - 1, 1e-9)) for n, side in zip(small, large)]
    return max(low for low, _ in scales) < min(high for _, high in scales)


def _minmax(x: Tensor) -> Tensor:
    low, high = x.amin((-2, -1), keepdim=True), x.amax((-2, -1), keepdim=True)
    return (x - low) / (high - low + EPSILON)


def _resized(x: Tensor, size: Grid) -> Tensor:
    return F.interpolate(x[:, None], size, mode="bicubic", align_corners=False, antialias=False)[:, 0]


def _sum(x: Tensor) -> Tensor:
    return x.sum((-2, -1))


@dataclass(frozen=True)
class Side:
    """How one direction is scored. layers: patterns of which one must fit a layer's name; without: patterns of which none may."""

    layers: tuple[str, ...] = ("*",)
    without: tuple[str, ...] = ()
    invert: bool = False
    force_mask: bool = False


@dataclass(frozen=True)
class Convention:
    """Everything a reported score depends on beside the maps: `dataclasses.asdict` of it belongs into the report.

    g2r=None: there is no G2R score. Change one thing with `dataclasses.replace(convention("custom"), penalty=1.0)`.
    """

    name: str
    about: str
    r2g: Side = field(default_factory=Side)
    g2r: Side | None = field(default_factory=Side)
    threshold: float = 0.4
    penalty: float = 3.0
    weighed: bool = False  # G2R is weighed by the inpainting mask while the model runs: i2am.trace(..., generated_mask=mask)

    def __post_init__(self) -> None:
        check_options(self.threshold, self.penalty)

    @staticmethod
    def of(name: str | Convention) -> Convention:
        """The way of scoring with this name."""
        if isinstance(name, Convention):
            return name
        if not isinstance(name, str) or name not in CONVENTIONS:
            refuse("convention", f"one of {', '.join(CONVENTIONS)}", said(name), "Or build a Convention.")
        return CONVENTIONS[name]

    def options(self, direction: str) -> dict[str, Any]:
        """What `imacs` and `Imacs` take for this direction."""
        side = self.side(direction)
        return {"threshold": self.threshold, "penalty": self.penalty, "invert": side.invert, "force_mask": side.force_mask}

    def side(self, direction: str) -> Side:
        """How this direction is scored."""
        if direction not in ("r2g", "g2r"):
            refuse("direction", '"r2g" or "g2r"', said(direction), "The last letter is the canvas.")
        side = self.r2g if direction == "r2g" else self.g2r
        if side is None:
            refuse(f"the {direction} score", f"part of the convention {self.name!r}", "none", f"{self.about} Choose another.")
        return side

    def layers(self, direction: str, names: Sequence[str]) -> list[str]:
        """The layers it scores, of those that have this map."""
        side = self.side(direction)
        found = [
            name
            for name in names
            if any(fnmatchcase(name, pattern) for pattern in side.layers)
            and not any(fnmatchcase(name, pattern) for pattern in side.without)
        ]
        if not found:
            but = f" but not {', '.join(side.without)}" if side.without else ""
            refuse(f"the layers of the convention {self.name!r}", f"among the run's: {', '.join(side.layers)}{but}", "none that fits",
                   f"Pass layers=. {listed(names)}")  # fmt: skip
        return found


MIDDLE = ("*mid_block*", "*middle_block*", "*bottleneck*")
CONVENTIONS = {
    c.name: c
    for c in (
        Convention("method", "The formula on the maps of every traced layer."),
        Convention(
            "stableviton",
            "The release for StableVITON: R2G of the UNet's 15 cross-attentions outside the middle block, scored as 1 - A; G2R of the "
            "fifth of nine warp blocks, forced into the garment mask.",
            Side(without=(*MIDDLE, "*warp_flow_blks*", "*control_model*"), invert=True),
            Side(layers=("*warp_flow_blks.4.*",), force_mask=True),
        ),
        Convention(
            "paint-by-example",
            "The release for Paint-by-Example: R2G outside the middle block, scored as 1 - A; its reference is one token without G2R.",
            Side(without=MIDDLE, invert=True),
            None,
        ),
        Convention(
            "custom",
            "The release for the authors' own model: 15 layers outside the middle block, scored as A, not forced. There G2R is weighed "
            "by the inpainting mask while the model runs (generated_mask=).",
            Side(without=MIDDLE),
            Side(without=MIDDLE),
            weighed=True,
        ),
    )
}


def convention(name: str | Convention) -> Convention:
    """The way of scoring with this name: "method", the formula alone, or that of one of the authors' releases."""
    return Convention.of(name)


def scores(
    maps: AttributionMaps,
    mask: Any = None,
    garment_mask: Any = None,
    *,
    convention: str | Convention = "method",
    layers: Layers = None,
    size: Grid | None = None,
    **choice: Any,
) -> dict[str, Tensor]:
    """IMACS [B] for the masks given: "imacs_g", R2G against the inpainting mask, and "imacs_r", G2R against the garment mask.

    layers: instead of the convention's. size: the grid on which layers are averaged before they are scored; None takes the largest
    layer's, the releases (64, 48) except for StableVITON's G2R. heads=, groups=, reference= and balance= as for `maps.unified`.
    """
    how = Convention.of(convention)
    instance("maps", maps, AttributionMaps, "run.maps is one.")
    given = {name: m for name, m in (("r2g", mask), ("g2r", garment_mask)) if m is not None}
    if not given:
        refuse("the masks", "mask (inpainting), garment_mask or both", "neither", "Without a mask there is no score.")
    found = {}
    for direction, one in given.items():
        options = how.options(direction)
        wanted = layers if layers is not None else how.layers(direction, maps.names(direction, None, choice.get("reference")))
        map = maps.unified(direction, size, layers=wanted, **choice)
        found["imacs_g" if direction == "r2g" else "imacs_r"] = imacs(map, one, **options)
    return found
