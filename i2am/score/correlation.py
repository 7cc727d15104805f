"""Do two scores of the same images agree? Pearson's correlation of the numbers, Spearman's of their ranks."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import torch

from i2am.common.checks import refuse


def correlations(scores: Mapping[str, Sequence[float | None]]) -> list[dict[str, Any]]:
    """{"a", "b", "n", "pearson", "spearman"} for every two of the scores, over the n images that have both, equal ones sharing a rank.

    None or NaN is a score that does not exist. A correlation is None where it does not exist: of fewer than three images, and of
    scores that are all the same, or so close that their differences are rounding.
    """
    lengths = {name: len(values) for name, values in scores.items()}
    if len(set(lengths.values())) > 1:
        refuse("scores", "as many for every metric", lengths, "One per image each, None where there is none.")
    found = []
    for a, b in combinations(scores, 2):
        pairs = [(x, y) for x, y in zip(scores[a], scores[b]) if x is not None and y is not None and math.isfinite(x) and math.isfinite(y)]
        x, y = ([pair[i] for pair in pairs] for i in (0, 1))
        rho = spearman(x, y).rho
        found.append({"a": a, "b": b, "n": len(pairs), "pearson": pearson(x, y), "spearman": None if math.isnan(rho) else rho})
    return found


def pearson(x: Sequence[float], y: Sequence[float]) -> float | None:
    from scipy.stats import DegenerateDataWarning, pearsonr

    if len(x) < 3:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("error", DegenerateDataWarning)
        try:
            return float(pearsonr(x, y).statistic)
        except DegenerateDataWarning:  # constant, or nearly
            return None


class Correlation(NamedTuple):
    rho: float
    p: float  # two-sided, of no correlation
    n: int  # pairs
    left_out: int  # pairs with a NaN


def spearman(x: Any, y: Any) -> Correlation:
    """Spearman's rank correlation of two lists of numbers, of the pairs without a NaN; NaN for fewer than three or constant ones."""
    from scipy.stats import spearmanr

    try:
        x, y = (torch.as_tensor(one, dtype=torch.float64, device="cpu").flatten() for one in (x, y))
    except (TypeError, ValueError):
        refuse("x and y", "lists of numbers", (x, y), "None where there is no score is NaN here.")
    if len(x) != len(y):
        refuse("x and y", "as long as each other", (len(x), len(y)), "One number per image each.")
    there = ~(x.isnan() | y.isnan())
    a, b, out = x[there], y[there], int((~there).sum())
    if len(a) < 3 or (a == a[0]).all() or (b == b[0]).all():
        return Correlation(float("nan"), float("nan"), len(a), out)
    found = spearmanr(a.numpy(), b.numpy())
    return Correlation(float(found.statistic), float(found.pvalue), len(a), out)
