"""Two nouns in one prompt: do their maps lie on each other, and more where they are of one kind?

DAAM's study of cohyponyms: prompts "a(n) X and a(n) Y", half of them with two words of one group; the overlap of the two words' masks, and
from labels how often both things were painted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from i2am.common.checks import cited, number, refuse, said
from i2am.common.tables import read_text, rows_of
from i2am.data.coco80 import GROUPS
from i2am.data.prompts import Asked
from i2am.language import making
from i2am.maps.words import overlap
from i2am.score.entanglement import OVERLAPS, Pair, pairs_by_group
from i2am.studies.labels import read_labels
from i2am.studies.painted import Painted
from i2am.studies.pairs_page import page_of
from i2am.studies.results import facts_of, table, told, write
from i2am.studies.run import is_first, left_out, paint

TWO = re.compile(r"(?:an?|the)\s+(.+?)\s+and\s+(?:an?|the)\s+(.+?)\s*\.?", re.IGNORECASE)
Nouns = Mapping[str, tuple[str, str]]
PAPER = {  # of 1,000 prompts, as people saw them
    "cohyponyms": {"pictures": 500, "right": 0.52},
    "others": {"pictures": 500, "right": 0.61},
}


def pair_prompts(count: int, seed: int = 0, groups: Mapping[str, Sequence[str]] = GROUPS) -> list[Asked]:
    """Prompts "a(n) X and a(n) Y" of COCO's classes, or of groups of one's own: by turns of one group and of two."""
    return [Asked(one.id, one.prompt, one.seed, group=one.group) for one in making.pairs(groups, count, seed)]


def read_groups(path: str | Path) -> dict[str, list[str]]:
    """Groups of words for `pair_prompts`: a table with the columns group and word."""
    path, text = read_text("classes", path, "It is a table: group,word.")
    rows = rows_of(text, path)
    if not rows or rows[0][1] != ["group", "word"]:
        refuse(str(path), "a table whose first line is group,word", said(rows[0][1] if rows else []), "One word a line.")
    found: dict[str, list[str]] = {}
    for place, row in rows[1:]:
        group, word, *more = [*row, "", ""][: max(2, len(row))]
        if more or not group or not word or any(word in words for words in found.values()):
            refuse(f"line {place} of {path}", "a group and a word that is in no other line", said(row), "A word has one group.")
        found.setdefault(group, []).append(word)
    if len(found) < 2:
        refuse(str(path), "words of at least two groups", f"one: {cited(list(found))}", "Pairs of one group are compared with others.")
    return found


def nouns_of(prompts: Sequence[Asked]) -> dict[str, tuple[str, str]]:
    """The two words of each prompt, by its id; refused where one has no two, or all are of one group."""
    found = {one.id: TWO.fullmatch(one.prompt.strip()) for one in prompts}
    wrong = [f"{one.id} ({one.prompt!r})" for one in prompts
             if (match := found[one.id]) is None or " and " in match[2] or making.within(match[1], match[2])]  # fmt: skip
    if wrong:
        refuse("the prompts", 'of the form "a(n) X and a(n) Y" with two different things, none of them part of the other\'s name',
               f"{len(wrong)} others: {cited(wrong, 5)}", "i2am prompts pairs writes such a list.")  # fmt: skip
    groups = {one.group for one in prompts}
    if nameless := [one.id for one in prompts if not one.group]:
        refuse("the prompts' groups", "one for each prompt", f"none for {len(nameless)}: {cited(nameless, 5)}", "Fill the column group.")
    if len(groups) < 2:
        refuse("the prompts' groups", "at least two, which are compared", cited([repr(group) for group in groups]),
               "Name each prompt's in the column group, such as siblings and different.")  # fmt: skip
    return {name: (match[1], match[2]) for name, match in found.items() if match}


def score(painted: Painted, nouns: tuple[str, str], right: bool | None = None, threshold: float = 0.4) -> Pair:
    """How much the masks of the two words overlap in one picture."""
    found = overlap(painted.words(), *nouns, size=painted.picture().size[::-1], threshold=threshold)
    values = {name: None if value.isnan() else float(value) for name, value in found.items()}
    return Pair(painted.asked.id, painted.asked.group, right=right, **values)


def study(
    prompts: Sequence[Asked], model: Any, *, out: str | Path, labels: str | Path | None = None, threshold: float = 0.4, **painting: Any
) -> Path:
    """Paint the prompts, and write pairs.csv, report.json and report.html, whose path is returned.

    prompts: see `nouns_of`; model, out and painting: as for `paint`. labels: a file for `read_labels`. threshold: from which on a min-max
    normalised map is a mask; 0.4 is DAAM's.
    """
    threshold = number("threshold", threshold, "between 0 and 1", lambda x: 0 < x < 1, "DAAM's is 0.4.")
    nouns = nouns_of(prompts)
    known = {} if labels is None else read_labels(labels, nouns)
    painted = paint(prompts, model, out=out, words=nouns, **painting)
    if is_first():
        report(Path(out), painted, nouns, known, threshold)
    return Path(out) / "report.html"


def report(out: Path, painted: Sequence[Painted], nouns: Nouns, known: Mapping[str, bool], threshold: float) -> Path:
    """Score what was painted, and write the three files."""
    pairs = [score(one, nouns[one.asked.id], known.get(one.asked.id), threshold) for one in told(painted, "comparing words")]
    rows = [
        {"id": one.asked.id, "group": pair.group, "first": nouns[pair.id][0], "second": nouns[pair.id][1], "prompt": one.asked.prompt,
         "seed": one.seed, **{name: getattr(pair, name) for name in (*OVERLAPS, "right")}}
        for one, pair in zip(painted, pairs)
    ]  # fmt: skip
    unlabelled = [pair.id for pair in pairs if pair.right is None] if known else []
    found = {
        "study": "entangle pairs", **pairs_by_group(pairs), "threshold": threshold, "pictures": len(pairs), "labels": len(known),
        "without a label": unlabelled, "left out": left_out(out), "paper": PAPER, **facts_of(out),
    }  # fmt: skip
    return write(out, {"pairs": table(rows)}, found, page_of(found, painted, pairs, nouns))
