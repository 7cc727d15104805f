"""`i2am prompts`: lists of prompts for the studies."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from i2am.cli.parsers import command

if TYPE_CHECKING:
    from i2am.language.making import Made

STOPPED = "No list was written."


def add_prompts(commands: Any) -> None:
    about = "Lists of prompts as tables (.csv, .tsv) for i2am words, i2am syntax and i2am entangle; the same seed gives the same list."
    parser = command(commands, "prompts", prompts, help="make a list of prompts for a study", about=about, stopped=STOPPED,
                     examples=["unreal --captions captions_val2014.json --count 500 --out unreal.csv", "pairs --count 400 --out pairs.csv",
                               'adjectives "a {blue,green,red} car driving down the street" --out cars.csv'])  # fmt: skip
    kinds = parser.add_subparsers(metavar="KIND", required=True)
    unreal = command(kinds, "unreal", prompts, of="prompts", help="captions with their nouns and adjectives drawn anew",
                     about="Every noun and adjective of the captions replaced by another one of the whole list; what is between them "
                     "stays, and articles fit. It needs a parser: pip install 'i2am[syntax]'.",
                     stopped=STOPPED, examples=["--captions captions_val2014.json --count 500 --out unreal.csv"])  # fmt: skip
    unreal.add_argument("--captions", required=True, metavar="FILE", help="a list of prompts: .txt, .csv, .tsv or COCO's captions as .json")
    unreal.add_argument("--parser", metavar="NAME", help="a model of spaCy (default: the best English one that is installed)")
    pairs = command(kinds, "pairs", prompts, of="prompts", help='"a cat and a dog": two of COCO\'s classes, of one group or of two',
                    about="Two of COCO's classes by turns of one group (siblings) and of different ones, each with its own seed.",
                    stopped=STOPPED, examples=["--count 400 --out pairs.csv"])  # fmt: skip
    adjectives = command(kinds, "adjectives", prompts, of="prompts", help="one noun with several adjectives, all with one seed",
                         about="A template with the adjectives in braces.",
                         stopped=STOPPED, examples=['"a {blue,green,red} car driving down the street" --out cars.csv'])  # fmt: skip
    adjectives.add_argument("template", help="a prompt with adjectives in braces, commas between them")
    adjectives.add_argument("--noun", metavar="WORD", help="what they describe (default: the word behind the braces)")
    adjectives.add_argument("--seeds", type=int, default=1, metavar="N", help="how many seeds each is painted with (default: 1)")
    for one, what in ((unreal, "N captions, drawn from the list (default: all)"), (pairs, "how many prompts")):
        one.add_argument("--count", type=int, required=one is pairs, metavar="N", help=what)
    for one in (unreal, pairs, adjectives):
        one.add_argument("--out", required=True, metavar="FILE", help="the table to write, .csv or .tsv")
        one.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    for one, make in ((unreal, swap), (pairs, pair), (adjectives, describe)):
        one.set_defaults(make=make)


def prompts(parsed: argparse.Namespace) -> None:
    """What cannot be written is said before the work."""
    from i2am.common.outputs import file
    from i2am.data.prompts import TABLES

    file(parsed.out, suffixes=tuple(TABLES))
    parsed.make(parsed)


def write(out: str, made: Iterable[Made]) -> None:
    from i2am.common.checks import counted
    from i2am.data.prompts import Asked, write_prompts

    asked = [Asked(one.id, one.prompt, one.seed, group=one.group) for one in made]
    print(f"{write_prompts(out, asked)} ({counted(len(asked), 'prompt')}, the first: {asked[0].prompt})")


def swap(parsed: argparse.Namespace) -> None:
    import random

    from i2am.common.checks import refuse, whole_number
    from i2am.data.prompts import read_prompts
    from i2am.language.making import Made
    from i2am.language.parsed import parsed as parse
    from i2am.language.parser import model_name
    from i2am.language.swapped import swapped

    model_name(parsed.parser)
    texts = {one.id: one.prompt for one in read_prompts(parsed.captions)}
    count = len(texts) if parsed.count is None else whole_number("--count", parsed.count, 1, "Leave it out to take all.")
    if count > len(texts):
        refuse("--count", f"at most {len(texts)}, the captions there are", str(count), "Leave it out to take all.")
    sentences = {key: one.sentences for key, one in parse(texts, parsed.parser).items()}
    new = swapped(texts, sentences, parsed.seed)
    chosen = list(new) if count == len(new) else random.Random(parsed.seed).sample(list(new), count)
    write(parsed.out, [Made(key, new[key], None, "unreal") for key in chosen])


def pair(parsed: argparse.Namespace) -> None:
    from i2am.data.coco80 import GROUPS
    from i2am.language.making import pairs

    write(parsed.out, pairs(GROUPS, parsed.count, parsed.seed))


def describe(parsed: argparse.Namespace) -> None:
    from i2am.language.making import adjectives

    write(parsed.out, adjectives(parsed.template, noun=parsed.noun, seed=parsed.seed, seeds=parsed.seeds))
