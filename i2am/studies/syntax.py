"""Syntax: how the maps of words overlap that depend on each other, by relation (DAAM's visuosyntactic study)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from i2am.common.checks import refuse, said, whole_number
from i2am.common.outputs import folder
from i2am.data.prompts import Asked
from i2am.evaluation.provenance import every_version, installed
from i2am.language.conllu import read_conllu, write_conllu
from i2am.language.pairs import coreferent, read_coreference, sampled, unrelated
from i2am.language.parsed import Parsed, matched, parsed
from i2am.language.parser import model_name
from i2am.language.relations import unknown
from i2am.score.relations import Convention, convention
from i2am.studies.earlier import earlier, omitted, options_of
from i2am.studies.measured import COREFERENT, RELATION, UNRELATED, Left, Measured, Wanted, measure
from i2am.studies.options import Options
from i2am.studies.painted import Painted
from i2am.studies.results import write
from i2am.studies.run import as_asked, is_first, paint
from i2am.studies.syntax_page import page
from i2am.studies.syntax_report import facts, table

BOTH = ("paper", "notebook")


def study(
    prompts: str | Path | Sequence[Asked] | Sequence[str],
    model: Any = None,
    *,
    out: str | Path,
    painted: str | Path | None = None,
    conllu: str | Path | None = None,
    parser: str | None = None,
    coreference: str | Path | None = None,
    conventions: Sequence[str] = BOTH,
    relations: int = 10,
    unrelated_pairs: int = 5000,
    options: Options = Options(),
    **how: Any,
) -> Path:
    """Parse the list, paint it, measure; returns the page, OUT/report.html. Beside it: report.json, relations.csv and parsed.conllu.

    painted: the folder of an earlier study of this list, which is read instead of painting. conllu: the parses, else spaCy's by its model
    `parser`. coreference: a table of words that name one thing. unrelated_pairs: how many pairs of other words to compare with, at most.
    how: further keywords of `paint`.
    """
    chosen = [convention(name) for name in dict.fromkeys(conventions)]
    if not chosen:
        refuse("conventions", "one or both of paper, notebook", "none", "Leave it out for both.")
    whole_number("relations", relations, 1, "The paper's table has ten.")
    whole_number("unrelated_pairs", unrelated_pairs, 0, "0 compares with none.")
    if (model is None) == (painted is None):
        refuse("model or painted", "one of both", f"{said(model)} and {said(painted)}", "A model paints; a folder has been painted.")
    out = folder(out)
    everything = as_asked(prompts)
    asked = everything[: options.limit]
    texts = {one.id: one.prompt for one in asked}
    by = {"conllu": str(conllu)} if conllu is not None else spacy_by_name(parser)  # a missing parser is said before anything else
    found = parsed(texts, parser) if conllu is None else matched(read_conllu(conllu), texts, str(conllu))
    alike = {} if coreference is None else read_coreference(coreference, found)
    wanted = to_measure(found, alike, unrelated_pairs, options.seed)
    pictures = paint(everything, model, out=out, options=options, **how) if painted is None else earlier(painted, asked)
    if is_first():
        out.mkdir(parents=True, exist_ok=True)
        write_conllu(out / "parsed.conllu", [sentence for one in found.values() for sentence in one.sentences])
        left = Left()
        measured = measure_all(pictures, found, wanted, chosen, left)
        place = out if painted is None else Path(painted)
        ran = options_of(place)
        about = {
            "study": "syntax", "model": ran.get("model"), "steps": ran.get("steps"),
            "prompts": {"asked": len(asked), "painted": len(pictures), "left_out": omitted(place)}, "parser": {**by, **counts(found)},
            "coreference": None if coreference is None else str(coreference),
            "painted_in": str(place), "options": ran, "versions": every_version(),
        }  # fmt: skip
        told = facts(measured, chosen, left, relations, options.seed, about)
        write(out, {"relations": table(measured, chosen)}, told, page(told, pictures, found, measured, chosen[0]))
    return out / "report.html"


def spacy_by_name(parser: str | None) -> dict[str, str | None]:
    """The parser and its version."""
    name = model_name(parser)
    return {"spacy": installed("spacy"), "model": name, "version": installed(name.replace("_", "-"))}


def counts(found: Mapping[str, Parsed]) -> dict[str, Any]:
    """What the parses hold."""
    return {
        "sentences": sum(len(one.sentences) for one in found.values()),
        "words": sum(len(one.words) for one in found.values()),
        "marked_coreference": sum(any(word.coreferent for word in one.words) for one in found.values()),
        "lost_relations": sum(one.lost for one in found.values()),
        "unknown_relations": unknown(edge.name for one in found.values() for edge in one.edges),
    }


def to_measure(
    found: Mapping[str, Parsed], named: Mapping[str, Sequence[tuple[int, int]]], most: int, seed: int
) -> dict[str, list[Wanted]]:  # fmt: skip
    """The pairs of each prompt: its relations, a sample of words without one, and words that name one thing."""
    alike = {key: named.get(key) or coreferent(one) for key, one in found.items()}
    others = sampled({key: unrelated(one, alike[key]) for key, one in found.items()}, most, seed)
    return {
        key: [Wanted(RELATION, edge.name, edge.head, edge.dependent) for edge in one.edges]
        + [Wanted(UNRELATED, "", *pair) for pair in others.get(key, ())]
        + [Wanted(COREFERENT, "", *pair) for pair in alike[key]]
        for key, one in found.items()
    }


def measure_all(
    pictures: Sequence[Painted], found: Mapping[str, Parsed], wanted: Mapping[str, Sequence[Wanted]], chosen: Sequence[Convention],
    left: Left,
) -> list[Measured]:  # fmt: skip
    measured = list[Measured]()
    for one in tqdm(pictures, desc="measuring", unit="prompt", delay=2):
        key, picture = one.asked.id, one.picture()
        measured += measure(key, one.words(), (picture.height, picture.width), found[key], wanted[key], chosen, left)
    return measured
