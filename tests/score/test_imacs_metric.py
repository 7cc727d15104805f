"""IMACS over a data set: any split of the images gives the same numbers, and torchmetrics stays out until it is asked for."""

import pickle
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import i2am
from i2am import imacs
from i2am.score.imacs import convention

pytest.importorskip("torchmetrics")
from i2am.score.imacs_metric import Imacs
from i2am.score.intervals import bootstrap

NUMBERS = ("mean", "low", "high", "count", "nan")


def images(count: int = 11) -> tuple[Tensor, Tensor]:
    """Maps and masks; two images have no score."""
    maps, masks = torch.rand(count, 8, 6, device="cpu") ** 4, (torch.rand(count, 16, 12, device="cpu") > 0.5).float()
    masks[2], masks[5] = 0, 1
    return maps, masks


def metric_of(maps: Tensor, masks: Tensor, batch: int, **options: Any) -> Imacs:
    metric = Imacs(**options)
    for at in range(0, len(maps), batch):
        metric.update(maps[at : at + batch], masks[at : at + batch])
    return metric


def equal(one: Imacs, two: Imacs) -> bool:
    return all(torch.equal(one.compute()[name], two.compute()[name]) for name in NUMBERS)


@pytest.mark.filterwarnings("ignore:i2am. no IMACS")  # `imacs` says what the metric counts
def test_it_is_the_mean_of_the_scores():
    maps, masks = images()
    for options in ({}, convention("stableviton").options("r2g"), {"threshold": 0.1, "penalty": 1.0, "force_mask": True}):
        metric, right = metric_of(maps, masks, 4, **options), imacs(maps, masks, **options)
        torch.testing.assert_close(metric.scores.cpu(), right, equal_nan=True)
        found = metric.compute()
        assert (found["count"].item(), found["nan"].item()) == (9, 2)
        assert found["mean"].item() == pytest.approx(right.nanmean().item(), rel=1e-6)
        assert found["low"] < found["mean"] < found["high"]


def test_the_split_and_the_order_do_not_matter():
    maps, masks = images()
    whole, order = metric_of(maps, masks, 11), torch.randperm(11, device="cpu")
    for batch in (1, 3, 4):
        assert equal(metric_of(maps, masks, batch), whole)
    assert equal(metric_of(maps[order], masks[order], 4), whole)


def test_merged_states_are_one_metric():
    maps, masks = images()
    whole, one, two = metric_of(maps, masks, 4), metric_of(maps[:3], masks[:3], 2), metric_of(maps[3:], masks[3:], 5)
    two.merge_state(one)
    torch.testing.assert_close(two.scores, whole.scores, equal_nan=True)
    assert equal(two, whole)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_processes_gather_their_scores():
    maps, masks = images()
    parts = [metric_of(maps[:3], masks[:3], 2), metric_of(maps[3:], masks[3:], 5), Imacs()]
    gathered = [part.scores for part in parts]  # the third process saw no image
    for part in parts:
        part.dist_sync_fn, part.distributed_available_fn = lambda mine, group: gathered, lambda: True
        assert equal(part, metric_of(maps, masks, 11))
    assert [len(part.scores) for part in parts] == [3, 8, 0]  # each has its own again


def test_a_metric_can_be_pickled_and_reset():
    maps, masks = images()
    metric = metric_of(maps, masks, 4, resamples=50, seed=3)
    assert equal(pickle.loads(pickle.dumps(metric)), metric)
    metric.reset()
    assert len(metric.scores) == 0
    metric.update(maps[0], masks[0])  # one image
    assert metric.scores.shape == (1,)
    found = metric.compute()
    assert found["low"] == found["mean"] == found["high"]


def test_the_interval_is_the_bootstraps():
    values = torch.randn(40, device="cpu").double() + 2
    low, high = bootstrap(values, 4000, 0.9, 0)
    generator = np.random.default_rng(0)
    means = values.numpy()[generator.integers(40, size=(4000, 40))].mean(1)
    spread = values.std().item() / 40**0.5
    assert abs(low.item() - np.quantile(means, 0.05)) < 0.1 * spread
    assert abs(high.item() - np.quantile(means, 0.95)) < 0.1 * spread
    assert bootstrap(values, 4000, 0.9, 0) == (low, high)
    assert bootstrap(values, 4000, 0.9, 1) != (low, high)


def test_the_interval_is_drawn_in_pieces(monkeypatch):
    monkeypatch.setattr("i2am.score.intervals.CHUNK", 100)
    values = torch.randn(40, device="cpu").double()
    low, high = bootstrap(values, 999, 0.95, 0)
    assert values.min() < low < values.mean() < high < values.max()


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_nothing_scored_is_nan_and_no_number():
    assert [str(Imacs().compute()[name].item()) for name in NUMBERS] == ["nan", "nan", "nan", "0", "0"]
    empty = metric_of(torch.rand(2, 8, 6, device="cpu"), torch.zeros(2, 16, 12, device="cpu"), 2)
    assert [str(empty.compute()[name].item()) for name in NUMBERS] == ["nan", "nan", "nan", "0", "2"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resamples": 0}, r"resamples must be a whole number.*got 0"),
        ({"confidence": 95}, r"confidence must be between 0 and 1, got 95"),
        ({"confidence": "a"}, r"confidence must be between 0 and 1, got 'a'"),
        ({"seed": "a"}, r"seed must be a whole number of at least 0, got 'a'"),
        ({"threshold": float("nan")}, r"threshold must be from 0 to below 1, got nan"),
        ({"penalty": -1}, r"penalty must be 0 or more, got -1"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_wrong_is_said(options, message):
    with pytest.raises(ValueError, match=message):
        Imacs(**options)


def test_maps_that_are_not_finite_are_refused_and_empty_masks_counted_without_a_word():
    maps, masks = images()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert metric_of(maps, masks, 4).compute()["nan"] == 2
    maps[3, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="NaN or infinity in image 3 of 4"):
        metric_of(maps, masks, 4)


def test_torchmetrics_waits_until_it_is_asked_for():
    assert i2am.Imacs is Imacs
    with pytest.raises(AttributeError, match=r"module 'i2am' has no attribute 'Imac'"):
        i2am.Imac  # noqa: B018
    code = (
        "import sys, i2am, i2am.score.pointing\n"
        "assert not {'torchmetrics', 'scipy'} & sys.modules.keys()\n"
        "sys.modules['torchmetrics'] = None\n"
        "try: i2am.Imacs\n"
        "except ImportError as error: assert 'i2am[metrics]' in str(error), error\n"
        "else: raise AssertionError('no torchmetrics, no error')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
