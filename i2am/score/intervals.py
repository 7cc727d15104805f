"""How sure a mean is: the percentile bootstrap's interval, the same for the same values, resamples and seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

CHUNK = 1 << 22  # scores drawn at a time
RESAMPLES, CONFIDENCE, SEED = 1000, 0.95, 0


def bootstrap(values: Tensor, resamples: int, confidence: float, seed: int, over: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The percentile interval of the mean of values [N], float64 on the CPU, or of sum(values) / sum(over), drawn in pairs; NaN if there
    are none."""
    if not len(values):
        return (torch.tensor(torch.nan, dtype=torch.float64, device="cpu"),) * 2
    generator = torch.Generator("cpu").manual_seed(seed)
    means = [values[drawn].mean(1) if over is None else values[drawn].sum(1) / over[drawn].sum(1)
             for drawn in draws(len(values), resamples, generator)]  # fmt: skip
    return between(torch.cat(means), confidence)


def bootstrap_difference(one: Tensor, other: Tensor, resamples: int, confidence: float, seed: int) -> tuple[Tensor, Tensor]:
    """The interval of mean(one) - mean(other), of two sets [N] and [M] that are drawn apart; NaN if one is empty."""
    if not len(one) or not len(other):
        return bootstrap(one[:0], resamples, confidence, seed)
    generator = torch.Generator("cpu").manual_seed(seed)
    first, second = (torch.cat([values[drawn].mean(1) for drawn in draws(len(values), resamples, generator)]) for values in (one, other))
    return between(first - second, confidence)


def draws(count: int, resamples: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Places [resamples, count], some at a time."""
    step = max(1, CHUNK // count)
    for start in range(0, resamples, step):
        yield torch.randint(count, (min(step, resamples - start), count), generator=generator, device="cpu")


def between(means: Tensor, confidence: float) -> tuple[Tensor, Tensor]:
    """What leaves as much on either side."""
    tail = (1 - confidence) / 2
    low, high = means.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64, device="cpu"))
    return low, high


Stated = dict[str, float | int | None]  # "mean", "low", "high": None where there is none; "count" of values, "nan" of those without one


def stated(values: Sequence[float | None]) -> Stated:
    """The mean and its interval as a report has them; the order of the values does not matter."""
    there = valued(values)
    found: Stated = dict.fromkeys(("mean", "low", "high"))
    if len(there):
        low, high = bootstrap(there, RESAMPLES, CONFIDENCE, SEED)
        found = {"mean": float(there.mean()), "low": float(low), "high": float(high)}
    return found | {"count": len(there), "nan": len(values) - len(there)}


def stated_difference(one: Sequence[float | None], other: Sequence[float | None]) -> Stated:
    """The difference of two means, one - other, with its interval; None where one has no values."""
    first, second = valued(one), valued(other)
    if not len(first) or not len(second):
        return {"mean": None, "low": None, "high": None}
    low, high = bootstrap_difference(first, second, RESAMPLES, CONFIDENCE, SEED)
    return {"mean": float(first.mean() - second.mean()), "low": float(low), "high": float(high)}


def valued(values: Sequence[float | None]) -> Tensor:
    """Those that are numbers, in ascending order, as float64."""
    return torch.tensor(sorted(x for x in values if x is not None and math.isfinite(x)), dtype=torch.float64, device="cpu")
