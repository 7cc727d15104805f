"""The maps of a prompt's parsed words, and of the pairs of them that depend on each other."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from i2am.compat.daam_words import WordHeatMap
from i2am.language.parser import parser


@dataclass
class ParsedHeatMap:
    """A word's map and its token, spaCy's: `token.pos_`, `token.lemma_` ..."""

    word_heat_map: WordHeatMap
    token: Any


@dataclass
class SyntacticHeatMapPair:
    """The maps of two words of which one depends on the other. relation: the parser's label, ClearNLP's for spaCy's English models."""

    head_heat_map: WordHeatMap
    dep_heat_map: WordHeatMap
    head_text: str
    dep_text: str
    relation: str


@functools.lru_cache(maxsize=100_000)
def cached_nlp(prompt: str, type: str | None = None) -> Any:
    """The prompt parsed by spaCy with this model, or the best that is installed; none is downloaded."""
    return parser(type)(prompt)


def parsed_heat_maps(prompt: str, compute: Callable[[str], WordHeatMap]) -> Iterator[ParsedHeatMap]:
    """Every token of the parser that the prompt has as a whole word, in its order."""
    tokens, maps = cached_nlp(prompt), mapped(prompt, compute)
    for token in tokens:
        if token.text in maps:
            yield ParsedHeatMap(maps[token.text], token)


def dependency_relations(prompt: str, compute: Callable[[str], WordHeatMap]) -> Iterator[SyntacticHeatMapPair]:
    """Every dependency but the root's, of tokens that are both whole words of the prompt, in the dependents' order."""
    tokens, maps = cached_nlp(prompt), mapped(prompt, compute)
    for token in tokens:
        if token.dep_ != "ROOT" and token.text in maps and token.head.text in maps:
            yield SyntacticHeatMapPair(maps[token.head.text], maps[token.text], token.head.text, token.text, token.dep_)


def mapped(prompt: str, compute: Callable[[str], WordHeatMap]) -> dict[str, WordHeatMap]:
    """The maps by the tokens' texts; those with letters that have none are named in a warning."""
    maps, lacking = dict[str, WordHeatMap](), list[str]()
    for text in dict.fromkeys(token.text for token in cached_nlp(prompt)):
        try:
            maps[text] = compute(text)
        except ValueError:
            lacking.append(text)
    if named := [text for text in lacking if any(letter.isalnum() for letter in text)]:
        warnings.warn(f"i2am: like DAAM, this leaves out what is no word of the prompt: {', '.join(named)}.", stacklevel=3)
    return maps
