"""Correlations against their formulas written out, scores that do not exist, and silence where there is nothing to say."""

import warnings

import numpy as np
import pytest

pytest.importorskip("scipy")

from i2am.score.correlation import correlations


def ranks(values: np.ndarray) -> np.ndarray:
    """1 for the smallest; equal ones share the mean of their places."""
    return np.array([(values < v).sum() + ((values == v).sum() + 1) / 2 for v in values])


def written_out(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum()))


def test_every_two_metrics_are_compared_where_both_exist():
    random = np.random.default_rng(0)
    a, c = random.normal(size=40), random.integers(0, 4, 40).astype(float)  # c is full of ties
    b = a**3 + c
    holes = [None if i % 7 == 0 else float("nan") if i % 11 == 0 else x for i, x in enumerate(b)]
    found = correlations({"a": a.tolist(), "b": holes, "c": c.tolist()})
    assert [(row["a"], row["b"]) for row in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    there = np.array([i % 7 != 0 and i % 11 != 0 for i in range(40)])
    for row, x, y, use in zip(found, (a, a, b), (b, c, c), (there, there | True, there)):
        assert row["n"] == use.sum()
        assert row["pearson"] == pytest.approx(written_out(x[use], y[use]), abs=1e-12)
        assert row["spearman"] == pytest.approx(written_out(ranks(x[use]), ranks(y[use])), abs=1e-12)


def test_a_correlation_that_does_not_exist_is_none_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for x, y, n in (
            ([], [], 0),
            ([1, 2], [2, 1], 2),
            ([1, 2, None], [1, None, 3], 1),
            ([1, 2, 3], [None, None, None], 0),
            ([1, 2, 3, 4], [5, 5, 5, 5], 4),
            ([5, 5, 5, 6], [1, 2, 3, None], 3),
        ):
            assert correlations({"x": x, "y": y}) == [{"a": "x", "b": "y", "n": n, "pearson": None, "spearman": None}]
        close = correlations({"x": [0.3, 0.1 + 0.2, 0.3], "y": [1.0, 2.0, 0.0]})[0]
        assert close["pearson"] is None  # they differ by rounding
    assert correlations({}) == correlations({"x": [1.0, 2.0, 3.0]}) == []


def test_scores_of_other_images_are_refused():
    with pytest.raises(ValueError, match=r"i2am: scores must be as many for every metric, got \{'x': 3, 'y': 2\}"):
        correlations({"x": [1, 2, 3], "y": [1, 2]})
