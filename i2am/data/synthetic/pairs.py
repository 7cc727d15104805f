"""A batch of pairs: a garment laid out flat, and the same garment worn.

Each pixel of either picture has garment coordinates: an affine map for the reference, an affine map and a smooth bend (waist, spine,
arms raised or lowered one by one) for the body. The texture is looked up there, so the reference position of every worn pixel is
a formula and not an estimate.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from i2am.common.checks import afford, fields_said, is_size, number, refuse, said
from i2am.data.synthetic.numbers import COUNT, Numbers, numbers, rows
from i2am.data.synthetic.shapes import Bend, Body, Cut, Place, ellipse
from i2am.data.synthetic.textures import Texture, blend, hsv
from i2am.data.truth import Truth
from i2am.maps.tokens import Grid

TILE = 24576  # pixels that a CPU draws at a time: what an operation reads is still in its cache
RICH = 0.2  # the share of garments with a different colour everywhere


def unit(pictures: Tensor) -> Tensor:
    """[-1, 1] -> [0, 1], as pipelines take them."""
    return pictures / 2 + 0.5


@dataclass(frozen=True)
class Pairs:
    """Pictures are [B, 3, H, W] float32 in [-1, 1]; masks [B, H, W] bool."""

    garment: Tensor  # the reference, on white
    garment_mask: Tensor
    person: Tensor  # wearing it
    mask: Tensor  # what try-on paints anew: the garment and around it
    densepose: Tensor  # body part, u and v, black elsewhere
    worn: Tensor  # bool: the pixels that show the garment
    source: Tensor  # [B, 2, H, W]: where on the reference they come from, (y, x) as fractions of height and width
    shade: Tensor  # [B, H, W]: how light the cloth is there; person = (garment at source + 1) * shade - 1

    __repr__ = fields_said

    def __len__(self) -> int:
        return len(self.garment)

    def __getitem__(self, which: slice) -> Pairs:
        if not isinstance(which, slice):
            refuse("the pairs asked for", "a slice", said(which), "pairs[0:1] is the first.")
        return rows(self, which)

    @property
    def agnostic(self) -> Tensor:
        """The person with the mask in grey."""
        return self.person * ~self.mask[:, None]

    @property
    def truth(self) -> Truth:
        return Truth(self.source, self.worn)


def draw(
    count: int | Tensor,
    *,
    seed: int = 0,
    first: int = 0,
    size: Grid = (256, 192),
    rich: float = RICH,
    device: torch.device | str = "cpu",
) -> Pairs:
    """Pairs first ... first + count - 1 of a seed, at any size (height, width); or of rows that `numbers` gave."""
    check(size, rich)
    drawn = count if isinstance(count, Tensor) else numbers(count, seed, first)
    if drawn.ndim != 2 or drawn.shape[1] != COUNT or not len(drawn):
        refuse("count", f"a number of pairs, or their numbers [B, {COUNT}]", said(drawn), "See i2am.data.synthetic.numbers.")
    height, width = size
    afford(f"pairs of {height} x {width}", 60 * len(drawn) * height * width, "Draw fewer, or smaller ones.", device)
    x, y = canvas(size, device)
    cpu = x.device.type == "cpu"
    each, high = (max(1, TILE // (height * width)), max(1, TILE // width)) if cpu else (len(drawn), height)
    made = None
    with one_core(), torch.inference_mode():  # a fifth less time on small operations
        world = World.drawn(Numbers(drawn.to(device)), rich)
        for first in range(0, len(drawn), each):
            some = rows(world, slice(first, first + each))
            for top in range(0, height, high):
                tile = parts(painted(some, x[:, top : top + high], y[:, top : top + high], size))
                made = made or blank(tile, len(drawn), size)
                for whole, part in zip(made, tile):
                    whole[first : first + each, ..., top : top + high, :] = part
    assert made
    return Pairs(*made)


@contextmanager
def one_core() -> Iterator[None]:
    """torch keeps to one thread, here and in threads that start meanwhile: a tile is over before a second one has woken up."""
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def parts(pairs: Pairs) -> list[Tensor]:
    return [getattr(pairs, f.name) for f in fields(pairs)]


@torch.inference_mode(False)
def blank(tile: list[Tensor], count: int, size: Grid) -> list[Tensor]:
    """Room for whole pictures, which training may differentiate through."""
    return [part.new_empty(count, *part.shape[1:-2], *size) for part in tile]


@dataclass(frozen=True)
class World:
    """What pairs are made of."""

    cut: Cut
    texture: Texture
    flat: Place
    body: Place
    bend: Bend
    wider: Cut  # what is painted anew
    margin: Tensor
    skirt: Tensor
    hair: Tensor
    scene: Scene

    @staticmethod
    def drawn(of: Numbers, rich: float) -> World:
        cut, texture = Cut.drawn(of), Texture.drawn(of, rich)
        flat = Place.drawn(of, (1.05, 1.6), (-0.14, 0.14), (-0.24, 0.20))
        body, bend = Place.drawn(of, (0.66, 1.15), (-0.22, 0.22), (-0.22, 0.30)), Bend.drawn(of)
        wider = Cut(torch.maximum(cut.sleeve, of(0.05, 0.45)), torch.maximum(cut.hem, of(0.28, 0.48)), cut.width + 0.01, cut.neck * 0.6,
                    cut.flare.clamp(min=0), torch.zeros_like(cut.vee))  # fmt: skip
        return World(cut, texture, flat, body, bend, wider, of(0.03, 0.07), of(-0.1, 0.3), of(-0.1, 0.4), Scene.drawn(of))


def painted(world: World, x: Tensor, y: Tensor, size: Grid) -> Pairs:
    """The pairs at pixel centres x, y [B, h, W] of pictures of this size."""
    (height, width), high, cut = size, x.shape[1], world.cut
    across, down = world.flat.into(x, y)
    bx, by = world.bend(*world.body.into(x, y))
    # the garment laid out above the garment worn: one sweep draws both
    both = torch.cat([across, bx], 1), torch.cat([down, by], 1)
    flat, shape = cut.distance(*both).split(high, 1)
    cloth, worn = cover(flat, world.flat.scale, height), cover(shape, world.body.scale, height)
    laid, dress = dressed(world.texture, cut, *both, torch.cat([cloth, worn], 1) > 0).split(high, 2)
    garment = blend(torch.ones_like(laid), laid, cloth)

    folds = 1 + 0.05 * torch.sin(9 * bx + 5 * by) * (0.5 + by).clamp(0, 1)
    shade = folds * (1 - 0.22 * ((shape + 0.05) / 0.05).clamp(0, 1))
    mask = world.wider.distance(bx, by) < world.margin
    body = Body.of(bx, by, cut, world.skirt, world.hair)
    person = scenery(world.scene, body, (bx, by), y, world.body.scale, height)
    person = blend(person, (dress + 1) * shade[:, None] - 1, worn).clamp(-1, 1)

    # back from garment coordinates to the reference's pixels
    right, low = world.flat.back(bx, by)
    source = torch.stack([(low + 1) / 2, right * height / (2 * width) + 0.5], 1)
    return Pairs(garment.clamp(-1, 1), cloth > 0.5, person, mask, iuv(body, bx, by), worn > 0.5, source, shade)


def check(size: Grid, rich: float) -> None:
    if not is_size(size) or min(size) < 16:
        refuse("size", "(height, width) of at least 16 pixels", said(size), "VITON-HD's own is (1024, 768).")
    number("rich", rich, "a share from 0 to 1", lambda x: 0 <= x <= 1, f"The default is {RICH}.")


def canvas(size: Grid, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """x and y of the pixel centres [1, H, W]; the height is 2."""
    height, width = size
    y = ((torch.arange(height, device=device) + 0.5) / height * 2 - 1)[None, :, None].expand(1, height, width)
    x = (((torch.arange(width, device=device) + 0.5) / width * 2 - 1) * width / height)[None, None, :].expand(1, height, width)
    return x, y


def cover(distance: Tensor, scale: Tensor, height: int) -> Tensor:
    """The share of a pixel that lies inside."""
    return (0.5 - distance * scale * height / 2).clamp(0, 1)


def dressed(texture: Texture, cut: Cut, x: Tensor, y: Tensor, seen: Tensor) -> Tensor:
    """The garment's colours [B, 3, H, W]; on a CPU pair by pair and only where they are seen, which a GPU would wait for."""
    if x.device.type != "cpu":
        return trimmed(texture, cut, x, y)
    colours = x.new_zeros(len(x), 3, *x.shape[1:])
    for i in range(len(x)):
        places = seen[i].flatten().nonzero()[:, 0]
        if len(places):
            one, across, down = slice(i, i + 1), x[i].flatten()[None, None, places], y[i].flatten()[None, None, places]
            colours[i].view(3, -1)[:, places] = trimmed(rows(texture, one), rows(cut, one), across, down)[0, :, 0]
    return colours


def trimmed(texture: Texture, cut: Cut, x: Tensor, y: Tensor) -> Tensor:
    """The texture, with neck and hem in the second colour where the garment has them so."""
    colours = texture(x, y)
    if not texture.trim.any():
        return colours
    trim = torch.minimum(cut.throat(x, y) - 0.035, cut.hem - 0.04 - y)
    return blend(colours, texture.second, ((-trim) * 80 + 0.5).clamp(0, 1) * texture.trim)


@dataclass(frozen=True)
class Scene:
    """The colours of what try-on keeps, [B, 3, 1, 1] each."""

    background: Tensor
    skin: Tensor
    hair: Tensor
    trousers: Tensor
    eyes: Tensor
    mouth: Tensor

    @staticmethod
    def drawn(of: Numbers) -> Scene:
        grey = of(0.45, 0.95)
        background, tone = hsv(of(0, 1), of(0.02, 0.25), grey), of(0, 1)
        return Scene(
            background,
            skin=hsv(0.055 + 0.025 * tone, 0.55 - 0.3 * tone, 0.38 + 0.6 * tone),
            hair=hsv(of(0.03, 0.13), of(0.2, 0.7), of(0.06, 0.75)),
            trousers=hsv(of(0, 1), of(0, 0.6), of(0.1, 0.75)),
            eyes=hsv(of(0.05, 0.6), of(0.2, 0.6), of(0.05, 0.3)),
            mouth=hsv(of(0.96, 1), of(0.4, 0.7), of(0.5, 0.8)),
        )


def scenery(scene: Scene, body: Body, place: tuple[Tensor, Tensor], y: Tensor, scale: Tensor, height: int) -> Tensor:
    """Background, hair, skin, face and trousers: all that try-on keeps."""
    x, down = place
    picture = scene.background.expand(-1, -1, *y.shape[1:]) - 0.12 * (y[:, None] + 0.3)
    round_ = 1 - 0.18 * ((body.skin + 0.05) / 0.05).clamp(0, 1)
    picture = blend(picture, scene.hair, cover(body.hair, scale, height))
    picture = blend(picture, (scene.skin + 1) * round_[:, None] - 1, cover(body.skin, scale, height))
    fringe = torch.maximum(ellipse(x, down + 0.62, 0.14, 0.18), down + 0.69)
    picture = blend(picture, scene.hair, cover(fringe, scale, height))
    eyes = ellipse(x.abs() - 0.047, down + 0.63, 0.016, 0.013)
    mouth = ellipse(x, down + 0.535, 0.036, 0.011)
    picture = blend(picture, scene.eyes, cover(eyes, scale, height))
    picture = blend(picture, scene.mouth, cover(mouth, scale, height))
    return blend(picture, scene.trousers, cover(body.legs, scale, height))


def iuv(body: Body, x: Tensor, y: Tensor) -> Tensor:
    """The body as DensePose draws it: part, u and v as three channels, black elsewhere. It knows the body, not the garment."""
    parts = torch.stack([body.legs, body.torso, body.neck, body.upper, body.lower, body.head])
    distance, part = parts.min(0)
    side = torch.where(x < 0, 0.0, 0.5)
    level = torch.where((part == 3) | (part == 4), (part + side + 1) / 7, (part + 1) / 7)
    drawn = torch.stack([level, ((x + 0.75) / 1.5).clamp(0, 1), ((y + 1) / 2).clamp(0, 1)], 1)
    return torch.where((distance < 0)[:, None], drawn, 0) * 2 - 1
