"""`i2am convert`: a published checkpoint as a folder of diffusers."""

from __future__ import annotations

import argparse
from typing import Any

from i2am.cli.parsers import command

# model -> what it needs, what it gives, and what holds for the converted weights
MODELS = {
    "stableviton": (
        "VITONHD.ckpt of the authors' release",
        "`i2am evaluate --model stableviton:FOLDER` and StableVITONPipeline",
        "CC BY-NC-SA 4.0, as the checkpoint: no commercial use",
    ),
    "paint-by-example": (
        "model.ckpt of the original release",
        "`i2am evaluate --model paint-by-example:FOLDER` and diffusers' PaintByExamplePipeline",
        "CreativeML Open RAIL-M, as the checkpoint",
    ),
    "dci-vton": (
        "viton512.ckpt of the authors' release",
        "what reads a converted paint-by-example",
        "Paint-by-Example's CreativeML Open RAIL-M holds for what was trained from it. diffusers' pipeline blanks the picture under the "
        "mask, where DCI-VTON shows its warped garment: these are its weights, not its way of painting",
    ),
}


def add_convert(commands: Any) -> None:
    each = [f"{name}: needs {needs}; the folder is read by {gives}. {notice}." for name, (needs, gives, notice) in MODELS.items()]
    about = "Read a checkpoint without executing anything in it, and write a folder that from_pretrained reads. Nothing is downloaded."
    parser = command(commands, "convert", convert, help="a published checkpoint as a folder of diffusers",
                     about="\n\n".join([about, *each]),
                     stopped="Nothing is left in {out}. The same command begins anew.",
                     examples=["stableviton VITONHD.ckpt stableviton", "paint-by-example model.ckpt pbe", "dci-vton viton512.ckpt dci"],
                     )  # fmt: skip
    parser.add_argument("model", choices=tuple(MODELS), help="which release the checkpoint is of")
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="the published file, .ckpt or .safetensors")
    parser.add_argument("out", metavar="FOLDER", help="a new or an empty folder")


def convert(parsed: argparse.Namespace) -> None:
    from i2am.cli.quiet_libraries import quiet
    from i2am.common.extras import need

    need("converting", "diffusers", "transformers", "PIL")
    with quiet():
        from i2am.models import paint_by_example, stableviton

        if parsed.model == "stableviton":
            folder = stableviton.convert(parsed.checkpoint, parsed.out)
        else:
            folder = paint_by_example.convert(parsed.checkpoint, parsed.out, parsed.model)
    print(f"{folder} ({MODELS[parsed.model][2]})")
