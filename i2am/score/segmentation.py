"""Words as segmentation, as DAAM scores them: is a word's map where its thing is?

    map -> bicubic to the mask's size -> (x - min) / (max - min + 1e-8) -> x > threshold -> IoU with the mask, one for each (picture, noun)
    mIoU = mean over (picture, noun), +- 1.96 sigma / sqrt(n), sigma that of the population

An IoU without any pixel on either side is 0. `mean_of_classes` is another mean: over the nouns' own means, so that frequent ones count no
more than others. Pixels are counted as whole numbers; the same maps and masks give the same bits.

Which map a mask is held against:
    labelled    its word's
    best        whichever of the picture's maps fits it best, at each threshold: what a segmenter without names is given at the most
    hungarian   that of one name for each noun, the same in all pictures, chosen so that IoUs add up to most; the mean is over those that
                there are
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from i2am.common.checks import cited, refuse, said
from i2am.common.extras import need
from i2am.data.coco80 import CLASSES, KIND_OF, STUFF
from i2am.maps.tokens import Grid
from i2am.maps.words import show

THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6)
PRESET = 0.4  # DAAM's threshold
SETS = {"every": (), "coco80": CLASSES, "coco27": STUFF}
MATCHINGS = ("labelled", "best", "hungarian")
MISSING = ("refuse", "skip", "zero")
SURE = 1.96
LEFT_OUT = 'missing="skip" leaves it out as DAAM\'s released code does, "zero" counts it as 0.'


@dataclass(frozen=True)
class Protocol:
    """nouns: "every" one that has a mask, the "coco80" classes, or these as kinds of COCO-Stuff, "coco27", masks and maps of a kind united.
    missing: a noun with a mask and without a map to hold it against: refused, left out as DAAM's released code does ("skip"), or IoU 0.
    Where names do not matter nothing is refused: such a picture has no map of any noun of the set."""

    thresholds: tuple[float, ...] = THRESHOLDS
    nouns: str = "every"
    matching: str = "labelled"
    missing: str = "refuse"

    def __post_init__(self) -> None:
        found = self.thresholds if isinstance(self.thresholds, (list, tuple)) else ()
        if not found or not all(isinstance(t, Real) and not isinstance(t, bool) and 0 <= t < 1 for t in found):
            refuse("thresholds", "numbers from 0 to below 1", said(self.thresholds), "DAAM's is 0.4.")
        object.__setattr__(self, "thresholds", tuple(sorted({float(t) for t in found})))
        for name, choices in (("nouns", tuple(SETS)), ("matching", MATCHINGS), ("missing", MISSING)):
            if getattr(self, name) not in choices:
                refuse(name, f"one of {', '.join(choices)}", said(getattr(self, name)), "The first is the default.")

    def named(self, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """By the names that this set of nouns has; what becomes one name is united, levels by the larger one."""
        united = dict[str, Tensor]()
        for word in found:
            name = self.name(word)
            united[name] = torch.maximum(united[name], found[word]) if name in united else found[word]
        return united

    def name(self, word: str) -> str:
        """The name of a word in this set of nouns."""
        return KIND_OF.get(word, word) if self.nouns == "coco27" else word

    def counts(self, name: str) -> bool:
        """Whether a mask of this name is scored."""
        return self.nouns == "every" or name in SETS[self.nouns]


class Scored(NamedTuple):
    """One picture and noun: an IoU for each threshold, and which map it is of, "" where there is none."""

    id: str
    word: str
    share: float  # of the picture that the mask covers
    iou: tuple[float, ...]
    matched: tuple[str, ...]


def levels(words: Mapping[str, Tensor], names: Sequence[str], size: Grid) -> dict[str, Tensor]:
    """Word maps [1, h, w] or [h, w] as they are cut: at this size, from 0 to 1."""
    found = {}
    for name in names:
        map = words[name]
        map = map[0] if map.ndim == 3 and len(map) == 1 else map
        if map.ndim != 2 or not map.isfinite().all():
            refuse(f"the map of {name!r}", "finite [h, w], of one picture", said(map), "words.image(0) is of one picture.")
        found[name] = show(map.detach().cpu(), size=size)
    return found


def ious(level: Tensor, mask: Tensor, thresholds: Sequence[float]) -> tuple[float, ...]:
    """The IoU of what is above each threshold with a mask; 0 where both are empty. A mask as level is the same above all."""
    inside, area, found = level[mask], int(mask.sum()), []
    for threshold in thresholds:
        both, above = int((inside > threshold).sum()), int((level > threshold).sum())
        found.append(both / max(1, above + area - both))
    return tuple(found)


@dataclass
class Segmentation:
    """Pictures, added one by one, and what comes out. `missing` names what had no map, as (picture, noun)."""

    protocol: Protocol = field(default_factory=Protocol)
    rows: list[Scored] = field(default_factory=list)
    missing: list[tuple[str, str]] = field(default_factory=list)
    outside: Counter[str] = field(default_factory=Counter)  # nouns that the set of nouns lacks, and how often
    pictures: int = 0
    candidates: dict[tuple[str, str], dict[str, tuple[float, ...]]] = field(default_factory=dict)  # of "hungarian": of every map

    def add(self, id: str, found: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> list[Scored]:
        """A picture: what was found by word, levels from 0 to 1 or masks, and the true masks, bool, all of one size."""
        found, masks = self.protocol.named(found), self.protocol.named(masks)
        checked(id, found, masks)
        self.outside.update(word for word in masks if not self.protocol.counts(word))
        masks = {word: mask for word, mask in masks.items() if self.protocol.counts(word)}
        self.pictures += bool(masks)
        rows = [row for word, mask in masks.items() if (row := self.scored(id, word, mask, found))]
        self.rows += rows
        return rows

    def scored(self, id: str, word: str, mask: Tensor, found: Mapping[str, Tensor]) -> Scored | None:
        how, thresholds = self.protocol, self.protocol.thresholds
        share = int(mask.sum()) / mask.numel()
        candidates = [name for name in found if how.matching == "best" or name == word or (how.matching != "labelled" and how.counts(name))]
        if not candidates:
            self.missing.append((id, word))
            if how.missing == "refuse" and how.matching == "labelled":
                refuse(f"the maps of {id}", f"of {word!r} too, which has a mask", cited(list(found)),
                       f"Is the word in the prompt? {LEFT_OUT}")  # fmt: skip
            nothing = Scored(id, word, share, (0.0,) * len(thresholds), ("",) * len(thresholds))
            return nothing if how.missing == "zero" else None
        each = {name: ious(found[name], mask, thresholds) for name in candidates}
        if how.matching == "hungarian":
            self.candidates[id, word] = each
        best = [max(each, key=lambda name: each[name][i]) for i in range(len(thresholds))]
        return Scored(id, word, share, tuple(each[name][i] for i, name in enumerate(best)), tuple(best))

    def matched(self) -> list[dict[str, str]]:
        """For "hungarian": at each threshold by noun the name of its map."""
        return [assigned(self.candidates, i, SETS[self.protocol.nouns]) for i in range(len(self.protocol.thresholds))]

    def result(self) -> list[Scored]:
        """The rows. With "hungarian" each has the IoU of its noun's map, NaN where the picture has none or the noun has none."""
        if self.protocol.matching != "hungarian":
            return self.rows
        matched, found = self.matched(), list[Scored]()
        for row in self.rows:
            each, names = self.candidates.get((row.id, row.word), {}), [one.get(row.word, "") for one in matched]
            iou = tuple(each[name][i] if name in each else math.nan for i, name in enumerate(names))
            found.append(row._replace(iou=iou, matched=tuple(name if name in each else "" for name in names)))
        return found

    def table(self) -> list[dict[str, Any]]:
        """A line for each threshold: mean, half of its interval, count; mean_of_classes, and how many they are."""
        rows = self.result()
        return [{"threshold": threshold, **line(rows, i)} for i, threshold in enumerate(self.protocol.thresholds)]

    def classes(self, threshold: float = PRESET) -> dict[str, dict[str, Any]]:
        """Mean, half of its interval and count of each noun, the most frequent first."""
        place = nearest(self.protocol.thresholds, threshold)
        found = by_class(self.result(), place)
        return dict(sorted(found.items(), key=lambda item: (-item[1]["count"], item[0])))


def nearest(thresholds: Sequence[float], threshold: float) -> int:
    """The place of the threshold that is nearest to this one."""
    return min(range(len(thresholds)), key=lambda i: (abs(thresholds[i] - threshold), i))


def checked(id: str, found: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> None:
    sizes = {tuple(one.shape) for one in (*found.values(), *masks.values())}
    if len(sizes) > 1 or any(len(size) != 2 for size in sizes):
        refuse(f"maps and masks of {id}", "[H, W], all of one size", ", ".join(map(str, sorted(sizes))), "Paint at the masks' size.")
    if not all(mask.dtype == torch.bool for mask in masks.values()):
        refuse(f"masks of {id}", "bool", said(next(iter(masks.values()))), "Compare a mask with 0.5.")


def mean_of(values: Sequence[float]) -> dict[str, Any]:
    """The mean, 1.96 sigma / sqrt(n) and n of what is not NaN; no mean of nothing."""
    x = np.sort([one for one in values if one == one])  # sorted, so that the order of pictures does not matter
    if not len(x):
        return {"mean": None, "half": None, "count": 0}
    return {"mean": float(x.mean()), "half": float(SURE * x.std() / math.sqrt(len(x))), "count": len(x)}


def by_class(rows: Sequence[Scored], place: int) -> dict[str, dict[str, Any]]:
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row.word, []).append(row.iou[place])
    return {word: mean_of(values) for word, values in found.items()}


def line(rows: Sequence[Scored], place: int) -> dict[str, Any]:
    """Both means at one threshold."""
    means = [one["mean"] for one in by_class(rows, place).values() if one["count"]]
    return {**mean_of([row.iou[place] for row in rows]), "mean_of_classes": mean_of(means)["mean"], "classes": len(means)}


Candidates = Mapping[tuple[str, str], Mapping[str, tuple[float, ...]]]  # (picture, noun) -> map -> IoU at each threshold


def assigned(candidates: Candidates, place: int, vocabulary: Sequence[str] = ()) -> dict[str, str]:
    """By noun the name of its map, so that IoUs add up to most. Equals are settled by the order of the vocabulary, or of the alphabet."""
    need("an assignment of names", "scipy")
    from scipy.optimize import linear_sum_assignment

    seen = {name for (_, word), each in candidates.items() for name in (word, *each)}
    names = list(vocabulary) or sorted(seen)
    at = {name: names.index(name) for name in seen}
    side = max(at.values(), default=-1) + 1
    sums, there = np.zeros((side, side)), np.zeros((side, side), bool)
    for (_, word), each in candidates.items():
        for name, one in each.items():
            sums[at[word], at[name]] += one[place]
            there[at[word], at[name]] = True
    rows, columns = linear_sum_assignment(sums, maximize=True)
    return {names[r]: names[c] for r, c in zip(rows, columns) if there[r, c]}
