"""A parsed sentence: tokens, and which of them depends on which, by what relation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Token:
    """One token. head: the number of the token it depends on, 0 for the root; relation: by what; coreferent: a mark that tokens share which
    name one thing."""

    number: int  # counted from 1, as CoNLL-U does
    text: str
    lemma: str
    pos: str  # the universal part of speech: NOUN, ADJ ...
    head: int
    relation: str
    coreferent: str = ""


class Relation(NamedTuple):
    """One token depends on another."""

    head: Token
    dependent: Token
    name: str


class Edge(NamedTuple):
    """A relation by its tokens' numbers."""

    head: int
    dependent: int
    name: str


@dataclass(frozen=True)
class Sentence:
    """The tokens of one sentence, numbered from 1 in their order. enhanced: the relations of a file that gives more than a tree;
    lost: how many of those lead to words that nobody wrote (CoNLL-U's empty nodes)."""

    text: str
    tokens: tuple[Token, ...]
    id: str = ""
    document: str = ""
    enhanced: tuple[Edge, ...] = ()
    lost: int = 0

    def relations(self) -> Iterator[Relation]:
        """Every dependency of the tree but the root's, in the order of the dependents."""
        for token in self.tokens:
            if token.head:
                yield Relation(self.tokens[token.head - 1], token, token.relation)
