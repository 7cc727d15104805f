"""Prompts that describe nothing one has seen: every noun and adjective of a list drawn anew from those of the whole list (DAAM's Unreal).

Words in between stay, and an article fits what follows it. DAAM's released code keeps only the drawn words, which makes lists of words of
its prompts; numbers of nouns are left to chance there and here.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from i2am.common.checks import refuse, whole_number
from i2am.language.making import article, like
from i2am.language.sentences import Sentence, Token

SWAPPED = ("NOUN", "ADJ")


def swapped(texts: Mapping[str, str], sentences: Mapping[str, Sequence[Sentence]], seed: int = 0) -> dict[str, str]:
    """The prompts by their ids. sentences: each one's, parsed; a prompt's words are drawn by its place in the list and the seed alone."""
    seed = whole_number("seed", seed, 0, "0 is the default.")
    words = {key: [token for sentence in sentences[key] for token in sentence.tokens] for key in texts}
    pools = {pos: [token.text for found in words.values() for token in found if token.pos == pos] for pos in SWAPPED}
    if not any(pools.values()):
        refuse("the prompts", "nouns or adjectives to swap", "none in the whole list", "Write captions, one a line.")
    return {key: drawn(texts[key], words[key], pools, random.Random(f"{seed}:{at}")) for at, key in enumerate(texts)}


def drawn(text: str, words: Sequence[Token], pools: Mapping[str, Sequence[str]], by: random.Random) -> str:
    """A text with other words in the places of its nouns and adjectives."""
    text, made, at, fitting = " ".join(text.split()), list[str](), 0, -1
    for first, token in enumerate(words):
        place = text.find(token.text, at)
        if place < 0:
            refuse("a parse", "of the prompt's own words", f"{token.text!r} for {text!r}", "Parse the list again.")
        new = token.text
        if token.pos in pools:
            new = by.choice(pools[token.pos])
            new = like(token.text, new) if first == 0 else new
        if fitting >= 0 and place > at:
            made[fitting] = like(made[fitting], article(new))
        made += [text[at:place], new]
        fitting = len(made) - 1 if token.text.lower() in ("a", "an") else -1
        at = place + len(token.text)
    return "".join([*made, text[at:]])
