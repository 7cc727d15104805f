"""`i2am train-scenes`: the embedded text-to-image model from nothing."""

from __future__ import annotations

import argparse
from typing import Any

from i2am.cli.parsers import command


def add_train_scenes(commands: Any) -> None:
    parser = command(commands, "train-scenes", train_scenes, help="train the embedded text-to-image model from nothing",
                     about="Train the small text-to-image model on scenes it draws; stopped and started again, it goes on where it was.",
                     stopped="The same command goes on from what {out} last saved.",
                     examples=["--out runs/scenes", "--out runs/bound --bound --start shipped --steps 1000",
                               "--out runs/half --size 32 48 --shift 8 --batch 64 --cooldown 0 --steps 2000"])  # fmt: skip
    parser.add_argument("--out", required=True, metavar="FOLDER", help="a new folder, or an earlier training's")
    parser.add_argument("--start", default=argparse.SUPPRESS, metavar="FOLDER",
                        help="a pipeline to go on from, of any size, or the word shipped; default: random weights")  # fmt: skip
    parser.add_argument("--bound", action="store_true", default=argparse.SUPPRESS,
                        help="a world in which every colour comes with one shape and tints the ground")  # fmt: skip
    parser.add_argument("--size", type=int, nargs=2, default=argparse.SUPPRESS, metavar=("HEIGHT", "WIDTH"), help="default: 64 96")
    for name, kind in (("steps", int), ("batch", int), ("rate", float), ("warmup", int), ("cooldown", float), ("shift", float),
                       ("seed", int)):  # fmt: skip
        parser.add_argument(f"--{name}", type=kind, default=argparse.SUPPRESS, help="default: what the shipped model was trained with")
    parser.add_argument("--device", help="default: the GPU, if there is one")


def train_scenes(parsed: argparse.Namespace) -> None:
    from i2am.cli.quiet_libraries import quiet
    from i2am.common.extras import need

    need("training", "diffusers", "transformers", "PIL", "matplotlib", "tqdm")  # the loss is drawn after the first hundreds of steps
    from i2am.models.scenes.pipeline import WEIGHTS
    from i2am.models.scenes.train import Options, train

    if getattr(parsed, "start", None) == "shipped":
        parsed.start = str(WEIGHTS)
    names = ("start", "bound", "size", "steps", "batch", "rate", "warmup", "cooldown", "shift", "seed")
    given = {name: getattr(parsed, name) for name in names if hasattr(parsed, name)}
    if "size" in given:
        given["size"] = tuple(given["size"])
    with quiet():
        train(parsed.out, Options(**given), device=parsed.device)
