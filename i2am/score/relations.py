"""How the maps of words that depend on each other overlap: of a head's mask H and a dependent's D, and their mean by relation.

    IoU = |H n D| / |H u D|    IoD = |H n D| / |D|    IoH = |H n D| / |H|    delta = |mean IoH - mean IoD|

Two conventions, as DAAM's paper and its released notebook differ:

    paper       each word's own map, brought to the picture (bicubic), min-max normalised, > 0.4; a share of an empty mask is not counted
    notebook    the mean over all places of the word's text, as it is, > 0.15; a share of an empty mask is 0

The notebook's cut is absolute and maps are sums over steps, so that it depends on their number: there are 30 of them there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from i2am.common.checks import is_floating, refuse, said
from i2am.maps.words import show
from i2am.score.intervals import bootstrap

RESAMPLES, CONFIDENCE = 1000, 0.95
MEASURES = ("iou", "iod", "ioh")


@dataclass(frozen=True)
class Convention:
    """empty: the share of a mask that covers nothing; merged: one map for all words that are written alike."""

    name: str
    threshold: float
    resized: bool
    normalised: bool
    empty: float
    merged: bool


CONVENTIONS = {
    one.name: one
    for one in (
        Convention("paper", 0.4, resized=True, normalised=True, empty=math.nan, merged=False),
        Convention("notebook", 0.15, resized=False, normalised=False, empty=0.0, merged=True),
    )
}


def convention(name: str) -> Convention:
    if name not in CONVENTIONS:
        refuse("the convention", " or ".join(CONVENTIONS), said(name), "They are those of DAAM's paper and of its released notebook.")
    return CONVENTIONS[name]


class Overlap(NamedTuple):
    """Of one pair of words."""

    iou: float
    iod: float
    ioh: float


class Overlaps:
    """The overlaps of any two of the maps [n, h, w], by a convention. size: the picture's (height, width)."""

    def __init__(self, maps: Tensor, how: Convention, size: tuple[int, int]) -> None:
        if not is_floating(maps, 3):
            refuse("maps", "[n, h, w] and floating", said(maps), "They are the maps of one picture's words.")
        self.how = how
        self.masks = show(maps, size=size if how.resized else None, absolute=not how.normalised, threshold=how.threshold)
        flat = self.masks.flatten(1)
        # areas of up to 2^24 cells are whole numbers in float32, whatever order they are added in
        flat = flat if flat.shape[1] <= 1 << 24 else flat.double()
        self.both = (flat @ flat.T).double()

    def pair(self, head: int, dependent: int) -> Overlap:
        """Head and dependent by their places among the maps."""
        both, first, second = (float(self.both[at]) for at in ((head, dependent), (head, head), (dependent, dependent)))
        return Overlap(*(self.share(both, whole) for whole in (first + second - both, second, first)))

    def empty(self, *places: int) -> bool:
        """Whether one of these masks covers nothing."""
        return any(not self.both[at, at] for at in places)

    def share(self, part: float, whole: float) -> float:
        return part / whole if whole else self.how.empty


class Pair(NamedTuple):
    """A pair of words of a prompt. name: how they hang together."""

    prompt: str
    name: str
    overlap: Overlap


def mean_of(pairs: Sequence[Pair], *, resamples: int = RESAMPLES, confidence: float = CONFIDENCE, seed: int = 0) -> dict[str, Any]:
    """Means over the pairs, each with an interval from a bootstrap over prompts, whose pairs are no independent draws; `empty` were not
    counted. None is a mean of nothing, and the interval of one prompt."""
    found: dict[str, Any] = {"count": len(pairs), "prompts": len({pair.prompt for pair in pairs})}
    for measure in MEASURES:
        sums = dict[str, list[float]]()
        for pair in pairs:
            if not math.isnan(value := getattr(pair.overlap, measure)):
                sums.setdefault(pair.prompt, []).append(value)
        values = torch.tensor([math.fsum(each) for each in sums.values()], dtype=torch.float64, device="cpu")
        counts = torch.tensor([float(len(each)) for each in sums.values()], dtype=torch.float64, device="cpu")
        low, high = bootstrap(values, resamples, confidence, seed, counts) if len(sums) > 1 else (None, None)
        total = int(counts.sum())
        found[measure] = {
            "mean": math.fsum(value for each in sums.values() for value in each) / total if total else None,
            "low": None if low is None else float(low),
            "high": None if high is None else float(high),
            "empty": len(pairs) - total,
        }
    means = [found[measure]["mean"] for measure in ("ioh", "iod")]
    found["delta"] = None if None in means else abs(means[0] - means[1])
    return found


def by_relation(pairs: Iterable[Pair], most: int = 10, **how: Any) -> list[dict[str, Any]]:
    """The most frequent relations, each with `mean_of` its pairs; those of one frequency in the order of their names."""
    groups = dict[str, list[Pair]]()
    for pair in pairs:
        groups.setdefault(pair.name, []).append(pair)
    chosen = sorted(groups.items(), key=lambda one: (-len(one[1]), one[0]))[:most]
    return [{"relation": name, **mean_of(found, **how)} for name, found in chosen]
