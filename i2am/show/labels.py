"""Long layer names made short enough to read, and still told apart."""

from __future__ import annotations

import re
from collections.abc import Sequence

from i2am.show.drawing import text_width


def fit(names: Sequence[str], width: float, sizes: Sequence[float]) -> tuple[list[str], float]:
    """Names that fit into a width, and the first of the font sizes at which they do; "…" stands for what went.

    First go words inside dotted names that all of them have, then the ends of words_with_underscores, then each name's middle.
    Different names stay different.
    """
    for size in sizes:
        short = _abbreviate(names, width, size)
        if all(text_width(name, size) <= width for name in short):
            return short, size
    for head in (0.5, 0.25, 0.75, 0.0, 1.0):  # how much of what is kept stands before the "…"
        cut = [_cut(name, width, size, head) for name in short]
        if len(set(cut)) == len(set(names)):
            return cut, size
    return [_cut(f"{i} {name}", width, size, 0.5) for i, name in enumerate(short)], size


def _abbreviate(names: Sequence[str], width: float, size: float) -> list[str]:
    parts = [name.split(".") for name in names]
    words = [word for word in dict.fromkeys(word for name in parts for word in name) if not word.isdigit()]
    common = [word for word in words if all(word in name and len(name) > 2 for name in parts)]
    common.sort(key=lambda word: (word == parts[0][-1], -len(word)))
    ends = {word: word.split("_")[0] + "…" for word in words if "_" in word and word not in common}
    table: dict[str, str] = {}
    short = list(names)
    for step in [{word: "…"} for word in common] + [ends]:
        if all(text_width(name, size) <= width for name in short):
            break
        trial = {**table, **step}
        joined = [re.sub(r"\.?…[.…]*", "…", ".".join(trial.get(word, word) for word in name)) for name in parts]
        if len(set(joined)) == len(set(names)):
            short, table = joined, trial
    return short


def _cut(text: str, width: float, size: float, head: float) -> str:
    """The longest cut of the text that fits."""
    cut, keep = text, len(text)
    while keep > 1 and text_width(cut, size) > width:
        keep -= 1
        first = round(keep * head)
        cut = re.sub("…+", "…", f"{text[:first]}…{text[len(text) - keep + first :]}")
    return cut
