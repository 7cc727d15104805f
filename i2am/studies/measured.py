"""Pairs of a prompt's words, measured in its picture: a parsed word finds its map by its text and its place.

Parsers and models do not always agree what a word is (a parser's "do" and "n't" are CLIP's "don" and "'t"): words without a map are
counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from i2am.language.parsed import Parsed
from i2am.maps.words import WordMaps
from i2am.score.relations import Convention, Overlap, Overlaps, Pair

RELATION, UNRELATED, COREFERENT = "relation", "unrelated", "coreferent"


@dataclass(frozen=True)
class Wanted:
    """A pair to measure: head and dependent by their places among a prompt's words. kind: RELATION, UNRELATED or COREFERENT."""

    kind: str
    name: str
    head: int
    dependent: int


@dataclass(frozen=True)
class Measured:
    """A pair, and its overlaps by the conventions' names."""

    prompt: str
    wanted: Wanted
    head: str
    dependent: str
    overlaps: Mapping[str, Overlap]

    def pair(self, how: str) -> Pair:
        return Pair(self.prompt, self.wanted.name, self.overlaps[how])


@dataclass
class Left:
    """What could not be measured, and how. words: parsed words without a map, by their texts; pairs: how many need one; merged: words that
    the model reads another number of times than the parser, so that all its places make one map; empty: pairs with a mask that covers
    nothing, by convention."""

    words: Counter[str] = field(default_factory=Counter)
    merged: Counter[str] = field(default_factory=Counter)
    empty: Counter[str] = field(default_factory=Counter)
    pairs: int = 0


class TokenMaps:
    """Maps of a prompt's parsed words, `at` their rows; merged: one for all words that are written alike, as DAAM's are."""

    def __init__(self, words: WordMaps, parsed: Parsed, merged: bool, left: Left | None = None) -> None:
        self.at: dict[int, int] = {}
        rows, columns = list[Tensor](), {column: row for row, column in enumerate(words.columns)}
        for text, places in same_texts(parsed).items():
            found = [at for at in words.prompts[0].find(text) if set(at) <= columns.keys()]
            if left is not None:
                left.words.update({text: len(places)} if not found else {})
                left.merged.update({text: len(places)} if found and len(found) != len(places) else {})
            if not found:
                continue
            if merged or len(found) != len(places):
                found = [[position for at in found for position in at]] * len(places)
            for place, positions in zip(places, found):
                self.at[place] = len(rows)
                rows.append(words.maps[0, [columns[position] for position in positions]].mean(0))
        self.maps = torch.stack(rows) if rows else words.maps[0, :0]


def same_texts(parsed: Parsed) -> dict[str, list[int]]:
    """The places of each text, upper or lower case."""
    found: dict[str, list[int]] = {}
    for place, word in enumerate(parsed.words):
        found.setdefault(word.text.casefold(), []).append(place)
    return found


def measure(
    prompt: str, words: WordMaps, size: tuple[int, int], parsed: Parsed, wanted: Sequence[Wanted], conventions: Sequence[Convention],
    left: Left,
) -> Iterator[Measured]:  # fmt: skip
    """The pairs whose two words have maps; the others are counted in `left`. size: the picture's (height, width).

    Two words that name one thing have maps of their own by every convention: words that are written alike would else be one map.
    """
    maps = {merged: TokenMaps(words, parsed, merged, None if merged else left) for merged in (False, True)}
    overlaps = {(how.name, merged): Overlaps(maps[merged].maps, how, size) for how in conventions for merged in {how.merged, False}}
    for one in wanted:
        if not {one.head, one.dependent} <= maps[False].at.keys():
            left.pairs += 1
            continue
        found = dict[str, Overlap]()
        for how in conventions:
            merged = how.merged and one.kind != COREFERENT
            rows = [maps[merged].at[place] for place in (one.head, one.dependent)]
            found[how.name] = overlaps[how.name, merged].pair(*rows)
            left.empty[how.name] += overlaps[how.name, merged].empty(*rows)
        yield Measured(prompt, one, parsed.words[one.head].text, parsed.words[one.dependent].text, found)
