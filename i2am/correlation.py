"""Do two scores of the same images agree? Pearson's correlation of the numbers, Spearman's of their ranks."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from i2am.tokens import refuse
from i2am.truth import spearman


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
