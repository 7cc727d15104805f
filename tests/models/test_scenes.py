"""The small text-to-image pipeline with random weights: it behaves as diffusers' own do, and the maps of its words are the attention's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import oracle
import pytest
import torch
from diffusers import EulerDiscreteScheduler
from families import close, single
from scene_model import PROMPTS, SIZE, STEPS, TINY, run, tiny

import i2am
from i2am.data.scenes.grammar import VOCABULARY
from i2am.maps.prompt import Prompt
from i2am.models import scenes
from i2am.models.scenes.pipeline import SmallTextPipeline
from i2am.models.scenes.text import LENGTH, tokenizer

pytestmark = pytest.mark.usefixtures("on_the_cpu")


# Words


def test_a_token_is_a_word_and_its_map_is_found() -> None:
    words = tokenizer()
    ids = words(PROMPTS[0], padding="max_length", return_tensors="pt").input_ids[0]
    assert len(ids) == LENGTH
    prompt = Prompt.from_ids(ids, words, PROMPTS[0])
    assert prompt.words == ("a", "red", "circle", "left", "of", "blue", "square")
    assert [prompt.find(word) for word in ("red", "circle", "a", "left of", "ring")] == [[[2]], [[3]], [[1], [6]], [[4, 5]], []]
    assert words("A Red  CIRCLE").input_ids == words("a red circle").input_ids
    assert tiny().words == list(VOCABULARY)


def test_a_token_looks_for_the_sentence_and_brings_its_phrase() -> None:
    """What attention brings of a word depends on the word before it alone; what it looks for on all; padding is nothing to either."""
    pipe = tiny()
    looked, brought = (
        pipe.text_encoder(pipe.ids(["a red circle left of a square", "a blue circle above a red square"])).detach().chunk(2, 2)
    )
    circle, red, square = (0, 3), (0, 2), (0, 7)
    assert not torch.equal(brought[circle], brought[1, 3])  # red circle, blue circle
    other = pipe.text_encoder(pipe.ids(["a small red circle and a square on the left"])).detach().chunk(2, 2)
    assert torch.equal(other[1][0, 4], brought[circle])
    assert torch.equal(other[1][0, 7], brought[square])
    assert (other[0][0, 4] - looked[circle]).abs().max() > 1e-3
    weight, ids = pipe.text_encoder.word.weight, pipe.ids(["a red"])[0]
    assert torch.equal(brought[red], weight[ids[2]] + weight[ids[1]])
    assert (looked[0, 9:] == 0).all()


# Painting


def test_prompts_of_a_batch_are_painted_as_alone() -> None:
    pipe = tiny()
    each = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    both = run(pipe, PROMPTS, generator=each, guidance_scale=2.0)
    assert both.shape == (2, 3, *SIZE)
    for i, prompt in enumerate(PROMPTS):
        torch.testing.assert_close(both[i : i + 1], run(pipe, prompt, seed=3 + i, guidance_scale=2.0), rtol=0, atol=1e-5)
    assert (run(pipe, PROMPTS[0]) - run(pipe, PROMPTS[1])).abs().max() > 1e-4
    twice = run(pipe, PROMPTS, num_images_per_prompt=2)
    assert len(twice) == 4


def test_guidance_is_away_from_the_negative_prompt() -> None:
    pipe = tiny()
    noise = torch.randn(1, 48, *TINY)
    without = run(pipe, "", latents=noise)
    assert torch.equal(run(pipe, guidance_scale=0.5, latents=noise), run(pipe, latents=noise))
    torch.testing.assert_close(run(pipe, "", negative_prompt="a ring", guidance_scale=2.0, latents=noise),
                               run(pipe, [""], negative_prompt=["a ring"], guidance_scale=2.0, latents=noise))  # fmt: skip
    torch.testing.assert_close(run(pipe, "a ring", negative_prompt="a ring", guidance_scale=5.0, latents=noise),
                               run(pipe, "a ring", latents=noise), rtol=0, atol=1e-5)  # fmt: skip
    assert (run(pipe, "a ring", guidance_scale=5.0, latents=noise) - without).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["pt", "np", "pil"])
def test_a_picture_is_where_it_begins(kind: str) -> None:
    """Of little strength there is one step, and little is changed by a model that sees the picture as it is."""
    pipe, given = tiny(), torch.rand(1, 3, *SIZE)
    forms = {"pt": given, "np": given[0].permute(1, 2, 0).numpy(), "pil": pipe.numpy_to_pil(given.permute(0, 2, 3, 1).numpy())}
    noise = torch.randn(1, 48, *TINY)
    found = run(pipe, image=forms[kind], strength=0.2, latents=noise, num_inference_steps=5)
    clean = scenes.pipeline.patches(given * 2 - 1)
    timestep = pipe.scheduler.timesteps[-1:]
    noisy = pipe.scheduler.add_noise(clean, noise, timestep)
    expected = pipe.unet(noisy, timestep, encoder_hidden_states=pipe.encode_prompt(PROMPTS[0])).sample
    expected = (scenes.pipeline.pictures(expected.clamp(-1, 1)) / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3 if kind == "pil" else 1e-5)
    whole = run(pipe, image=given, strength=1.0, latents=noise, num_inference_steps=5)
    assert (whole - found).abs().max() > 1e-2


def test_other_schedulers_paint_from_noise_and_from_pictures() -> None:
    pipe = tiny()
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config, prediction_type="epsilon")
    for options in ({}, {"image": torch.rand(1, 3, *SIZE), "strength": 0.5}):
        with i2am.trace(pipe, words=True) as traced:
            assert run(pipe, num_inference_steps=4, **options).isfinite().all()
        assert traced.maps.steps == (2 if options else 4)


WRONG: dict[str, tuple[Any, dict[str, Any], str]] = {
    "unknown words": (
        "a red dog on Mars",
        {},
        r"prompt must be of words that this small model knows \(circle, .*\), got dog, mars in 'a red",
    ),
    "too many words": ("a " * 19, {}, r"prompt must be of at most 18 words, got 19"),
    "no prompt": ([], {}, "prompt must be a prompt, or a list of them"),
    "no text": ([3], {}, "prompt must be a prompt, or a list of them"),
    "negative": ("a ring", {"negative_prompt": "ugly"}, "negative_prompt must be of words .*, got ugly"),
    "negatives": ("a ring", {"negative_prompt": ["a", "a"]}, "negative_prompt must be one, or 1, .* got 2"),
    "height": ("a ring", {"height": 512}, "height and width must be 24 x 32, got 512 x None"),
    "picture": ("a ring", {"image": torch.rand(3, 8, 8)}, r"image must be 24 x 32 pixels .*, got 8 x 8"),
    "no picture": ("a ring", {"image": []}, "image must be at least one picture"),
    "pictures": ("a ring", {"image": torch.rand(2, 3, *SIZE)}, "image must be 1 or 1"),
    "strength": ("a ring", {"image": torch.rand(3, *SIZE), "strength": 0}, "strength must be above 0"),
    "each": ("a ring", {"num_images_per_prompt": 0}, "num_images_per_prompt must be"),
    "output": ("a ring", {"output_type": "latent"}, "output_type must be"),
    "steps": ("a ring", {"num_inference_steps": 0}, "num_inference_steps must be"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_painted_is_refused(wrong: str) -> None:
    prompt, options, message = WRONG[wrong]
    with pytest.raises(ValueError, match="^i2am: " + message):
        run(tiny(), prompt, **options)


def test_the_studies_are_told_before_anything_is_painted() -> None:
    pipe = tiny()
    pipe.check_prompt(PROMPTS[0])
    with pytest.raises(ValueError, match=r"^i2am: prompt must be of words .*, got dog in 'a dog'"):
        pipe.check_prompt("a dog")


# Traced


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("image", [False, True])
def test_word_maps_equal_the_stored_attention(guided: bool, image: bool) -> None:
    """Nothing is said but the pipeline: the prompts, the rows and the grids are its own declaration."""
    pipe = tiny()
    options: dict[str, Any] = {"guidance_scale": 3.0 if guided else 1.0, "negative_prompt": "a red ring"}
    options |= {"image": torch.rand(1, 3, *SIZE), "strength": 1.0} if image else {}
    watched = oracle.recorded(pipe.unet, pipe.scheduler, lambda name: name.endswith("attn2"))
    with i2am.trace(pipe, words=True, groups=1) as traced, watched as calls:
        run(pipe, PROMPTS, **options)
    words = traced.maps.words()
    assert words.image(0).prompts[0].text == PROMPTS[0]
    assert set(words.image(1)) == {"a", "big", "ring"}
    assert len(traced.maps.layers) == 5
    for sums in traced.maps.sums:
        stored = oracle.of(calls, sums.layer)
        where = {"rows": slice(2 if guided else 0, None), "words": (0, LENGTH), "tokens": traced.maps.columns, "groups": 1, "steps": STEPS}
        truth, lower = (oracle.word_maps(calls, **where) for calls in (stored, [single(call) for call in stored]))
        assert sums.generated_grid == (TINY if "up_blocks.1" in sums.layer else (TINY[0] // 2, TINY[1] // 2))
        close(sums.words, truth, lower, stored, f"words of {sums.layer}")


def test_a_trace_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("i2am_kernels.streaming.TILE_BYTES", 0)
    pipe = tiny()
    plain = run(pipe, PROMPTS, guidance_scale=2.0)
    with i2am.trace(pipe, words=["circle", "ring"]) as traced:
        assert torch.equal(run(pipe, PROMPTS, guidance_scale=2.0), plain)
    assert traced.maps.words().partial("ring")[1].isfinite().all()


# Saved


def test_a_saved_pipeline_paints_the_same(tmp_path: Path) -> None:
    pipe = tiny()
    pipe.save_pretrained(tmp_path)
    for again in (scenes.load(tmp_path), SmallTextPipeline.from_pretrained(tmp_path)):
        again.set_progress_bar_config(disable=True)
        assert torch.equal(run(again, guidance_scale=2.0), run(pipe, guidance_scale=2.0))


def test_folders_that_hold_no_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^i2am: the weights of the small model must be .*train-scenes"):
        scenes.load(tmp_path)
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(ValueError, match=r"^i2am: the model in .* cannot be read .*train-scenes"):
        scenes.load(tmp_path)
