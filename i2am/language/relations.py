"""Relations by one set of names, those of the paper's table: Universal Dependencies with CoreNLP's enhanced names (nmod:of, conj:and).

spaCy's English models speak another dialect (ClearNLP), in which prepositions and "is" are heads: `universal` turns such a tree, and leaves
one that is universal already as it is.

    a man on a wave     prep(man, on) pobj(on, wave)      ->  nmod:on(man, wave) case(wave, on)
    the wave is big     nsubj(is, wave) acomp(is, big)    ->  nsubj(big, wave) cop(big, is)
    a cat, a dog or a bear   conj(cat, dog) conj(dog, bear)   ->  conj:or(cat, dog) conj:or(cat, bear)

As CoreNLP does, `edges` gives what is joined by "and" the same head, and verbs so joined the same subject. It adds no relations of relative
clauses to what they describe, nor of subjects of infinitives: a file with its own enhanced relations is taken at its word.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from i2am.language.sentences import Edge, Sentence, Token

NAMES = {  # a label of spaCy's English models -> its name; prep, pobj, pcomp, attr, acomp, cc and conj take more than a name
    "ROOT": "root",
    "agent": "obl:agent",
    "auxpass": "aux:pass",
    "csubjpass": "csubj:pass",
    "dative": "iobj",
    "dobj": "obj",
    "intj": "discourse",
    "neg": "advmod",
    "npadvmod": "obl:npmod",
    "nsubjpass": "nsubj:pass",
    "oprd": "xcomp",
    "poss": "nmod:poss",
    "preconj": "cc:preconj",
    "predet": "det:predet",
    "prt": "compound:prt",
    "quantmod": "advmod",
    "relcl": "acl:relcl",
}
UNIVERSAL = """acl advcl advmod amod appos aux case cc ccomp clf compound conj cop csubj dep det discourse dislocated expl fixed flat
goeswith iobj list mark nmod nsubj nummod obj obl orphan parataxis punct reparandum root vocative xcomp"""
KNOWN = frozenset(UNIVERSAL.split())
OPENERS = ("prep", "agent", "dative")
NOMINAL = ("NOUN", "PROPN", "PRON", "NUM", "DET", "SYM")
VERBAL = ("VERB", "AUX")


class Tree:
    """A tree while it is turned."""

    def __init__(self, tokens: Iterable[Token]) -> None:
        self.tokens = {token.number: token for token in tokens}
        self.head = {number: token.head for number, token in self.tokens.items()}
        self.name = {number: token.relation for number, token in self.tokens.items()}
        self.placed = list[int]()  # what was the object of a preposition

    def children(self, head: int, *names: str) -> list[int]:
        return [number for number, at in self.head.items() if at == head and (not names or self.name[number] in names)]

    def pos(self, number: int) -> str:
        return self.tokens[number].pos if number else ""

    def replace(self, old: int, new: int, name: str) -> None:
        """`new`, a dependent of `old`, takes its place among the heads, and all that hung on it."""
        self.head[new], self.name[new] = self.head[old], name
        for child in self.children(old):
            self.head[child] = old if self.name[child] == "fixed" else new
        self.head[old] = new

    def prepositions(self) -> None:
        """A preposition becomes the mark of its object, which takes its place."""
        for number in sorted(self.tokens):
            if self.name[number] == "pcomp" and self.pos(number) == "ADP" and not self.children(number):
                self.name[number] = "fixed"  # "because of"
        for number in sorted(self.tokens):
            role = self.name[number]
            if role not in ("pobj", "pcomp") or not (opener := self.head[number]):
                continue
            outer, before = self.head[opener], self.name[opener]
            marks = "mark" if role == "pcomp" and self.pos(number) in VERBAL else "case"
            self.replace(opener, number, self.place(outer, before, marks))
            self.name[opener] = marks
            self.placed.append(number)
            while self.opens(outer) and before in (*OPENERS, "conj"):  # "out of the box": both are its marks
                before, above = self.name[outer], self.head[outer]
                self.replace(outer, number, self.place(above, before, marks))
                self.name[outer], outer = "case", above

    def opens(self, number: int) -> bool:
        """Whether this is a preposition without an object of its own."""
        opens = self.pos(number) in ("ADP", "SCONJ") and self.name[number] in OPENERS
        return opens and not self.children(number, "pobj", "pcomp")

    def place(self, outer: int, before: str, marks: str) -> str:
        """The relation of a preposition's object to what it is said of."""
        if before == "agent":
            return "obl:agent"
        if before not in OPENERS:
            return before  # the root, or joined to another object
        nominal = self.pos(outer) in NOMINAL
        return ("acl" if nominal else "advcl") if marks == "mark" else "nmod" if nominal else "obl"

    def copulas(self) -> None:
        """What something is becomes the head, and "is" its mark; "there is" keeps its verb."""
        for verb in sorted(self.tokens):
            said_of = self.children(verb, "attr", "acomp")
            if self.tokens[verb].lemma.lower() != "be" or self.name[verb] in ("aux", "auxpass", "aux:pass", "cop"):
                for number in said_of:
                    self.name[number] = "xcomp"
            elif self.children(verb, "expl"):
                for number in said_of:
                    self.name[number] = "nsubj"
            elif self.children(verb, "nsubj", "csubj"):
                places = [number for number in self.children(verb, "obl") if number in self.placed and number > verb]
                if said_of or places:
                    self.replace(verb, (said_of or places)[0], self.name[verb])
                    self.name[verb] = "cop"
                for number in said_of[1:]:
                    self.name[number] = "xcomp"

    def plain(self) -> None:
        """Labels that are another word for the same."""
        for number, name in self.name.items():
            if name == "aux" and self.tokens[number].lemma.lower() == "to":
                self.name[number] = "mark"
            self.name[number] = NAMES.get(self.name[number], self.name[number])

    def joined(self) -> None:
        """All that is joined hangs on the first, and "and" on what follows it; its word becomes part of the name."""
        first = dict[int, int]()
        for number in sorted(self.tokens):
            top = number
            while is_joined(self.name[top]) and self.head[top]:
                top = self.head[top]
            if top != number:
                first[number] = top
        self.head |= first
        words = [number for number in self.tokens if self.name[number] == "cc"]
        of = {word: first.get(self.head[word], self.head[word]) for word in words}
        for top in set(first.values()):
            members = sorted(number for number, at in first.items() if at == top)
            own = sorted(word for word in words if of[word] == top)
            for word in own:
                self.head[word] = next((number for number in members if number > word), self.head[word])
            for member in members:
                if self.name[member] == "conj":
                    near = [word for word in own if self.head[word] == member] or [word for word in own if word > member] or own[-1:]
                    self.name[member] = ":".join(["conj", *(self.tokens[word].text.lower() for word in near[:1])])

    def marked(self) -> None:
        """Prepositions and conjunctions become part of the name."""
        for number, name in self.name.items():
            if name in ("nmod", "obl", "acl", "advcl"):
                self.name[number] = named(name, self.marks(number, "case" if name in ("nmod", "obl") else "mark"))

    def marks(self, number: int, kind: str) -> list[str]:
        """The words that say how a token hangs together with its head, in their order."""
        found = self.children(number, kind)
        found += [part for one in found for part in self.children(one, "fixed")]
        return [self.tokens[one].text.lower() for one in sorted(found) if self.pos(one) != "PART" or kind == "mark"]


def is_joined(name: str) -> bool:
    return name.partition(":")[0] == "conj"


def named(name: str, words: list[str]) -> str:
    return f"{name}:{'_'.join(words)}" if words else name


def universal(sentence: Sentence) -> Sentence:
    """The sentence as a tree of Universal Dependencies, with enhanced names."""
    tree = Tree(sentence.tokens)
    tree.prepositions()
    tree.copulas()
    tree.plain()
    tree.joined()
    tree.marked()
    return replace(
        sentence, tokens=tuple(replace(one, head=tree.head[one.number], relation=tree.name[one.number]) for one in sentence.tokens)
    )


def edges(sentence: Sentence) -> list[Edge]:
    """Its relations by the numbers of its tokens: those of its file if that has enhanced ones, else the tree's and what is shared."""
    if sentence.enhanced:
        return list(dict.fromkeys(sentence.enhanced))
    tokens = universal(sentence).tokens
    tree = Tree(tokens)
    found = [Edge(one.head, one.number, one.relation) for one in tokens if one.head]
    for one in tokens:
        if not is_joined(one.relation):
            continue
        first = tokens[one.head - 1]
        kind = first.relation.partition(":")[0]
        if first.head and not is_joined(first.relation):
            own = tree.marks(one.number, "case") if kind in ("nmod", "obl") else []
            found.append(Edge(first.head, one.number, named(kind, own) if own else first.relation))
        if one.pos in VERBAL and first.pos in VERBAL and not tree.children(one.number, "nsubj", "nsubj:pass", "csubj", "expl"):
            found += [Edge(one.number, subject, tree.name[subject]) for subject in tree.children(first.number, "nsubj", "nsubj:pass")]
    return list(dict.fromkeys(found))


def unknown(names: Iterable[str]) -> list[str]:
    """Names that are none of Universal Dependencies': they are left as they are."""
    return sorted({name for name in names if name.partition(":")[0] not in KNOWN})
