"""`i2am words`: a list of prompts painted, with a map for each word; with true masks, how well the maps segment."""

from __future__ import annotations

import argparse
from typing import Any

from i2am.cli.parsers import command
from i2am.cli.studies import STOPPED, study_arguments, study_of
from i2am.common.checks import refuse

SETS, MATCHINGS, MISSING = ("every", "coco80", "coco27"), ("labelled", "best", "hungarian"), ("refuse", "skip", "zero")


def add_words(commands: Any) -> None:
    parser = command(
        commands, "words", words, help="paint a list of prompts, and see where each word acts",
        about="Paint every prompt of a list while tracing, keep each picture with the maps of its words, and draw a look at each. Stopped "
        "and started again with the same --out, it goes on where it was. Under accelerate launch or torchrun the processes share the work. "
        "With --truth the maps are scored against masks as DAAM does: a table, a page with the best and the worst, and every IoU.",
        stopped=STOPPED,
        examples=["--prompts prompts.txt --out runs/words", "--prompts dogs.csv --model weights/sd15 --words dog --out runs/dogs",
                  "--prompts coco-gen.csv --model weights/sd2 --truth coco-gen --nouns coco80 --missing skip --out runs/coco-gen"],
    )  # fmt: skip
    study_arguments(parser)
    parser.add_argument("--words", nargs="+", action="extend", metavar="WORD", help="words that every prompt must have")
    scoring_arguments(parser.add_argument_group("with true masks"))


def scoring_arguments(group: Any) -> None:
    group.add_argument("--truth", metavar="PATH", help="castorini/daam's folder, <id>/<word>.gt.png, where the mask is the alpha channel; "
                       "or COCO's instances, .json")  # fmt: skip
    group.add_argument("--thresholds", nargs="+", type=float, metavar="T", help="where maps are cut (default: 0.2 0.3 0.4 0.5 0.6)")
    group.add_argument("--nouns", choices=tuple(SETS), help="whose masks count: every one (default), COCO's 80 classes, or the kinds of "
                       "COCO-Stuff that these belong to")  # fmt: skip
    group.add_argument("--matching", choices=MATCHINGS, help="which map a mask is held against: its word's (default), the best, or that "
                       "of one word for each noun")  # fmt: skip
    group.add_argument("--missing", choices=MISSING, help="a noun with a mask that its prompt lacks: refused (default), left out as "
                       "DAAM's released code does, or counted as 0")  # fmt: skip
    for name, what in (
        ("predictions", "<id>/<word>.PREFIX.pred.png"),
        ("composite", "<id>/composite.PREFIX.pred.png, a picture of labels"),
    ):
        group.add_argument(f"--{name}", action="append", default=[], metavar="PREFIX=FOLDER", help=f"masks of a segmenting model, shown "
                           f"beside: {what}")  # fmt: skip


def words(parsed: argparse.Namespace) -> None:
    from i2am.cli.quiet_libraries import quiet

    with quiet():
        from i2am.studies.run import is_first
        from i2am.studies.words import study

        place = study(parsed.prompts, words=parsed.words, **scoring_of(parsed), **study_of(parsed))
        if is_first():
            print(f"Look at {place}")


def scoring_of(parsed: argparse.Namespace) -> dict[str, Any]:
    """The keywords of `study` that are about true masks."""
    from i2am.score.segmentation import Protocol

    asked = {name: value for name in ("thresholds", "nouns", "matching", "missing") if (value := getattr(parsed, name)) is not None}
    beside: dict[str, tuple[str, bool]] = {}
    for option in ("predictions", "composite"):
        for text in getattr(parsed, option):
            prefix, equals, folder = text.partition("=")
            if not equals or not prefix or prefix in beside:
                refuse(f"--{option}", "PREFIX=FOLDER, each prefix once", repr(text), "Files are <word>.PREFIX.pred.png.")
            beside[prefix] = (folder, option == "composite")
    if parsed.truth is None and (asked or beside):
        refuse(f"--{next(iter(asked), 'predictions')}", "given with --truth", "none", "It says how masks are scored.")
    asked = {name: tuple(value) if name == "thresholds" else value for name, value in asked.items()}
    return {"truth": parsed.truth, "protocol": Protocol(**asked), "predictions": beside or None}
