"""The command line, `i2am COMMAND ...`: each command parses, calls the library and prints.

A command is a function that adds its parser and says what runs; what it needs is imported when it runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from i2am.commands.convert import add_convert
from i2am.commands.detect import add_detect
from i2am.commands.evaluate import add_evaluate, add_imacs


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="i2am", description="See which part of a reference image made which part of a generated image.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in COMMANDS:
        add(commands)
    parsed = parser.parse_args(arguments)
    try:
        parsed.run(parsed)
    except (ValueError, ImportError) as error:
        if not str(error).startswith("i2am:"):
            raise
        print(error, file=sys.stderr)
        return 2
    return 0


def add_view(commands: Any) -> None:
    parser = commands.add_parser("view", help="look at a file of maps in the browser", description="Write the maps of a run as one HTML "
                                 "file, beside them, and open it.")  # fmt: skip
    parser.add_argument("maps", metavar="run.safetensors", help="what maps.save wrote")
    parser.add_argument("--out", metavar="FILE", help="the HTML file (default: run.html)")
    parser.add_argument(
        "--images", nargs="+", metavar="PICTURE", help="the generated images, if the maps carry none: one, or one per image"
    )
    parser.add_argument("--references", nargs="+", metavar="[NAME=]PICTURE", help="the references; by name where the run has several")
    parser.add_argument("--title", help="the page's title (default: the file's name)")
    parser.add_argument("--max-megabytes", type=float, default=5.0, metavar="MB", help="detail is given up beyond this size (default: 5)")
    parser.add_argument("--no-open", action="store_true", help="write the file alone")
    parser.set_defaults(run=view)


def view(parsed: argparse.Namespace) -> None:
    import i2am

    path = i2am.view(
        parsed.maps,
        parsed.out,
        images=None if parsed.images is None else [opened(name, "--images") for name in parsed.images],
        references=None if parsed.references is None else named(parsed.references),
        title=parsed.title,
        max_megabytes=parsed.max_megabytes,
        open_browser=not parsed.no_open,
    )
    print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")


def named(pictures: Sequence[str]) -> Any:
    """Pictures alone, or a dict of NAME=PICTURE."""
    from i2am.tokens import refuse

    pairs = [picture.split("=", 1) if "=" in picture and not Path(picture).exists() else [picture] for picture in pictures]
    if len({len(pair) for pair in pairs}) > 1:
        refuse("--references", "all with NAME= or all without", " ".join(pictures), "Name each, as in maps.references.")
    if len(pairs[0]) == 1:
        return [opened(picture, "--references") for (picture,) in pairs]
    found: dict[str, list[Any]] = {}
    for name, picture in pairs:
        found.setdefault(name, []).append(opened(picture, "--references"))
    return found


def opened(path: str, option: str) -> Any:
    """A picture from a file."""
    from i2am.tokens import refuse

    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise ImportError("i2am: pictures need Pillow. pip install 'i2am[pictures]'") from error
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        refuse(option, "pictures", f"{path} ({error})", "Pass .png, .jpg or .webp files.")


def add_demo(commands: Any) -> None:
    parser = commands.add_parser("demo", help="see it work: the embedded model, its maps and a page", description="Paint held-out try-on "
                                 "pairs with the embedded model, and write pictures, maps, scores and a page.")  # fmt: skip
    parser.add_argument("--out", default="demo", metavar="FOLDER", help="a new folder, or an earlier demo's (default: demo)")
    parser.add_argument("--count", type=int, default=8, help="pictures (default: 8)")
    parser.add_argument("--seed", type=int, default=0, help="of the pairs and the noise (default: 0)")
    parser.add_argument("--steps", type=int, default=10, help="of the sampler (default: 10)")
    parser.add_argument("--weights", metavar="FOLDER", help="another small model, such as a checkpoint (default: the shipped one)")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    parser.set_defaults(run=demo)


def demo(parsed: argparse.Namespace) -> None:
    from i2am.demo import demo

    demo(parsed.out, count=parsed.count, seed=parsed.seed, steps=parsed.steps, weights=parsed.weights, open_browser=parsed.open)


def add_train_small(commands: Any) -> None:
    parser = commands.add_parser("train-small", help="train the embedded model from nothing", description="Train the small try-on model "
                                 "on pairs it draws; stopped and started again, it goes on where it was.")  # fmt: skip
    parser.add_argument("--out", required=True, metavar="FOLDER", help="a new folder, or an earlier training's")
    for name, kind in (("steps", int), ("batch", int), ("rate", float), ("seed", int)):
        parser.add_argument(f"--{name}", type=kind, default=argparse.SUPPRESS, help="default: what the shipped model was trained with")
    parser.add_argument("--device", help="default: the GPU, if there is one")
    parser.set_defaults(run=train_small)


def train_small(parsed: argparse.Namespace) -> None:
    try:
        import matplotlib  # noqa: F401  the loss is drawn after the first hundreds of steps

        from i2am.models.small.train import Options, train
    except ImportError as error:
        raise ImportError("i2am: training needs diffusers, matplotlib and Pillow. pip install 'i2am[diffusers,pictures]'") from error
    options = Options(**{name: getattr(parsed, name) for name in ("steps", "batch", "rate", "seed") if hasattr(parsed, name)})
    try:
        train(parsed.out, options, device=parsed.device)
    except KeyboardInterrupt:
        print(f"i2am: stopped. The same command goes on from what {parsed.out} last saved.", file=sys.stderr)
        raise SystemExit(130) from None


COMMANDS = (add_view, add_demo, add_evaluate, add_imacs, add_detect, add_convert, add_train_small)
