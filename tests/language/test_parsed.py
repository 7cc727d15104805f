"""A list's parses: by spaCy, or from a file's sentences by their names or texts."""

import pytest

from i2am.language.conllu import sentences
from i2am.language.parsed import Parsed, matched, parsed
from i2am.language.sentences import Edge, Sentence, Token


def ring(id: str = "", document: str = "", text: str = "a ring") -> Sentence:
    return Sentence(text, (Token(1, "a", "a", "DET", 2, "det"), Token(2, "ring", "ring", "NOUN", 0, "root")), id, document)


def test_words_of_all_sentences_are_one_list():
    found = Parsed.of([ring(), ring()])
    assert [word.text for word in found.words] == ["a", "ring", "a", "ring"]
    assert found.edges == (Edge(1, 0, "det"), Edge(3, 2, "det"))


def test_sentences_are_found_by_document_by_name_and_by_text():
    file = [ring("x-1", "x"), ring("x-2", "x"), ring("y"), ring(document="z", text="A  ring"), ring(document="z")]
    found = matched(file, {"x": "a ring a ring", "y": "a ring", "other": "a RING", "both": "A ring a ring"})
    assert {key: len(one.sentences) for key, one in found.items()} == {"x": 2, "y": 1, "other": 1, "both": 2}


def test_prompts_without_a_parse_are_all_named():
    with pytest.raises(ValueError, match=r"a parse of every prompt, got none for 6 prompts \(a: 'one', b: 'two', .* and 1 more\)"):
        matched([ring()], dict(zip("abcdefg", ["one", "two", "three", "four", "five", "six", "a ring"])))


def test_a_parse_of_another_text_is_refused():
    with pytest.raises(ValueError, match=r"parses of the prompts' own texts, got x: 'a ring' for 'a big ring'"):
        matched([ring("x")], {"x": "a big ring"})


def test_a_name_twice_is_refused():
    with pytest.raises(ValueError, match=r"sent_id 'x' twice"):
        matched([ring("x"), ring("x")], {})


def test_words_written_together_match_the_prompt():
    text = "1-2\tdon't\t_\t_\t_\t_\t_\t_\t_\t_\n1\tdo\tdo\tAUX\t_\t_\t0\troot\t_\t_\n2\tn't\tnot\tPART\t_\t_\t1\tadvmod\t_\t_\n"
    assert [word.text for word in matched(sentences(text), {"x": "Don't"})["x"].words] == ["do", "n't"]


def test_spacy_parses_every_sentence_of_a_prompt():
    pytest.importorskip("spacy")
    found = parsed({"x": " Two dogs  play.\nA cat sleeps. ", "y": "a ring"})
    assert [one.text for one in found["x"].sentences] == ["Two dogs play.", "A cat sleeps."]
    assert [(one.id, one.document) for one in (*found["x"].sentences, *found["y"].sentences)] == [("x-1", "x"), ("x-2", "x"), ("y", "y")]
    assert {found["x"].words[edge.dependent].text for edge in found["x"].edges if edge.name == "nsubj"} == {"dogs", "cat"}
