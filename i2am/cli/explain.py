"""`i2am explain`: what a trace would see of a pipeline that lies in a folder."""

from __future__ import annotations

import argparse
import inspect
import os
from typing import Any

from i2am.cli.parsers import command
from i2am.common.checks import refuse


def add_explain(commands: Any) -> None:
    parser = command(
        commands, "explain", explain, help="show what each attention call of a pipeline holds",
        about="Load a pipeline from a folder, run one small step of it, and print each of its denoiser's attention calls: how many queries "
        "and keys, which of them are the reference, words and generated, which rows are conditional, and why.",
        stopped="Nothing was written.",
        examples=["weights/flux-kontext --image garment.png --prompt 'a red dress' --size 512x384",
                  "weights/sd15 --prompt 'a cat' --reference context --argument guidance_scale=1"],
    )  # fmt: skip
    parser.add_argument("pipeline", metavar="FOLDER", help="where DiffusionPipeline.from_pretrained finds it (nothing is downloaded), or "
                        "package.module:function that returns a pipeline")  # fmt: skip
    parser.add_argument("--image", action="append", default=[], metavar="[NAME=]FILE",
                        help="a picture, for the call's parameter of that name (default: the pipeline's first for pictures)")  # fmt: skip
    parser.add_argument("--prompt", help="default: 'a photo', where the pipeline must have one")
    parser.add_argument("--size", metavar="HEIGHTxWIDTH", help="of what is generated (default: the pipeline's own)")
    parser.add_argument("--argument", action="append", default=[], metavar="NAME=VALUE", help="of the call: a number, true, false or text")
    parser.add_argument("--reference", default="auto", help="auto, context, adapter, self, self-below, self-beside (default: auto)")
    parser.add_argument("--guidance", default="auto", metavar="LAYOUT", help="as for a trace (default: auto)")
    parser.add_argument("--dtype", default="float32", choices=("float32", "float16", "bfloat16"), help="default: float32")
    parser.add_argument("--gpu", action="store_true", help="run it on the GPU")


def explain(parsed: argparse.Namespace) -> None:
    from i2am.cli.quiet_libraries import quiet

    with quiet():
        pipe = loaded(parsed.pipeline, parsed.dtype, parsed.gpu)
        from i2am.attach.explain import explain as run

        told = run(pipe, reference=parsed.reference, guidance=parsed.guidance, **call_of(pipe, parsed))
    print(told)
    if told.error is not None:
        raise ValueError(f"i2am: the call of {told.model} failed: {type(told.error).__name__}: {told.error}. Give what it lacks as "
                         "--argument NAME=VALUE or --image NAME=FILE.")  # fmt: skip


def loaded(folder: str, dtype: str, gpu: bool) -> Any:
    """The pipeline of a folder or a name."""
    from i2am.models.folder import pipeline_of

    pipe = pipeline_of(folder, dtype, "FOLDER")
    if hasattr(pipe, "set_progress_bar_config"):
        pipe.set_progress_bar_config(disable=True)  # of one step
    return pipe.to("cuda") if gpu else pipe


def call_of(pipe: Any, parsed: argparse.Namespace) -> dict[str, Any]:
    """The keywords of the call, from what the command was given."""
    from PIL import Image

    from i2am.families.pipelines import pictures_of

    takes = inspect.signature(pipe.__call__).parameters
    call: dict[str, Any] = {name: value_of(text) for name, text in given(parsed.argument, "--argument").items()}
    first = next(iter(pictures_of(pipe)), "image")
    for name, file in given(parsed.image, "--image", first).items():
        call[name] = Image.open(file).convert("RGB")
    if parsed.prompt is not None or ("prompt" in takes and "prompt_embeds" not in call):
        call.setdefault("prompt", parsed.prompt or "a photo")
    if parsed.size is not None:
        from i2am.cli.evaluate import pixels

        call["height"], call["width"] = pixels(parsed.size) or (0, 0)
    unknown = [name for name in call if name not in takes]
    if unknown:
        refuse(f"a parameter of {type(pipe).__name__}", f"one of {', '.join(takes)}", ", ".join(unknown), "Look at the pipeline's call.")
    return call


def given(texts: list[str], option: str, default: str | None = None) -> dict[str, str]:
    """NAME=VALUE, each once; a value alone is the default's."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if default is not None and (not equals or os.path.exists(text)):
            name, value, equals = default, text, "="
        if not equals or not name.isidentifier() or name in found:
            refuse(option, "NAME=VALUE, each name once", repr(text), "Names are the parameters of the pipeline's call.")
        found[name] = value
    return found


def value_of(text: str) -> Any:
    """A number, a truth value, or the text."""
    named = {"true": True, "false": False, "none": None}
    if text.lower() in named:
        return named[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
