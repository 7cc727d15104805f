"""`i2am evaluate`: a model on a data set."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from i2am.cli.parsers import command

if TYPE_CHECKING:
    from i2am.maps.tokens import Grid


def add_evaluate(commands: Any) -> None:
    parser = command(
        commands, "evaluate", evaluate, help="score a try-on model on a whole data set",
        about="Paint every pair of a VITON-HD tree while tracing, score maps (IMACS) and images, and write a report. Stopped and started "
        "again with the same --out, it goes on where it was. Under accelerate launch or torchrun the processes share the work.",
        stopped="The same command goes on from what {out} holds.",
        examples=["--data zalando-hd-resized --model small --metrics ssim --save-maps --out runs/small",
                  "--data zalando-hd-resized --model my_package.my_model:build --model-option path=weights --out runs/mine"],
    )  # fmt: skip
    data_arguments(parser)
    parser.add_argument(
        "--model", default="small", metavar="NAME", help="small[:FOLDER], paint-by-example:PATH, ip-adapter:PATH, stableviton:FOLDER, or "
        "package.module:function that returns an i2am.evaluation.TryOn (default: small)",
    )  # fmt: skip
    parser.add_argument(
        "--model-option", action="append", default=[], metavar="NAME=VALUE", help="for what builds it: dtype=float16, adapter=PATH ..."
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="a new folder, or an earlier evaluation's with the same options")
    parser.add_argument("--batch-size", default="auto", metavar="N", help="pairs at a time (default: auto, what fits)")
    parser.add_argument("--steps", type=int, help="of the sampler (default: the model's)")
    parser.add_argument("--guidance-scale", type=float, help="default: the model's")
    parser.add_argument("--seed", type=int, default=0, help="each pair's own seed is made of it and the pair's names (default: 0)")
    parser.add_argument("--limit", type=int, metavar="N", help="the first pairs alone; more of them can follow later")
    parser.add_argument("--convention", "--release", metavar="NAME", help="how IMACS is computed: method, stableviton, paint-by-example, "
                        "custom (default: the model's)")  # fmt: skip
    parser.add_argument(
        "--layers", nargs="+", action="extend", metavar="PATTERN", help="layers that are scored (default: the convention's)"
    )
    parser.add_argument("--no-field", action="store_true", help="score no correspondence; saved maps are a seventh in size")
    parser.add_argument("--groups", type=int, default=1, help="time groups in saved maps (default: 1)")
    parser.add_argument("--metrics", nargs="*", action="extend", default=[], metavar="NAME", help="beside IMACS: ssim, lpips, fid, kid")
    parser.add_argument("--metric-weights", metavar="FOLDER", help="where the files lie that LPIPS, FID and KID need")
    parser.add_argument("--repaint", action="store_true", help="put the person's own pixels outside the mask before image metrics")
    parser.add_argument("--save-images", action="store_true", help="keep every image, OUT/images/NAME.png (on with fid and kid)")
    parser.add_argument("--save-maps", action="store_true", help="keep every pair's maps, OUT/maps/NAME.safetensors")
    parser.add_argument("--keep-going", action="store_true", help="leave bad pairs out, named and counted, instead of stopping at once")
    parser.add_argument("--cpu", action="store_true", help="although there is a GPU")


def data_arguments(parser: Any, split: str | None = "test", size: str = "the model's, which it has to paint") -> None:
    parser.add_argument("--data", required=True, metavar="FOLDER", help="the root, with test_pairs.txt and test/")
    parser.add_argument("--split", default=split, help=f"default: {split or 'that of the maps, else test'}")
    parser.add_argument("--unpaired", action="store_true", help="each person with the garment of the list, not the person's own")
    parser.add_argument("--size", metavar="HEIGHTxWIDTH", help=f"of the pictures (default: {size})")


def evaluate(parsed: argparse.Namespace) -> None:
    from i2am.cli.quiet_libraries import quiet
    from i2am.evaluation import evaluate as run

    options: dict[str, Any] = {
        "paired": not parsed.unpaired, "split": parsed.split, "limit": parsed.limit, "size": pixels(parsed.size), "steps": parsed.steps,
        "guidance_scale": parsed.guidance_scale, "seed": parsed.seed, "convention": parsed.convention,
        "layers": tuple(parsed.layers) if parsed.layers else None, "groups": parsed.groups, "metrics": tuple(parsed.metrics),
        "repaint": parsed.repaint, "images": parsed.save_images, "maps": parsed.save_maps,
        "field": False if parsed.no_field else None,
    }  # fmt: skip
    with quiet():
        page = run(
            parsed.data, parsed.model, out=parsed.out, batch_size=batch(parsed.batch_size), keep_going=parsed.keep_going,
            metric_weights=parsed.metric_weights, model_options=pairs(parsed.model_option), cpu=parsed.cpu, **options,
        )  # fmt: skip
    print_means(page)


def batch(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def pairs(options: list[str]) -> dict[str, str]:
    """NAME=VALUE, each once."""
    from i2am.common.checks import refuse

    found: dict[str, str] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or not name.isidentifier() or name in found:
            refuse("--model-option", "NAME=VALUE, each name once", repr(option), "The documentation has a table of models.")
        found[name] = value
    return found


def pixels(size: str | None) -> Grid | None:
    from i2am.evaluation.built_in import pixels as read

    return None if size is None else read(size)


def print_means(page: Any) -> None:
    """The means, and where to look; by the process that wrote them."""
    import json
    import os

    if os.environ.get("RANK", "0") != "0":
        return
    report = json.loads(page.with_name("report.json").read_text(encoding="utf-8"))
    print(table(report))
    print(f"Look at {page}")


def table(report: dict[str, Any]) -> str:
    """Each metric's mean and interval, and what was left out."""
    lines = []
    for name, found in report["metrics"].items():
        lost = f", {found['nan']} without a score" if found["nan"] else ""
        mean = "none" if found["mean"] is None else f"{found['mean']:8.4f}  [{found['low']:.4f}, {found['high']:.4f}]"
        lines.append(f"{name:14} {mean}  of {found['count']} pairs{lost}")
    lines += [f"{name:14} {value:8.4f}" for name, value in report["sets"].items() if value is not None]
    failed = report["pairs"]["failed"]
    return "\n".join([*lines, *([f"{failed} pairs were left out; the report names them."] if failed else [])])
