"""Prompts within a template: which tokens a word has is known, and no token of the template is a word."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import klein
import pytest
import streams
import torch
from ask import Case
from parts import PROMPTS
from qwen_parts import tokenizer
from reading import chat_tokenizer
from torch import Tensor

import i2am
from i2am.maps.prompt import BYTES, Prompt

CASES: dict[str, Callable[[], Case]] = {
    "flux2": partial(klein.flux2, references=(), text=True),
    "klein": partial(klein.flux2, "Flux2KleinPipeline", (), True),
    "klein-kv": partial(klein.flux2, "Flux2KleinKVPipeline", (), True),
    "longcat": streams.longcat,
    "ovis": streams.ovis,
    "krea2": partial(streams.krea2, True),
    "ernie": streams.ernie,
    "fibo": streams.fibo,
}


def chat() -> Any:
    """A byte-level tokenizer that writes chats."""
    reads = copy.copy(tokenizer())
    reads.chat_template = "{{ messages }}"
    return reads


def places(case: Case, states: Tensor, token: int) -> list[list[int]]:
    """Where each row's text has a token, by what the reader makes of it: its own vector, turned by its place."""
    own = case.pipe.text_encoder.embedding.weight[token]
    near = torch.cosine_similarity(states.flatten(2)[..., : len(own)], own, dim=-1).abs()
    return [row.gt(0.9999).nonzero().flatten().tolist() for row in near]


@pytest.mark.parametrize("name", CASES)
def test_a_word_is_its_own_tokens(name: str) -> None:
    case = CASES[name]()
    seen: dict[str, Any] = {}
    watch = case.denoiser.register_forward_pre_hook(
        lambda module, args, kwargs: seen.update(kwargs) if not seen else None, with_kwargs=True
    )
    with i2am.trace(case.pipe, words=True) as run:
        case(batch=3, guided=True)
    watch.remove()
    states = seen.get("encoder_hidden_states", seen.get("text_bth"))[-3:]
    maps = run.maps
    assert [prompt.text for prompt in maps.prompts] == list(PROMPTS)
    reads = case.pipe.tokenizer
    for word in ("red", "dog", "cat", "plain", "on"):
        ids = reads(f" {word}", add_special_tokens=False)["input_ids"]
        assert len(ids) == 1, word
        truth = places(case, states, ids[0])
        found = [sorted(p for pieces in prompt.find(word) for p in pieces) for prompt in maps.prompts]
        inside = [[p for p in row if not prompt.special[p]] for row, prompt in zip(truth, maps.prompts)]
        assert found == inside, word
        assert any(found)
    assert "user" not in maps.prompts[0].words
    assert "assistant" not in maps.prompts[0].words


def test_the_last_place_of_the_text_is_the_prompt() -> None:
    """A template that names the prompt's word, or whole prompts: the words are those of the prompt."""
    reads = chat_tokenizer()
    text = "<|im_start|>system\na red shirt and a plain cat<|im_end|>\n<|im_start|>user\na red shirt<|im_end|>\n"
    ids = reads(text, add_special_tokens=False)["input_ids"]
    prompt = Prompt.within(ids, reads, "a red shirt")
    (place,) = prompt.find("red")
    assert place[0] > ids.index(reads.eos_token_id)
    assert not prompt.find("plain")
    assert prompt.words == ("a", "red", "shirt")


@pytest.mark.parametrize("text", ["ant", "tan", "a"])
def test_a_prompt_is_not_found_within_a_word_of_the_template(text: str) -> None:
    """ "assistant" stands behind it, of pieces among which the prompt's are."""
    reads = chat()
    ids = reads(f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n")["input_ids"]
    prompt = Prompt.within(ids, reads, text)
    assert prompt.words == (text,)
    (found,) = prompt.find(text)
    assert max(found) < ids.index(reads.convert_tokens_to_ids("<|im_end|>"))


@pytest.mark.parametrize("text", ["红猫", "é"])
def test_a_text_without_spaces_is_read_as_bytes(text: str) -> None:
    """Byte-level tokens that have no mark of a space among them, of characters that are several tokens each."""
    reads = chat()
    ids = reads(f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n")["input_ids"]
    prompt = Prompt.within(ids, reads, text)
    assert prompt.words == (text,)
    (found,) = prompt.find(text)
    assert bytes(BYTES[c] for at in found for c in prompt.tokens[at]).decode() == text
    assert Prompt("", ("▁a", "é"), (False, False)).words == ("aé",)
    assert Prompt("", ("é",), (False,)).words == ("é",)


def test_prompts_that_are_read_one_by_one() -> None:
    """Every image of a batch has its own prompt, filled up to the length of the text."""
    case = streams.bria()
    with i2am.trace(case.pipe, words=True) as run:
        case(batch=3, guided=True)
    assert [prompt.words for prompt in run.maps.prompts] == [tuple(dict.fromkeys(text.split())) for text in PROMPTS]
    assert {len(prompt.tokens) for prompt in run.maps.prompts} == {streams.READ}
