"""What is printed on a garment, as a function of garment coordinates: patterns, prints and logos."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from i2am.data.synthetic.numbers import Numbers

KINDS = ("plain", "stripes", "upright stripes", "slanted stripes", "checks", "dots", "blocks", "fade", "field", "patchwork")
RICH_MODES = {"field": "bilinear", "patchwork": "nearest"}  # colours that differ everywhere: only copying gets them right
RICH = len(RICH_MODES)  # the last kinds
PRINTS = 3
TABLE = 10  # cells along a side of the colour table of the rich kinds
EXTENT = 0.75  # the table and its neighbours cover garment coordinates -0.75 ... 0.75

# 5 x 5 letters and signs that stay readable when small, a row per letter
GLYPHS = tuple(
    "".join(rows)
    for rows in (
        ("01110", "10001", "11111", "10001", "10001"),  # A
        ("11110", "10001", "11110", "10001", "11110"),  # B
        ("01111", "10000", "10000", "10000", "01111"),  # C
        ("11111", "10000", "11110", "10000", "11111"),  # E
        ("11111", "10000", "11110", "10000", "10000"),  # F
        ("10001", "10001", "11111", "10001", "10001"),  # H
        ("11111", "00100", "00100", "00100", "11111"),  # I
        ("10001", "10010", "11100", "10010", "10001"),  # K
        ("10000", "10000", "10000", "10000", "11111"),  # L
        ("10001", "11011", "10101", "10001", "10001"),  # M
        ("10001", "11001", "10101", "10011", "10001"),  # N
        ("01110", "10001", "10001", "10001", "01110"),  # O
        ("11110", "10001", "11110", "10000", "10000"),  # P
        ("01111", "10000", "01110", "00001", "11110"),  # S
        ("11111", "00100", "00100", "00100", "00100"),  # T
        ("10001", "10001", "10001", "10001", "01110"),  # U
        ("10001", "10001", "01010", "01010", "00100"),  # V
        ("10001", "10001", "10101", "11011", "10001"),  # W
        ("10001", "01010", "00100", "01010", "10001"),  # X
        ("10001", "01010", "00100", "00100", "00100"),  # Y
        ("11111", "00010", "00100", "01000", "11111"),  # Z
        ("01010", "11111", "11111", "01110", "00100"),  # heart
        ("00100", "01110", "11111", "01110", "00100"),  # diamond
        ("00100", "00100", "11111", "00100", "00100"),  # cross
    )
)


def hsv(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """[B, 3, 1, 1] in [-1, 1] from [B, 1, 1] each."""
    channel = (torch.tensor([5.0, 3.0, 1.0], device=hue.device).view(1, 3, 1) + hue * 6) % 6
    rgb = value * (1 - saturation * torch.minimum(channel, 4 - channel).clamp(0, 1))
    return (rgb * 2 - 1)[..., None]


def blend(below: Tensor, above: Tensor, alpha: Tensor) -> Tensor:
    """[B, 3, H, W] colours, [B, H, W] alpha."""
    return torch.lerp(below, above.expand_as(below), alpha[:, None])


def sample(table: Tensor, x: Tensor, y: Tensor, mode: str, padding: str = "border") -> Tensor:
    """[B, C, h, w] at coordinates -1 ... 1."""
    return F.grid_sample(table, torch.stack([x, y], -1), mode=mode, padding_mode=padding, align_corners=False)


@dataclass(frozen=True)
class Texture:
    kind: Tensor  # [B, 1, 1] into KINDS
    first: Tensor  # [B, 3, 1, 1], -1 ... 1
    second: Tensor
    trim: Tensor  # [B, 1, 1] bool: neck and hem in the second colour
    frequency: Tensor
    phase: Tensor
    table: Tensor  # [B, 3, TABLE, TABLE]
    places: list[tuple[Tensor, Tensor, Tensor]]  # x, y, half the side of each print, [B, 1, 1]
    prints: list[Tensor]  # [B, 4, 28, 28] each: colours and alpha

    @staticmethod
    def drawn(of: Numbers, rich: float) -> Texture:
        """`rich` is the share of pairs whose garment has a different colour everywhere."""
        lush = of.chance(rich)
        kind = torch.where(lush, len(KINDS) - RICH + of.choice(RICH), of.choice(len(KINDS) - RICH))
        hue, value = of(0, 1), of(0.15, 1)
        first = hsv(hue, of(0.05, 0.9), value)
        other = (hue + of(0.1, 0.9)) % 1, of(0, 0.9), torch.where(value > 0.55, value - of(0.35, 0.6), value + of(0.35, 0.6)).clamp(0, 1)
        second = hsv(*other)
        texture = Texture(kind, first, second, of.chance(0.25), of(14, 36), of(0, 6.28), of.take(3, TABLE, TABLE) * 2 - 1, [], [])
        for i in range(PRINTS):
            there = of.chance(0.75 if i == 0 else torch.where(lush, 0.5, 0.12))
            half = of(0.10, 0.19) if i == 0 else of(0.06, 0.11)
            texture.places.append((of(-0.14, 0.14), of(-0.16, 0.26), half))
            texture.prints.append(emblem(of, there))
        return texture

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """[B, 3, H, W] at garment coordinates [B, H, W]."""
        kinds, weight = self.kinds(), torch.zeros_like(x)  # the share of the second colour
        for kind, rows in kinds.items():
            if kind in PATTERNS:
                weight[rows] = PATTERNS[kind](x[rows], y[rows], self.frequency[rows], self.phase[rows])
        colours = blend(self.first.expand(-1, -1, *x.shape[1:]), self.second, weight)
        for kind, rows in kinds.items():
            if kind in RICH_MODES:
                colours[rows] = sample(self.table[rows], x[rows] / EXTENT, y[rows] / EXTENT, RICH_MODES[kind])
        for (left, down, half), mark in zip(self.places, self.prints):
            rows = mark[:, 3].flatten(1).any(1).nonzero()[:, 0]
            if len(rows):
                stamp = sample(mark[rows], (x[rows] - left[rows]) / half[rows], (y[rows] - down[rows]) / half[rows], "bilinear", "zeros")
                colours[rows] = colours[rows] * (1 - stamp[:, 3:]) + stamp[:, :3]  # colours come multiplied by their alpha
        return colours

    def kinds(self) -> dict[str, Tensor]:
        """The kinds that occur, and their rows."""
        found = self.kind.flatten()
        return {KINDS[kind]: (found == kind).nonzero()[:, 0] for kind in sorted(set(found.tolist()))}


def band(t: Tensor, frequency: Tensor, phase: Tensor) -> Tensor:
    return (torch.sin(frequency * t + phase) * 5).clamp(-1, 1) * 0.5 + 0.5


PATTERNS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "stripes": lambda x, y, f, p: band(y, f, p),
    "upright stripes": lambda x, y, f, p: band(x, f, p),
    "slanted stripes": lambda x, y, f, p: band(0.7 * (x + y), f, p),
    "checks": lambda x, y, f, p: (band(x, f, p) + band(y, f, p)) / 2,
    "dots": lambda x, y, f, p: ((torch.sin(0.8 * f * x) * torch.sin(0.8 * f * y)).abs() * 6 - 3).clamp(0, 1),
    "blocks": lambda x, y, f, p: ((y - 0.25 * torch.cos(p)) * 60).clamp(0, 1),
    "fade": lambda x, y, f, p: ((y + 0.4) / 0.8).clamp(0, 1),
}


def emblem(of: Numbers, there: Tensor) -> Tensor:
    """[B, 4, 28, 28]: a letter or sign, bare or on a square or round badge; colours times alpha."""
    letters = torch.tensor([[float(c) for c in glyph] for glyph in GLYPHS], device=of.drawn.device).view(-1, 5, 5)
    bits = F.pad(letters[of.choice(len(letters)).flatten()], (1, 1, 1, 1)).repeat_interleave(4, 1).repeat_interleave(4, 2)  # [B, 28, 28]
    axis = (torch.arange(28, device=bits.device) + 0.5) / 14 - 1
    disc = (axis[:, None] ** 2 + axis**2 < 0.98).float()
    badge, round_ = of.chance(0.6), of.chance(0.5)
    back = torch.where(badge, torch.where(round_, disc, torch.ones_like(disc)), torch.zeros_like(bits))
    value = of(0, 1)
    ink = hsv(of(0, 1), of(0, 1), torch.where(value < 0.5, 0.1 * value, 1 - 0.1 * value))
    ground = hsv(of(0, 1), of(0, 1), torch.where(value < 0.5, of(0.7, 1), of(0, 0.35)))
    alpha = torch.maximum(bits, back) * there
    colours = torch.lerp(ground.expand(-1, -1, 28, 28), ink.expand(-1, -1, 28, 28), bits[:, None])
    return torch.cat([colours * alpha[:, None], alpha[:, None]], 1)
