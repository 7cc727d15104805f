"""What the commands of the studies share: which prompts, which model, how they are painted."""

from __future__ import annotations

import argparse
from typing import Any

from i2am.cli.evaluate import batch, pixels
from i2am.cli.explain import given, value_of

STOPPED = "The same command goes on from what {out} holds."


def study_arguments(parser: argparse.ArgumentParser, prompts: bool | None = True) -> None:
    """The arguments that every study has. prompts: whether the list must be named; None: the command has no list."""
    if prompts is not None:
        parser.add_argument("--prompts", required=prompts, metavar="FILE", help="one prompt a line (.txt), a table with a column prompt, "
                            "and any of id, seed, image, group (.csv, .tsv), or COCO's captions (.json)")  # fmt: skip
    parser.add_argument("--model", default="scenes", metavar="NAME", help="a folder that DiffusionPipeline.from_pretrained reads, "
                        "package.module:function that returns a pipeline, scenes[:FOLDER] or scenes-bound (default: scenes)")  # fmt: skip
    parser.add_argument("--out", required=True, metavar="FOLDER", help="a new folder, or an earlier study's with the same options")
    parser.add_argument("--batch-size", default="auto", metavar="N", help="prompts at a time (default: auto, what fits)")
    parser.add_argument("--steps", type=int, help="of the sampler (default: the pipeline's)")
    parser.add_argument("--guidance-scale", type=float, help="default: the pipeline's")
    parser.add_argument("--seed", type=int, default=0, help="each prompt's own seed is made of it and the prompt's id (default: 0)")
    parser.add_argument("--size", metavar="HEIGHTxWIDTH", help="of the pictures (default: the pipeline's)")
    parser.add_argument("--negative-prompt", metavar="TEXT", help="the same for all")
    parser.add_argument("--layers", nargs="+", action="extend", metavar="PATTERN", help="layers whose attention is recorded (default: all "
                        "that read the prompt)")  # fmt: skip
    parser.add_argument("--argument", action="append", default=[], metavar="NAME=VALUE", help="of the pipeline's call: a number, true, "
                        "false or text")  # fmt: skip
    parser.add_argument("--reference", default="auto", help="as for a trace (default: auto)")
    parser.add_argument("--guidance", default="auto", metavar="LAYOUT", help="as for a trace (default: auto)")
    parser.add_argument("--no-beside", action="store_true", help="keep the words alone where the model also has a reference")
    parser.add_argument("--parts", metavar="ROWSxCOLUMNS", help="in which the picture is cut for what of a reference each word uses "
                        "(default: at most 8 along the longer side)")  # fmt: skip
    parser.add_argument("--dtype", default="float32", choices=("float32", "float16", "bfloat16"), help="of a folder's weights (default: "
                        "float32)")  # fmt: skip
    parser.add_argument("--limit", type=int, metavar="N", help="the first prompts alone; more of them can follow later")
    parser.add_argument("--keep-going", action="store_true", help="leave out prompts that cannot be painted, named and counted, instead of "
                        "stopping at once")  # fmt: skip
    parser.add_argument("--cpu", action="store_true", help="although there is a GPU")


def study_of(parsed: argparse.Namespace) -> dict[str, Any]:
    """The keywords of `i2am.studies.run.paint`, from what the command was given; the prompts are the command's own."""
    from i2am.studies.options import Options

    options = Options(
        steps=parsed.steps, guidance_scale=parsed.guidance_scale, seed=parsed.seed, size=pixels(parsed.size),
        negative_prompt=parsed.negative_prompt, limit=parsed.limit, layers=tuple(parsed.layers) if parsed.layers else None,
        arguments={name: value_of(text) for name, text in given(parsed.argument, "--argument").items()}, reference=parsed.reference,
        guidance=parsed.guidance, dtype=parsed.dtype, beside=not parsed.no_beside, parts=pixels(parsed.parts),
    )  # fmt: skip
    return {"model": parsed.model, "out": parsed.out, "options": options, "batch_size": batch(parsed.batch_size),
            "keep_going": parsed.keep_going, "cpu": parsed.cpu}  # fmt: skip
