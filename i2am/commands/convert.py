"""`i2am convert`: a published checkpoint as a folder of diffusers."""

from __future__ import annotations

import argparse
from typing import Any

from i2am.commands.parsers import command

# what holds for the converted weights
NOTICES = {
    "stableviton": "CC BY-NC-SA 4.0, as the checkpoint: no commercial use",
    "paint-by-example": "CreativeML Open RAIL-M, as the checkpoint",
    "dci-vton": "Paint-by-Example's CreativeML Open RAIL-M holds for what was trained from it. diffusers' pipeline blanks the picture "
    "under the mask, where DCI-VTON shows its warped garment: these are its weights, not its way of painting",
}


def add_convert(commands: Any) -> None:
    parser = command(commands, "convert", convert, help="a published checkpoint as a folder of diffusers",
                     about="Read a checkpoint without executing anything in it, and write a folder that from_pretrained reads.",
                     stopped="Nothing is left in {out}. The same command begins anew.",
                     examples=["stableviton VITONHD.ckpt stableviton"])  # fmt: skip
    parser.add_argument("model", choices=tuple(NOTICES))
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="the published file, .ckpt or .safetensors")
    parser.add_argument("out", metavar="FOLDER", help="a new folder")


def convert(parsed: argparse.Namespace) -> None:
    from i2am.commands.libraries import quiet
    from i2am.needed import need

    need("converting", "diffusers", "transformers", "PIL")
    with quiet():
        from i2am.models import paint_by_example, stableviton

        if parsed.model == "stableviton":
            folder = stableviton.convert(parsed.checkpoint, parsed.out)
        else:
            folder = paint_by_example.convert(parsed.checkpoint, parsed.out, parsed.model)
    print(f"{folder} ({NOTICES[parsed.model]})")
