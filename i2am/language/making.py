"""Prompts made of words: two nouns of one group or of two, and one noun with several adjectives.

Each is made by its own number and the seed alone, so that a longer list begins with the shorter one.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from i2am.common.checks import refuse, said, whole_number

CHOICE = re.compile(r"\{([^{}]*)\}")
LIKE_A = ("uni", "use", "usu", "eur", "one", "once", "ewe")  # written with a vowel, said without
TRIES = 100  # to draw two words that are not part of each other
LIKE_AN = ("hour", "honest", "honor", "honour", "heir")


class Made(NamedTuple):
    """A prompt that was made: the columns of a list of prompts."""

    id: str
    prompt: str
    seed: int | None = None
    group: str = ""


def article(word: str) -> str:
    """a or an, as a word is said."""
    word = word.lower()
    vowel = word[:1] in "aeiou" and not word.startswith(LIKE_A)
    return "an" if word and (vowel or word.startswith(LIKE_AN)) else "a"


def pairs(groups: Mapping[str, Sequence[str]], count: int, seed: int = 0) -> list[Made]:
    """Prompts "a(n) X and a(n) Y": by turns two words of one group ("siblings") and of two ("different"), each with its own seed."""
    count = whole_number("count", count, 1, "100 prompts are a small study.")
    seed = whole_number("seed", seed, 0, "0 is the default.")
    several = [name for name, words in groups.items() if len(set(words)) > 1]
    if not several or len(groups) < 2:
        refuse("groups", "two or more, at least one of them with two words", said(list(groups)), "COCO's are i2am.data.coco80.GROUPS.")
    found = list[Made]()
    for place in range(count):
        drawn = random.Random(f"{seed}:{place}")
        for _ in range(TRIES):
            if place % 2 == 0:
                first, second = drawn.sample(sorted(set(groups[drawn.choice(several)])), 2)
            else:
                first, second = (drawn.choice(groups[name]) for name in drawn.sample(list(groups), 2))
            if not within(first, second):
                break
        else:
            refuse("groups", "with words that are not part of each other", said(f"{first}, {second}"), "A word's map is that of all its "
                   "places in the prompt.")  # fmt: skip
        group = "different" if place % 2 else "siblings"
        prompt = f"{article(first)} {first} and {article(second)} {second}"
        found.append(Made(f"{group}-{place:04d}", prompt, seed + place, group))
    return found


def within(one: str, other: str) -> bool:
    """Whether one's words are among the other's, as "bear" in "teddy bear": its map would be that of both."""
    first, second = sorted((re.findall(r"\w+", word.casefold()) for word in (one, other)), key=len)
    return any(second[at : at + len(first)] == first for at in range(len(second) - len(first) + 1))


def adjectives(template: str, *, noun: str | None = None, seed: int = 0, seeds: int = 1) -> list[Made]:
    """Prompts from "a {blue,green,red} car driving down the street", all with one seed; again with the next, as often as `seeds` says.

    noun: what is described, by default the word behind the braces; it is the list's group. The article fits each adjective.
    """
    choices = CHOICE.findall(template) if isinstance(template, str) else []
    words = [word.strip() for word in choices[0].split(",")] if len(choices) == 1 else []
    if len(words) < 2 or not all(words) or len(set(words)) < len(words):
        refuse("the template", "one list of two adjectives or more, each once, as in 'a {blue,green,red} car'", said(template),
               "Write the adjectives in braces with commas between them.")  # fmt: skip
    seed = whole_number("seed", seed, 0, "0 is the default.")
    seeds = whole_number("seeds", seeds, 1, "1 paints each adjective once.")
    before, behind = (part.split() for part in CHOICE.split(template)[::2])
    noun = noun or next((word.strip(",.;:!?") for word in behind), "")
    if not noun or not re.search(rf"(?<!\w){re.escape(noun)}(?!\w)", " ".join(before + behind), re.IGNORECASE):
        refuse("the noun", f"in the template {said(template)}", said(noun), "Name the word that the adjectives describe.")
    if twice := [word for word in words if within(word, " ".join(before)) or within(word, " ".join(behind))]:
        refuse("the template", "with each adjective in the braces alone", f"{said(twice[0])} also beside them",
               "A word's map is that of all its places in the prompt: write it another way.")  # fmt: skip
    found = list[Made]()
    for place in range(seeds):
        for word in words:
            named = "-".join(re.findall(r"\w+", word)) + (f"-{place:04d}" if seeds > 1 else "")
            start = [*before[:-1], like(before[-1], article(word))] if before and before[-1].lower() in ("a", "an") else before
            found.append(Made(named, " ".join([*start, word, *behind]), seed + place, noun))
    return found


def like(old: str, new: str) -> str:
    """With a capital where the old one has it."""
    return new[:1].upper() + new[1:] if old[:1].isupper() else new
