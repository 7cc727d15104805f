"""CoNLL-U: what is read of it, what is written, and how its faults are named."""

import pytest

from i2am.language.conllu import read_conllu, sentences, to_conllu, write_conllu
from i2am.language.sentences import Edge, Sentence, Token

DOGS = """# newdoc id = 0007
# sent_id = 0007-1
# text = I don't see dogs.
1\tI\tI\tPRON\tPRP\t_\t4\tnsubj\t4:nsubj\tCoref=me
2-3\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
2\tdo\tdo\tAUX\tVBP\t_\t4\taux\t4:aux\t_
3\tn't\tnot\tPART\tRB\t_\t4\tadvmod\t4:advmod\t_
4\tsee\tsee\tVERB\tVB\t_\t0\troot\t0:root\t_
5\tdogs\t_\tNOUN\tNNS\t_\t4\tobj\t4:obj|5.1:dep\tSpaceAfter=No
5.1\tthing\t_\t_\t_\t_\t_\t_\t_\t_
6\t.\t.\tPUNCT\t.\t_\t4\tpunct\t4:punct\t_

1\tDogs\tdog\tNOUN\t_\t_\t0\troot\t_\t_
"""


def line(*columns: str) -> str:
    return "\t".join([*columns, *"_" * 10][:10])


def test_words_heads_ranges_empty_nodes_and_documents_are_read():
    first, second = sentences(DOGS)
    assert (first.id, first.document, first.text, first.lost) == ("0007-1", "0007", "I don't see dogs.", 1)
    assert [token.text for token in first.tokens] == ["I", "do", "n't", "see", "dogs", "."]
    assert first.tokens[0].coreferent == "me"
    assert first.tokens[4] == Token(5, "dogs", "dogs", "NOUN", 4, "obj")
    assert first.enhanced == (Edge(4, 1, "nsubj"), Edge(4, 2, "aux"), Edge(4, 3, "advmod"), Edge(4, 5, "obj"), Edge(4, 6, "punct"))
    assert (second.id, second.document, second.text) == ("", "0007", "Dogs")


def test_a_text_that_is_not_given_is_put_together_of_the_words_as_written():
    without = "\n".join(one for one in DOGS.split("\n") if not one.startswith("# text"))
    assert sentences(without)[0].text == "I don't see dogs."


def test_what_is_written_is_read_again(tmp_path):
    tokens = (
        Token(1, "a", "a", "DET", 2, "det"),
        Token(2, "ring", "ring", "NOUN", 0, "root", "x"),
        Token(3, "!", "!", "PUNCT", 2, "punct"),
    )
    parsed = [Sentence("a ring!", tokens, "one", "d"), Sentence("a ring !", tokens, "two", "d", (Edge(2, 1, "det"), Edge(2, 3, "punct"))),
              Sentence("a ring!", tokens, "three")]  # fmt: skip
    assert read_conllu(write_conllu(tmp_path / "a.conllu", parsed)) == parsed
    assert "SpaceAfter=No" in to_conllu(parsed[:1])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"CoNLL-U with at least one sentence, got none"),
        ("1 a a", r"line 1 of the text must be ten columns, got 1"),
        (line("2", "a", "a", "DET", "_", "_", "0", "root"), r"line 1 .* the number 1, got '2'"),
        ("# x\n" + line("1", "a", "a", "DET", "_", "_", "3", "det"), r"line 2 .* a head from 0 to 1, got '3'"),
        (line("1", "a", "a", "DET", "_", "_", "_", "_"), r"a head from 0 to 1, got '_'"),
        (line("1", "a", "a", "DET", "_", "_", "1", "det"), r"another word as the head, got the word itself"),
        ("\n".join(line(str(i), "a", "a", "X", "_", "_", str(3 - i), "dep") for i in (1, 2)), r"a tree, got a circle at 'a'"),
        (line("1", "a", "a", "DET", "_", "_", "0", "root", "0"), r"relations such as 4:nmod:of"),
        ("\n".join([line("1", "a", "a", "X", "_", "_", "0", "root"), line("x", "b")]), r"line 2 .* got 'x'"),
        (line("1-2", "ab"), r"at least one word"),
    ],
)  # fmt: skip
def test_faults_are_named_by_their_line(text, said):
    with pytest.raises(ValueError, match=said):
        sentences(text)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ValueError, match=r"a file that can be read"):
        read_conllu(tmp_path / "none.conllu")
    (tmp_path / "a.conllu").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"text in UTF-8, got other bytes at 0"):
        read_conllu(tmp_path / "a.conllu")
