"""The report of a study of syntax: relations.csv, a row for each pair of words, and the facts of report.json and of its page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from i2am.score.relations import CONFIDENCE, MEASURES, RESAMPLES, Convention, by_relation, mean_of
from i2am.studies import results
from i2am.studies.measured import COREFERENT, RELATION, UNRELATED, Left, Measured

KINDS = {RELATION: "all heads and dependents", UNRELATED: "unrelated words", COREFERENT: "coreferent words"}
FREQUENT = 20  # words without a map that the report names
COLUMNS = ("id", "kind", "relation", "head_number", "head", "dependent_number", "dependent")

# in percent: mIoU, mIoD, mIoH; of the paper's table what the project has on record
PUBLISHED: dict[str, dict[str, tuple[float, float, float]]] = {
    "paper": {
        "unrelated words": (47.5, 65.1, 66.1),
        "coreferent words": (66.6, 84.8, 77.4),
        "nsubj": (52.2, 76.4, 63.9),
        "obj": (55.4, 75.6, 46.3),
        "amod": (51.1, 62.4, 77.6),
    },
    "notebook": {
        "punct": (0.1, 2.4, 0.1),
        "nmod:of": (8.7, 12.9, 22.0),
        "compound": (33.4, 59.1, 50.0),
        "nsubj": (5.0, 10.7, 22.7),
        "case": (3.8, 18.1, 5.9),
        "det": (0.4, 13.0, 0.7),
        "conj:and": (28.4, 55.5, 39.6),
        "acl": (6.5, 28.7, 11.1),
        "obj": (6.6, 10.6, 36.4),
        "amod": (14.7, 45.1, 19.1),
    },
}
SOURCES = {
    "paper": "the paper's table (ACL 2023): Stable Diffusion, 1,000 prompts, CoreNLP",
    "notebook": "castorini/daam's notebook: Stable Diffusion 2.1, 30 steps, up to 1,500 prompts of COCO, CoreNLP",
}


def tables(measured: Sequence[Measured], how: Convention, left: Left, most: int, seed: int) -> dict[str, Any]:
    """The means by one convention: the most frequent relations, and each kind as a whole."""
    pairs = {kind: [one.pair(how.name) for one in measured if one.wanted.kind == kind] for kind in KINDS}
    whole = {name: mean_of(pairs[kind], seed=seed) for kind, name in KINDS.items()}
    return {
        "threshold": how.threshold, "resized": how.resized, "normalised": how.normalised, "merged": how.merged,
        "share_of_empty": None if math.isnan(how.empty) else how.empty, "pairs_with_an_empty_mask": left.empty[how.name],
        "relations": by_relation(pairs[RELATION], most, seed=seed), "kinds": whole,
        "published": {name: dict(zip(MEASURES, values)) for name, values in PUBLISHED.get(how.name, {}).items()},
    }  # fmt: skip


def facts(measured: Sequence[Measured], conventions: Sequence[Convention], left: Left, most: int, seed: int, about: Mapping[str, Any],
          ) -> dict[str, Any]:  # fmt: skip
    """All of report.json. about: the prompts, the parser and the options."""
    return {
        **about,
        "pairs": {name: sum(one.wanted.kind == kind for one in measured) for kind, name in KINDS.items()},
        "relations": len({one.wanted.name for one in measured if one.wanted.kind == RELATION}),
        "left_out": {
            "pairs": left.pairs, "words": left.words.total(), "most_frequent": dict(left.words.most_common(FREQUENT)),
            "one_map_for_all_places": dict(left.merged.most_common(FREQUENT)),
        },
        "bootstrap": {"over": "prompts", "resamples": RESAMPLES, "confidence": CONFIDENCE, "seed": seed},
        "conventions": {how.name: tables(measured, how, left, most, seed) for how in conventions},
    }  # fmt: skip


def table(measured: Sequence[Measured], conventions: Sequence[Convention]) -> str:
    """relations.csv; an empty cell is the share of an empty mask."""
    rows = [
        {"id": one.prompt, "kind": one.wanted.kind, "relation": one.wanted.name if one.wanted.kind == RELATION else "",
         "head_number": one.wanted.head + 1, "head": one.head, "dependent_number": one.wanted.dependent + 1, "dependent": one.dependent,
         **{f"{how.name}_{measure}": getattr(one.overlaps[how.name], measure) for how in conventions for measure in MEASURES}}
        for one in measured
    ]  # fmt: skip
    names = [f"{how.name}_{measure}" for how in conventions for measure in MEASURES]
    return results.table(rows, [*COLUMNS, *names])
