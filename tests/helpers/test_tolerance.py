"""The rule that decides what is right: luck of the eager draw neither fails us nor hides us, and faults are noticed."""

from __future__ import annotations

import math

import pytest
import torch
from tolerance import EPS, FACTOR, LEAST, MOST, alike, allowed, close, exponents, unit
from torch import Tensor

TERMS = 400


def held(error: float, own: float, terms: float = 100, logits: float = 6.0) -> bool:
    """Whether a line of ones may be off by `error` units where eager float32 is off by `own`."""
    right = torch.ones(3, 8, dtype=torch.float64)
    one = unit(terms, logits)
    try:
        close(right + error * one, right, right - own * one, terms, "a map", logits)
    except AssertionError:
        return False
    return True


def test_luck_neither_fails_nor_hides() -> None:
    for lucky in (0.0, LEAST / FACTOR / 2):
        assert held(0.99 * LEAST, lucky)
        assert not held(1.01 * LEAST, lucky)
    assert held(0.99 * FACTOR, 1.0)
    assert not held(1.01 * FACTOR, 1.0)
    for unlucky in (MOST / FACTOR, MOST, 1e6):
        assert held(0.99 * MOST, unlucky)
        assert not held(1.01 * MOST, unlucky)


def test_what_is_known_of_a_library_is_added() -> None:
    own, size = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    assert allowed(own, size, 100, more=1e-4) == pytest.approx(1e-4 + LEAST * 10 * EPS)


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_what_is_not_finite_never_passes(wrong: float) -> None:
    right = torch.ones(2, 8, dtype=torch.float64)
    got = right.clone()
    got[1, 3] = wrong
    for eager in (right, got):
        with pytest.raises(AssertionError, match="not finite"):
            close(got, right, eager, 100, "a map")


def drawn(seed: int) -> tuple[Tensor, Tensor]:
    """Queries and keys."""
    torch.manual_seed(seed)
    return torch.randn(2, 60, 32) * 2, torch.randn(2, TERMS, 32)


def column_means(query: Tensor, key: Tensor) -> Tensor:
    """R2G of a layer without weights."""
    return (query @ key.mT / 4).softmax(-2).mean(-1)


@pytest.mark.parametrize("seed", range(20))
def test_orders_of_summation_pass_and_small_faults_do_not(seed: int) -> None:
    """Another order of keys and of the sums over their parts, with an eager draw that is right to the last digit or not at all."""
    query, key = drawn(seed)
    right = column_means(query.double(), key.double())
    logits = exponents((query.double() @ key.double().mT) / 4)
    order = torch.randperm(TERMS)
    other = column_means(query, key[:, order])
    halves = query[..., :16] @ key[..., :16].mT + query[..., 16:] @ key[..., 16:].mT
    scores = halves * (0.25 / math.log(2))
    formula = (scores - scores.exp2().sum(-2, keepdim=True).log2()).exp2().mean(-1)  # 2^(S - L)
    for got in (other, formula):
        for eager in (right, got):
            close(got, right, eager, TERMS, "r2g", logits)
        alike(got, other, TERMS, logits)
    faults = {
        "scaled": other * (1 + 1e-4),
        "a token missing": column_means(query, key[:, 1:]) * (1 - 1 / TERMS),
        "constant": torch.full_like(other, other.mean()),
        "a line of another head": other.flip(0),
        "one wrong token": torch.cat([other[:, 1:2], other[:, 1:]], 1),
        "moved by one": other.roll(1, -1),
    }
    for got in faults.values():
        with pytest.raises(AssertionError, match="r2g: off by"):
            close(got, right, 2 * right, TERMS, "r2g", logits)  # whatever eager makes of it
        with pytest.raises(AssertionError, match="apart by"):
            alike(got, other, TERMS, logits)


def test_exponents_leave_out_what_is_lost_or_hidden() -> None:
    scores = torch.zeros(1, 3, 4, dtype=torch.float64)
    scores[0, 0, 0], scores[0, 1, 1] = -torch.inf, -1e6
    assert exponents(scores) == pytest.approx(2.0)  # log2 of four keys, of three queries
    scores[0, 2, 2] = -50
    assert exponents(scores) == pytest.approx(50 / math.log(2))
    assert exponents(scores, scores[:, :1]) == pytest.approx(50 / math.log(2))
