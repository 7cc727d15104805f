"""The page of a study of syntax: the relations' table beside what was published, and examples of each relation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from i2am.common.checks import counted
from i2am.language.parsed import Parsed
from i2am.maps.words import show
from i2am.score.relations import MEASURES, Convention
from i2am.show.drawing import Picture
from i2am.show.pictures import overlay
from i2am.studies import page as parts
from i2am.studies.measured import COREFERENT, RELATION, UNRELATED, Measured, TokenMaps
from i2am.studies.page import percent, text
from i2am.studies.painted import Painted
from i2am.studies.syntax_chart import plane
from i2am.studies.syntax_report import KINDS, SOURCES

NAMES = {"iou": "mIoU", "iod": "mIoD", "ioh": "mIoH"}
RELATIONS, SIDE = 10, 176  # that examples are shown of; pixels
HEAD, DEPENDENT, BOTH = (64, 132, 244), (255, 148, 38), (255, 255, 255)
FOOTER = """Attention is not causation: a map says where weights went, not what would change without them. A pair whose maps overlap need
not be one thing in the picture."""
HOW = {"Parser": "parser", "Prompts": "prompts", "Painted with": "options", "Bootstrap": "bootstrap", "Versions": "versions"}


def page(report: Mapping[str, Any], pictures: Sequence[Painted], found: Mapping[str, Parsed], measured: Sequence[Measured],
         first: Convention) -> str:  # fmt: skip
    """first: the convention by which examples are chosen and drawn."""
    room = parts.Pictures()
    chosen = examples(measured, report["conventions"][first.name], first)
    drawn = {name: [example(one, pictures, found, first, room) for one in some] for name, some in chosen.items()}
    shown = parts.tabs("relation", {text(name): parts.looks(some) for name, some in drawn.items()}) if drawn else ""
    masks = f"{swatch(HEAD, 'the head&rsquo;s')}, {swatch(DEPENDENT, 'the dependent&rsquo;s')}, {swatch(BOTH, 'both')}"
    say = f"The highest, the middle and the lowest IoU of each relation. Masks: {masks}."
    sections = [
        *(relations(name, one, report["bootstrap"], report["steps"]) for name, one in report["conventions"].items()),
        parts.section("Examples", say, shown, left_out(room)) if drawn else "",
        left(report),
        parts.how("All of this, and every number, is also in report.json; every pair is in relations.csv, every parse in parsed.conllu.",
                  {name: report[key] for name, key in HOW.items()}),
    ]  # fmt: skip
    return parts.page("Syntax", lede(report), sections, footer=FOOTER)


def lede(report: Mapping[str, Any]) -> str:
    painted, asked = report["prompts"]["painted"], report["prompts"]["asked"]
    model = f" of <b>{text(report['model'])}</b>" if report["model"] else ""
    less = "" if painted == asked else f" of {asked:,}"
    pairs = report["pairs"][KINDS[RELATION]]
    return (f"<b>{counted(pairs, 'pair')}</b> of heads and dependents in <b>{painted:,}</b>{less} prompts and pictures{model}: "
            "how far their words&rsquo; maps overlap.")  # fmt: skip


def swatch(colour: tuple[int, int, int], name: str) -> str:
    red, green, blue = colour
    edge = "; border: 1px solid #888" if colour == BOTH else ""
    style = f"display: inline-block; width: 11px; height: 11px; border-radius: 3px; background: rgb({red} {green} {blue}){edge}"
    return f'<span style="{style}"></span> {name}'


def relations(name: str, found: Mapping[str, Any], sure: Mapping[str, Any], steps: int | None) -> str:
    """The table of one convention."""
    published = found["published"]
    heads = ["Relation", "Pairs", "Prompts", *(f"{name} %" for name in NAMES.values()), "&Delta;", "<small>published</small>"]
    rows = [line(text(one["relation"]), one, published.get(one["relation"])) for one in found["relations"]]
    rows += [line(f"<i>{kind}</i>", one, published.get(kind), kind="own") for kind, one in found["kinds"].items() if one["count"]]
    cut = f"cut above {found['threshold']:g}"
    about = ("Each word&rsquo;s own map, brought to the picture and min-max normalised, " if found["normalised"] else
             "The mean map of all places of a word&rsquo;s text, as it is, a sum over steps, ") + cut  # fmt: skip
    shown = [(one["relation"], one) for one in found["relations"]] + [(kind, one) for kind, one in found["kinds"].items() if one["count"]]
    chart = parts.card("mIoH over mIoD", plane(shown, f"mIoH over mIoD of relations, by the {name}'s convention"),
                       "above the line the dependent&rsquo;s mask reaches further, below it the head&rsquo;s")  # fmt: skip
    own = steps or "the pipeline&rsquo;s own number"
    placed = any(one[measure]["mean"] for _, one in shown for measure in ("iod", "ioh"))
    pairs = sum(one["count"] for one in found["kinds"].values())
    counted_as = "count as 0" if found["share_of_empty"] == 0 else "are in no mean"
    empty = f"{found['pairs_with_an_empty_mask']:,} of {pairs:,} pairs have a mask that covers nothing; shares of it {counted_as}."
    return parts.section(
        f"Relations, by the {name}'s convention",
        f"{about}. IoD is the overlap over the dependent&rsquo;s mask, IoH over the head&rsquo;s, &Delta; how far the two means are apart. "
        f"In small print the {sure['confidence']:.0%} interval of each mean, from {sure['resamples']:,} bootstrap draws of prompts.",
        parts.table(f"Relations, {name}", heads, rows),
        f'<div class="charts" style="grid-template-columns: minmax(0, 640px)">{chart}</div>' if placed else "",
        parts.notes(empty if found["pairs_with_an_empty_mask"] else "",
                    f"Published (mIoU / mIoD / mIoH %) by others, on other pictures, and comparable in kind alone: {SOURCES[name]}.",
                    "" if found["normalised"] else f"The cut is absolute, and maps are sums over steps: 30 there, {own} here."),
    )  # fmt: skip


def line(name: str, one: Mapping[str, Any], published: Mapping[str, float] | None, kind: str = "") -> str:
    def mean(measure: str) -> str:
        found = one[measure]
        if found["mean"] is None:
            return ""
        interval = f" <small>{percent(found['low'])} to {percent(found['high'])}</small>" if found["low"] is not None else ""
        return f"<b>{percent(found['mean'])}</b>{interval}"

    theirs = f"<small>{' / '.join(f'{published[measure]:.1f}' for measure in MEASURES)}</small>" if published else ""
    return parts.row(name, f"{one['count']:,}", f"{one['prompts']:,}", *map(mean, MEASURES), percent(one["delta"]), theirs, kind=kind)


def examples(measured: Sequence[Measured], found: Mapping[str, Any], how: Convention) -> dict[str, list[Measured]]:
    """The highest, middle and lowest IoU of each relation of the table and of words that name one thing, of different prompts."""
    groups = dict[str, list[Measured]]()
    for one in found["relations"][:RELATIONS]:
        groups[one["relation"]] = [m for m in measured if m.wanted.kind == RELATION and m.wanted.name == one["relation"]]
    groups |= {KINDS[kind]: [m for m in measured if m.wanted.kind == kind] for kind in (UNRELATED, COREFERENT)}
    chosen = dict[str, list[Measured]]()
    for name, some in groups.items():
        ranked = sorted((m for m in some if m.overlaps[how.name].iou == m.overlaps[how.name].iou), key=lambda m: -m.overlaps[how.name].iou)
        each = list({m.prompt: m for m in reversed(ranked)}.values())[::-1]  # a prompt's best pair
        places = sorted({0, len(each) // 2, len(each) - 1}) if each else []
        if places:
            chosen[name] = [each[place] for place in places]
    return chosen


def example(one: Measured, pictures: Sequence[Painted], found: Mapping[str, Parsed], how: Convention, room: parts.Pictures) -> str:
    painted = next(picture for picture in pictures if picture.asked.id == one.prompt)
    picture = painted.picture()
    merged = how.merged and one.wanted.kind != COREFERENT
    maps = TokenMaps(painted.words(), found[one.prompt], merged)
    pair = maps.maps[[maps.at[one.wanted.head], maps.at[one.wanted.dependent]]]
    size = (picture.height, picture.width)
    over = overlay(picture, show(pair, size=size))
    masks = show(pair, size=size, absolute=not how.normalised, threshold=how.threshold).bool().numpy()
    shots = [
        (picture, "painted"),
        (over[0], f"{one.head}, head"),
        (over[1], f"{one.dependent}, dependent"),
        (masked(picture, *masks), "masks"),
    ]
    iou, iod, ioh = one.overlaps[how.name]
    score = f"IoU {percent(iou)}"
    more = f"IoD {percent(iod)}, IoH {percent(ioh)}; {text(one.prompt)}"
    return parts.look([(room.add(shot, side=SIDE), what) for shot, what in shots], text(painted.asked.prompt), score, more)


def masked(picture: Picture, head: Any, dependent: Any) -> Picture:
    """The two masks over the darkened picture."""
    pixels = np.asarray(picture.convert("L").convert("RGB"), dtype=np.float32) * 0.45
    for mask, colour in ((head & ~dependent, HEAD), (dependent & ~head, DEPENDENT), (head & dependent, BOTH)):
        pixels[mask] = 0.45 * pixels[mask] + 0.55 * np.array(colour, dtype=np.float32)
    return Image.fromarray(pixels.round().astype(np.uint8))


def left_out(room: parts.Pictures) -> str:
    return parts.notes(f"{counted(room.left_out, 'picture')} left out, as this page would grow too large." if room.left_out else "")


def left(report: Mapping[str, Any]) -> str:
    """What is in no number of this page."""
    found, parser = report["left_out"], report["parser"]
    listed = ", ".join(f"{text(word)} ({count:,})" for word, count in found["most_frequent"].items())
    merged = ", ".join(f"{text(word)} ({count:,})" for word, count in found["one_map_for_all_places"].items())
    lines = [
        f"{counted(found['pairs'], 'pair')} with a word that the model reads otherwise than the parser, and that has no map: {listed}."
        if found["pairs"] else "",
        f"Words with one map for all their places, as the model reads another number of them than the parser: {merged}." if merged else "",
        f"{counted(parser['lost_relations'], 'relation')} of words that nobody wrote." if parser["lost_relations"] else "",
        f"Relations under names that Universal Dependencies does not know: {text(', '.join(parser['unknown_relations']))}."
        if parser["unknown_relations"] else "",
        "Who names the same thing was marked by no file: nouns that a prompt has twice stand for it, and pronouns are left out."
        if not parser["marked_coreference"] and not report["coreference"] else "",
    ]  # fmt: skip
    return parts.section("What is left out", "", parts.notes(*lines)) if any(lines) else ""
