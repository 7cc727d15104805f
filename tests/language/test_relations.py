"""Relations under the paper's names: trees of spaCy's dialect are turned, universal ones stay as they are."""

import pytest

from i2am.language.parser import parser
from i2am.language.relations import edges, universal, unknown
from i2am.language.sentences import Edge, Sentence, Token


def tree(words: str) -> Sentence:
    """Words as text/POS/head/relation."""
    parts = [word.split("/") for word in words.split()]
    tokens = tuple(
        Token(i, text, {"is": "be"}.get(text, text.lower()), pos, int(head), name) for i, (text, pos, head, name) in enumerate(parts, 1)
    )
    return Sentence(" ".join(token.text for token in tokens), tokens)


def said(sentence: Sentence) -> set[str]:
    tokens = sentence.tokens
    return {f"{edge.name}({tokens[edge.head - 1].text}, {tokens[edge.dependent - 1].text})" for edge in edges(sentence)}


MAN = tree("man/NOUN/0/ROOT riding/VERB/1/acl waves/NOUN/2/dobj on/ADP/2/prep top/NOUN/4/pobj of/ADP/5/prep boards/NOUN/6/pobj")
TREES = [
    (MAN, {"acl(man, riding)", "obj(riding, waves)", "case(top, on)", "obl:on(riding, top)", "case(boards, of)", "nmod:of(top, boards)"}),
    (  # coordination as a chain; all get the first one's head
        tree("bag/NOUN/0/ROOT of/ADP/1/prep figs/NOUN/2/pobj nuts/NOUN/3/conj or/CCONJ/4/cc dates/NOUN/4/conj"),
        {
            "case(figs, of)",
            "nmod:of(bag, figs)",
            "conj:or(figs, nuts)",
            "cc(dates, or)",
            "conj:or(figs, dates)",
            "nmod:of(bag, nuts)",
            "nmod:of(bag, dates)",
        },
    ),
    (  # each with its own preposition
        tree("cat/NOUN/0/ROOT on/ADP/1/prep it/PRON/2/pobj and/CCONJ/2/cc under/ADP/2/conj them/PRON/5/pobj"),
        {"case(it, on)", "nmod:on(cat, it)", "cc(them, and)", "case(them, under)", "conj:and(it, them)", "nmod:under(cat, them)"},
    ),
    (tree("ring/NOUN/2/nsubj is/AUX/0/ROOT big/ADJ/2/acomp"), {"nsubj(big, ring)", "cop(big, is)"}),
    (
        tree("ring/NOUN/2/nsubj is/AUX/0/ROOT on/ADP/2/prep it/PRON/3/pobj"),
        {"nsubj(it, ring)", "cop(it, is)", "case(it, on)"},
    ),
    (  # one subject of two verbs
        tree("man/NOUN/2/nsubj sits/VERB/0/ROOT and/CCONJ/2/cc smiles/VERB/2/conj"),
        {"nsubj(sits, man)", "cc(smiles, and)", "conj:and(sits, smiles)", "nsubj(smiles, man)"},
    ),
    (  # passive, agent, possessive
        tree("ball/NOUN/3/nsubjpass was/AUX/3/auxpass thrown/VERB/0/ROOT by/ADP/3/agent boy/NOUN/7/poss 's/PART/5/case dad/NOUN/4/pobj"),
        {
            "nsubj:pass(thrown, ball)",
            "aux:pass(thrown, was)",
            "case(dad, by)",
            "nmod:poss(dad, boy)",
            "case(boy, 's)",
            "obl:agent(thrown, dad)",
        },
    ),
    (  # clauses behind prepositions and conjunctions
        tree("cat/NOUN/2/nsubj waits/VERB/0/ROOT before/ADP/2/prep eating/VERB/3/pcomp while/SCONJ/6/mark standing/VERB/2/advcl"),
        {
            "nsubj(waits, cat)",
            "mark(eating, before)",
            "advcl:before(waits, eating)",
            "mark(standing, while)",
            "advcl:while(waits, standing)",
        },
    ),
    (  # prepositions of two words
        tree("jumps/VERB/0/ROOT out/ADP/1/prep of/ADP/2/prep boxes/NOUN/3/pobj because/SCONJ/1/prep of/ADP/5/pcomp rain/NOUN/5/pobj"),
        {
            "case(boxes, out)",
            "case(boxes, of)",
            "obl:out_of(jumps, boxes)",
            "case(rain, because)",
            "fixed(because, of)",
            "obl:because_of(jumps, rain)",
        },
    ),
    (tree("in/ADP/0/ROOT rooms/NOUN/1/pobj"), {"case(rooms, in)"}),
    (tree("gives/VERB/0/ROOT to/ADP/1/dative her/PRON/2/pobj it/PRON/1/dobj"), {"case(her, to)", "obl:to(gives, her)", "obj(gives, it)"}),
    (tree("There/PRON/2/expl be/VERB/0/ROOT cats/NOUN/2/attr"), {"expl(be, There)", "nsubj(be, cats)"}),
    (tree("dog/NOUN/2/nsubj becomes/VERB/0/ROOT star/NOUN/2/attr"), {"nsubj(becomes, dog)", "xcomp(becomes, star)"}),
    (tree("place/NOUN/0/ROOT to/PART/3/aux sleep/VERB/1/acl"), {"mark(sleep, to)", "acl:to(place, sleep)"}),
]


@pytest.mark.parametrize(("sentence", "expected"), TREES, ids=[one.text for one, _ in TREES])
def test_trees_of_spacys_dialect_are_turned_once(sentence, expected):
    assert said(sentence) == expected
    once = universal(sentence)
    assert universal(once) == once
    assert sorted(token.relation for token in once.tokens).count("root") == 1
    assert not unknown(edge.name for edge in edges(sentence))


def test_a_universal_tree_gets_its_enhanced_names():
    sentence = tree("rings/NOUN/0/root of/ADP/3/case gold/NOUN/1/nmod and/CCONJ/5/cc tin/NOUN/3/conj lying/VERB/1/acl:relcl")
    expected = {
        "case(gold, of)",
        "nmod:of(rings, gold)",
        "cc(tin, and)",
        "conj:and(gold, tin)",
        "acl:relcl(rings, lying)",
        "nmod:of(rings, tin)",
    }
    assert said(sentence) == expected
    assert said(universal(sentence)) == expected


def test_enhanced_relations_of_a_file_are_taken_at_their_word():
    sentence = Sentence("a ring", tree("a/DET/2/det ring/NOUN/0/root").tokens, enhanced=(Edge(2, 1, "own:name"), Edge(2, 1, "own:name")))
    assert edges(sentence) == [Edge(2, 1, "own:name")]
    assert unknown(["own:name", "nmod:of", "prep", "prep"]) == ["own:name", "prep"]


PARSED = {
    "a man riding a wave on top of a surfboard": {"acl(man, riding)", "obj(riding, wave)", "nmod:of(top, surfboard)"},
    "A red apple and a green pear lie on a wooden table.": {
        "amod(apple, red)", "conj:and(apple, pear)", "nsubj(lie, apple)", "nsubj(lie, pear)", "obl:on(lie, table)", "punct(lie, .)"},
    "two dogs play with a ball that was thrown by a boy": {"nummod(dogs, two)", "acl:relcl(ball, thrown)", "obl:agent(thrown, boy)"},
    "a cat is on the table": {"nsubj(table, cat)", "cop(table, is)", "case(table, on)"},
    "a teddy bear in the kitchen sink": {"compound(bear, teddy)", "compound(sink, kitchen)", "nmod:in(bear, sink)"},
}  # fmt: skip


def test_sentences_that_spacy_parses():
    pytest.importorskip("spacy")
    for text, expected in PARSED.items():
        (found,) = parser()(text).sents
        tokens = tuple(Token(t.i + 1, t.text, t.lemma_, t.pos_, 0 if t.head == t else t.head.i + 1, t.dep_) for t in found)
        assert expected <= said(Sentence(text, tokens)), text
