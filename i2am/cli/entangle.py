"""`i2am entangle`: words that get in each other's way, two nouns of a prompt or an adjective and what is around its noun."""

from __future__ import annotations

import argparse
from typing import Any

from i2am.cli.parsers import command
from i2am.cli.studies import STOPPED, study_arguments, study_of

PAIRS = "--count 200 --model weights/sd15 --out runs/pairs"
ADJECTIVES = '"a {blue,green,red} car driving down the street" --seeds 8 --held --model weights/sd15 --out runs/cars'


def add_entangle(commands: Any) -> None:
    parser = command(
        commands, "entangle", pairs, help="do words get in each other's way: pairs of nouns, adjectives of one noun",
        about="Two studies of DAAM's: whether two nouns of one prompt look at the same place and are both painted, more so where they are "
        "of one kind; and whether an adjective looks at, and changes, more than its noun.",
        stopped=STOPPED, examples=[f"pairs {PAIRS}", f"adjectives {ADJECTIVES}"],
    )  # fmt: skip
    kinds = parser.add_subparsers(metavar="STUDY", required=True)
    two = command(
        kinds, "pairs", pairs, of="entangle", help='"a cat and a dog": two things of one kind, or of two',
        about="Paint prompts of two nouns, half of them of one group; compare the two words' masks and, with labels, how often both things "
        "are there. Given again with --labels, the same command paints nothing anew.",
        stopped=STOPPED, examples=[PAIRS, f"{PAIRS} --labels seen.csv", "--prompts pairs.csv --out runs/mine"],
    )  # fmt: skip
    two.add_argument("--prompts", metavar="FILE", help='prompts "a(n) X and a(n) Y" in a table with a column group, as `i2am prompts '
                     "pairs` writes it")  # fmt: skip
    two.add_argument("--count", type=int, metavar="N", help="how many prompts are made, where none are given")
    two.add_argument("--classes", metavar="FILE", help="words to make prompts of, a table group,word (default: COCO's)")
    two.add_argument("--labels", metavar="FILE", help="what people or a detector saw: a table id,both or id,first,second of 0 and 1")
    study_arguments(two, prompts=None)
    one = command(
        kinds, "adjectives", adjectives, of="entangle", help="one noun with several adjectives, from the same noise",
        about="Paint one noun with several adjectives and one seed; see where each adjective looks, and what changes beside the noun.",
        stopped=STOPPED, examples=[ADJECTIVES],
    )  # fmt: skip
    one.add_argument("template", help="a prompt with adjectives in braces, commas between them")
    one.add_argument("--noun", metavar="WORD", help="what they describe (default: the word behind the braces)")
    one.add_argument("--seeds", type=int, default=1, metavar="N", help="how many seeds, from --seed on (default: 1)")
    one.add_argument("--held", action="store_true", help="paint them again with the first adjective's attention held fixed")
    study_arguments(one, prompts=None)
    for parser in (two, one):
        parser.add_argument("--threshold", type=float, default=0.4, metavar="X", help="from which on a normalised map is a mask (default: "
                            "0.4, DAAM's)")  # fmt: skip


def pairs(parsed: argparse.Namespace) -> None:
    from i2am.cli.quiet_libraries import quiet
    from i2am.common.checks import refuse
    from i2am.data.prompts import read_prompts

    if (parsed.prompts is None) == (parsed.count is None) or (parsed.prompts and parsed.classes):
        refuse("the prompts", "either a list, --prompts, or as many as --count says", "neither or both", "--classes goes with --count.")
    with quiet():
        from i2am.studies.pairs import pair_prompts, read_groups, study

        groups = {} if parsed.classes is None else {"groups": read_groups(parsed.classes)}
        prompts = read_prompts(parsed.prompts) if parsed.prompts else pair_prompts(parsed.count, parsed.seed, **groups)
        page = study(prompts, labels=parsed.labels, threshold=parsed.threshold, **study_of(parsed))
        said(page)


def adjectives(parsed: argparse.Namespace) -> None:
    from i2am.cli.quiet_libraries import quiet

    with quiet():
        from i2am.studies.adjectives import study

        page = study(
            parsed.template, noun=parsed.noun, seeds=parsed.seeds, held=parsed.held, threshold=parsed.threshold, **study_of(parsed)
        )
        said(page)


def said(page: Any) -> None:
    """Where to look; by the process that wrote it."""
    from i2am.studies.run import is_first

    if is_first():
        print(f"Look at {page}")
