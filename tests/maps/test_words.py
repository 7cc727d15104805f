"""Word maps: the mean of a word's pieces, DAAM's display, overlaps."""

from itertools import pairwise

import pytest
import torch
from tokens import BEGIN, END, clip, t5  # noqa: F401 (fixtures)

from i2am.maps.prompt import Prompt, WordError, columns
from i2am.maps.words import WordMaps, iod, ioh, iou, mean_iou, overlap, show

RED, BLUE = "a red armadillo and a cat", "the blue cat"


@pytest.fixture
def batch(clip):
    """Four images of two prompts; the map of image b and position p is random, so that no two are alike."""
    return WordMaps([Prompt.of(RED, clip), Prompt.of(BLUE, clip)], range(12), torch.rand(4, 12, 3, 5))


def test_a_word_is_the_mean_of_its_pieces_in_every_image(batch):
    maps = batch.maps
    torch.testing.assert_close(batch["cat"], torch.stack([maps[0, 7], maps[1, 7], maps[2, 3], maps[3, 3]]))
    torch.testing.assert_close(batch[BEGIN], maps[:, 0])
    red = batch.image(1)
    torch.testing.assert_close(red["Armadillo"], maps[1:2, 3:5].mean(1))
    torch.testing.assert_close(red["a"], (maps[1:2, 1] + maps[1:2, 6]) / 2)  # both occurrences
    torch.testing.assert_close(red["a cat"], (maps[1:2, 6] + maps[1:2, 7]) / 2)
    assert red.prompts[0].text == RED
    assert batch.image(-1).prompts[0].text == BLUE


def test_a_word_that_some_prompts_lack_is_named_and_partial_is_nan(batch):
    assert list(batch) == ["cat"]  # the others are in one prompt only
    assert dict(batch.image(0).items()).keys() == {"a", "red", "armadillo", "and", "cat"}
    assert len(batch.image(2)) == 3
    assert "red" not in batch
    assert batch.get("red") is None
    with pytest.raises(ValueError, match=r"in every prompt, got none in 1 \('the blue cat'\)"):
        batch["red"]
    red = batch.partial("red")
    torch.testing.assert_close(red[:2], batch.maps[:2, 2])
    assert red[2:].isnan().all()
    for ask in (batch.partial, batch.__getitem__):
        with pytest.raises(ValueError, match="Its words are: a, red"):
            ask("shirt")


def test_a_word_that_was_not_traced_says_which_were(clip):
    prompts = [Prompt.of(RED, clip), Prompt.of(BLUE, clip)]
    traced = columns(prompts, ["cat", "Armadillo"])
    assert traced == [3, 4, 7]
    maps = torch.rand(2, 3, 2, 2)
    words = WordMaps(prompts, traced, maps)
    torch.testing.assert_close(words["cat"], torch.stack([maps[0, 2], maps[1, 0]]))
    torch.testing.assert_close(words.partial("armadillo")[0], maps[0, :2].mean(0))
    assert "red" not in words.image(0)
    with pytest.raises(ValueError, match=r"'red' was not traced, only armadillo, cat\."):
        words.image(0)["red"]
    with pytest.raises(ValueError, match="'a cat' was not traced"):  # half of it was: no map of half a phrase
        words.image(0)["a cat"]


def test_columns_are_the_positions_to_trace(clip, t5):
    prompts = [Prompt.of("red cat", clip, 8), Prompt.of("a red shirt, cat", clip, 8)]
    assert columns(prompts[:1]) == [0, 1, 2, 3]  # beginning, words, end; not the padding
    assert columns(prompts) == [0, 1, 2, 3, 4, 5, 6]
    assert columns([Prompt.of("red cat", t5, 6)]) == [0, 1, 2, 3]  # one of the padding, to be asked for by name
    assert columns(prompts, ["shirt", END]) == [3, 6]
    with pytest.raises(WordError, match="got 'hat'"):
        columns(prompts, ["red", "hat"])
    with pytest.raises(ValueError, match=r"Write words=\['red'\]"):
        columns(prompts, "red")


def test_maps_that_do_not_fit_are_refused(clip):
    prompts = [Prompt.of(RED, clip), Prompt.of(BLUE, clip)]
    for maps, places in ((torch.rand(3, 2, 4, 4), [1, 2]), (torch.rand(4, 2, 4), [1, 2]), (torch.rand(4, 2, 4, 4), [1]),
                         (torch.rand(4, 2, 4, 4), [1, 1]), (torch.rand(4, 2, 4, 4), [1, 12]), (torch.rand(0, 2, 4, 4), [1, 2]),
                         (torch.ones(4, 2, 4, 4, dtype=torch.int64), [1, 2])):  # fmt: skip
        with pytest.raises(ValueError, match=r"words: (maps|prompts|columns) must"):
            WordMaps(prompts, places, maps)


def test_show_is_daams_display():
    maps = torch.rand(2, 3, 8, 6)
    one = maps[1, 2]
    big = torch.nn.functional.interpolate(one[None, None], size=(20, 15), mode="bicubic")[0, 0]  # DAAM's expand_as
    relative = (big - big.min()) / (big.max() - big.min() + 1e-8)
    torch.testing.assert_close(show(maps, size=(20, 15))[1, 2], relative)
    torch.testing.assert_close(show(maps, size=(20, 15), absolute=True)[1, 2], big.clamp(min=0))
    assert torch.equal(show(one, size=(20, 15), threshold=0.4), (relative > 0.4).float())
    assert torch.equal(show(maps, absolute=True), maps)
    assert show(maps, size=(20, 15)).amax((-2, -1)).allclose(torch.ones(2, 3))  # each map its own scale
    with pytest.raises(ValueError, match="show: map must be"):
        show(maps.long())


def test_display_is_clamped_and_thresholds_are_strict():
    spike = torch.zeros(8, 8)
    spike[4, 4] = 1.0
    assert torch.nn.functional.interpolate(spike[None, None], size=(16, 16), mode="bicubic").min() < 0
    assert show(spike, size=(16, 16), absolute=True).min() == 0
    steps = torch.tensor([[0.0, 0.25, 0.5, 1.0]])
    assert show(steps, absolute=True, threshold=0.25).tolist() == [[0, 0, 1, 1]]
    assert show(steps, absolute=True, threshold=0.0).tolist() == [[0, 1, 1, 1]]  # 0 is a threshold too
    assert show(torch.full((4, 4), 3.0)).max() == 0  # nothing stands out


def test_a_higher_threshold_keeps_less():
    maps = torch.rand(3, 9, 7)
    masks = [show(maps, threshold=t / 10) for t in range(11)]
    for low, high in pairwise(masks):
        assert (high <= low).all()
        assert high.sum() < low.sum()


def test_a_missing_word_is_no_empty_mask():
    maps = torch.rand(2, 4, 4)
    maps[1] = torch.nan
    shown = show(maps, size=(8, 8), threshold=0.4)
    assert shown[1].isnan().all()
    assert not shown[0].isnan().any()
    for measure in (iou, iod, ioh):
        assert measure(shown, torch.ones(8, 8)).isnan().tolist() == [False, True]


def test_overlap_measures_by_hand():
    head, dependent = torch.zeros(2, 4, 4), torch.zeros(2, 4, 4, dtype=torch.bool)
    head[0, :2] = 1  # 8 cells, 2 of them shared with 3
    dependent[0, 1:4, 0] = True
    dependent[0, 1, 0:2] = True
    assert (iou(head, dependent)[0], iod(head, dependent)[0], ioh(head, dependent)[0]) == (2 / 10, 2 / 4, 2 / 8)
    assert all(measure(head, dependent)[1].isnan() for measure in (iou, iod, ioh))  # both empty
    empty = torch.zeros(4, 4)
    assert (iou(head[0], empty), ioh(head[0], empty)) == (0, 0)
    assert iod(head[0], empty).isnan()
    for wrong in (torch.full((4, 4), 0.5), torch.full((4, 4), 255, dtype=torch.uint8), torch.ones(4, 5), torch.ones(4)):
        with pytest.raises(ValueError, match="overlap: masks must be"):
            iou(head, wrong)


def test_laws_of_overlap():
    one, two = torch.rand(5, 3, 7, 6) > 0.5, torch.rand(3, 7, 6) > 0.7  # leading dimensions broadcast
    assert torch.equal(iou(one, two), iou(two, one))
    assert torch.equal(iod(one, two), ioh(two, one))
    assert not torch.equal(iod(one, two), ioh(one, two))
    torch.testing.assert_close(1 / iou(one, two), 1 / iod(one, two) + 1 / ioh(one, two) - 1)
    assert torch.equal(iou(one, one), torch.ones(5, 3, dtype=torch.float64))
    assert iou(one, two)[4, 1] == iou(one[4, 1], two[1])


def test_overlap_of_two_words(clip):
    prompts = [Prompt.of("red cat", clip)]
    maps = torch.zeros(2, 12, 1, 4)
    maps[:, 1, 0] = torch.tensor([1.0, 0.9, 0.8, 0.0])  # red: three cells
    maps[:, 2, 0] = torch.tensor([[0.0, 0.0, 0.3, 1.0], [0.0, 0.0, 0.5, 1.0]])  # cat: one cell, then two
    found = overlap(WordMaps(prompts, range(12), maps), "cat", "red")
    assert {name: value.tolist() for name, value in found.items()} == {"iou": [0.0, 1 / 4], "iod": [0.0, 1 / 3], "ioh": [0.0, 1 / 2]}
    assert overlap(WordMaps(prompts, range(12), maps), "cat", "red", threshold=0.2)["iou"].tolist() == [1 / 4, 1 / 4]


def test_mean_iou_counts_what_it_leaves_out():
    maps = torch.zeros(4, 2, 2)
    maps[:2, 0] = 1.0
    maps[3] = torch.nan  # a prompt without the word
    truth = [torch.ones(2, 2), torch.tensor([[1, 1], [0, 0]]), torch.zeros(2, 2), torch.ones(2, 2)]
    score = mean_iou(maps, truth)
    assert (score.mean, score.counted, score.left_out) == (0.75, 2, 2)  # 1/2 and 1; an empty map and mask; no map
    assert score.each.isnan().tolist() == [False, False, True, True]
    torch.testing.assert_close(mean_iou(maps[:2], torch.stack([t.bool() for t in truth[:2]])).each, score.each[:2])
    big = mean_iou(maps[:1], [torch.ones(6, 4)])  # the map goes to the mask's size
    assert big.mean == show(maps[0], size=(6, 4), threshold=0.4).mean()
    nothing = mean_iou(maps[2:3], truth[2:3])
    assert (nothing.mean != nothing.mean, nothing.counted, nothing.left_out) == (True, 0, 1)
    with pytest.raises(ValueError, match="mean_iou: maps must be"):
        mean_iou(maps, truth[:3])
