"""One noun with several adjectives and one seed: does an adjective look at its noun alone, and does it change its noun alone?

DAAM's study of adjectives: "a {blue,green,red} car driving down the street". Painted freely, and again with the first adjective's attention
held fixed in the others (`i2am.hold`), so that the layout stays and what is left is what the words bring.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from i2am.attach.held import hold
from i2am.common.checks import number, refuse, said
from i2am.maps.words import show
from i2am.models.folder import pipeline_of
from i2am.score.entanglement import changed, leaking, table_of
from i2am.studies import entangle_pictures as draw
from i2am.studies.adjectives_page import page_of
from i2am.studies.described import Described
from i2am.studies.options import Options
from i2am.studies.painted import Painted
from i2am.studies.results import facts_of, named, table, told, write
from i2am.studies.run import is_first, left_out, paint

LOOKS = ("outside", "chance", "leak", "iod", "area")
CHANGES = ("ssim_outside", "ssim_inside", "absolute_outside", "absolute_inside")
Rows = list[dict[str, Any]]


def looked(one: Painted, adjective: str, noun: str, threshold: float) -> dict[str, float]:
    """Where an adjective looks in one picture: `score.entanglement.leaking`."""
    words, picture = one.words(), one.picture()
    found = leaking(words[adjective], words[noun], size=(picture.height, picture.width), threshold=threshold)
    return {name: float(found[name]) for name in LOOKS}


def compared(one: Painted, other: Painted, noun: str, threshold: float) -> dict[str, float]:
    """How two pictures differ where the noun is in either of them, and elsewhere: `score.entanglement.changed`."""
    pictures = [each.picture() for each in (one, other)]
    size = (pictures[0].height, pictures[0].width)
    masks = [show(each.words()[noun], size=size, threshold=threshold) for each in (one, other)]
    found = changed(draw.pixels(pictures[0]), draw.pixels(pictures[1]), masks[0].maximum(masks[1]))
    return {name: float(found[name]) for name in CHANGES}


def measured(described: Described, painted: Sequence[Painted], threshold: float, run: str) -> tuple[Rows, Rows]:
    """A row a picture, and a row for every two pictures of one seed."""
    seeds, noun = described.seeds(painted), described.noun
    looks = [
        {"run": run, "seed": seed, "adjective": (adjective := described.adjective[one.asked.id]), "noun": noun, "id": one.asked.id,
         "prompt": one.asked.prompt, **looked(one, adjective, noun, threshold)}
        for seed, some in told(list(seeds.items()), f"looking, {run}", "seed") for one in some
    ]  # fmt: skip
    changes = [
        {"run": run, "seed": seed, "first": described.adjective[one.asked.id], "second": described.adjective[other.asked.id], "noun": noun,
         **compared(one, other, noun, threshold)}
        for seed, some in told(list(seeds.items()), f"comparing, {run}", "seed") for one, other in combinations(some, 2)
    ]  # fmt: skip
    return looks, changes


def summary(looks: Rows, changes: Rows, described: Described) -> dict[str, Any]:
    """Means with their intervals over seeds: all, by adjective, and by two adjectives."""
    alone = {word: [row for row in looks if row["adjective"] == word] for word in described.adjectives}
    return {
        "looks": table_of(looks, "seed", LOOKS),
        "by adjective": {word: table_of(rows, "seed", LOOKS) for word, rows in alone.items()},
        "changes": table_of(changes, "seed", CHANGES),
        "by two": {
            f"{one} - {other}": table_of([row for row in changes if (row["first"], row["second"]) == (one, other)], "seed", CHANGES)
            for one, other in combinations(described.adjectives, 2)
        },
    }  # fmt: skip


def moved(described: Described, painted: Sequence[Painted]) -> list[str]:
    """Ids of prompts whose noun has other tokens than in the first of their seed: held, they look where something else was."""
    found = []
    for some in described.seeds(painted).values():
        first = some[0].words().prompts[0].find(described.noun)
        found += [one.asked.id for one in some[1:] if one.words().prompts[0].find(described.noun) != first]
    return found


def study(
    template: str, model: Any, *, out: str | Path, noun: str | None = None, seeds: int = 1, held: bool = False, threshold: float = 0.4,
    options: Options = Options(), **painting: Any,
) -> Path:  # fmt: skip
    """Paint every adjective of a template from the same noise, and write adjectives.csv, changes.csv, report.json and report.html, whose
    path is returned.

    template, noun, seeds: as for `language.making.adjectives`; the first seed is that of the options. model, out, options and painting: as
    for `paint`. held: paint them again, into out/held, with the attention of the first adjective held fixed in the others. threshold: from
    which on a min-max normalised map is a mask; 0.4 is DAAM's.
    """
    threshold = number("threshold", threshold, "between 0 and 1", lambda x: 0 < x < 1, "DAAM's is 0.4.")
    if options.limit is not None:
        refuse("limit", "left out", said(options.limit), "Name fewer adjectives or seeds.")
    described, out = Described(template, noun=noun, seed=options.seed, seeds=seeds), Path(out)
    pipe = pipeline_of(model, options.dtype)  # once for both runs
    about: dict[str, Any] = {"template": template, "loaded": named(model)}
    how = {"options": options, "words": described.words, **painting}
    holding = partial(hold, guidance=options.guidance)
    if held:
        holding(pipe)  # refused before anything is painted
    runs = {"free": paint(described.prompts, pipe, out=out, about=about, **how)}
    if held:
        about["held"] = True
        runs["held"] = paint(described.of_seeds(), pipe, out=out / "held", about=about, together=True, around=holding, **how)
    if is_first():
        report(out, described, runs, threshold)
    return out / "report.html"


def report(out: Path, described: Described, runs: Mapping[str, Sequence[Painted]], threshold: float) -> Path:
    """Score what was painted, and write the files."""
    rows = {run: measured(described, painted, threshold, run) for run, painted in runs.items()}
    lost = {run: left_out(out if run == "free" else out / run) for run in runs}
    found = {
        "study": "entangle adjectives", "template": described.template, "noun": described.noun, "adjectives": described.adjectives,
        "seeds": len(described.seeds(runs["free"])), "runs": {run: summary(*both, described) for run, both in rows.items()},
        "moved": moved(described, runs["held"]) if "held" in runs else [], "threshold": threshold,
        "left out": {run: left for run, left in lost.items() if left}, **facts_of(out),
    }  # fmt: skip
    tables = {name: table([row for both in rows.values() for row in both[place]]) for place, name in enumerate(("adjectives", "changes"))}
    return write(out, tables, found, page_of(found, described, runs, threshold))
