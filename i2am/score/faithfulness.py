"""Do maps tell what matters? Change what they point at, make the pictures again from the same noise, and see what changed.

    hiding:   the k% of the reference's patches with the most G2R are painted over; how much does the picture change inside the mask,
              against hiding as many random patches, and the ones with the least G2R?
    swapping: the reference is exchanged for another; do the patches with the most R2G change more than others?

Both take `generate`, a function of the references that makes the pictures from the same noise every time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from i2am.common.checks import fields_said, is_floating, number, refuse, said, whole_number
from i2am.maps.regions import as_mask, as_weight, per_image
from i2am.score.correlation import Correlation, spearman

SHARES = (0.1, 0.2, 0.4)
Generate = Callable[[Tensor], Tensor]  # references [B, C, h, w] -> pictures [B, C, H, W], both in [0, 1]


@dataclass(frozen=True, eq=False)
class Change:
    """The mean absolute change, [B] each, of one number of patches chosen in different ways."""

    share: float
    top: Tensor
    random: Tensor
    bottom: Tensor
    garment: Tensor | None = None  # random patches of the garment alone, where its mask is given
    __repr__ = fields_said

    @property
    def ratio(self) -> float:
        """How many times more than at random patches, over all images."""
        return (self.top.sum() / self.random.sum()).item()


def hiding(
    generate: Generate,
    references: Tensor,
    g2r: Tensor,
    mask: Any,
    *,
    garment_mask: Any = None,
    shares: Sequence[float] = SHARES,
    fill: float = 0.5,
    seed: int = 0,
) -> list[Change]:
    """Paint over patches of the references [B, C, H, W] by their G2R [B, h, w]; the change is measured where mask [B, H, W] is 1.

    Patches are g2r's own, fill is the grey they are painted with. garment_mask adds a harder control than random patches: random
    patches of the garment. The same patch is never taken twice, and a smaller share's patches are among a larger one's.
    """
    check_options(generate, references, g2r, shares, seed)
    order = ways(g2r, seed)
    if garment_mask is not None:
        order["garment"] = on_garment(order["random"], garment_mask)
    found = hidden(generate, references, order, mask, shares, fill)
    return [Change(share, **{name: changes[place] for name, changes in found.items()}) for place, share in enumerate(shares)]


def hidden(
    generate: Generate, references: Tensor, orders: Mapping[str, Tensor], mask: Any, shares: Sequence[float], fill: float = 0.5
) -> dict[str, list[Tensor]]:
    """The change inside the mask, [B] a share, of hiding the patches that score highest, for each of several scores [B, h, w]."""
    number("fill", fill, "a grey from 0 to 1", lambda x: 0 <= x <= 1, "1 paints white.")
    before = paint(generate, references)
    inside = per_image(as_weight(mask, "mask"), len(before), "mask").to(before.device)
    if inside.shape[1:] != before.shape[2:]:
        refuse("mask", f"of the pictures' size {list(before.shape[2:])}", list(inside.shape[1:]), "Resize it first.")
    found: dict[str, list[Tensor]] = {name: [] for name in orders}
    for share, (name, score) in itertools.product(shares, orders.items()):
        covers = F.interpolate(first(score, share)[:, None], references.shape[-2:], mode="nearest").to(references)
        after = paint(generate, references * (1 - covers) + fill * covers)
        found[name].append(((after - before).abs().mean(1) * inside).sum((1, 2)) / inside.sum((1, 2)))
    return found


def on_garment(chance: Tensor, garment_mask: Any) -> Tensor:
    """Scores [B, h, w] from 0 to 1 by which the garment's patches come first."""
    whole = per_image(as_mask(garment_mask, "garment_mask"), len(chance), "garment_mask")
    return chance + (F.adaptive_avg_pool2d(whole, (chance.shape[1], chance.shape[2])) > 0.5)


def swapping(
    generate: Generate, references: Tensor, r2g: Tensor, *, shares: Sequence[float] = SHARES, seed: int = 0
) -> tuple[list[Change], list[Correlation]]:
    """Give each image the next one's reference; the change of the patches with the most R2G [B, h, w] against random and least ones,
    and the rank correlation of R2G and change over all patches of each image."""
    check_options(generate, references, r2g, shares, seed)
    if len(references) < 2:
        refuse("references", "at least 2, to be exchanged", len(references), "Take a batch of several.")
    change = (paint(generate, references.roll(1, 0)) - paint(generate, references)).abs().mean(1, keepdim=True)
    patches = F.adaptive_avg_pool2d(change.float().cpu(), (r2g.shape[1], r2g.shape[2]))[:, 0]
    order = ways(r2g, seed)
    changes = []
    for share in shares:
        taken = {name: first(score, share) for name, score in order.items()}
        changes.append(Change(share, **{name: (patches * t).sum((1, 2)) / t.sum((1, 2)) for name, t in taken.items()}))
    return changes, [spearman(a, b) for a, b in zip(r2g, patches)]


def ways(maps: Tensor, seed: int) -> dict[str, Tensor]:
    """The scores by which patches are chosen: the most of a map first, at random, the least first."""
    chance = torch.rand(maps.shape, generator=torch.Generator().manual_seed(seed))
    return {"top": maps.float().cpu(), "random": chance, "bottom": -maps.float().cpu()}


def first(score: Tensor, share: float) -> Tensor:
    """[B, h, w] of 0 and 1: the share of the patches with the highest score; of equal ones the first."""
    flat = score.flatten(1)
    count = max(1, round(share * flat.shape[1]))
    order = flat.argsort(stable=True, dim=1, descending=True)[:, :count]
    return torch.zeros_like(flat).scatter_(1, order, 1.0).view_as(score)


def paint(generate: Generate, references: Tensor) -> Tensor:
    """What the user's function makes of the references."""
    pictures = generate(references)
    if not isinstance(pictures, Tensor) or pictures.ndim != 4 or len(pictures) != len(references) or not pictures.isfinite().all():
        refuse("what generate returns", f"finite pictures [{len(references)}, C, H, W], a tensor", said(pictures),
               'Pipelines give one with output_type="pt".')  # fmt: skip
    return pictures


def check_options(generate: object, references: Tensor, maps: Tensor, shares: Sequence[float], seed: int) -> None:
    if not callable(generate):
        refuse("generate", "a function of the references", said(generate), "It makes the pictures from the same noise every time.")
    if not is_floating(references, 4) or not is_floating(maps, 3) or len(maps) != len(references):
        refuse("references and maps", "floating [B, C, H, W] and [B, h, w]", (references, maps), "One map per reference.")
    if not maps.isfinite().all():
        refuse("the maps", "finite", "NaN or infinity", "Look at the run they come from.")
    if not isinstance(shares, (list, tuple)) or not shares:
        refuse("shares", "between 0 and 1, in a list", said(shares), "[0.2] hides a fifth of the patches.")
    for share in shares:
        number("shares", share, "between 0 and 1", lambda x: 0 < x < 1, "0.2 hides a fifth of the patches.")
    whole_number("seed", seed, 0, "The same seed takes the same random patches.")
