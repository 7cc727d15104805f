"""`i2am imacs`: saved maps once more."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from i2am.cli.evaluate import data_arguments, pixels, print_means
from i2am.cli.parsers import command, name_or_number

SCORED = ("layers", "groups", "heads", "reference", "balance")  # options that choose among the maps


def add_imacs(commands: Any) -> None:
    parser = command(commands, "imacs", imacs, help="score saved maps again, with other options",
                     about="IMACS of the maps that i2am evaluate --save-maps kept, without painting anything.",
                     stopped="No report was written. The same command begins anew.",
                     examples=["--maps runs/small/maps --data zalando-hd-resized --convention custom"])  # fmt: skip
    parser.add_argument(
        "--maps", required=True, nargs="+", action="extend", metavar="PATH", help="OUT/maps of an evaluation, or files NAME.safetensors"
    )
    data_arguments(parser, split=None, size="that of the maps' run, else 512x384")
    parser.add_argument("--out", metavar="FOLDER", help="default: imacs-CONVENTION beside the folder of maps")
    parser.add_argument(
        "--convention", "--release", default="method", metavar="NAME", help="method (the default), stableviton, paint-by-example or custom"
    )
    parser.add_argument("--threshold", type=float, help="default: the convention's, 0.4")
    parser.add_argument("--penalty", type=float, help="default: the convention's, 3")
    parser.add_argument("--invert", action=argparse.BooleanOptionalAction, help="score 1 - A of R2G (default: the convention's)")
    parser.add_argument(
        "--force-mask", action=argparse.BooleanOptionalAction, help="force G2R into the garment mask (default: the convention's)"
    )
    parser.add_argument("--layers", nargs="+", action="extend", metavar="PATTERN", help="default: the convention's")
    parser.add_argument("--groups", type=int, nargs="+", action="extend", metavar="N", help="time groups (default: all)")
    parser.add_argument("--heads", type=int, nargs="+", action="extend", metavar="N", help="default: all")
    parser.add_argument("--reference", type=name_or_number, metavar="NAME", help="or number, where a run has several")
    parser.add_argument("--balance", action="store_true", help="weigh layers equally")


def imacs(parsed: argparse.Namespace) -> None:
    from i2am.evaluation.rescore import score_again
    from i2am.score.imacs import convention

    how = convention(parsed.convention)
    how = replace(how, **{name: value for name in ("threshold", "penalty") if (value := getattr(parsed, name)) is not None})
    if parsed.invert is not None:
        how = replace(how, r2g=replace(how.r2g, invert=parsed.invert))
    if parsed.force_mask is not None:
        how = replace(how, g2r=replace(how.side("g2r"), force_mask=parsed.force_mask))
    choice = {name: value for name in SCORED if (value := getattr(parsed, name)) not in (None, False)}
    page = score_again(parsed.maps, parsed.data, parsed.out, convention=how, size=pixels(parsed.size), split=parsed.split,
                       paired=False if parsed.unpaired else None, **choice)  # fmt: skip
    print_means(page)
