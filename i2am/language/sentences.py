"""A parsed sentence: tokens, and which of them depends on which, by what relation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Token:
    """One token. head: the number of the token it depends on, 0 for the root; relation: by what."""

    number: int  # counted from 1, as CoNLL-U does
    text: str
    lemma: str
    pos: str  # the universal part of speech: NOUN, ADJ ...
    head: int
    relation: str


class Relation(NamedTuple):
    """One token depends on another."""

    head: Token
    dependent: Token
    name: str


@dataclass(frozen=True)
class Sentence:
    """The tokens of one sentence, numbered from 1 in their order."""

    text: str
    tokens: tuple[Token, ...]

    def relations(self) -> Iterator[Relation]:
        """Every dependency but the root's, in the order of the dependents."""
        for token in self.tokens:
            if token.head:
                yield Relation(self.tokens[token.head - 1], token, token.relation)
