"""`i2am words`: a list of prompts painted, with a map for each word."""

from __future__ import annotations

import argparse
from typing import Any

from i2am.cli.parsers import command
from i2am.cli.studies import STOPPED, study_arguments, study_of


def add_words(commands: Any) -> None:
    parser = command(
        commands, "words", words, help="paint a list of prompts, and see where each word acts",
        about="Paint every prompt of a list while tracing, keep each picture with the maps of its words, and draw a look at each. Stopped "
        "and started again with the same --out, it goes on where it was. Under accelerate launch or torchrun the processes share the work.",
        stopped=STOPPED,
        examples=["--prompts prompts.txt --out runs/words", "--prompts dogs.csv --model weights/sd15 --words dog --out runs/dogs"],
    )  # fmt: skip
    study_arguments(parser)
    parser.add_argument("--words", nargs="+", action="extend", metavar="WORD", help="words that every prompt must have")


def words(parsed: argparse.Namespace) -> None:
    from i2am.cli.quiet_libraries import quiet

    with quiet():
        from i2am.studies.run import is_first
        from i2am.studies.words import study

        place = study(parsed.prompts, words=parsed.words, **study_of(parsed))
        if is_first():
            print(f"Look at {place}")
