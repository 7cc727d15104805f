"""`i2am syntax`: how the maps of words overlap that depend on each other."""

from __future__ import annotations

import argparse
from typing import Any

from i2am.cli.parsers import command
from i2am.cli.studies import STOPPED, study_arguments, study_of


def add_syntax(commands: Any) -> None:
    parser = command(
        commands, "syntax", syntax, help="paint a list of prompts, and see how related words' maps overlap",
        about="Parse every prompt of a list, paint it while tracing, and measure how the maps of heads and dependents overlap, by "
        "relation, beside words without a relation and words that name one thing. spaCy parses (pip install 'i2am[syntax]'), or "
        "another parser did: --conllu. Stopped and started again with the same --out, it goes on where it was.",
        stopped=STOPPED,
        examples=["--prompts captions.txt --model weights/sd21 --steps 30 --out runs/syntax",
                  "--prompts captions.txt --painted runs/words --out runs/syntax --conllu captions.conllu --convention notebook"],
    )  # fmt: skip
    study_arguments(parser)
    parser.add_argument("--painted", metavar="FOLDER", help="the --out of i2am words for the same list, read instead of painting; --model "
                        "and what it is asked for do not count then")  # fmt: skip
    parser.add_argument("--conllu", metavar="FILE", help="the prompts' parses, named by sent_id or newdoc id, else found by their text "
                        "(default: spaCy's)")  # fmt: skip
    parser.add_argument("--parser", metavar="NAME", help="a model of spaCy (default: the best English one that is installed)")
    parser.add_argument("--coreference", metavar="FILE", help="a table id,first,second of words, counted from 1, that name one thing "
                        "(default: Coref=NAME in the last column of CoNLL-U, else nouns that a prompt has twice)")  # fmt: skip
    parser.add_argument("--convention", default="both", choices=("paper", "notebook", "both"), help="paper: each word's map at the "
                        "picture's size, min-max normalised, above 0.4; notebook: as it is, above 0.15 (default: both)")  # fmt: skip
    parser.add_argument("--relations", type=int, default=10, metavar="N", help="the N most frequent (default: 10)")
    parser.add_argument("--unrelated", type=int, default=5000, metavar="N", help="pairs of unrelated words, at most (default: 5000)")


def syntax(parsed: argparse.Namespace) -> None:
    from i2am.cli.quiet_libraries import quiet

    with quiet():
        from i2am.studies.run import is_first
        from i2am.studies.syntax import BOTH, study

        how = study_of(parsed)
        model = how.pop("model")
        page = study(
            parsed.prompts, model if parsed.painted is None else None, painted=parsed.painted, conllu=parsed.conllu, parser=parsed.parser,
            coreference=parsed.coreference, conventions=BOTH if parsed.convention == "both" else (parsed.convention,),
            relations=parsed.relations, unrelated_pairs=parsed.unrelated, **how,
        )  # fmt: skip
        if is_first():
            print(f"Look at {page}")
