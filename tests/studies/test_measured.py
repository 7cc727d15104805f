"""A parsed word finds its map by its text and its place; what finds none is counted."""

from __future__ import annotations

from collections import Counter

import torch

from i2am.language.parsed import Parsed
from i2am.language.sentences import Edge, Sentence, Token
from i2am.maps.prompt import Prompt
from i2am.maps.words import WordMaps
from i2am.score.relations import CONVENTIONS, Overlap
from i2am.studies.measured import COREFERENT, RELATION, Left, TokenMaps, Wanted, measure

TOKENS = ("<|startoftext|>", "the</w>", "dog</w>", "saw", "s</w>", "the</w>", "Dog</w>", "don</w>", "'t</w>", "<|endoftext|>")


def words() -> WordMaps:
    """One map a token: token n is 1 in row n alone, so that a mean of maps tells which they were."""
    prompt = Prompt("the dog saws the Dog don't", TOKENS, tuple(token.startswith("<|") for token in TOKENS))
    return WordMaps([prompt], range(len(TOKENS)), torch.eye(len(TOKENS))[None, :, :, None].repeat(1, 1, 1, 2))


def parse(text: str) -> Parsed:
    tokens = tuple(Token(i, word, word, "X", 0 if i == 1 else 1, "dep") for i, word in enumerate(text.split(), 1))
    return Parsed.of([Sentence(text, tokens)])


def rows(maps: TokenMaps, place: int) -> list[int]:
    """The tokens that a word's map is the mean of."""
    return torch.nonzero(maps.maps[maps.at[place]][:, 0]).flatten().tolist()


def test_each_word_has_its_own_place_and_daams_words_share_theirs() -> None:
    parsed = parse("the dog saws the Dog do n't")
    left = Left()
    own, merged = TokenMaps(words(), parsed, False, left), TokenMaps(words(), parsed, True)
    assert [rows(own, place) for place in range(5)] == [[1], [2], [3, 4], [5], [6]]
    assert [rows(merged, place) for place in range(5)] == [[1, 5], [2, 6], [3, 4], [1, 5], [2, 6]]
    assert own.maps[own.at[2]].max() == 0.5
    assert not {5, 6} & own.at.keys()
    assert left.words == Counter({"do": 1, "n't": 1})
    assert not left.merged


def test_words_that_the_model_reads_more_often_than_the_parser_share_a_map() -> None:
    left = Left()
    maps = TokenMaps(words(), parse("the dog saws"), False, left)
    assert rows(maps, 0) == [1, 5]
    assert left.merged == Counter({"the": 1, "dog": 1})


def test_pairs_are_measured_or_counted() -> None:
    parsed, left = parse("the dog saws the Dog do n't"), Left()
    wanted = [Wanted(RELATION, "a", 1, 4), Wanted(COREFERENT, "", 1, 4), Wanted(RELATION, "b", 1, 5), Wanted(RELATION, "c", 2, 1)]
    found = list(measure("x", words(), (10, 2), parsed, wanted, list(CONVENTIONS.values()), left))
    assert [(one.prompt, one.wanted.name, one.head, one.dependent) for one in found] == [
        ("x", "a", "dog", "Dog"), ("x", "", "dog", "Dog"), ("x", "c", "saws", "dog")]  # fmt: skip
    assert left.pairs == 1
    apart, alike = Overlap(0, 0, 0), Overlap(1, 1, 1)
    assert found[0].overlaps == {"paper": apart, "notebook": alike}  # one map for both, as in the notebook
    assert found[1].overlaps == {"paper": apart, "notebook": apart}
    assert not left.empty.total()


def test_empty_masks_are_counted() -> None:
    left = Left()
    faint = words()
    faint.maps *= 0.1
    list(measure("x", faint, (10, 2), parse("the dog"), [Wanted(RELATION, "a", 0, 1)], list(CONVENTIONS.values()), left))
    assert left.empty == Counter({"notebook": 1})


def test_edges_are_places_among_all_words() -> None:
    assert parse("the dog saws").edges == (Edge(0, 1, "dep"), Edge(0, 2, "dep"))
