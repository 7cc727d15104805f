"""`i2am convert`: a published checkpoint as a folder of diffusers."""

from __future__ import annotations

import argparse
from typing import Any


def add_convert(commands: Any) -> None:
    parser = commands.add_parser("convert", help="a published checkpoint as a folder of diffusers", description="Read a checkpoint "
                                 "without executing anything in it, and write a folder that from_pretrained reads.")  # fmt: skip
    parser.add_argument("model", choices=("stableviton",))
    parser.add_argument("checkpoint", metavar="VITONHD.ckpt", help="the published file, .ckpt or .safetensors")
    parser.add_argument("out", metavar="FOLDER", help="a new folder")
    parser.set_defaults(run=convert)


def convert(parsed: argparse.Namespace) -> None:
    try:
        from i2am.models.stableviton import convert
    except ImportError as error:
        raise ImportError("i2am: converting needs diffusers, transformers and Pillow. pip install 'i2am[diffusers,pictures]'") from error
    print(f"{convert(parsed.checkpoint, parsed.out)} (CC BY-NC-SA 4.0, as the checkpoint: no commercial use)")
