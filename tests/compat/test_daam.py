"""DAAM's interface over our trace: its numbers where it has an answer, and answers where it has none.

The numbers in `compat_numbers.npz` were made with DAAM's own code (castorini/daam at 09564e0) on this pipeline, every second row and
column of its maps; `daam_numbers.py` says how.
"""

from __future__ import annotations

import daam_numbers
import joint
import numpy as np
import pipelines
import pytest
import torch
from daam_numbers import PROMPT, call, case

import i2am
import i2am.compat.daam
from i2am.compat.daam import GenerationExperiment, GlobalHeatMap, WordHeatMap, trace
from i2am.show.pictures import overlay

pytestmark = pytest.mark.usefixtures("on_the_cpu")


@pytest.fixture(scope="module")
def numbers():
    return daam_numbers.kept()


@pytest.fixture(scope="module")
def daam(on_the_cpu):
    """One run as DAAM knows it: square, guided, one prompt; and its picture."""
    made = case()
    with trace(made.pipe) as tc:
        (image,) = call(made).images
    return tc, image


def same(got: torch.Tensor, theirs: np.ndarray) -> None:
    assert got.shape == theirs.shape
    assert np.abs(got.numpy() - theirs).max() <= 1e-5
    assert np.abs(np.flip(got.numpy(), -1) - theirs).max() > 1e-2  # another map would not pass


def test_numbers_are_those_of_daam(numbers, daam):
    tc, image = daam
    heat = tc.compute_global_heat_map()
    assert heat.prompt == tc.last_prompt == PROMPT
    assert tuple(heat.heat_maps.shape) == tuple(numbers["shape"])
    for word in ("shirt", "a", "striped"):  # one piece, several occurrences, several pieces
        same(heat.compute_word_heat_map(word).heatmap[::2, ::2], numbers[f"word {word}"])
    same(heat.compute_word_heat_map("cat", word_idx=1).value[::2, ::2], numbers["idx"])
    same(heat.heat_maps[[0, -1]][:, ::4, ::4], numbers["start and end"])
    for name, options in {"head": {"head_idx": 3}, "layer": {"layer_idx": 2}, "factor": {"factors": [2]}}.items():
        same(tc.compute_global_heat_map(**options).compute_word_heat_map("cat").heatmap[::2, ::2], numbers[name])
    same(tc.compute_global_heat_map(normalize=True).compute_word_heat_map("shirt").heatmap[::2, ::2], numbers["normalized"])
    shirt, cat = heat.compute_word_heat_map("shirt"), heat.compute_word_heat_map("cat")
    assert shirt.compute_ioa(cat) == pytest.approx(float(numbers["ioa"]), abs=1e-5)
    same(shirt.expand_as(image)[::4, ::4], numbers["expanded"])
    assert (shirt.expand_as(image, threshold=0.4)[::4, ::4].numpy() != numbers["masked"]).mean() <= 1e-3  # a pixel on the threshold
    assert shirt.expand_as(image, absolute=True).max() == pytest.approx(shirt.heatmap.max().item(), rel=0.1)


def test_prompts_layers_and_maps_are_named(daam):
    tc, _ = daam
    assert len(tc.layer_names) == 6
    assert [name.split(".")[0] for name in tc.layer_names] == ["up_blocks"] * 4 + ["down_blocks"] * 2
    again = tc.compute_global_heat_map(prompt=PROMPT)
    assert torch.equal(again.heat_maps, tc.compute_global_heat_map().heat_maps)
    assert torch.equal(tc.maps.words(size=(64, 64))["cat"][0], again.compute_word_heat_map("cat").heatmap)
    assert len(tc.compute_global_heat_map(prompt="a red").heat_maps) == 4  # the text's two tokens and one on each side


@pytest.mark.parametrize("guided", [True, False])
def test_batches_other_shapes_and_no_guidance_work(guided):
    made = pipelines.sd15()
    with trace(made.pipe) as tc:
        made(batch=3, size=(64, 48), guided=guided)
        wide = [tc.compute_global_heat_map(image=i) for i in range(3)]  # inside the block, as DAAM's users do
    run = tc.maps
    for i, heat in enumerate(wide):
        assert heat.heat_maps.shape[1:] == (16, 12)
        assert heat.prompt == made.kwargs(batch=3)["prompt"][i]
        for word in heat.tokens.words:
            torch.testing.assert_close(heat.compute_word_heat_map(word).heatmap, run[i].words(size=(16, 12))[word][0])
    assert not torch.allclose(wide[0].heat_maps[1], wide[1].heat_maps[1])
    assert run.sums[0].words.shape[2] == 2  # every head
    with pytest.raises(ValueError, match="image must be stated, as the run has 3"):
        tc.compute_global_heat_map()


@pytest.mark.parametrize("build", [pipelines.sdxl, lambda: joint.sd3(words=True)], ids=["sdxl", "sd3"])
def test_other_families_work(build):
    made = build()
    with trace(made.pipe) as tc:
        made()
    heat = tc.compute_global_heat_map(factors=None if not hasattr(made.pipe, "unet") else {6, 12})
    word = heat.tokens.words[0]
    map = heat.compute_word_heat_map(word).heatmap
    assert map.min() >= 0 < map.max()
    assert map.std() > 0
    same_run = tc.maps.words(size=tuple(map.shape), layers=tc.layer_names)[word][0]
    torch.testing.assert_close(map, same_run)


def test_layers_that_daam_leaves_out_are_named():
    made = case()
    with trace(made.pipe) as tc:
        call(made, (64, 64))  # latents 16x16: factors 4 and, on half the grid, 8
    with pytest.warns(UserWarning, match=r"leaves out the layers of factors \[8\]"):
        usual = tc.compute_global_heat_map()
    assert torch.equal(usual.heat_maps, tc.compute_global_heat_map(factors=[4]).heat_maps)
    both = tc.compute_global_heat_map(factors={4, 8})
    assert not torch.allclose(both.heat_maps, usual.heat_maps)
    with pytest.raises(ValueError, match=r"factors must be some of \[4, 8\], got \[1\]"):
        tc.compute_global_heat_map(factors=[1])


def test_a_new_call_replaces_and_the_pipeline_is_as_it_was():
    made = pipelines.sd15()
    before = {name: type(p) for name, p in made.pipe.unet.attn_processors.items()}
    with trace(made.pipe, low_memory=True) as tc:
        made(seed=1)
        made(seed=2, batch=1)
        last = tc.compute_global_heat_map().heat_maps
    assert {name: type(p) for name, p in made.pipe.unet.attn_processors.items()} == before
    assert "postprocess" not in vars(made.pipe.image_processor)
    assert all(".attentions.0." in name for name in tc.layer_names)
    tc = trace(made.pipe, low_memory=True).hook()
    with pytest.raises(ValueError, match="hook must be called once"):
        tc.hook()
    made(seed=2, batch=1)
    tc.unhook()
    with pytest.raises(ValueError, match="unhook must be called after hook"):
        tc.unhook()
    assert torch.equal(tc.compute_global_heat_map().heat_maps, last)


def test_each_heads_sums_are_those_of_daam(numbers, daam):
    tc, _ = daam
    found = daam_numbers.heads(tc, len(tc.compute_global_heat_map().heat_maps))
    assert found["keys"].tolist() == numbers["heads keys"].tolist()
    np.testing.assert_allclose(found["sums"], numbers["heads sums"], atol=1e-5)
    assert np.abs(found["sums"] - numbers["heads sums"][::-1]).max() > 1e-2
    raw = tc.all_heat_maps
    assert (raw.factors(), raw.layers(), raw.heads()) == ({2, 4}, set(range(6)), set(range(4)))
    raw.update(2, 0, 0, torch.ones(3, 2, 2))
    raw.update(2, 0, 0, torch.ones(3, 2, 2))
    assert raw.ids_to_heatmaps[2, 0, 0].unique().tolist() == [2]
    raw.clear()
    assert not list(raw)


def test_words_and_relations_are_those_of_daam(numbers, daam):
    with daam_numbers.small_parser():
        daam_numbers.same(daam_numbers.syntax(i2am.compat.daam, daam[0].compute_global_heat_map()), numbers, "run")


def test_experiments_are_those_of_daam(numbers, daam, tmp_path):
    """The folder's files, what is read from it in which way, and what stays behind."""
    daam_numbers.same(daam_numbers.experiment(i2am.compat.daam, daam[0], tmp_path), numbers, "folder")
    with pytest.raises(ValueError, match=r"generation\.safetensors, which is not there"):
        GenerationExperiment.load(tmp_path / "one")


def test_experiments_survive_a_folder(tmp_path, daam):
    tc, image = daam
    experiment = tc.to_experiment(tmp_path, seed=7, id="one", subtype="first")
    assert experiment.save(heat_maps=False) == tmp_path / "one" / "first"
    back = GenerationExperiment.load(tmp_path / "one", subtype="first")
    assert (back.prompt, back.seed, back.image.size, back.annotations) == (PROMPT, 7, image.size, None)
    (again,) = GenerationExperiment.load(tmp_path / "one", all_subtypes=True)
    theirs = tc.compute_global_heat_map().compute_word_heat_map("striped")
    for heat in (back.heat_map(), again.heat_map(tc.pipe.tokenizer), GlobalHeatMap(tc.pipe.tokenizer, PROMPT, back.global_heat_map)):
        assert torch.equal(heat.compute_word_heat_map("striped").heatmap, theirs.heatmap)
    made = GenerationExperiment(back.image, back.global_heat_map, PROMPT, tokenizer=tc.pipe.tokenizer)  # as DAAM's own scripts make one
    assert torch.equal(made.heat_map().compute_word_heat_map("striped").heatmap, theirs.heatmap)
    assert back.save(tmp_path / "two", heat_maps=False) == tmp_path / "two" / "one" / "first"
    (tmp_path / "one" / "first" / "generation.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="damaged or no safetensors"):
        GenerationExperiment.load(tmp_path / "one", all_subtypes=True)
    tc.maps.save(tmp_path / "run.safetensors")
    with pytest.raises(ValueError, match=r"i2am daam 1.*i2am\.load"):
        GlobalHeatMap.load(tmp_path / "run.safetensors")


def test_overlays_have_the_image_s_height_and_width(tmp_path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from PIL import Image

    map = WordHeatMap(torch.linspace(0, 1, 12).view(4, 3), "dog")
    photo = Image.new("RGB", (30, 40), "red")
    assert map.expand_as(photo).shape == (40, 30)
    map.plot_overlay(photo, out_file=tmp_path / "dog.png", threshold=0.5)
    under, over = (drawn.get_array() for drawn in pyplot.gca().images)
    assert pyplot.gca().get_title() == "dog"
    assert (tmp_path / "dog.png").stat().st_size > 1000
    assert set(np.unique(under)) == {0, 1}  # the mask
    np.testing.assert_allclose(over[..., 3], 1 - under)
    assert map.compute_ioa(WordHeatMap(torch.ones(8, 6))) == pytest.approx(1.0)
    pyplot.close("all")


def test_what_is_wrong_is_said(daam):
    tc, _ = daam
    heat = tc.compute_global_heat_map()
    for ask, message in {
        lambda: heat.compute_word_heat_map("zebra"): "'zebra'",
        lambda: heat.compute_word_heat_map("cat", word_idx=70): r"word_idx and offset_idx must be among the",
        lambda: tc.compute_global_heat_map(layer_idx=6): r"layer_idx must be below 6, got 6\. See tc\.layer_names",
        lambda: tc.compute_global_heat_map(head_idx=4): r"head_idx must be below 4, got 4",
        lambda: tc.compute_global_heat_map(prompt=PROMPT + " and a cat" * 9): r"prompt must be one of the run's",
        lambda: trace(tc.pipe, save_heads=True): r"load_heads and save_heads must be left out, got .* i2am\.hold",
        lambda: trace(tc.pipe).compute_global_heat_map(): r"nothing was traced",
    }.items():
        with pytest.raises(ValueError, match=message):
            ask()


def test_attention_map_diffusers_loop_in_our_words(tmp_path):
    """The migration that the documentation shows: a picture for every word of every prompt."""
    made = pipelines.sd15()
    prompts = made.kwargs(batch=2)["prompt"]
    with i2am.trace(made.pipe, words=True, groups=1) as run:
        images = made.pipe(prompts, num_inference_steps=1, height=64, width=64).images
    for i, image in enumerate(images):
        for word, map in run.maps[i].words().items():
            overlay(image, map)[0].save(tmp_path / f"{i}-{word}.png")
    assert {path.name for path in tmp_path.iterdir()} == {f"{i}-{w}.png" for i in (0, 1) for w in run.maps.prompts[i].words}
