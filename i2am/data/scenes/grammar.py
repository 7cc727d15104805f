"""What is said of a scene, and how the words depend on each other: a grammar knows its own parse.

A prompt is one or two things, each "a [size] [colour] shape", alone, in a place ("on the left"), joined ("and"), beside each other
("left of") or in touch ("touches"). Dependencies are those of Universal Dependencies, the enhanced ones with their preposition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from i2am.language import sentences as language

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COLOURS = ("red", "green", "blue", "yellow", "purple", "cyan", "white", "black")
SIZES = ("small", "big")
PLACES = {"left": "on", "right": "on", "top": "at", "bottom": "at", "middle": "in"}  # each with its preposition
BESIDE = ("left of", "right of", "above", "below")
OPPOSITE = {"left": "right", "right": "left", "top": "bottom", "bottom": "top", "left of": "right of", "right of": "left of",
            "above": "below", "below": "above"}  # fmt: skip
VOCABULARY = (*SHAPES, *COLOURS, *SIZES, *PLACES, "above", "below", "of", "a", "the", "and", "on", "at", "in", "touches")


@dataclass(frozen=True)
class Thing:
    """What is drawn; the colour and the size are said only where they are `named`."""

    shape: str
    colour: str
    size: str = ""  # small, big, or nothing said of it
    named: bool = True


@dataclass(frozen=True)
class Word:
    """A word, what it depends on, and the things whose pixels are the word's."""

    form: str
    upos: str
    head: int  # counted from 1; 0 is the root
    deprel: str
    deps: str = ""  # the enhanced name, where it says more
    things: tuple[int, ...] = ()

    @property
    def lemma(self) -> str:
        return "touch" if self.form == "touches" else self.form


@dataclass(frozen=True)
class Sentence:
    """A prompt, and what its words are of."""

    words: tuple[Word, ...]

    @property
    def text(self) -> str:
        return " ".join(word.form for word in self.words)

    def things(self) -> dict[str, tuple[int, ...]]:
        """The things of each word that has some; those of all its places in the prompt."""
        found: dict[str, tuple[int, ...]] = {}
        for word in self.words:
            if word.things:
                found[word.form] = tuple(sorted({*found.get(word.form, ()), *word.things}))
        return found

    def parsed(self, name: str = "") -> language.Sentence:
        """As parsers give it, under this name; the enhanced relations have their prepositions."""
        tokens = [language.Token(at, word.form, word.lemma, word.upos, word.head, word.deprel) for at, word in enumerate(self.words, 1)]
        enhanced = [language.Edge(word.head, at, word.deps or word.deprel) for at, word in enumerate(self.words, 1) if word.head]
        return language.Sentence(self.text, tuple(tokens), name, enhanced=tuple(enhanced))


def phrase(thing: Thing, index: int, before: int = 0) -> list[Word]:
    """ "a big red circle", behind so many words; the noun is its last word and still the root."""
    adjectives = [*([thing.size] if thing.size else []), *([thing.colour] if thing.named else [])]
    noun = before + 2 + len(adjectives)
    words = [Word("a", "DET", noun, "det")]
    words += [Word(one, "ADJ", noun, "amod", things=(index,)) for one in adjectives]
    return [*words, Word(thing.shape, "NOUN", 0, "root", things=(index,))]


def placed(words: list[Word], place: str) -> list[Word]:
    """The phrase with "on the left" behind its noun, which is the last word."""
    noun, preposition = len(words), PLACES[place]
    return [*words, Word(preposition, "ADP", noun + 3, "case"), Word("the", "DET", noun + 3, "det"),
            Word(place, "NOUN", noun, "nmod", f"nmod:{preposition}")]  # fmt: skip


def hung(word: Word, head: int, deprel: str, deps: str = "") -> Word:
    """A word on another head."""
    return replace(word, head=head, deprel=deprel, deps=deps)


def one(thing: Thing, place: str = "") -> Sentence:
    """ "a red circle", "a red circle on the left"."""
    words = phrase(thing, 0)
    return Sentence(tuple(placed(words, place) if place else words))


def both(things: Sequence[Thing], place: str = "") -> Sentence:
    """ "A and B", "A on the left and B on the right"."""
    words = phrase(things[0], 0)
    first = len(words)
    words = placed(words, place) if place else words
    at = len(words)
    more = phrase(things[1], 1, at + 1)
    noun = at + 1 + len(more)
    words = [*words, Word("and", "CCONJ", noun, "cc"), *more[:-1], hung(more[-1], first, "conj", "conj:and")]
    if not place:
        return Sentence(tuple(words))
    return Sentence(tuple(placed(words, OPPOSITE[place])))


def beside(things: Sequence[Thing], relation: str) -> Sentence:
    """ "A left of B", "A above B"."""
    words, cases = phrase(things[0], 0), relation.split()
    first = len(words)
    more = phrase(things[1], 1, first + len(cases))
    noun = first + len(cases) + len(more)
    case = [Word(cases[0], "ADP" if len(cases) == 1 else "ADV", noun, "case")]
    case += [Word(other, "ADP", first + 1, "fixed") for other in cases[1:]]
    name = "_".join(cases)
    return Sentence((*words, *case, *more[:-1], hung(more[-1], first, "nmod", f"nmod:{name}")))


def touching(things: Sequence[Thing]) -> Sentence:
    """ "A touches B"; the verb's pixels are those of both."""
    words = phrase(things[0], 0)
    verb = len(words) + 1
    more = phrase(things[1], 1, verb)
    return Sentence((*words[:-1], hung(words[-1], verb, "nsubj"), Word("touches", "VERB", 0, "root", things=(0, 1)),
                     *more[:-1], hung(more[-1], verb, "obj")))  # fmt: skip


def unknown(prompt: str) -> list[str]:
    """The words of a prompt that this world has no meaning for."""
    return [word for word in dict.fromkeys(prompt.lower().split()) if word not in VOCABULARY]
