"""The page of adjectives: where they look, what changes between them, and their pictures side by side, free and held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from i2am.common.checks import counted
from i2am.studies import entangle_pictures as draw
from i2am.studies.described import Described
from i2am.studies.page import TABS, Pictures, how, interval, notes, number, page, percent, row, section, share, table, tabs, text
from i2am.studies.painted import Painted
from i2am.studies.results import lost as lost_prompts

COLUMNS = 8  # adjectives side by side at most
HELD = ("Held, the pictures of a seed share the queries and keys of the first in every attention to the prompt; what differs is what the "
        "words bring.")  # fmt: skip
RUNS = {"free": "Painted freely", "held": "With the first one's attention held"}
Runs = Mapping[str, Sequence[Painted]]


def page_of(found: Mapping[str, Any], described: Described, runs: Runs, threshold: float) -> str:
    """The HTML. found: what report.json holds."""
    parts = [looks(found), changes(found), pictures(found, described, runs, threshold), measured(found)]
    return page(f"Adjectives of a {described.noun}", said(found), parts)


def said(found: Mapping[str, Any]) -> str:
    """What came out, in a few sentences."""
    free, noun, words = found["runs"]["free"], text(found["noun"]), text(", ".join(found["adjectives"]))
    many = f"{found['seeds']:,} seed{'s' * (found['seeds'] > 1)}"
    lines = [f"&ldquo;{text(found['template'])}&rdquo;, {many}."]
    if free["looks"]["leak"]["mean"] is not None:
        outside, chance = (percent(free["looks"][name]["mean"]) for name in ("outside", "chance"))
        lines.append(f"{words.capitalize()} have <b>{outside}%</b> of their weight outside of the {noun}; looking anywhere alike, they "
                     f"would have {chance}%.")  # fmt: skip
    for run, title in (("free", "From one adjective to the next the picture changes"), ("held", "With the attention held")):
        if run in found["runs"]:
            both = found["runs"][run]["changes"]
            apart = {f"outside of the {noun}": both["ssim_outside"]["mean"], f"in the {noun}": both["ssim_inside"]["mean"]}
            if told := [f"by <b>{number(mean)}</b> {where}" for where, mean in apart.items() if mean is not None]:
                lines.append(f"{title} {' and '.join(told)}, in 1 &minus; SSIM.")
    return " ".join(lines)


def looks(found: Mapping[str, Any]) -> str:
    """Where each adjective looks."""
    free, noun = found["runs"]["free"], text(found["noun"])
    rows = [look_row(text(word), one) for word, one in free["by adjective"].items()]
    rows.append(look_row("all", free["looks"], "own"))
    heads = ("Adjective", f"outside the {noun}", "", "chance", "leak", "", "IoD", f"the {noun}'s share")
    say = (f"The share of an adjective's weight outside of the {noun}'s mask ({found['threshold']:g} of its map's range), what a map that "
           "is the same everywhere would have there, and their ratio: at a leak of 1 the adjective does not know its noun. IoD is the part "
           f"of the adjective's mask that lies in the {noun}'s.")  # fmt: skip
    lost = free["looks"]["leak"]["nan"]
    return section("Where adjectives look", say, table("Where adjectives look", heads, rows),
                   notes(f"{counted(lost, 'picture')} without a leak: the {noun}'s mask is all of them." if lost else "", once(found),
                         *(lost_prompts(left) for left in found["left out"].values())))  # fmt: skip


def once(found: Mapping[str, Any]) -> str:
    """Of how sure this is."""
    if found["seeds"] == 1:
        return "One seed has no interval; <b>--seeds</b> paints more."
    return (f"Intervals are 95%, from {found['bootstrap']['resamples']:,} bootstrap draws of seeds: the pictures of one seed are no "
            "independent draws.")  # fmt: skip


def look_row(name: str, one: Mapping[str, Any], kind: str = "") -> str:
    out, leak = one["outside"], one["leak"]
    return row(name, "" if out["mean"] is None else f"<b>{percent(out['mean'])}%</b>", share(out["mean"], *ends(out)),
               "" if one["chance"]["mean"] is None else f"{percent(one['chance']['mean'])}%", f"<b>{number(leak['mean'])}</b>", small(leak),
               number(one["iod"]["mean"]), f"{percent(one['area']['mean'])}%", kind=kind)  # fmt: skip


def ends(one: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """The interval, where there are several seeds."""
    return (one["low"], one["high"]) if one["clusters"] > 1 else (None, None)


def small(one: Mapping[str, Any]) -> str:
    return f"<small>{interval(*ends(one))}</small>"


def changes(found: Mapping[str, Any]) -> str:
    """What changes between adjectives."""
    noun, runs = text(found["noun"]), found["runs"]
    rows = [change_row(RUNS[run], one["changes"], "own") for run, one in runs.items()]
    if len(found["adjectives"]) > 2:
        rows += [change_row(f"<small>{text(name)}{', held' * (run == 'held')}</small>", two)
                 for run, one in runs.items() for name, two in one["by two"].items()]  # fmt: skip
    heads = ("Two adjectives of one seed", "1 &minus; SSIM outside", "", "in it", "", "pixels outside", "in it")
    say = (f"Every two pictures of one seed, compared where the {noun} is in neither of them, and where it is in one of them. An adjective "
           "that describes its noun alone changes nothing outside. Pixels: the mean difference of their values, from 0 to 1.")  # fmt: skip
    held = HELD if "held" in runs else "<b>--held</b> paints the same with the first adjective's attention held fixed."
    lost = sum(one["changes"]["ssim_outside"]["nan"] for one in runs.values())
    nowhere = f"{counted(lost, 'comparison')} without an outside, as the {noun}'s masks leave nothing: not counted as 0." if lost else ""
    apart = found["moved"]
    moved = (f"In {counted(len(apart), 'prompt')} the {noun} is not the same tokens as in the first of their seed "
             f"({text(', '.join(apart[:5]))}), so that held attention looks for other words there: take adjectives of as many "
             "tokens.") if apart else ""  # fmt: skip
    title = "What changes between adjectives"
    return section(title, say, table(title, heads, rows), notes(held, moved, nowhere))


def change_row(name: str, one: Mapping[str, Any], kind: str = "") -> str:
    outside, inside = one["ssim_outside"], one["ssim_inside"]
    return row(name, f"<b>{number(outside['mean'])}</b>", small(outside), number(inside["mean"]), small(inside),
               number(one["absolute_outside"]["mean"]), number(one["absolute_inside"]["mean"]), kind=kind)  # fmt: skip


def pictures(found: Mapping[str, Any], described: Described, runs: Runs, threshold: float) -> str:
    """A gallery a seed."""
    room = Pictures()
    seeds = {run: described.seeds(painted) for run, painted in runs.items()}
    whole = [seed for seed, some in seeds["free"].items() if all(len(by.get(seed, ())) == len(some) > 1 for by in seeds.values())]
    shown = whole[:TABS]
    panels = {f"seed {seed}": gallery({run: by[seed] for run, by in seeds.items()}, described, threshold, room) for seed in shown}
    more = len(seeds["free"]) - len(shown)
    if not panels:
        return ""
    left = [f"{more} more seeds are in the tables and in the folder of pictures." if more else "",
            f"Of {len(described.adjectives)} adjectives the first {COLUMNS} are shown." if len(described.adjectives) > COLUMNS else "",
            f"{room.left_out} pictures are left out, as this page would grow too large." if room.left_out else ""]  # fmt: skip
    say = (f"Maps are laid over their picture; the white line is the edge of the {text(found['noun'])}'s mask. Changes are from the first "
           "adjective's picture, on one scale for the whole seed, and the line goes around the noun in both.")  # fmt: skip
    return section("Side by side", say, tabs("seed", panels), notes(*left))


def gallery(runs: Runs, described: Described, threshold: float, room: Pictures) -> str:
    """Columns are adjectives; rows are pictures, maps and changes, of each run."""
    some = {run: list(painted)[:COLUMNS] for run, painted in runs.items()}
    away = {run: [draw.apart(painted[0].picture(), one.picture()) for one in painted[1:]] for run, painted in some.items()}
    most = float(np.quantile(np.concatenate([one.numpy().ravel() for maps in away.values() for one in maps]), 0.999))
    noun, cells = described.noun, ["<i></i>", *(f"<b>{text(described.adjective[one.asked.id])}</b>" for one in some["free"])]
    for run, painted in some.items():
        opened = [(one, one.picture(), one.words()) for one in painted]
        noun_maps = [words[noun][0] for _, _, words in opened]
        masks = [draw.inside(map, picture, threshold) for map, (_, picture, _) in zip(noun_maps, opened)]
        if len(some) > 1:
            cells.append(f'<span class="next">{RUNS[run]}</span>')
        cells += line("picture", [(picture, one.asked.prompt) for one, picture, _ in opened], room)
        adjectives = [described.adjective[one.asked.id] for one in painted]
        if run == "free":  # held, all of them are the first one's
            cells += line("adjective", [(draw.outlined(draw.over(picture, words[word][0]), mask), f"where {word} looks")
                                        for word, mask, (_, picture, words) in zip(adjectives, masks, opened)], room)  # fmt: skip
            cells += line(noun, [(draw.outlined(draw.over(picture, map), mask), f"where {noun} looks")
                                 for map, mask, (_, picture, _) in zip(noun_maps, masks, opened)], room)  # fmt: skip
        heats = [(draw.difference(map, most, np.maximum(masks[0], mask)), f"{adjectives[0]} to {word}")
                 for map, mask, word in zip(away[run], masks[1:], adjectives[1:])]  # fmt: skip
        cells += line(f"change from {adjectives[0]}", heats, room, blank=True)
    return f'<div class="gallery" style="--n: {len(some["free"])}">{"".join(cells)}</div>'


def line(name: str, shots: Sequence[tuple[Any, str]], room: Pictures, blank: bool = False) -> list[str]:
    """A row of a gallery; blank: its first column stays empty."""
    shown = [f'<img src="{url}" alt="{text(what)}" title="{text(what)}">' if (url := room.add(picture)) else "<i></i>"
             for picture, what in shots]  # fmt: skip
    return [f"<small>{text(name)}</small>", *(["<i></i>"] if blank else []), *shown]


def measured(found: Mapping[str, Any]) -> str:
    say = ("All of this, and every number, is also in report.json; adjectives.csv has a line for every picture, changes.csv one for every "
           "two of a seed.")  # fmt: skip
    return how(say, {"Options": found["options"], "Bootstrap": found["bootstrap"], "Versions": found["versions"]})
