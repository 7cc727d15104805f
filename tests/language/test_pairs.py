"""Pairs of words without a relation, and of words that name one thing."""

import pytest

from i2am.language.pairs import coreferent, read_coreference, sampled, unrelated
from i2am.language.parsed import Parsed
from i2am.language.sentences import Sentence, Token

TEXT = "a/DET/2/det dog/NOUN/3/nsubj sees/VERB/0/root a/DET/5/det Dog/NOUN/3/obj and/CCONJ/7/cc big/ADJ/5/amod"


def dogs(*marks: str) -> Parsed:
    tokens = list[Token]()
    for i, word in enumerate(TEXT.split(), 1):
        text, pos, head, name = word.split("/")
        tokens.append(Token(i, text, text.lower(), pos, int(head), name, marks[i - 1] if marks else ""))
    return Parsed.of([Sentence("a dog sees a Dog and big", tuple(tokens))])


def test_unrelated_words_are_content_words_that_nothing_joins():
    assert unrelated(dogs()) == [(1, 6), (2, 6)]  # sees and dog are joined, dog and Dog are alike, big describes the second one
    assert unrelated(dogs(), alike=[(6, 1)]) == [(2, 6)]


def test_coreferent_words_are_marked_or_repeat_a_noun():
    assert coreferent(dogs()) == [(1, 4)]
    assert coreferent(dogs("", "x", "", "x", "", "y", "x")) == [(1, 3), (1, 6), (3, 6)]


def test_samples_are_of_all_prompts_and_the_same_for_a_seed():
    pairs = {key: unrelated(dogs()) for key in "abcd"}
    found = sampled(pairs, 3, 0)
    assert sum(map(len, found.values())) == 3
    assert found == sampled(pairs, 3, 0) != sampled(pairs, 3, 1)
    every = sampled(pairs, 100, 0)
    assert {key: sorted(tuple(sorted(pair)) for pair in found) for key, found in every.items()} == pairs
    assert any(one > two for found in every.values() for one, two in found)
    assert any(one < two for found in every.values() for one, two in found)


def test_a_table_says_who_names_the_same(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text("id,first,second\nx,5,2\n")
    assert read_coreference(path, {"x": dogs()}) == {"x": [(1, 4)]}
    for text, said in (
        ("id,a\n", "a table that begins with id,first,second"),
        ("id,first,second\ny,1,2\n", "about the list's prompts, got id 'y'"),
        ("id,first,second\nx,1,8\n", r"two of the words 1:a 2:dog .*, got \['1', '8'\]"),
        ("id,first,second\nx,2,2\n", "two of the words"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=said):
            read_coreference(path, {"x": dogs()})
    with pytest.raises(ValueError, match="coreference must be a file that can be read"):
        read_coreference(tmp_path / "none.csv", {})
