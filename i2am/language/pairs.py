"""Pairs of a prompt's words that no relation joins: those that have nothing to do with each other, and those that name one thing.

Pairs are places of `Parsed.words`. Who names the same thing is said by marks of a file (Coref=NAME), by a table, or, where neither
speaks of a prompt, by a noun that is there more than once; a pronoun's antecedent is known from the first two alone.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

from i2am.common.checks import refuse, said
from i2am.common.tables import read_text, rows_of
from i2am.language.parsed import Parsed

CONTENT = ("NOUN", "PROPN", "VERB", "ADJ", "ADV", "NUM")
NOUNS = ("NOUN", "PROPN")
Place = tuple[int, int]
COLUMNS = ["id", "first", "second"]


def unrelated(parsed: Parsed, alike: Sequence[Place] = ()) -> list[Place]:
    """Two content words each, written differently, that no relation joins either way and that do not name one thing, as `alike` do."""
    joined = {frozenset(pair) for pair in alike} | {frozenset((head, dependent)) for head, dependent, _ in parsed.edges}
    words = [place for place, word in enumerate(parsed.words) if word.pos in CONTENT]
    return [
        (one, two)
        for one, two in combinations(words, 2)
        if frozenset((one, two)) not in joined and parsed.words[one].text.casefold() != parsed.words[two].text.casefold()
    ]


def sampled(pairs: Mapping[str, Sequence[Place]], count: int, seed: int) -> dict[str, list[Place]]:
    """At most so many of all prompts' pairs; either word may be the head."""
    every = [(key, pair) for key, found in pairs.items() for pair in found]
    drawn = random.Random(seed)
    chosen = every if len(every) <= count else [every[place] for place in sorted(drawn.sample(range(len(every)), count))]
    result: dict[str, list[Place]] = {}
    for key, (one, two) in chosen:
        result.setdefault(key, []).append((one, two) if drawn.random() < 0.5 else (two, one))
    return result


def coreferent(parsed: Parsed) -> list[Place]:
    """Two words each that name one thing, the earlier first."""
    marks = [(place, word.coreferent) for place, word in enumerate(parsed.words) if word.coreferent]
    alike = marks or [(place, word.lemma.casefold()) for place, word in enumerate(parsed.words) if word.pos in NOUNS]
    return [(one, two) for (one, first), (two, second) in combinations(alike, 2) if first == second]


def read_coreference(path: str | Path, parsed: Mapping[str, Parsed]) -> dict[str, list[Place]]:
    """A table (.csv) of prompts' ids and of the numbers, from 1, of two words each that name one thing."""
    path, text = read_text("coreference", path, f"It is a table: {','.join(COLUMNS)}.")
    rows = rows_of(text, path)
    if not rows or rows[0][1] != COLUMNS:
        got = said(rows[0][1] if rows else [])
        refuse(str(path), f"a table that begins with {','.join(COLUMNS)}", got, "first and second count words.")
    found: dict[str, list[Place]] = {}
    for place, row in rows[1:]:
        key = row[0]
        if key not in parsed:
            refuse(str(path), "about the list's prompts", f"id {said(key)}", "Delete the row, or correct the id.")
        count = len(parsed[key].words)
        places = [int(one) - 1 for one in row[1:] if one.isdecimal() and 0 < int(one) <= count]
        if len(row) != len(COLUMNS) or len(set(places)) != 2:
            listed = " ".join(f"{at}:{word.text}" for at, word in enumerate(parsed[key].words, 1))
            refuse(f"line {place} of {path}", f"two of the words {listed}", said(row[1:]), "Words are counted from 1.")
        first, second = sorted(places)
        found.setdefault(key, []).append((first, second))
    return found
