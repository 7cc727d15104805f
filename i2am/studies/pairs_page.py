"""The page of pairs: by group how far two words look at the same place, how often both things were painted, and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from i2am.common.checks import cited, counted
from i2am.score.entanglement import Pair
from i2am.studies import entangle_pictures as draw
from i2am.studies.lanes import Dot, lanes
from i2am.studies.page import (
    TABS,
    Pictures,
    card,
    how,
    interval,
    look,
    looks,
    notes,
    number,
    page,
    percent,
    row,
    section,
    share,
    table,
    tabs,
    text,
)
from i2am.studies.painted import Painted
from i2am.studies.results import lost as lost_prompts

SHOWN = 6  # pictures of each end of each group
TOLD = 3  # differences that the first sentences name; the table has all
Nouns = Mapping[str, tuple[str, str]]


def page_of(found: Mapping[str, Any], painted: Sequence[Painted], pairs: Sequence[Pair], nouns: Nouns) -> str:
    """The HTML. found: what report.json holds."""
    words = f"{found['pictures']:,} pictures of two things each"
    parts = [numbers(found), distributions(found, pairs, nouns), examples(painted, pairs, nouns, found["threshold"]), measured(found)]
    return page("Two nouns in one prompt", f"{words}. {said(found)}", parts)


def said(found: Mapping[str, Any]) -> str:
    """What came out, in a sentence or two."""
    lines = []
    for names in list(combinations(found["groups"], 2))[:TOLD]:
        columns = found["differences"][" - ".join(names)]
        one, other = (f"&ldquo;{text(part)}&rdquo;" for part in names)
        for what, title in (("iou", "The masks of the two words overlap {}"), ("right", "Both things are painted {} often")):
            apart = columns[what]
            if apart["mean"] is None:
                continue
            means = [found["groups"][part][what]["mean"] for part in names]
            values = [f"<b>{percent(x)}%</b>" if what == "right" else f"<b>{number(x)}</b>" for x in means]
            unit = "" if what == "right" else "an IoU of "
            sure = "" if apart["low"] > 0 or apart["high"] < 0 else ", which may be chance: the interval of the difference has 0 in it"
            side = title.format("more" if apart["mean"] > 0 else "less")
            lines.append(f"{side} in {one} than in {other}, {unit}{' against '.join(values)}{sure}.")
    return " ".join(lines)


def numbers(found: Mapping[str, Any]) -> str:
    rows = []
    for name, columns in found["groups"].items():
        rows.append(line(text(name), f"{columns['pictures']:,}", columns, "own"))
    rows += [line(f"<small>{text(name)}</small>", "", columns) for name, columns in found["differences"].items()]
    rows += [row(f"DAAM's paper, {text(name)}", f"{one['pictures']:,}", "", "", "", "", f"{percent(one['right'])}%", "", kind="others")
             for name, one in found["paper"].items()]  # fmt: skip
    heads = ("Group", "pictures", "IoU", "", "IoD", "IoH", "both painted", "")
    tables = [table("Overlap and what was painted", heads, rows)]
    if "by_right" in found:
        tables.append("<h3>Where both things are there, and where not</h3>" + by_right(found["by_right"]))
    lost = sum(columns["iou"]["nan"] for columns in found["groups"].values())
    unlabelled = len(found["without a label"])
    remarks = notes(
        lost_prompts(found["left out"]),
        f"{counted(lost, 'picture')} without an overlap, as neither word covers anything: not counted as 0." if lost else "",
        f"{counted(unlabelled, 'picture')} without a label: {text(cited(found['without a label'], 5))}" if unlabelled else "",
        "" if found["labels"] else "Whether both things were painted is known from labels alone: look at the pictures, or run a detector, "
        "and give the table as --labels.",
        "The paper's pictures were painted by Stable Diffusion and looked at by people. Its two shares are here to be compared with, "
        "not a target.",
    )  # fmt: skip
    say = (f"IoU, IoD and IoH compare the masks of a prompt's two words: their maps at the picture's size, min-max normalised, above "
           f"{found['threshold']:g}. IoD is the part of the second word's mask that lies in the first one's, IoH the other way round. "
           f"Intervals are 95%, from {found['bootstrap']['resamples']:,} bootstrap draws of pictures.")  # fmt: skip
    return section("Groups", say, *tables, remarks)


def line(name: str, pictures: str, columns: Mapping[str, Any], kind: str = "") -> str:
    """A group's numbers, or a difference's."""
    iou, right = columns["iou"], columns["right"]
    bar = share(right["mean"], right["low"], right["high"]) if kind else ""
    sure = f"<small>{percent(right['low'])} to {percent(right['high'])}</small>"
    painted = "" if right["mean"] is None else f"<b>{percent(right['mean'])}%</b> {sure}"
    return row(name, pictures, f"<b>{number(iou['mean'])}</b>", f"<small>{interval(iou['low'], iou['high'])}</small>",
               number(columns["iod"]["mean"]), number(columns["ioh"]["mean"]), painted, bar, kind=kind)  # fmt: skip


def by_right(found: Mapping[str, Any]) -> str:
    """The IoU of right and wrong pictures."""
    rows = [
        row("all" if name == "all" else text(name), *(cell for what in ("right", "wrong") for cell in how_many(one[what])),
            number(one["difference"]["mean"]), f"<small>{interval(one['difference']['low'], one['difference']['high'])}</small>")
        for name, one in found.items()
    ]  # fmt: skip
    return table("IoU by what was painted", ("Group", "both painted", "IoU", "not both", "IoU", "difference", ""), rows)


def how_many(one: Mapping[str, Any]) -> tuple[str, str]:
    return f"{one['count'] + one['nan']:,}", number(one["mean"])


def distributions(found: Mapping[str, Any], pairs: Sequence[Pair], nouns: Nouns) -> str:
    """Every picture's IoU as a dot."""
    dots: dict[str, list[Dot]] = {name: [] for name in found["groups"]}
    for one in pairs:
        if one.iou is not None:
            kind = {None: "dot", True: "dot right", False: "dot wrong"}[one.right]
            dots[one.group].append((one.iou, kind, f"{one.id}: {' and '.join(nouns[one.id])}, {one.iou:.3f}"))
    legend = '<p class="legend"><span class="c0">both painted</span><span class="c1">not both</span></p>' if found["labels"] else ""
    plot = lanes("IoU of the two words' masks, by group", dots, {name: one["iou"] for name, one in found["groups"].items()})
    return section("Every picture", "The IoU of its two words' masks; the band is the interval of the mean.",
                   f'<div class="charts whole">{card("IoU of the two words", plot + legend)}</div>')  # fmt: skip


def examples(painted: Sequence[Painted], pairs: Sequence[Pair], nouns: Nouns, threshold: float) -> str:
    """The pictures with the most and the least overlap of each group."""
    pictures, panels = Pictures(), dict[str, str]()
    groups = dict.fromkeys(one.group for one in pairs)
    chosen = {}
    for group in groups:
        scored = [(one.iou, i) for i, one in enumerate(pairs) if one.group == group and one.iou is not None]
        order = [i for _, i in sorted(scored)]
        chosen[group] = {"Most": order[::-1][:SHOWN], "Least": order[: max(0, min(SHOWN, len(order) - SHOWN))]}
    for group in groups:
        for title, places in chosen[group].items():
            if places:
                figures = [example(painted[i], pairs[i], nouns[pairs[i].id], threshold, pictures) for i in places]
                panels[f"{title} overlap, {text(group)}"] = looks(figures)
    say = "The picture, the two words' maps over it, and their masks: the first word's amber, the second one's blue, white where both lie."
    shown = dict(list(panels.items())[:TABS])
    left = f"There is room for the first {TABS} of {len(panels)} tabs." if len(panels) > TABS else ""
    return section("Examples", say, tabs("ends", shown), notes(left)) if panels else ""


def example(one: Painted, pair: Pair, nouns: tuple[str, str], threshold: float, pictures: Pictures) -> str:
    picture, words = one.picture(), one.words()
    maps = [words[noun][0] for noun in nouns]
    shots = [(picture, "picture"), *((draw.over(picture, map), noun) for map, noun in zip(maps, nouns)),
             (draw.masks(picture, maps, threshold), "masks")]  # fmt: skip
    told = {None: "", True: " &middot; both painted", False: " &middot; not both painted"}[pair.right]
    return look([(pictures.add(shot, side=200), what) for shot, what in shots], text(one.asked.prompt), f"IoU {number(pair.iou)}",
                f"{text(one.asked.id)}{told}")  # fmt: skip


def measured(found: Mapping[str, Any]) -> str:
    return how("All of this, and every number, is also in report.json; every pair's numbers are in pairs.csv.",
               {"Options": found["options"], "Bootstrap": found["bootstrap"], "Versions": found["versions"]})  # fmt: skip
