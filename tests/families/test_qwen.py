"""Qwen-Image: every picture's maps and every word's equal the stored attention, several references told apart."""

from __future__ import annotations

from functools import partial
from typing import Any

import oracle
import pytest
import qwen_pipelines as qwen
import torch
from families import Family, hold, hold_words, runs
from qwen_parts import tokenizer

import i2am

REFERENCE, WIDE = 9 * 7, 5 * 11  # tokens of a tall and of a wide reference of about a million pixels
NAMED = 45  # tokens of the prompt of several references, which it numbers


def prompt(call: oracle.Call) -> int:
    """The tokens of the longest prompt of a batch, and of what the template has behind it."""
    return 19 if call.query.shape[0] == 1 else 24


def words(call: oracle.Call) -> tuple[int, int]:
    return 0, prompt(call)


def numbered(call: oracle.Call) -> tuple[int, int]:
    return 0, NAMED


def before(behind: int, call: oracle.Call) -> tuple[int, int]:
    """What is generated, in front of so many tokens of references."""
    return prompt(call), call.key.shape[2] - behind


def before_two(call: oracle.Call) -> tuple[int, int]:
    return NAMED, call.key.shape[2] - REFERENCE - WIDE


def last(count: int, behind: int, call: oracle.Call) -> tuple[int, int]:
    """So many tokens in front of so many."""
    return call.key.shape[2] - behind - count, call.key.shape[2] - behind


def tiled(call: oracle.Call) -> int:
    """The tokens of a reference of 640 by 640 pixels, or of 736 by 544; each generated layer has as many."""
    return 5 * 4 if call.query.shape[0] == 1 else 5 * 5


def twin(call: oracle.Call) -> tuple[int, int]:
    """What is generated, as large as its reference."""
    return prompt(call), (prompt(call) + call.key.shape[2]) // 2


def behind_twin(call: oracle.Call) -> tuple[int, int]:
    return twin(call)[1], call.key.shape[2]


def layers(call: oracle.Call) -> tuple[int, int]:
    return prompt(call), call.key.shape[2] - tiled(call)


def behind_layers(call: oracle.Call) -> tuple[int, int]:
    return call.key.shape[2] - tiled(call), call.key.shape[2]


HEAD, MIDDLE = "<|im_start|>user\n<image1><|vision_start|>", "<|vision_end|> <image2><|vision_start|>"  # 2.1's text around its pictures


def around(part: str, call: oracle.Call) -> tuple[int, int]:
    """Qwen-Image 2.1: [head, 10 x 6, middle, 6 x 12, prompt, generated]."""
    first = len(tokenizer().encode(HEAD))
    second = first + 10 * 6 + len(tokenizer().encode(MIDDLE))
    prompt = second + 6 * 12
    return {"image 1": (first, first + 60), "image 2": (second, prompt), "words": (prompt, call.key.shape[2] - call.query.shape[2])}[part]


JOINT = partial(Family, layers=".*attn", two_calls=True)
PICTURED = {
    "edit": JOINT(qwen.edit, generated=partial(before, REFERENCE), reference=partial(last, REFERENCE, 0), words=words),
    "edit-plus": JOINT(
        qwen.edit_plus,
        generated=before_two,
        words=numbered,
        parts={"image 1": partial(last, REFERENCE, WIDE), "image 2": partial(last, WIDE, 0)},
    ),
    "edit-inpaint": JOINT(qwen.edit_inpaint, generated=twin, reference=behind_twin, words=words),
    "layered": JOINT(qwen.layered, generated=layers, reference=behind_layers, words=words),
    "text-around": JOINT(
        qwen.text_around,
        number=5,
        words=partial(around, "words"),
        parts={name: partial(around, name) for name in ("image 1", "image 2")},
    ),
}
BLANK = {  # no reference: words alone
    "plain": JOINT(qwen.plain, generated=partial(before, 0), words=words),
    "controlled": JOINT(qwen.controlled, generated=partial(before, 0), words=words),
}


@pytest.mark.parametrize(("name", "batch", "size", "guided"), runs(PICTURED))
def test_references_equal_the_stored_attention(name: str, batch: int, size: int, guided: bool) -> None:
    hold(PICTURED[name], batch, size, guided)


@pytest.mark.parametrize(("name", "batch", "size", "guided"), runs({**PICTURED, **BLANK}, guided_batch=1))
def test_words_equal_the_stored_attention(name: str, batch: int, size: int, guided: bool) -> None:
    """Prompts of unequal lengths: those of a batch are masked where they end."""
    maps = hold_words({**PICTURED, **BLANK}[name], batch, size, guided)
    assert {"red", "shirt", "cat"} <= set(maps.prompts[0].words)


def test_layers_are_frames() -> None:
    """The whole picture and two layers: r2g has a map of each, and each is where its tokens are."""
    maps = hold(PICTURED["layered"], 1, 1, True)
    assert {s.generated_grid for s in maps.sums} == {(3, 5, 4)}
    assert {s.reference_grid for s in maps.sums} == {(5, 4)}
    assert maps.unified("r2g").shape == (1, 3, 5, 4)
    assert maps.unified("g2r").shape == (1, 5, 4)


def test_a_cache_of_keys_is_refused_and_changes_no_picture() -> None:
    """Later steps would leave out the calls of what is before the generated tokens."""
    case = qwen.text_around(cached=True)
    with pytest.raises(ValueError, match="use_kv_cache=False"), i2am.trace(case.pipe):
        case()
    torch.testing.assert_close(case(), qwen.text_around()(), rtol=1e-5, atol=1e-5)


def test_pictures_that_differ_by_row_are_refused() -> None:
    """`img_shapes` says one row's pictures, and the model takes them for all rows."""
    case = qwen.plain()

    def differing(module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**kwargs, "img_shapes": [[(1, 4, 4)], [(1, 2, 8)]]}

    with i2am.trace(case.pipe, words=True):
        case.denoiser.register_forward_pre_hook(differing, with_kwargs=True, prepend=True)
        with pytest.raises(ValueError, match="as many and as large in every row"):
            case(batch=2)


@pytest.mark.parametrize("name", sorted(PICTURED))
def test_the_conditional_call_is_the_one(name: str) -> None:
    """One step: the maps of a guided run are the unguided run's."""
    case = PICTURED[name].build()
    maps = []
    for guided in (True, False):
        with i2am.trace(case.pipe, groups=1, words=True) as run:
            case(steps=1, guided=guided)
        maps.append(run.maps)
    for one, other in zip(maps[0].sums, maps[1].sums):
        torch.testing.assert_close(one.r2g, other.r2g, rtol=1e-5, atol=1e-7)
        if one.words is not None:
            torch.testing.assert_close(one.words, other.words, rtol=1e-5, atol=1e-7)
