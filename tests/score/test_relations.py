"""Overlaps of words' maps by relation: the released notebook's numbers, the paper's convention, counts and intervals."""

import math

import pytest
import torch

from i2am.maps.words import overlap
from i2am.score.relations import CONVENTIONS, Overlap, Overlaps, Pair, by_relation, convention, mean_of

NOTEBOOK = {  # (head, dependent) -> IoU, IoD, IoH that the functions of castorini/daam's notebook give for `maps()`, in float32
    (0, 1): (0.33774834871292114, 0.5257731676101685, 0.48571428656578064),
    (1, 0): (0.33774834871292114, 0.48571428656578064, 0.5257731676101685),
    (2, 0): (0.47058823704719543, 0.6857143044471741, 0.6000000238418579),
    (0, 3): (0.0, 0.0, 0.0),
    (3, 0): (0.0, 0.0, 0.0),
    (3, 4): (0.0, 0.0, 0.0),
}


def maps() -> torch.Tensor:
    """Three maps around the notebook's threshold and two far below it."""
    i = torch.arange(12 * 16)
    return torch.stack([((k * 37 + i * i * 13 + i * 7 * k) % 101).float() / (300 if k < 3 else 2000) for k in range(5)]).view(5, 12, 16)


def test_the_notebooks_numbers():
    found = Overlaps(maps(), convention("notebook"), (48, 64))
    for (head, dependent), expected in NOTEBOOK.items():
        assert torch.tensor(found.pair(head, dependent)).equal(torch.tensor(expected))


def test_the_papers_convention_is_daams_display_at_the_pictures_size():
    found = Overlaps(maps(), convention("paper"), (48, 64))
    words = {str(place): one[None] for place, one in enumerate(maps())}
    for head, dependent in NOTEBOOK:
        expected = overlap(words, str(head), str(dependent), size=(48, 64))
        assert found.pair(head, dependent) == Overlap(*(float(expected[name]) for name in ("iou", "iod", "ioh")))


def test_a_share_of_an_empty_mask():
    flat = torch.stack([torch.zeros(2, 3), torch.eye(2, 3)])
    paper, notebook = (Overlaps(flat, convention(name), (2, 3)) for name in ("paper", "notebook"))
    assert [math.isnan(x) for x in paper.pair(0, 1)] == [False, False, True]
    assert all(math.isnan(x) for x in paper.pair(0, 0))
    assert notebook.pair(0, 0) == notebook.pair(0, 1) == (0, 0, 0)
    assert notebook.pair(1, 1) == (1, 1, 1)
    assert paper.empty(1, 0)
    assert not paper.empty(1)


def test_means_are_over_pairs_and_intervals_over_prompts():
    pairs = [
        Pair("a", "obj", Overlap(0.5, 1.0, 0.0)),
        Pair("a", "obj", Overlap(0.0, math.nan, 0.25)),
        Pair("b", "obj", Overlap(1.0, 0.5, 0.5)),
    ]
    found = mean_of(pairs)
    assert (found["count"], found["prompts"]) == (3, 2)
    assert found["iou"]["mean"] == 0.5
    assert found["iod"] | {"low": 0, "high": 0} == {"mean": 0.75, "low": 0, "high": 0, "empty": 1}
    assert found["delta"] == 0.5
    assert (found["iou"]["low"], found["iou"]["high"]) == (0.25, 1.0)  # the draws are a a, a b and b b
    alone = mean_of(pairs[:2])["iou"]
    assert (alone["mean"], alone["low"], alone["high"]) == (0.25, None, None)  # a prompt's pairs are drawn together


def test_without_any_share_there_is_no_mean():
    empty = mean_of([Pair("a", "obj", Overlap(math.nan, math.nan, math.nan))])
    assert empty["iou"] == {"mean": None, "low": None, "high": None, "empty": 1}
    assert empty["delta"] is None
    assert mean_of([])["count"] == 0


def test_the_most_frequent_relations_come_first():
    found = by_relation(
        [Pair(str(i), name, Overlap(0, 0, 0)) for i, name in enumerate(["det", "obj", "amod", "obj", "det", "case"])], most=3
    )
    assert [(one["relation"], one["count"]) for one in found] == [("det", 2), ("obj", 2), ("amod", 1)]


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"the convention must be paper or notebook, got 'book'"):
        convention("book")
    with pytest.raises(ValueError, match=r"maps must be \[n, h, w\] and floating"):
        Overlaps(torch.zeros(2, 2), CONVENTIONS["paper"], (2, 2))
