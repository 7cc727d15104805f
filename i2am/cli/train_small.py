"""`i2am train-small`: the embedded model from nothing."""

from __future__ import annotations

import argparse
from typing import Any

from i2am.cli.parsers import command
from i2am.common.checks import refuse


def add_train_small(commands: Any) -> None:
    parser = command(commands, "train-small", train_small, help="train the embedded model from nothing",
                     about="Train the small try-on model on pairs it draws; stopped and started again, it goes on where it was.",
                     stopped="The same command goes on from what {out} last saved.",
                     examples=["--out runs/small", "--out runs/short --steps 400 --batch 4",
                               "--out runs/refined --start shipped --steps 200 --rate 2e-4 --warmup 20 --losses tv=0.1"])  # fmt: skip
    parser.add_argument("--out", required=True, metavar="FOLDER", help="a new folder, or an earlier training's")
    parser.add_argument("--start", default=argparse.SUPPRESS, metavar="FOLDER",
                        help="a pipeline to go on from, or the word shipped; default: random weights")  # fmt: skip
    for name, kind in (("steps", int), ("batch", int), ("rate", float), ("warmup", int), ("seed", int)):
        parser.add_argument(f"--{name}", type=kind, default=argparse.SUPPRESS, help="default: what the shipped model was trained with")
    parser.add_argument("--losses", nargs="+", action="extend", default=[], metavar="NAME=WEIGHT",
                        help="losses on the maps: dcml=0.01 tv=0.0001 cwg=2 are the paper's")  # fmt: skip
    parser.add_argument("--loss-layers", default=argparse.SUPPRESS, metavar="PATTERN",
                        help="the layers they are taken of; default: all that see the garment")  # fmt: skip
    parser.add_argument("--device", help="default: the GPU, if there is one")


def train_small(parsed: argparse.Namespace) -> None:
    from i2am.cli.quiet_libraries import quiet
    from i2am.common.extras import need

    need("training", "diffusers", "PIL", "matplotlib", "tqdm")  # the loss is drawn after the first hundreds of steps
    from i2am.models.small.pipeline import WEIGHTS
    from i2am.models.small.train import Options, train

    if getattr(parsed, "start", None) == "shipped":
        parsed.start = str(WEIGHTS)
    names = ("start", "steps", "batch", "rate", "warmup", "seed", "loss_layers")
    options = Options(**{name: getattr(parsed, name) for name in names if hasattr(parsed, name)}, **weights_of(parsed.losses))
    with quiet():
        train(parsed.out, options, device=parsed.device)


def weights_of(words: list[str]) -> dict[str, Any]:
    """{"tv": 0.0001} of ["tv=0.0001"]."""
    from i2am.losses.refining import LOSSES

    found: dict[str, Any] = {}
    for word in words:
        name, _, weight = word.partition("=")
        try:
            found[name] = float(weight)
        except ValueError:
            name = ""
        if name not in LOSSES:
            refuse("--losses", " or ".join(f"{name}=WEIGHT" for name in LOSSES), repr(word), "The paper's are dcml=0.01 tv=0.0001 cwg=2.")
    return found
