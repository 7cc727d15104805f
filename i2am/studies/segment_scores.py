"""Every IoU of a study's words, and what report.json and segmentation.csv say of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor
from tqdm.auto import tqdm

from i2am.data.coco80 import CLASSES, STUFF
from i2am.evaluation.provenance import every_version
from i2am.evaluation.report import plain
from i2am.maps.tokens import Grid
from i2am.maps.words import WordMaps
from i2am.score.segmentation import PRESET, Protocol, Scored, Segmentation, levels, nearest
from i2am.score.segmentation_rivals import Rivals
from i2am.studies import results
from i2am.studies.painted import Painted
from i2am.studies.segment_truth import Truth

COLUMNS = ("id", "word", "threshold", "iou", "map", "mask_share")


@dataclass
class Scores:
    """Everything that was scored."""

    maps: Segmentation
    rivals: Rivals
    others: dict[str, Segmentation]


def levels_of(words: WordMaps, masks: Mapping[str, Tensor], protocol: Protocol, size: Grid) -> dict[str, Tensor]:
    """The levels that the masks of one picture are held against: of their words, or of all words where names do not matter."""
    wanted = [word for word in masks if word in words]
    if protocol.matching != "labelled":
        wanted += [word.lower() for word in words if any(letter.isalnum() for letter in word)]
    if protocol.nouns == "coco27" or protocol.matching != "labelled":  # other words of a noun's kind, and names of several words
        wanted += [word for word in (*CLASSES, *STUFF) if word in words]
    return levels(words, list(dict.fromkeys(wanted)), size)


def score(masked: Sequence[Painted], truth: Truth) -> Scores:
    how = truth.protocol
    lenient = Protocol(how.thresholds, how.nouns, how.matching, "zero" if how.missing == "zero" else "skip")
    scores = Scores(Segmentation(how), Rivals(how.thresholds, truth.seed), {name: Segmentation(lenient) for name in truth.predictions})
    for one in tqdm(masked, desc="scoring", unit="image", delay=2):
        id = one.asked.id
        masks = dict(truth.masks[id])
        rows = scores.maps.add(id, levels_of(one.words(), masks, how, truth.masks.sizes[id]), masks)
        scores.rivals.add(rows, how.named(masks), one.picture())
        for name, found in truth.predictions.items():
            scores.others[name].add(id, dict(found[id]) if id in found else {}, masks)
    return scores


def summary(scores: Scores, painted: Sequence[Painted], truth: Truth, about: Mapping[str, Any]) -> dict[str, Any]:
    """What report.json holds."""
    how, lines = truth.protocol, scores.maps.table()
    scored = [line for line in lines if line["mean"] is not None]
    best = max(scored, key=lambda line: (line["mean"], -line["threshold"]))["threshold"] if scored else None
    ids = [one.asked.id for one in painted]
    return plain({
        "title": "Words as segmentation",
        "protocol": asdict(how),
        "preset": how.thresholds[nearest(how.thresholds, PRESET)],
        "best": best,
        "maps": lines,
        "rivals": scores.rivals.table(),
        "better_luminance": scores.rivals.better(),
        "others": {name: found.table() for name, found in scores.others.items()},
        "classes": scores.maps.classes(),
        "matched": dict(zip(map(str, how.thresholds), scores.maps.matched())) if how.matching == "hungarian" else {},
        "counts": {
            "prompts": len(painted),
            "pictures": scores.maps.pictures,
            "nouns": len(scores.maps.rows),
            "without_masks": [id for id in ids if id not in truth.masks],
            "without_a_map": [f"{id}: {word}" for id, word in scores.maps.missing],
            "outside_the_set": dict(scores.maps.outside),
            "others_without_a_mask": {name: len(found.missing) for name, found in scores.others.items()},
        },
        "truth": {"masks": str(truth.masks.path), "predictions": {name: str(one.path) for name, one in truth.predictions.items()},
                  "seed_of_random_boxes": truth.seed},
        "versions": every_version(),
        "about": list(about),
        **about,
    })  # fmt: skip


def table(scores: Scores, protocol: Protocol) -> str:
    """segmentation.csv: a line for each (picture, noun, threshold), with the rivals' IoU beside."""
    rivals = scores.rivals.rows
    rows = [
        {**dict(zip(COLUMNS, (row.id, row.word, threshold, row.iou[i], row.matched[i], row.share))),
         **{name: found[place].iou[i] for name, found in rivals.items()}}
        for place, row in enumerate(scores.maps.result()) for i, threshold in enumerate(protocol.thresholds)
    ]  # fmt: skip
    return results.table(rows, [*COLUMNS, *rivals])


def extremes(rows: Sequence[Scored], place: int, count: int) -> tuple[list[Scored], list[Scored]]:
    """The best and the worst, no row twice."""
    order = sorted((row for row in rows if not math.isnan(row.iou[place])), key=lambda row: (-row.iou[place], row.id, row.word))
    best = order[: min(count, (len(order) + 1) // 2)]
    return best, order[len(best) :][-count:][::-1]
