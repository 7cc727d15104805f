"""Z-Image: words, and Omni's references by their latents and by their features, equal the stored attention."""

from __future__ import annotations

from functools import partial

import oracle
import pytest
import torch
import zimages
from families import Family, hold, hold_words, runs

import i2am

TEXT = PICTURE = 32  # what texts and pictures are filled up to; 4 x 3 tokens of what is generated are a picture's, or 4 x 4
OMNI = 4 * TEXT  # a text before, between and behind two references, and one behind what is generated
FIRST, SECOND = OMNI + PICTURE, OMNI + 2 * PICTURE  # where the filled 4 x 6 tokens of a reference end, and the 5 x 4 of another


def tokens(call: oracle.Call) -> int:
    """Of what is generated: batch 1 is 4:3, guided or not."""
    return 4 * 3 if call.query.shape[0] < 3 else 4 * 4


def behind(start: int, call: oracle.Call) -> tuple[int, int]:
    return start, start + tokens(call)


def fixed(start: int, stop: int, call: oracle.Call) -> tuple[int, int]:
    return start, stop


PICTURED = {
    "omni": Family(
        zimages.omni,
        {"layers": "layers.*"},
        r"layers\..*attention",
        conditional_first=True,
        generated=partial(behind, SECOND),
        words=partial(fixed, 0, OMNI),
        parts={
            "image 1": partial(fixed, OMNI, OMNI + 24),
            "image 2": partial(fixed, FIRST, FIRST + 20),
            "image 1 SigLIP": partial(fixed, SECOND + PICTURE, SECOND + PICTURE + 6),
            "image 2 SigLIP": partial(fixed, SECOND + 2 * PICTURE, SECOND + 2 * PICTURE + 6),
        },
    ),
    "omni-refiner": Family(  # pictures alone
        zimages.omni,
        {"layers": "noise_refiner.*"},
        r"noise_refiner\..*attention",
        conditional_first=True,
        generated=partial(behind, SECOND - OMNI),
        parts={"image 1": partial(fixed, 0, 24), "image 2": partial(fixed, PICTURE, PICTURE + 20)},
    ),
}
READ = {
    "plain": Family(
        zimages.plain,
        layers=r"layers\..*attention",
        conditional_first=True,
        generated=partial(behind, 0),
        words=partial(fixed, PICTURE, PICTURE + TEXT),
    ),
    "omni": PICTURED["omni"],
}


@pytest.mark.parametrize(("name", "batch", "size", "guided"), runs(PICTURED))
def test_references_equal_the_stored_attention(name: str, batch: int, size: int, guided: bool) -> None:
    """The negative prompt is longer, so that its rows are laid out otherwise, and the conditional ones are filled up behind their end."""
    hold(PICTURED[name], batch, size, guided)


@pytest.mark.parametrize(("name", "batch", "size", "guided"), runs(READ, guided_batch=1))
def test_words_equal_the_stored_attention(name: str, batch: int, size: int, guided: bool) -> None:
    maps = hold_words(READ[name], batch, size, guided)
    prompt = maps.prompts[0]
    assert {"red", "shirt", "cat"} <= set(prompt.words)
    assert "endoftext" not in prompt.text
    assert [prompt.tokens[at] for found in prompt.find("shirt") for at in found] == ["Ġshirt"]


@pytest.mark.parametrize("name", ["omni", "plain"])
def test_the_conditional_row_is_the_one(name: str) -> None:
    """One step: the maps of a guided run are the unguided run's, and not those of the other rows."""
    case = READ[name].build()
    maps = {}
    for guidance, guided in (("auto", True), ("auto", False), ("uncond-cond", True)):
        if (guidance, name) == ("uncond-cond", "omni"):
            continue  # whose other rows are laid out otherwise
        with i2am.trace(case.pipe, groups=1, words=True, layers="layers.*", guidance=guidance) as run:
            case(steps=1, guided=guided)
        maps[guidance, guided] = torch.cat([s.words.flatten() for s in run.maps.sums if s.words is not None])
    plain = maps["auto", False]
    torch.testing.assert_close(maps["auto", True], plain, rtol=1e-4, atol=1e-6)
    if name == "plain":
        assert (maps["uncond-cond", True] - plain).abs().max() > 1e-3 * plain.max()


def test_rows_that_are_laid_out_otherwise_are_refused() -> None:
    """A longer prompt moves everything behind it."""
    case = zimages.omni()
    given = case.kwargs(batch=2, guided=False)
    given["prompt"] = ["a red shirt", "a red shirt and a blue cat on the dog " * 5]
    with i2am.trace(case.pipe), pytest.raises(ValueError, match="Trace one prompt at a time"):
        case.pipe(**given)


def test_guidance_that_is_cut_off_on_the_way() -> None:
    """The conditional rows go on by themselves; those of a longer negative prompt had filled them up, and the sizes change."""
    case = zimages.plain()
    cut = {"cfg_truncation": 0.5}
    with i2am.trace(case.pipe, words=True), pytest.raises(ValueError, match=r"switched off on the way.*a shorter negative prompt"):
        case.pipe(**case.kwargs(batch=2, steps=4), **cut)
    with i2am.trace(case.pipe, words=True, groups=1) as run, oracle.recorded(case.denoiser, case.scheduler) as calls:
        case.pipe(**{**case.kwargs(batch=2, steps=4), **cut, "negative_prompt": ["dog"] * 2})
    for sums in run.maps.sums:
        stored = oracle.of(calls, sums.layer)
        assert [len(call.query) for call in stored] == [4, 4, 4, 2]
        where = {"rows": slice(0, 2), "generated": (0, 16), "words": (32, 64), "tokens": run.maps.columns}
        expected = oracle.word_maps(stored, **where, groups=1, steps=4)
        assert (sums.words - expected).abs().max() <= 1e-5 * expected.max()


@pytest.mark.parametrize("inside", [False, True])
def test_a_picture_under_the_noise_is_no_reference(inside: bool) -> None:
    case = zimages.started(inside)
    with i2am.trace(case.pipe, words=True) as run:
        case()
    assert {s.source for s in run.maps.sums} == {"words"}
    with i2am.trace(case.pipe), pytest.raises(ValueError, match="no reference tokens exist"):
        case()
