"""The rest of DAAM's interface: syntax, evaluators, classes, masks and small helpers, equal to DAAM's own on made-up maps.

`daam_numbers.py` computes each with either library; what DAAM's own code gave is in `compat_numbers.npz`.
"""

from __future__ import annotations

import warnings

import daam_numbers
import numpy as np
import parts
import pytest
import torch
from daam_numbers import INSIDE, PROMPT, PROMPTS, made_up, mask, same

import i2am.compat.daam as library

pytestmark = pytest.mark.usefixtures("on_the_cpu")


@pytest.fixture(scope="module")
def numbers():
    return daam_numbers.kept()


@pytest.fixture
def parsed():
    with daam_numbers.small_parser():
        yield


def heat_of(prompt: str) -> library.GlobalHeatMap:
    words = parts.clip_tokenizer()
    return library.GlobalHeatMap(words, prompt, made_up(words, prompt))


@pytest.mark.parametrize("i", range(len(PROMPTS)))
def test_words_and_relations_are_those_of_daam(parsed, numbers, i):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is left out that has letters
        same(daam_numbers.syntax(library, heat_of(PROMPTS[i])), numbers, f"prompt {i}")


def test_pieces_of_other_words_are_no_words(parsed, numbers):
    """DAAM's subsequences, whose numbers are kept as well, find them: left out here, by name."""
    theirs = [text for text, *_ in numbers["prompt 2 tokens"].tolist()]
    heat = heat_of(INSIDE)
    with pytest.warns(UserWarning, match=r"no word of the prompt: can, not, do, n't\."):
        ours = daam_numbers.syntax(library, heat)
    assert [text for text in theirs if text not in ("can", "not", "n't")] == ours["tokens"][:, 0].tolist()
    pairs = [tuple(pair) for pair in numbers["prompt 2 relations"].tolist() if not {"can", "not", "n't"} & set(pair)]
    assert list(map(tuple, ours["relations"].tolist())) == pairs
    at = theirs.index("a")
    alone = heat.compute_word_heat_map("a").heatmap[::8, ::8].numpy()
    assert np.abs(alone - numbers["prompt 2 maps"][at]).max() > 5e-3  # theirs has the letter of coat in it
    place = heat.tokens.positions("a")
    assert len(place) == 1
    assert np.array_equal(alone, heat.heat_maps[place[0][0]][::8, ::8].numpy())


def test_a_token_of_the_parser_carries_its_grammar(parsed):
    found = {one.token.text: one for one in heat_of(PROMPT).parsed_heat_maps()}
    assert (found["striped"].token.head.text, found["dog"].token.pos_) == ("cat", "NOUN")
    assert torch.equal(found["cat"].word_heat_map.heatmap, heat_of(PROMPT).compute_word_heat_map("cat").heatmap)
    assert library.cached_nlp(PROMPT) is library.cached_nlp(PROMPT)


def test_scores_are_those_of_daam(numbers):
    same(daam_numbers.scores(library), numbers, "scores")


def test_classes_are_those_of_daam(numbers):
    same(daam_numbers.classes(library), numbers, "classes")


def test_everything_daam_exports_is_there():
    theirs = """GenerationExperiment COCO80_LABELS COCOSTUFF27_LABELS COCO80_INDICES COCO80_ONTOLOGY COCO80_TO_27 UNUSED_LABELS trace
        build_word_list_coco80 GlobalHeatMap RawHeatMapCollection WordHeatMap ParsedHeatMap SyntacticHeatMapPair ObjectHooker ModuleLocator
        AggregateHooker UNetCrossAttentionLocator set_seed compute_token_merge_indices plot_mask_heat_map cached_nlp cache_dir auto_device
        auto_autocast DiffusionHeatMapHooker compute_iou MeanEvaluator load_mask compute_ioa UnsupervisedEvaluator"""
    assert set(theirs.split()) <= set(library.__all__)
    assert all(getattr(library, name) is not None for name in (*library.__all__, "__version__"))


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: library.ObjectHooker(None), r"ObjectHooker must be left out.*puts every processor back"),
        (lambda: library.AggregateHooker[int]([]), r"AggregateHooker must be left out"),
        (lambda: library.UNetCrossAttentionLocator(restrict={0}), r"UNetCrossAttentionLocator must be left out.*layer_names"),
        (lambda: library.ModuleLocator().locate(None), r"ModuleLocator must be left out"),
        (library.cache_dir, r"cache_dir must be left out.*i2am\.hold"),
        (lambda: library.MeanEvaluator().log_iou([], mask(0)), r"preds must be at least one mask, got none"),
        (lambda: library.compute_iou(mask(0)[None], mask(0)), r"the masks must be tensors \[h, w\]"),
        (lambda: library.UnsupervisedEvaluator().mean_iou, r"what was logged must be at least one IoU"),
        (lambda: library.GlobalHeatMap(parts.clip_tokenizer(), PROMPT, torch.ones(78, 2, 2)), r"heat_maps must be .* at most 77"),
        (lambda: library.GenerationExperiment(None, torch.ones(3, 2, 2), "a cat").heat_map(), r"tokenizer must be given.*pipe\.tokenizer"),
        (lambda: library.GenerationExperiment(None, torch.ones(3, 2, 2), "a cat").save_annotations("x"), None),
    ],
)  # fmt: skip
def test_what_makes_no_sense_says_what_to_do(use, message):
    if message is None:
        use()  # no notes, nothing to write
        return
    with pytest.raises(ValueError, match=message):
        use()


def test_damaged_experiments_are_refused(tmp_path):
    from PIL import Image

    Image.new("RGB", (4, 3)).save(tmp_path / "cat.gt.png")
    with pytest.raises(ValueError, match=r"cat\.gt\.png must be a picture with an alpha channel.*one of RGB"):
        library.load_mask(tmp_path / "cat.gt.png")
    (tmp_path / "generation.pt").write_bytes(b"pickle")
    with pytest.raises(ValueError, match=r"DAAM's generation\.pt, a pickle, which runs code\. Open it with DAAM"):
        library.GenerationExperiment.load(tmp_path)
    (tmp_path / "seed.txt").write_text("None")
    with pytest.raises(ValueError, match=r"seed\.txt must be a whole number, got 'None'"):
        library.GenerationExperiment.read_seed(tmp_path)
    heat = heat_of("a cat")
    made = library.GenerationExperiment(Image.new("RGB", (4, 3)), heat.heat_maps, "a cat", id="x", path=tmp_path, heat=heat)
    assert made.nsfw()
    folder = made.save(heat_maps=False)
    Image.fromarray(np.full((3, 4), 9, np.uint8)).save(folder / "composite.seg.pred.png")
    with pytest.raises(ValueError, match=r"composite\.seg\.pred\.png must be a picture of labels.* below 2, got one of L up to 9"):
        library.GenerationExperiment.load(folder, "seg", composite=True, vocab=["cat", "dog"])
    made.save_prediction_mask(torch.ones(3, 4), "car", "seg")
    made.save_prediction_mask(torch.ones(6, 8), "bus", "seg")
    with pytest.raises(ValueError, match=r"the masks of 'vehicle' must be of one size"):
        library.GenerationExperiment.load(folder, "seg", simplify80=True)
    with pytest.raises(ValueError, match=r"'dog'.*Its words are: a, cat"):
        made.save_heat_map("dog")


def test_small_helpers():
    words = parts.clip_tokenizer()
    places, word_idx = library.compute_token_merge_indices(words, PROMPT, "striped")
    assert ([places], word_idx) == (heat_of(PROMPT).tokens.positions("striped"), None)
    assert library.compute_token_merge_indices(words, PROMPT, "cat", word_idx=2) == ([3], 2)
    assert library.compute_token_merge_indices(words, PROMPT, "cat", offset_idx=1)[0] == [heat_of(PROMPT).tokens.positions("cat")[0][0] + 1]
    assert library.auto_device() == torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with library.auto_autocast(dtype=torch.float32):
        assert library.auto_device(torch.ones(2)).dtype == torch.float32


def test_a_seed_seeds_everything():
    first = library.set_seed(3), torch.rand(1), np.random.rand()  # noqa: NPY002
    second = library.set_seed(3), torch.rand(1), np.random.rand()  # noqa: NPY002
    assert first[1:] == second[1:]
    assert first[0].initial_seed() == second[0].initial_seed() == 3


def test_overlays_are_cropped_and_masked():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    picture, map = np.full((6, 8, 3), 255, np.uint8), torch.linspace(0, 1, 48).view(6, 8)
    library.plot_overlay_heat_map(picture, map, word="dog", crop=1)
    assert [drawn.get_array().shape[:2] for drawn in pyplot.gca().images] == [(4, 6), (4, 6)]
    pyplot.clf()
    library.plot_mask_heat_map(picture, map, threshold=0.5)
    assert np.array_equal(pyplot.gca().images[0].get_array()[..., 0], (map > 0.5).float().numpy())
    pyplot.close("all")
