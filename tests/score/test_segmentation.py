"""Words as segmentation: numbers of castorini/daam's own evaluators, and laws."""

import math

import numpy as np
import pytest
import torch
from segmented import drawn

pytest.importorskip("scipy")
from i2am.maps.words import iou
from i2am.score.segmentation import Protocol, Segmentation, ious, levels, mean_of

pytestmark = pytest.mark.usefixtures("on_the_cpu")

# castorini/daam 0.2's MeanEvaluator and UnsupervisedEvaluator over drawn(): (threshold, nouns): (mIoU, 1.96 sigma / sqrt(n), n), hungarian
DAAM = {
    (0.2, "every"): ((0.4068909446398417, 0.018659253406468245, 15), 0.35094887183772194),
    (0.2, "coco80"): ((0.408441628019015, 0.02309652544278423, 12), 0.408441628019015),
    (0.2, "coco27"): ((0.4081729891208502, 0.04270119848076823, 13), 0.4081729891208502),
    (0.4, "every"): ((0.677796204884847, 0.03197859857104688, 15), 0.677796204884847),
    (0.4, "coco80"): ((0.6868589470783869, 0.035383497292442716, 12), 0.6868589470783869),
    (0.4, "coco27"): ((0.61693709057111, 0.09116684888614143, 13), 0.61693709057111),
    (0.6, "every"): ((0.7805455168088277, 0.03523484076525607, 15), 0.7805455168088277),
    (0.6, "coco80"): ((0.7708020905653635, 0.0402872677963605, 12), 0.7708020905653635),
    (0.6, "coco27"): ((0.6452329124395664, 0.11378839130249963, 13), 0.6452329124395664),
}
BEST = {
    0.2: (0.3593614852428436, 0.02806986888953491, 25),
    0.4: (0.5090589874982834, 0.08344773645275506, 25),
    0.6: (0.5434851253032684, 0.11595376710919181, 25),
}
CLOSE = 1e-6  # its IoUs are float32, with 1e-8 added to the union


def scored(**changed) -> Segmentation:
    found = Segmentation(Protocol(**{"thresholds": (0.2, 0.4, 0.6), "missing": "skip", **changed}))
    for one in drawn():
        found.add(one.id, one.found, one.masks)
    return found


@pytest.mark.parametrize("nouns", ["every", "coco80", "coco27"])
def test_it_is_daams_mean_and_assignment(nouns):
    labelled, hungarian = (scored(nouns=nouns, matching=matching).table() for matching in ("labelled", "hungarian"))
    for line, other in zip(labelled, hungarian):
        (mean, half, count), assigned = DAAM[line["threshold"], nouns]
        assert (line["mean"], line["half"], line["count"]) == pytest.approx((mean, half, count), abs=CLOSE)
        assert other["mean"] == pytest.approx(assigned, abs=CLOSE)


def test_it_is_daams_best_of_all():
    for line in scored(matching="best").table():
        assert (line["mean"], line["half"], line["count"]) == pytest.approx(BEST[line["threshold"]], abs=CLOSE)


def test_a_map_is_cut_as_daam_cuts_it():
    map, mask = torch.from_numpy(np.random.default_rng(3).random((1, 5, 5)).astype(np.float32)), torch.zeros(20, 20, dtype=torch.bool)
    mask[4:13, 2:9] = True
    level = levels({"cat": map}, ["cat"], (20, 20))["cat"]
    thresholds = (0.2, 0.3, 0.4, 0.5, 0.6)
    assert [int((level > t).sum()) for t in thresholds] == [388, 353, 320, 248, 154]  # of WordHeatMap.expand_as
    expected = [0.16237112879753113, 0.17847025394439697, 0.18575851619243622, 0.1518518477678299, 0.028436018154025078]
    assert ious(level, mask, thresholds) == pytest.approx(expected, abs=CLOSE)


def test_an_iou_is_pixels_over_pixels():
    one = drawn(1)[0]
    word = next(word for word in one.masks if word in one.found)
    level, mask = one.found[word], one.masks[word]
    assert ious(level, mask, (0.3, 0.7)) == tuple(float(iou((level > t).float(), mask.float())) for t in (0.3, 0.7))
    empty = torch.zeros_like(mask)
    assert ious(torch.zeros(12, 12), empty, (0.4,)) == (0.0,)
    assert ious(mask, mask, (0.2, 0.6)) == (1.0, 1.0)


def test_nouns_without_a_map_are_skipped_counted_or_refused():
    skipped, zero = scored(), scored(missing="zero")
    truths = sum(len(one.masks) for one in drawn())
    assert skipped.missing == zero.missing
    assert len(skipped.missing) == truths - len(skipped.rows) > 0
    assert len(zero.rows) == truths
    for a, b in zip(skipped.table(), zero.table()):
        assert b["mean"] == pytest.approx(a["mean"] * len(skipped.rows) / truths, abs=1e-12)
    with pytest.raises(ValueError, match=r'the maps of 0001 must be of .* too, which has a mask.*missing="skip"'):
        scored(missing="refuse")


def test_the_mean_of_classes_does_not_weigh_by_number():
    found = Segmentation(Protocol(thresholds=(0.4,)))
    mask = torch.zeros(2, 2, dtype=torch.bool)
    mask[0] = True
    for i, part in enumerate((mask, mask, mask, ~mask)):
        found.add(str(i), {("dog" if i == 3 else "cat"): part}, {("dog" if i == 3 else "cat"): mask})
    (line,) = found.table()
    assert (line["mean"], line["mean_of_classes"], line["classes"]) == (0.75, 0.5, 2)
    assert line["half"] == pytest.approx(1.96 * math.sqrt(0.1875 / 4))
    assert list(found.classes()) == ["cat", "dog"]
    assert found.classes()["dog"] == {"mean": 0.0, "half": 0.0, "count": 1}


def test_closed_sets_say_what_they_leave_out():
    found = scored(nouns="coco80")
    rings = sum("ring" in one.masks for one in drawn())
    assert found.outside == {"ring": rings}
    assert not {row.word for row in found.rows} & {"ring"}
    assert {row.word for row in scored(nouns="coco27").rows} <= {"animal", "accessory", "person"}


def test_an_assignment_gives_every_noun_one_map_in_all_pictures():
    found = scored(matching="hungarian")
    for i, matched in enumerate(found.matched()):
        assert len(set(matched.values())) == len(matched)
        for row in found.result():
            assert row.matched[i] in ("", matched.get(row.word, ""))
            assert math.isnan(row.iou[i]) == (row.matched[i] == "")


def test_a_segmenter_without_names_finds_its_names():
    """Maps under other names: labelled has none of them, an assignment all."""
    names = {"cat": "label 3", "dog": "label 1", "traffic light": "label 7", "person": "label 2", "ring": "label 9"}
    labelled, assigned, named = (
        Segmentation(Protocol(missing="skip", matching=matching)) for matching in ("labelled", "hungarian", "labelled")
    )
    for one in drawn():
        found = {names[word]: level for word, level in one.found.items()}
        labelled.add(one.id, found, one.masks)
        assigned.add(one.id, found, one.masks)
        named.add(one.id, one.found, one.masks)
    assert labelled.rows == []
    assert labelled.table()[0]["mean"] is None
    assert assigned.matched()[2] == names
    assert assigned.table()[2]["mean"] == pytest.approx(named.table()[2]["mean"], abs=1e-12)


def test_pictures_in_another_order_give_the_same_bits():
    forward, backward = Segmentation(Protocol(missing="skip")), Segmentation(Protocol(missing="skip"))
    for one in drawn():
        forward.add(one.id, one.found, one.masks)
    for one in reversed(drawn()):
        backward.add(one.id, one.found, one.masks)
    assert forward.table() == backward.table()
    assert forward.classes() == backward.classes()


def test_a_mean_of_nothing_is_none():
    assert mean_of([]) == mean_of([math.nan]) == {"mean": None, "half": None, "count": 0}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"thresholds": ()}, "numbers from 0 to below 1"),
        ({"thresholds": (1.0,)}, "numbers from 0 to below 1"),
        ({"thresholds": 0.4}, "numbers from 0 to below 1"),
        ({"nouns": "coco"}, "one of every, coco80, coco27"),
        ({"matching": "any"}, "one of labelled, best, hungarian"),
        ({"missing": "drop"}, "one of refuse, skip, zero"),
    ],
)
def test_protocols_are_checked(changed, said):
    with pytest.raises(ValueError, match=said):
        Protocol(**changed)


def test_sizes_and_kinds_are_checked():
    found, mask = Segmentation(), torch.zeros(4, 6, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"all of one size, got \(4, 6\), \(6, 4\)"):
        found.add("a", {"cat": torch.zeros(6, 4)}, {"cat": mask})
    with pytest.raises(ValueError, match="masks of a must be bool"):
        found.add("a", {"cat": torch.zeros(4, 6)}, {"cat": mask.float()})
    with pytest.raises(ValueError, match="finite"):
        levels({"cat": torch.full((2, 3), math.nan)}, ["cat"], (4, 6))
    assert levels({"cat": torch.zeros(1, 2, 3)}, ["cat"], (4, 6))["cat"].shape == (4, 6)
