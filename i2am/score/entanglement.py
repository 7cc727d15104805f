"""Entanglement: words of one prompt that look at the same place, and adjectives that change more than their noun.

Pairs: IoU, IoD and IoH of two nouns' masks (`maps.words.overlap`), by the group of their prompt, and by whether both things are there.
Adjectives, with A the adjective's map and N the noun's mask, both [h, w]:

    outside = sum A (1 - N) / sum A      chance = 1 - |N| / (h w)      leak = outside / chance: 1 where the adjective looks anywhere alike

and of two pictures p, q of one noun and seed, with U the union of their nouns' masks, 1 - SSIM and the mean of |p - q|, in U and outside.
A value of SSIM looks at 11 x 11 pixels: outside are those of which none is in U, so that a change in U alone is none outside.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from i2am.common.checks import is_floating, refuse
from i2am.maps.regions import as_mask, per_image
from i2am.maps.words import iod, show
from i2am.score.intervals import Stated, stated, stated_difference
from i2am.score.similarity import ssim

OVERLAPS = ("iou", "iod", "ioh")
REACH = 5  # pixels to each side that a value of SSIM looks at


@dataclass(frozen=True)
class Pair:
    """Two words of one picture. iou, iod, ioh: None where both masks are empty; right: whether both things are there, if somebody said."""

    id: str
    group: str
    iou: float | None
    iod: float | None
    ioh: float | None
    right: bool | None = None


def pairs_by_group(pairs: Sequence[Pair]) -> dict[str, Any]:
    """The means and intervals of a study of pairs, over pictures.

    "groups": by group the overlaps and, of those with a label, the share of "right" ones; "differences": "one - other" of every two groups;
    "by_right": the IoU of right and wrong pictures, all and by group, and "difference", wrong - right.
    """
    groups: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        groups[pair.group].append(pair)
    values = {name: {what: [getattr(one, what) for one in some] for what in OVERLAPS} | {"right": labelled(some)}
              for name, some in groups.items()}  # fmt: skip
    found: dict[str, Any] = {
        "groups": {name: {"pictures": len(groups[name]), **{what: stated(each) for what, each in columns.items()}}
                   for name, columns in values.items()},
        "differences": {f"{one} - {other}": {what: stated_difference(values[one][what], values[other][what]) for what in values[one]}
                        for one, other in combinations(values, 2)},
    }  # fmt: skip
    if any(one.right is not None for one in pairs):
        found["by_right"] = {"all": by_right(pairs), **{name: by_right(some) for name, some in groups.items()}}
    return found


def labelled(pairs: Iterable[Pair]) -> list[float | None]:
    """1 of right ones, 0 of wrong ones; those without a label have no value."""
    return [None if one.right is None else float(one.right) for one in pairs]


def by_right(pairs: Iterable[Pair]) -> dict[str, Stated]:
    """The IoU where both things are there and where not, and their difference."""
    right, wrong = ([one.iou for one in pairs if one.right is wanted] for wanted in (True, False))
    return {"right": stated(right), "wrong": stated(wrong), "difference": stated_difference(wrong, right)}


def leaking(adjective: Tensor, noun: Tensor, *, size: tuple[int, int] | None = None, threshold: float = 0.4) -> dict[str, Tensor]:
    """How far an adjective's maps [..., h, w] reach beyond the masks of its noun's maps: "outside", "chance", "leak", "iod" (of the
    adjective's mask in the noun's), and "area", the noun's share of the picture. size: (height, width) to which both are resized first.

    NaN where the noun's mask is the whole picture, or the adjective's map is 0 throughout.
    """
    for name, maps in (("adjective", adjective), ("noun", noun)):
        if not is_floating(maps, *range(2, 9)) or adjective.shape != noun.shape:
            refuse(f"the {name}'s maps", "floating [..., h, w], as many as the other word's", maps, "words[word] of i2am.maps are.")
    inside = show(noun, size=size, threshold=threshold).double()
    weight = show(adjective, size=size, absolute=True).double()  # as it is, clamped at 0
    area = inside.mean((-2, -1))
    outside = (weight * (1 - inside)).sum((-2, -1)) / weight.sum((-2, -1))
    chance = torch.where(area < 1, 1 - area, torch.nan)
    return {"outside": outside, "chance": chance, "leak": outside / chance, "area": area,
            "iod": iod(inside, show(adjective, size=size, threshold=threshold))}  # fmt: skip


def changed(one: Tensor, other: Tensor, mask: Any) -> dict[str, Tensor]:
    """How much two pictures [B, C, H, W] in [0, 1] differ inside of a mask and outside of it, [B] each.

    "ssim_inside" and "ssim_outside" are 1 - SSIM, "absolute_inside" and "absolute_outside" the mean difference of pixels. NaN where
    nothing is inside, or outside.
    """
    if not is_floating(one, 4) or not is_floating(other, 4) or one.shape != other.shape:
        refuse("the pictures", "floating [B, C, H, W] of one shape", (one, other), "Resize one of them first.")
    inside = per_image(as_mask(mask, "mask"), len(one), "mask").to(one)
    if inside.shape[1:] != one.shape[2:]:
        refuse("mask", f"of the pictures' size {tuple(one.shape[2:])}", tuple(inside.shape[1:]), "Resize it first.")
    inside = (inside >= 0.5).to(one)
    seen = torch.nn.functional.max_pool2d(inside[:, None], 2 * REACH + 1, stride=1, padding=REACH)[:, 0]
    away = (one - other).abs().mean(1, dtype=torch.float64)
    found = {}
    for name, where, apart in (("inside", inside, inside), ("outside", 1 - inside, 1 - seen)):
        found[f"ssim_{name}"] = 1 - ssim(one, other, apart)
        found[f"absolute_{name}"] = (away * where).sum((-2, -1)) / where.sum((-2, -1), dtype=torch.float64)
    return found


def by_cluster(values: Iterable[tuple[Hashable, float | None]]) -> Stated:
    """The mean over clusters of each one's mean, its interval over clusters: pictures of one seed are no independent draws.

    "count" and "nan" are of the values, "clusters" says how many clusters have one.
    """
    clusters: dict[Hashable, list[float | None]] = defaultdict(list)
    for cluster, value in values:
        clusters[cluster].append(value)
    means = [stated(some) for some in clusters.values()]
    found = stated([one["mean"] for one in means])
    counts = {name: sum(int(one[name] or 0) for one in means) for name in ("count", "nan")}
    return found | counts | {"clusters": found["count"]}


def table_of(rows: Iterable[Mapping[str, Any]], cluster: str, names: Sequence[str]) -> dict[str, Stated]:
    """`by_cluster` of the columns of a table."""
    listed = list(rows)
    return {name: by_cluster((row[cluster], row[name]) for row in listed) for name in names}
