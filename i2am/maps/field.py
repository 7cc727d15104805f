"""The correspondence field: where on the other picture every patch's attention lies, and how widely, at any level, from one run.

    "g2r"   a field on the generated image: where on the reference each patch comes from (the row softmax P)
    "r2g"   a field on the reference: where on the generated image each patch goes (the column softmax C)

A layer's head gives each patch a distribution over the other canvas, special tokens and other keys left out and the rest renormalised;
what is kept of it are its mass, mean and covariance. Several heads, layers, groups and images of a resized grid give mixtures of theirs:
the moments add up, each by its weight, so that the spread of a mixture holds both how wide its parts are and how far they lie apart.

Most heads of a model do not point, and many of those look sharply: a narrow spread alone says nothing. What tells pointing heads apart is
that following a patch to the other picture and back again leads home. `weigh="return"` counts each head by that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from i2am.common import notebook
from i2am.common.checks import fields_said, instance, is_floating, refuse, said
from i2am.maps.canvas import canvas, check_finite, picked, picture
from i2am.maps.kept_pictures import Set, picked_from
from i2am.maps.layer_sums import LayerSums
from i2am.maps.shown import png_of_field
from i2am.maps.tokens import Grid
from i2am.maps.ways import distance, followed
from i2am_kernels import field as moments_as_field

if TYPE_CHECKING:
    from PIL.Image import Image

Heads = Sequence[int] | int | None  # or groups
WEIGHINGS = ("return", "spread", "evenly")
TARGET = {"field_g2r": "reference_grid", "field_r2g": "generated_grid"}
BACK = {"field_g2r": "field_r2g", "field_r2g": "field_g2r"}
NEAR = 1.0  # patches: who comes back nearer than this, returns
ENOUGH = 0.5  # of the best head's share of returning patches: a head that points


@dataclass(frozen=True, eq=False)
class Field:
    """Positions and spread of every patch: `positions, spread = maps.field("g2r")`, [B, (groups, heads or layers,) H, W].

    Positions are fractions (y, x) of the other picture's height and width, the spread is the square root of the trace of the covariance
    in these fractions; NaN where a patch attends to nothing there. A mean is a good answer where attention has one peak. Where it has
    several, the mean lies between them and the spread is wide: `field.at((y, x))` beside `peak(maps.specific(0))` of `specific=[(y, x)]`.
    """

    positions: Tensor  # [..., H, W, 2]
    covariance: Tensor  # [..., H, W, 3]: yy, yx, xx
    direction: str
    generated: Set = field(default=(), repr=False)  # the pictures of both sides, where the maps carry them
    reference: Set = field(default=(), repr=False)
    home: Tensor | None = None  # [B, H, W]: how far from itself each patch ends, followed there and back, in fractions; of level "unified"
    __repr__ = fields_said

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.positions, self.spread))

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, images: int | slice) -> Field:
        """The field of one image, or of several."""
        part = [range(len(self))[images]] if isinstance(images, int) else list(range(len(self))[images])
        pictures = picked_from(self.generated, part), picked_from(self.reference, part)
        home = None if self.home is None else self.home[part]
        return Field(self.positions[part], self.covariance[part], self.direction, *pictures, home)

    @property
    def spread(self) -> Tensor:
        """[..., H, W]."""
        return (self.covariance[..., 0] + self.covariance[..., 2]).sqrt()

    def at(self, point: tuple[float, float]) -> tuple[Tensor, Tensor]:
        """Position [B, 2] and spread [B] of the patch that holds a point (y, x), in fractions of the picture that the field lies on."""
        whole = isinstance(point, (tuple, list)) and len(point) == 2 and all(isinstance(x, Real) and 0 <= x <= 1 for x in point)
        if not whole or self.positions.ndim != 4:
            refuse("the point", '(y, x) in fractions, of a field of level "unified"', said(point), "Divide pixels by height and width.")
        y, x = (min(int(share * size), size - 1) for share, size in zip(point, self.positions.shape[1:3]))
        return self.positions[:, y, x], self.spread[:, y, x]

    def sheet(self, images: Any = None, references: Any = None, **options: Any) -> list[Image]:
        """A labelled row for each image: both pictures with matching dots, the reference moved into place, and the wheel."""
        from i2am.show.field_sheets import sheet

        canvas, other = self.sides(images, references)
        return sheet(*self.drawable(), wanted(canvas, self, 0), wanted(other, self, -1), back=self.direction == "g2r", **options)

    def away(self, back: Field) -> Tensor:
        """[B, H, W]: how far from itself each patch ends that is followed to the other picture and back again by the field of the other
        direction, in patches of this one; infinite where it points nowhere. `pointing` heads bring most patches home."""
        (to, _), (home, _) = self.drawable(), instance("back", back, Field, "Pass the field of the other direction.").drawable()
        if back.direction == self.direction or len(back) != len(self):
            refuse("back", f"the way back of {self.direction} for {len(self)} images", f"{back.direction} of {len(back)}",
                   'maps.field("g2r") and maps.field("r2g") belong together.')  # fmt: skip
        ends = distance(followed(to.movedim(-1, 1), home.movedim(-1, 1)), (to.shape[1], to.shape[2]))
        return ends.nan_to_num(torch.inf, torch.inf)

    # Pictures, one an image; `images` are the generated ones, and both come from the maps where `maps.with_pictures` kept them

    def warp(self, references: Any = None, images: Any = None, size: Grid | None = None, **options: Any) -> list[Image]:
        """What attention alone would paint: each pixel of the generated image (for "r2g" of the reference) as its patch's position on
        the other picture has it, the clearer the narrower the patch looks, over the picture in pale grey."""
        from i2am.show.fields import warp

        canvas, other = self.sides(images, references)
        return warp(*self.drawable(), wanted(other, self, -1), canvas, size, **options)

    def arrows(self, images: Any = None, **options: Any) -> list[Image]:
        """Arrows from the place that a patch of the generated image comes from to the patch, over the image; for "r2g" from a patch of
        the reference, whose pictures `images` then are, to the place it goes to."""
        from i2am.show.field_marks import arrows

        canvas = self.sides(None, None)[0] if images is None else images
        return arrows(*self.drawable(), wanted(canvas, self, 0), back=self.direction == "g2r", **options)

    def matches(self, images: Any = None, references: Any = None, **options: Any) -> list[Image]:
        """Both pictures side by side, with dots of the same colour and number on a patch and where it points."""
        from i2am.show.field_marks import matches

        canvas, other = self.sides(images, references)
        return matches(*self.drawable(), wanted(canvas, self, 0), wanted(other, self, -1), **options)

    def wheel(self, size: Grid | None = None, **options: Any) -> list[Image]:
        """Where patches moved from the reference to the generated image: hue is the direction and saturation the length."""
        from i2am.show.fields import wheel

        return wheel(*self.drawable(), size, back=self.direction == "g2r", **options)

    def _repr_png_(self) -> bytes | None:
        """In a notebook: the warp, where the pictures are kept, and the wheel."""
        return notebook.png(lambda: png_of_field(self))

    def sides(self, images: Any, references: Any) -> tuple[Any, Any]:
        """The pictures of the canvas that the field lies on, and the others; None where there are none."""
        generated = list(self.generated) or None if images is None else images
        reference = list(self.reference) or None if references is None else references
        return (generated, reference) if self.direction == "g2r" else (reference, generated)

    def drawable(self) -> tuple[Tensor, Tensor]:
        """Positions of the unified level, and how far each is in doubt: by its spread, and by where the way back from it ends."""
        if self.positions.ndim != 4:
            refuse("a field that is drawn", "of level \"unified\", [B, H, W]", f"positions {list(self.positions.shape)}",
                   "Choose one of the level: maps.field(layers=name), heads=0 or groups=0.")  # fmt: skip
        return self.positions, self.spread if self.home is None else torch.hypot(self.spread, self.home)


def wanted(pictures: Any, of: Field, side: int) -> Any:
    """The pictures, or what to do without them; side 0 is the field's canvas, -1 the other picture."""
    if pictures is not None:
        return pictures
    name = "images" if (of.direction == "g2r") == (side == 0) else "references"
    refuse(name, f"given for this picture of {of.direction}", "none, and the maps carried none",
           "Keep them with maps.with_pictures(images, references).")  # fmt: skip


def combined(
    parts: Sequence[LayerSums],
    direction: str,
    size: Grid | None = None,
    level: str = "unified",
    heads: Heads = None,
    groups: Heads = None,
    weigh: str = "return",
) -> Field:
    """The field of these layers; `direction` is "field_g2r" or "field_r2g"."""
    if weigh not in WEIGHINGS:
        refuse("weigh", 'one of "return", "spread", "evenly"', said(weigh), '"return" lets those heads count that point.')
    grids = [picture(s, direction, "a field") for s in parts]
    check_finite(parts, direction)
    finest = max(grids, key=lambda g: g[0] * g[1])
    size = finest if size is None else size
    patches = grids if level == "layer" else [finest] * len(grids)  # by which a layer's way home is measured: alone by its own
    each = [resized(weighed(s, direction, weigh, own, (level, heads, groups)), size) for s, own in zip(parts, patches)]
    if level == "layer":
        sums = torch.stack([one.sum((1, 2)) for one in each], 1)
    elif level == "head":
        sums = torch.stack([one.sum(1) for one in each]).sum(0)
    else:
        sums = torch.stack([one.sum(2) for one in each]).sum(0)
        sums = sums if level == "time" else sums.sum(1)
    positions, covariance, _ = moments_as_field(sums.flatten(-2), (1, 1))
    return Field(positions.float().unflatten(-2, size), covariance.float().unflatten(-2, size), direction.removeprefix("field_"))


def peak(map: Tensor) -> Tensor:
    """Where maps [..., h, w] are largest, [..., 2]: the centre of that cell, (y, x) in fractions; of equals the first."""
    if not is_floating(map, 2, 3, 4, 5) or 0 in map.shape:
        refuse("map", "floating maps [..., h, w]", said(map), "maps.specific(0) is one.")
    at, (height, width) = map.flatten(-2).argmax(-1), map.shape[-2:]
    return torch.stack([(at // width + 0.5) / height, (at % width + 0.5) / width], -1)


def with_home(there: Field, back: Field) -> Field:
    """A field that knows how far from home its patches end; `back` is the other direction's."""
    to, home = (one.positions.double().movedim(-1, 1) for one in (there, back))
    return replace(there, home=distance(followed(to, home), (1, 1)).nan_to_num(1.0).float())


def weighed(s: LayerSums, direction: str, weigh: str, patches: Grid, choice: tuple[str, Heads, Heads]) -> Tensor:
    """One layer's moments, each head's by what it counts for at each patch."""
    sums = chosen_moments(s, direction, *choice)
    if weigh == "evenly":
        return sums
    if weigh == "spread":
        return sums / (variance(sums) + cell(s, direction))
    if BACK[direction] not in s.recorded:
        refuse("weigh", f'"evenly" or "spread", as {s.layer} has no way back', '"return"', "Both grids must be known in the run.")
    away = strayed(sums, chosen_moments(s, BACK[direction], *choice), patches)
    return sums * (returned(away)[..., None, None] ** 2 / (away**2 + (NEAR / 2) ** 2)).unsqueeze(-3)


def chosen_moments(s: LayerSums, direction: str, level: str, heads: Heads, groups: Heads) -> Tensor:
    """One layer's moments [B, groups or 1, heads, 6, h, w] in fractions of the other picture, float64."""
    sums = canvas(s, direction)
    sums = sums if groups is None else sums[:, picked(groups, sums.shape[1], "groups")]
    sums = sums if heads is None else sums[:, :, picked(heads, sums.shape[2], "heads")]
    sums = (sums if level == "time" else sums.sum(1, keepdim=True, dtype=torch.float64)).double()
    height, width = getattr(s, TARGET[direction])
    units = torch.tensor([1, height, width, height**2, height * width, width**2], dtype=torch.float64, device="cpu")
    return sums / units[:, None, None]


def cell(s: LayerSums, direction: str) -> float:
    """The variance of a single cell of the other picture: no layer says where within a cell it looks."""
    height, width = getattr(s, TARGET[direction])
    return (1 / height**2 + 1 / width**2) / 12


def variance(sums: Tensor) -> Tensor:
    """[..., 1, h, w]: the trace of the covariance of moments [..., 6, h, w]; 0 without mass."""
    mass, y, x, yy, _, xx = sums.unbind(-3)
    return ((yy + xx) / mass - (y / mass) ** 2 - (x / mass) ** 2).nan_to_num(0.0).clamp(min=0).unsqueeze(-3)


def means(sums: Tensor) -> Tensor:
    """Positions [..., 2, h, w] of moments [..., 6, h, w]."""
    return sums[..., 1:3, :, :] / sums[..., :1, :, :]


def strayed(there: Tensor, back: Tensor, patches: Grid) -> Tensor:
    """How far from itself each patch ends that is followed there and back, [..., h, w] in patches of this grid; far without mass."""
    *lead, _, h, w = there.shape
    to, home = means(there).flatten(0, -4), means(back).flatten(0, -4)  # [N, 2, h, w], [N, 2, h', w']
    return distance(followed(to, home), patches).nan_to_num(max(patches)).view(*lead, h, w)


def returned(away: Tensor) -> Tensor:
    """[...]: the share of patches [..., h, w] that come back; by one patch more, so that nobody counts nothing."""
    return ((away < NEAR).sum((-2, -1)) + 1) / (away.shape[-2] * away.shape[-1])


def pointing(parts: Sequence[LayerSums], direction: str = "field_g2r") -> dict[tuple[str, str], list[int]]:
    """The heads that point, by layer and reference: those with at least half the best head's share of returning patches."""
    both = [s for s in parts if s.has_field]
    if not both:
        refuse('layers="pointing"', "asked of a run that recorded the field", "none", "Trace with field=True, and both grids known.")
    check_finite(both, direction)
    check_finite(both, BACK[direction])
    finest = max((picture(s, direction, "a field") for s in both), key=lambda g: g[0] * g[1])
    shares = []
    for s in both:
        there, back = (chosen_moments(s, name, "unified", None, None) for name in (direction, BACK[direction]))
        shares.append(returned(strayed(there, back, finest)).mean((0, 1)))  # [heads]
    best = max(share.max() for share in shares)
    heads = {(s.layer, s.source): (share >= ENOUGH * best).nonzero()[:, 0].tolist() for s, share in zip(both, shares)}
    return {key: found for key, found in heads.items() if found}


def resized(sums: Tensor, size: Grid) -> Tensor:
    """Between patches lies the mixture of what they attend to: linear, so that it stays one."""
    if tuple(sums.shape[-2:]) == tuple(size):
        return sums
    flat = F.interpolate(sums.flatten(0, 3)[:, None], tuple(size), mode="bilinear", align_corners=False)
    return flat.view(*sums.shape[:4], *size)
