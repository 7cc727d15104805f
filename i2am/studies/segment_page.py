"""The page of a segmentation: thresholds against rivals, nouns, the best and the worst."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from i2am.score.segmentation import PRESET, Scored, nearest
from i2am.studies.charts import curves
from i2am.studies.page import (
    Pictures,
    card,
    cards,
    histogram,
    how,
    look,
    looks,
    notes,
    number,
    page,
    row,
    section,
    share,
    sure,
    table,
    tabs,
    text,
)
from i2am.studies.painted import Painted
from i2am.studies.segment_looks import cut, outlined, over
from i2am.studies.segment_scores import Scores, extremes, levels_of
from i2am.studies.segment_truth import Truth

LOOKS = 6  # best, and as many worst
NOUNS = 24  # in the table that is open
MATCHED = {
    "labelled": "Each mask is held against the map of its own word.",
    "best": "Each mask is held against whichever map of its picture fits it best, at each threshold.",
    "hungarian": "Each noun is held against the map of one word, the same in all pictures, so that the sum is largest.",
}
NOUN_SETS = {"every": "every noun that has a mask", "coco80": "COCO's 80 classes", "coco27": "the kinds of COCO-Stuff, their nouns united"}
RIVAL_NAMES = {"whole": "whole image", "random": "random box", "bright": "bright pixels", "dark": "dark pixels"}
PUBLISHED = (  # the DAAM paper's (ACL 2023, arXiv 2210.04885), mIoU in percent: COCO's 80 classes, every noun
    ("DAAM, COCO-Gen", 64.8, 60.7),
    ("DAAM, Unreal-Gen", 60.8, 58.3),
    ("whole image, COCO-Gen", 20.4, 21.1),
    ("CLIPSeg, COCO-Gen", 78.6, 71.6),
)


def page_of(report: Mapping[str, Any], scores: Scores, masked: Mapping[str, Painted], truth: Truth) -> str:
    place = nearest(truth.protocol.thresholds, report["preset"])
    rows = scores.maps.result()
    parts = [thresholds(report, distribution(report, rows, place)), nouns(report), examples(rows, place, masked, truth, report["preset"]),
             left_out(report), details(report)]  # fmt: skip
    return page(report["title"], lede(report, place), parts, brand="i2am words")


def lede(report: Mapping[str, Any], place: int) -> str:
    own, counts = report["maps"][place], report["counts"]
    if own["mean"] is None:
        return "No noun could be scored."
    rivals = {name: lines[place]["mean"] for name, lines in report["rivals"].items()}
    best = max(rivals, key=lambda name: rivals[name])
    verdict = "below" if own["mean"] < rivals[best] else "against"
    top = report["maps"][[line["threshold"] for line in report["maps"]].index(report["best"])]
    also = "" if top["threshold"] == own["threshold"] else f", and <b>{number(top['mean'])}</b> at its best, above {top['threshold']:g}"
    return (
        f"Cut above {own['threshold']:g}, word maps have a mean IoU of <b>{number(own['mean'])}</b> over {own['count']:,} nouns in "
        f"{counts['pictures']:,} pictures{also}; {verdict} {number(rivals[best])} of the best rival without attention: {RIVAL_NAMES[best]}."
    )


def thresholds(report: Mapping[str, Any], more: str) -> str:
    """more: further plots."""
    columns = {"Word maps": report["maps"], **{title(name): lines for name, lines in report["rivals"].items()},
               **{text(name): lines for name, lines in report["others"].items()}}  # fmt: skip
    lines = []
    for i, own in enumerate(report["maps"]):
        marks = [" <small>DAAM's</small>"] if own["threshold"] == PRESET else []
        marks += [" <small>best</small>"] if own["threshold"] == report["best"] else []
        cells = [f"{own['threshold']:g}{''.join(marks)}", sure(own["mean"], own["half"]), number(own["mean_of_classes"])]
        cells += [sure(one[i]["mean"], one[i]["half"]).replace("<b>", "").replace("</b>", "") for one in list(columns.values())[1:]]
        lines.append(row(*cells, kind="own" if own["threshold"] == report["preset"] else ""))
    heads = ("Cut above", "Word maps", "Mean over nouns", *list(columns)[1:])
    curve = {
        name: [(one["threshold"], one["mean"], one["mean"] - one["half"], one["mean"] + one["half"]) for one in found]
        for name, found in columns.items()
        if all(one["mean"] is not None for one in found)
    }
    plot = card("Mean IoU over where the map is cut", curves("Mean IoU over the threshold", curve)) if curve else ""
    say = f"""Mean IoU over (picture, noun) and 1.96 &sigma; / &radic;n, of {NOUN_SETS[report["protocol"]["nouns"]]}.
{MATCHED[report["protocol"]["matching"]]} "Mean over nouns" is the mean of the nouns' own means. Bright and dark pixels are cut where
the map is; a whole image and a random box of 10% to 30% of it are the same at every threshold."""
    return section(
        "Where the map is cut", say, table("Thresholds", heads, lines), cards(plot, more, wide=True) if plot else "", published()
    )


def title(name: str) -> str:
    return RIVAL_NAMES[name].capitalize()


def published() -> str:
    lines = [row(text(name), number(eighty / 100), number(every / 100), kind="others") for name, eighty, every in PUBLISHED]
    say = """From the DAAM paper (ACL 2023, arXiv 2210.04885), DAAM at its best threshold. They are of other pictures, masks and models:
comparable only with a run on those, and in no number above."""
    heads = ("What", "COCO's 80 classes", "Every noun")
    found = table("Published numbers", heads, lines)
    return f'<details><summary>Published numbers, measured by others</summary><p class="say">{say}</p>{found}</details>'


def distribution(report: Mapping[str, Any], rows: Sequence[Scored], place: int) -> str:
    values, own = [one.iou[place] for one in rows if not math.isnan(one.iou[place])], report["maps"][place]
    if not values:
        return ""
    found = {"mean": own["mean"], "low": own["mean"] - own["half"], "high": own["mean"] + own["half"]}
    zero = sum(value == 0 for value in values)
    plots = card(
        f"IoU of each noun, cut above {own['threshold']:g}", histogram(values, found, "IoU", "nouns"), f"{zero:,} at 0" if zero else ""
    )
    sizes = [one.share for one in rows]
    mean = sum(sizes) / len(sizes)
    plots += card("Share of the picture that a mask covers", histogram(sizes, {"mean": mean, "low": mean, "high": mean}, "shares", "masks"))
    return plots


def nouns(report: Mapping[str, Any]) -> str:
    lines = [
        row(text(word), f"{one['count']:,}", sure(one["mean"], one["half"]), share(one["mean"], *ends(one)))
        for word, one in report["classes"].items()
        if one["count"]
    ]
    if not lines:
        return ""
    heads = ("Noun", "Pictures", "Mean IoU", "")
    more = lines[NOUNS:]
    rest = f"<details><summary>{len(more):,} more</summary>{table('More nouns', heads, more)}</details>" if more else ""
    say = f"Cut above {report['preset']:g}, the most frequent first; the line over a bar is its interval."
    return section("By noun", say, table("Nouns", heads, lines[:NOUNS]), rest)


def ends(one: Mapping[str, Any]) -> tuple[float, float]:
    return one["mean"] - one["half"], one["mean"] + one["half"]


def examples(rows: Sequence[Scored], place: int, masked: Mapping[str, Painted], truth: Truth, threshold: float) -> str:
    pictures = Pictures()
    best, worst = extremes(rows, place, LOOKS)
    shown: dict[str, list[str]] = {"Best": [], "Worst": []}
    order = [pair for rank in range(LOOKS) for pair in (("Best", best[rank : rank + 1]), ("Worst", worst[rank : rank + 1]))]
    for name, some in order:
        shown[name] += [example(one, place, masked[one.id], truth, threshold, pictures) for one in some]
    if not best:
        return ""
    say = """From left to right: the picture with the true outline, the word's map over it, and the map cut: <b class="hit">green</b> is
right, <b class="missed">blue</b> was missed, <b class="much">orange</b> is too much."""
    return section("Best and worst", say, tabs("by", {name: looks(some) for name, some in shown.items() if some}))


def example(one: Scored, place: int, painted: Painted, truth: Truth, threshold: float, pictures: Pictures) -> str:
    masks, how = dict(truth.masks[one.id]), truth.protocol
    level = how.named(levels_of(painted.words(), masks, how, truth.masks.sizes[one.id])).get(one.matched[place])
    mask, picture = how.named(masks)[one.word], painted.picture()
    shots = [(outlined(picture, mask), f"{one.word}, its outline")]
    if level is not None:
        shots += [(over(picture, level), f"map of {one.matched[place]}"), (cut(picture, level, mask, threshold), f"above {threshold:g}")]
    urls = [(pictures.add(shot), what) for shot, what in shots]
    return look(urls, f"<b>{text(one.word)}</b> in {text(painted.asked.prompt)}", f"IoU {number(one.iou[place])}", f"{text(one.id)}")


def left_out(report: Mapping[str, Any]) -> str:
    counts, how = report["counts"], report["protocol"]
    skipped = "counted as 0" if how["missing"] == "zero" else "left out, as by DAAM's released code"
    lines = [
        said(counts["without_masks"], "pictures without a mask"),
        said(counts["without_a_map"], f"masks whose noun has no map, {skipped}"),
        said(list(counts["outside_the_set"]), f"nouns that are not of {NOUN_SETS[how['nouns']]}"),
        *(f"{count:,} masks for which {text(name)} has nothing" for name, count in counts["others_without_a_mask"].items() if count),
    ]
    found = [line for line in lines if line]
    return section("What is not scored", "All of them are named in report.json.", notes(*found)) if found else ""


def said(names: Sequence[str], what: str) -> str:
    return f"<b>{len(names):,}</b> {what}: {listed(names)}" if names else ""


def listed(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return text(", ".join(names[:most])) + more


def details(report: Mapping[str, Any]) -> str:
    parts = {"Protocol": report["protocol"], "Truth": report["truth"], "Which map is whose": report["matched"],
             **{name: report[name] for name in report["about"]}, "Versions": report["versions"]}  # fmt: skip
    return how("All of this, and every number, is also in report.json; every IoU is in segmentation.csv.", parts)
