"""A batch of pairs: a garment laid out flat, and the same garment worn.

Each pixel of either picture has garment coordinates: an affine map for the reference, an affine map and a smooth bend (waist, spine,
arms raised or lowered one by one) for the body. The texture is looked up there, so the reference position of every worn pixel is
a formula and not an estimate.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from i2am.synthetic.numbers import COUNT, Numbers, numbers
from i2am.synthetic.shapes import Body, Cut, ellipse
from i2am.synthetic.textures import Texture, blend, hsv
from i2am.tokens import Grid, is_size, refuse
from i2am.truth import Truth

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

    def __len__(self) -> int:
        return len(self.garment)

    def __getitem__(self, rows: slice) -> Pairs:
        return Pairs(*(getattr(self, f.name)[rows] for f in fields(self)))

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
        refuse("count", f"a number of pairs, or their numbers [B, {COUNT}]", tuple(drawn.shape), "See i2am.synthetic.numbers.")
    of = Numbers(drawn.to(device))
    height, width = size
    x, y = canvas(size, drawn.shape[0], device)
    cut, texture = Cut.drawn(of), Texture.drawn(of, rich)

    # the garment laid out: turned, scaled, shifted
    scale, turn, left, down = of(1.05, 1.6), of(-0.22, 0.22), of(-0.14, 0.14), of(-0.24, 0.20)
    across, below = turned(x - left, y - down, turn)
    flat = cut.distance(across / scale, below / scale)
    cloth = cover(flat, scale, height)
    garment = blend(torch.ones(len(drawn), 3, *size, device=device), dressed(texture, cut, across / scale, below / scale), cloth)

    # the body: turned, scaled, shifted, bent
    size_, lean, right, low = of(0.66, 1.15), of(-0.22, 0.22), of(-0.22, 0.22), of(-0.22, 0.30)
    bx, by = turned(x - right, y - low, lean)
    bx, by = bent(bx / size_, by / size_, of)
    shape = cut.distance(bx, by)
    worn = cover(shape, size_, height)
    folds = 1 + 0.05 * torch.sin(9 * bx + 5 * by) * (0.5 + by).clamp(0, 1)
    shade = folds * (1 - 0.22 * ((shape + 0.05) / 0.05).clamp(0, 1))
    wider = Cut(torch.maximum(cut.sleeve, of(0.05, 0.45)), torch.maximum(cut.hem, of(0.28, 0.48)), cut.width + 0.01, cut.neck * 0.6,
                cut.flare.clamp(min=0), torch.zeros_like(cut.vee))  # fmt: skip
    mask = wider.distance(bx, by) < of(0.03, 0.07)

    skirt, hair = of(-0.1, 0.3), of(-0.1, 0.4)
    body = Body.of(bx, by, cut, skirt, hair)
    person = scenery(of, body, (bx, by), y, size_, height)
    person = blend(person, (dressed(texture, cut, bx, by) + 1) * shade[:, None] - 1, worn).clamp(-1, 1)

    # back from garment coordinates to the reference's pixels
    qx, qy = turned(bx * scale, by * scale, -turn)
    source = torch.stack([(qy + down + 1) / 2, (qx + left) * height / (2 * width) + 0.5], 1)
    return Pairs(garment.clamp(-1, 1), cloth > 0.5, person, mask, iuv(body, bx, by), worn > 0.5, source, shade)


def check(size: Grid, rich: float) -> None:
    if not is_size(size) or min(size) < 16:
        refuse("size", "(height, width) of at least 16 pixels", repr(size), "VITON-HD's own is (1024, 768).")
    if not 0 <= rich <= 1:
        refuse("rich", "a share from 0 to 1", repr(rich), f"The default is {RICH}.")


def canvas(size: Grid, count: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """x and y of the pixel centres [B, H, W]; the height is 2."""
    height, width = size
    y = ((torch.arange(height, device=device) + 0.5) / height * 2 - 1)[None, :, None].expand(count, height, width)
    x = (((torch.arange(width, device=device) + 0.5) / width * 2 - 1) * width / height)[None, None, :].expand(count, height, width)
    return x, y


def turned(x: Tensor, y: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    cos, sin = torch.cos(angle), torch.sin(angle)
    return cos * x + sin * y, cos * y - sin * x


def bent(x: Tensor, y: Tensor, of: Numbers) -> tuple[Tensor, Tensor]:
    """A smooth bend: a leaning spine, a drooping or rising line of shoulders, each arm raised or lowered."""
    spine, droop, wave, girth = of(-0.2, 0.2), of(-0.25, 0.25), of(-0.03, 0.03), of(0.92, 1.1)
    arms = of(-0.5, 0.45), of(-0.5, 0.45)
    x = (x + spine * y * y.abs() + wave * torch.sin(5 * y)) * girth
    beyond = (x.abs() - 0.17).clamp(min=0)
    raised = torch.where(x < 0, *arms) * beyond**2 / (beyond + 0.12)
    return x, y + droop * x * x + raised


def cover(distance: Tensor, scale: Tensor, height: int) -> Tensor:
    """The share of a pixel that lies inside."""
    return (0.5 - distance * scale * height / 2).clamp(0, 1)


def dressed(texture: Texture, cut: Cut, x: Tensor, y: Tensor) -> Tensor:
    """The garment's colours, with its trim."""
    trim = torch.minimum(cut.throat(x, y) - 0.035, cut.hem - 0.04 - y)
    return blend(texture(x, y), texture.second, ((-trim) * 80 + 0.5).clamp(0, 1) * texture.trim)


def scenery(of: Numbers, body: Body, place: tuple[Tensor, Tensor], y: Tensor, scale: Tensor, height: int) -> Tensor:
    """Background, hair, skin, face and trousers: all that try-on keeps."""
    x, down = place
    grey = of(0.45, 0.95)
    picture = hsv(of(0, 1), of(0.02, 0.25), grey).expand(-1, -1, *y.shape[1:]) - 0.12 * (y[:, None] + 0.3)
    tone = of(0, 1)
    skin = hsv(0.055 + 0.025 * tone, 0.55 - 0.3 * tone, 0.38 + 0.6 * tone)
    hair = hsv(of(0.03, 0.13), of(0.2, 0.7), of(0.06, 0.75))
    trousers = hsv(of(0, 1), of(0, 0.6), of(0.1, 0.75))
    round_ = 1 - 0.18 * ((body.skin + 0.05) / 0.05).clamp(0, 1)
    picture = blend(picture, hair, cover(body.hair, scale, height))
    picture = blend(picture, (skin + 1) * round_[:, None] - 1, cover(body.skin, scale, height))
    fringe = torch.maximum(ellipse(x, down + 0.62, 0.14, 0.18), down + 0.69)
    picture = blend(picture, hair, cover(fringe, scale, height))
    eyes = ellipse(x.abs() - 0.047, down + 0.63, 0.016, 0.013)
    mouth = ellipse(x, down + 0.535, 0.036, 0.011)
    picture = blend(picture, hsv(of(0.05, 0.6), of(0.2, 0.6), of(0.05, 0.3)), cover(eyes, scale, height))
    picture = blend(picture, hsv(of(0.96, 1), of(0.4, 0.7), of(0.5, 0.8)), cover(mouth, scale, height))
    return blend(picture, trousers, cover(body.legs, scale, height))


def iuv(body: Body, x: Tensor, y: Tensor) -> Tensor:
    """The body as DensePose draws it: part, u and v as three channels, black elsewhere. It knows the body, not the garment."""
    parts = torch.stack([body.legs, body.torso, body.neck, body.upper, body.lower, body.head])
    distance, part = parts.min(0)
    side = torch.where(x < 0, 0.0, 0.5)
    level = torch.where((part == 3) | (part == 4), (part + side + 1) / 7, (part + 1) / 7)
    drawn = torch.stack([level, ((x + 0.75) / 1.5).clamp(0, 1), ((y + 1) / 2).clamp(0, 1)], 1)
    return torch.where((distance < 0)[:, None], drawn, 0) * 2 - 1
