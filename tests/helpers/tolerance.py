"""How far a number in float32 may be from the truth: one rule, stated here, which the suite's comparisons of maps and outputs use.

The truth is the definition in float64, on the same numbers. Float32 misses it in whatever order a library adds up: a sum of n numbers
by some sqrt(n) roundings of its size, a softmax by as many roundings more as its exponents are large. That is the unit,

    unit = eps (sqrt(terms) + logits) size            eps = 2^-23

with terms the length of the longest sum on the way, logits the largest exponent of a weight that is not lost, in log2 units, and size
the largest value of the line (one head, one weighting), so that a constant map, a map scaled by 1.01 or one wrong token in a faint
line is an error. How hard a draw is, beyond that, the definition in eager float32 says, on the same processor. But it is one order of
summation: by luck it is off by next to nothing, by bad luck by much. So

    allowed = FACTOR |eager - truth|, no less than LEAST units and no more than MOST.

NaN never passes. `tests/helpers/mutations.py` shows what is noticed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

EPS = 2.0**-23
FACTOR = 4.0
# In 6,000 comparisons on an AMD EPYC, with AVX2 and without vectors, eager float32 was off by up to 0.6 units and the backends by up to
# 0.9 at ordinary logits, by 1.4 at logits of 600: there L, which is rounded, is taken off scores in the product of rounded keys.
LEAST, MOST = 3.0, 8.0
LOST = 112.0  # binary orders under the largest weight of its row: a P so small may be left out, before it becomes a denormal number
NOTHING = 4 * 2.0**-LOST  # of a weight of 1


def unit(terms: float, logits: float = 0.0) -> float:
    """The error to be expected of a line, relative to its largest value."""
    return EPS * (terms**0.5 + logits)


def exponents(scores: Tensor, columns: Tensor | None = None) -> float:
    """The largest finite exponent behind the weights of scores [..., G, R], in log2 units: of the log-sum-exps of rows and columns (of
    `columns`, where these are fewer rows), and of scores whose weight is not lost."""
    rows = scores.logsumexp(-1, keepdim=True)
    kept = torch.where((rows - scores) / math.log(2) < LOST, scores, 0.0)
    found = torch.cat([rows.flatten(), (scores if columns is None else columns).logsumexp(-2).flatten(), kept.flatten()])
    return found.nan_to_num(0.0, 0.0, 0.0).abs().max().item() / math.log(2)


def allowed(own: Tensor, size: Tensor, terms: float, logits: float = 0.0, more: float = 0.0) -> Tensor:
    """The most that a line may be off. own: what eager float32 is off by; more: relative to the size, known of a library."""
    one = unit(terms, logits) * size
    return (FACTOR * own).clamp(min=LEAST * one, max=MOST * one) + more * size + NOTHING


def close(got: Tensor, right: Tensor, eager: Tensor, terms: float, what: str, logits: float = 0.0, more: float = 0.0) -> None:
    """Each line, the last dimension, of `got` against the truth `right`."""
    assert got.shape == right.shape, what
    assert got.isfinite().all(), f"{what}: not finite"
    error, own, size = (t.double().abs().amax(-1) for t in (got - right, eager - right, right))
    most = allowed(own, size, terms, logits, more)
    assert (error <= most).all(), (
        f"{what}: off by {(error / size).max().item():.2e} of the line, eager {(own / size).max().item():.2e}, "
        f"a unit {unit(terms, logits):.1e}"
    )


def alike(one: Tensor, other: Tensor, terms: float, logits: float = 0.0, size: Tensor | float | None = None, more: float = 0.0) -> None:
    """Two results that are both right: as far from each other as two may be that are off to both sides by the most that luck explains."""
    assert one.shape == other.shape
    size = torch.maximum(one.double().abs(), other.double().abs()).amax(-1, keepdim=True) if size is None else size
    error = (one.double() - other.double()).abs()
    assert (error <= 2 * LEAST * unit(terms, logits) * size + more * size + NOTHING).all(), (
        f"apart by {(error / size).max().item():.2e}, a unit is {unit(terms, logits):.1e}"
    )
