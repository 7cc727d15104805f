"""`i2am view`: a file of maps as one HTML file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from i2am.cli.open_page import add_open, opens
from i2am.cli.parsers import command


def add_view(commands: Any) -> None:
    parser = command(commands, "view", view, help="look at a file of maps in the browser",
                     about="Write the maps of a run as one HTML file, beside them, and look at it.",
                     stopped="No page was written: it appears whole or not at all. The same command begins anew.",
                     examples=["run.safetensors", "run.safetensors --images out/*.png --references garments/*.png"])  # fmt: skip
    parser.add_argument("maps", metavar="run.safetensors", help="what maps.save wrote")
    parser.add_argument("--out", metavar="FILE", help="the HTML file (default: run.html)")
    parser.add_argument(
        "--images",
        nargs="+",
        action="extend",
        metavar="PICTURE",
        help="the generated images, if the maps carry none: one, or one per image; of a video one per frame of the maps",
    )
    parser.add_argument(
        "--references", nargs="+", action="extend", metavar="[NAME=]PICTURE", help="the references; by name where the run has several"
    )
    parser.add_argument("--title", help="the page's title (default: the file's name)")
    parser.add_argument("--max-megabytes", type=float, default=5.0, metavar="MB", help="detail is given up beyond this size (default: 5)")
    add_open(parser)


def view(parsed: argparse.Namespace) -> None:
    from i2am.viewer.html import view as write

    path = write(
        parsed.maps,
        parsed.out,
        images=None if parsed.images is None else [picture_from(name, "--images") for name in parsed.images],
        references=None if parsed.references is None else named(parsed.references),
        title=parsed.title,
        max_megabytes=parsed.max_megabytes,
        open_browser=opens(parsed),
    )
    print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")


def named(pictures: Sequence[str]) -> Any:
    """Pictures alone, or a dict of NAME=PICTURE."""
    from i2am.common.checks import refuse

    pairs = [picture.split("=", 1) if "=" in picture and not Path(picture).exists() else [picture] for picture in pictures]
    if len({len(pair) for pair in pairs}) > 1:
        refuse("--references", "all with NAME= or all without", " ".join(pictures), "Name each, as in maps.references.")
    if len(pairs[0]) == 1:
        return [picture_from(picture, "--references") for (picture,) in pairs]
    found: dict[str, list[Any]] = {}
    for name, picture in pairs:
        found.setdefault(name, []).append(picture_from(picture, "--references"))
    return found


def picture_from(path: str, option: str) -> Any:
    """A picture from a file."""
    from i2am.common.checks import refuse
    from i2am.common.extras import need

    need("a picture", "PIL")
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except Exception as error:  # Pillow's readers raise OSError, SyntaxError, ValueError, struct.error and more
        refuse(option, "pictures", f"{path} ({error})", "Pass .png, .jpg or .webp files.")
