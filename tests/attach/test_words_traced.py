"""Words of every family that reads text: the maps equal the oracle's, and the prompt's own words are found."""

from __future__ import annotations

import inspect

import joint
import oracle
import pipelines
import pytest
import torch
from families import GROUPS, STEPS, TERMS, Family, close, observed, rows, single
from tolerance import alike

import i2am

WORDS = {
    "sd15": Family(pipelines.sd15),
    "sd2": Family(pipelines.sd2),
    "sdxl": Family(pipelines.sdxl),
    "instruct-pix2pix": Family(pipelines.instruct_pix2pix, conditional_first=True),
    "upscaler": Family(pipelines.upscaler),
    "flux": Family(lambda: joint.flux(distilled=True), layers=".*attn", guided=(False,)),
    "sd3": Family(lambda: joint.sd3(words=True), layers=".*attn"),
}


@pytest.mark.parametrize(("name", "guided"), [(name, guided) for name, family in WORDS.items() for guided in family.guided])
@pytest.mark.parametrize(("batch", "size"), [(1, 1), (3, 0)])
def test_words_equal_the_stored_attention(name: str, batch: int, size: int, guided: bool) -> None:
    family = WORDS[name]
    maps, calls, case = observed(family, batch, size, guided, words=True)
    tokens = case.facts["text_tokens"]
    for sums in maps.sums:
        run = oracle.of(calls, sums.layer)
        keys, queries = run[0].key.shape[2], run[0].query.shape[2]
        words = (keys - tokens, keys) if name == "sd3" else (0, tokens)
        canvas = {"sd3": (0, keys - tokens), "flux": (tokens, keys)}.get(name, (0, queries))
        where = {"rows": rows(family, run[0], batch), "generated": canvas, "words": words, "tokens": maps.columns,
                 "groups": GROUPS, "steps": STEPS}  # fmt: skip
        truth = oracle.word_maps(run, **where)
        close(sums.words, truth, oracle.word_maps([single(call) for call in run], **where), run, f"words of {sums.layer}")
    assert len(maps.prompts) == batch
    for i in range(batch):
        image = maps[i].words(case.kwargs(batch=batch)["prompt"][i])
        assert set(image) == set(maps.prompts[i].words)
        for word in image:
            pieces = [p for found in maps.prompts[i].positions(word) for p in found]
            largest = max((s for s in maps.sums), key=lambda s: s.words.shape[-1])
            assert image[word].shape == (1, *largest.generated_grid)
            columns = [maps.columns.index(p) for p in pieces]
            alone = [[s.words[i : i + 1, :, :, n].unflatten(-1, s.generated_grid).double() for s in maps.sums] for n in columns]
            expected = torch.stack([oracle.level("unified", piece, largest.generated_grid) for piece in alone]).mean(0)
            alike(image[word].double().flatten(-2), expected.flatten(-2), TERMS)


def test_a_list_of_words_records_their_tokens_alone() -> None:
    case = pipelines.sd15()
    with i2am.trace(case.pipe, groups=1, words=True) as run:
        case(batch=2)
    everything = run.maps
    word = next(w for w in everything.prompts[0].words if w in everything.prompts[1])
    with i2am.trace(case.pipe, groups=1, words=[word]) as run:
        case(batch=2)
    some = run.maps
    assert some.sums[0].words.shape[3] < everything.sums[0].words.shape[3]
    assert torch.equal(some.words()[word], everything.words()[word])
    with pytest.raises(ValueError, match="'zebra'"), i2am.trace(case.pipe, groups=1, words=["zebra"]):
        case(batch=2)
    with pytest.raises(ValueError, match="words must be True or a list of words"):
        i2am.trace(case.pipe, words="shirt")


def test_prompt_embeddings_are_words_once_the_prompt_is_told() -> None:
    case = pipelines.sd15()
    prompt = case.kwargs()["prompt"]
    with i2am.trace(case.pipe, groups=1, words=True) as run:
        case(guided=False)
    expected = run.maps.words()
    embeds, _ = case.pipe.encode_prompt(prompt, "cpu", 1, False)
    keywords = {**case.kwargs(guided=False), "prompt": None, "negative_prompt": None, "prompt_embeds": embeds}
    with i2am.trace(case.pipe, groups=1, words=True) as run:
        case.pipe(**keywords)
    with pytest.raises(ValueError, match=r"embeddings alone.*maps\.words\(prompt\)"):
        run.maps.words()
    found = run.maps.words(prompt[0])
    for word in expected:
        assert torch.equal(found[word], expected[word])
    with pytest.raises(ValueError, match="words must be True where the prompt cannot be seen"), i2am.trace(case.pipe, words=["red"]):
        case.pipe(**keywords)


def test_words_survive_a_file(tmp_path) -> None:
    case = pipelines.sd15()
    with i2am.trace(case.pipe, groups=2, words=True) as run:
        case(batch=2)
    back = i2am.load(run.maps.save(tmp_path / "run.safetensors"))
    for word in run.maps[1].words():
        assert torch.equal(back[1].words()[word], run.maps[1].words()[word])
    assert torch.equal(back.words(heads=[0], layers="up*", groups=1)["a"], run.maps.words(heads=[0], layers="up*", groups=1)["a"])


@pytest.mark.parametrize("build", [lambda: pipelines.ip_adapter("full"), joint.flux_kontext])
def test_words_and_a_reference_in_one_run(build) -> None:
    case = build()
    with i2am.trace(case.pipe, groups=2, words=True) as run:
        case(batch=2)
    both = run.maps
    with i2am.trace(case.pipe, groups=2) as run:
        case(batch=2)
    alone = run.maps
    assert both.references == alone.references == ["reference"]
    for direction in ("r2g", "g2r"):
        torch.testing.assert_close(both.unified(direction), alone.unified(direction), rtol=1e-4, atol=1e-7)
        assert both.names(direction) == alone.names(direction)
    assert both.names("words") == both.layers


def test_a_negative_prompt_is_never_taken_for_the_prompt() -> None:
    case = pipelines.sd15()
    embeds, _ = case.pipe.encode_prompt("a red shirt", "cpu", 1, False)
    keywords = {**case.kwargs(), "prompt": None, "prompt_embeds": embeds, "negative_prompt": ["a plain dog"]}
    with i2am.trace(case.pipe, groups=1, words=True) as run:
        case.pipe(**keywords)
    assert run.maps.prompts == ()
    assert set(run.maps.words("a red shirt")) == {"a", "red", "shirt"}


def test_a_prompt_of_a_failed_call_is_forgotten() -> None:
    case = pipelines.sd15()
    with i2am.trace(case.pipe, groups=1, words=True) as run:
        with pytest.raises(ValueError, match="latents"):
            refused(case)
        case.pipe(**{**case.kwargs(), "prompt": ["a red shirt"]})
    assert [p.text for p in run.maps.prompts] == ["a red shirt"]


def refused(case) -> None:
    """A call that dies after its prompt was encoded, before its first step."""
    original = case.pipe.prepare_latents

    def prepare_latents(*args, **kwargs):
        raise ValueError("latents")

    case.pipe.prepare_latents = prepare_latents
    try:
        case.pipe(**{**case.kwargs(), "prompt": ["a blue dog"]})
    finally:
        case.pipe.prepare_latents = original


def test_the_encoder_that_is_read_is_the_one_whose_tokens_are_keys() -> None:
    case = joint.flux(distilled=True)
    with i2am.trace(case.pipe, groups=1, words=True) as run:
        case.pipe(**{**case.kwargs(guided=False), "max_sequence_length": 77})
    assert not any("startoftext" in token for token in run.maps.prompts[0].tokens)
    case = joint.sd3(words=True)
    with i2am.trace(case.pipe, groups=1, words=True) as run:
        case.pipe(**{**case.kwargs(), "max_sequence_length": 77})
    assert sum("startoftext" in token for token in run.maps.prompts[0].tokens) == 1


def test_self_attention_of_the_image_alone_has_no_words() -> None:
    case = joint.sd3(words=True, dual=True)
    with i2am.trace(case.pipe, groups=1, words=True) as run:
        case()
    assert run.maps.layers
    assert not any(name.endswith("attn2") for name in run.maps.layers)
    assert len(run.maps.words()) > 0


def test_further_calls_of_the_model_are_not_recorded() -> None:
    """Skip-layer guidance calls the model once more in some steps."""
    case = joint.sd3(words=True)
    with i2am.trace(case.pipe, groups=2, words=True) as run:
        case(steps=4)
    plain = run.maps
    more = {"skip_guidance_layers": [1], "skip_layer_guidance_start": 0.01, "skip_layer_guidance_stop": 0.9}
    if "skip_guidance_layers" not in inspect.signature(case.pipe.__call__).parameters:
        pytest.skip("this diffusers has no skip-layer guidance")
    with i2am.trace(case.pipe, groups=2, words=True) as run:
        case.pipe(**{**case.kwargs(steps=4), **more})
    for ours, theirs in zip(run.maps.sums, plain.sums):
        torch.testing.assert_close(ours.words.sum((3, 4)), theirs.words.sum((3, 4)), rtol=0.2, atol=0)
