"""`i2am detect`: a box from each file of maps, held against annotations."""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from i2am.cli.parsers import command, name_or_number
from i2am.common.checks import refuse

if TYPE_CHECKING:
    from torch import Tensor

    from i2am.data.coco import Annotated, Object
    from i2am.maps.levels import AttributionMaps

ROWS = {"map": "boxes of the maps", "whole": "the whole image", "random": "random boxes"}
SIDES = ("x0", "y0", "x1", "y1")


def add_detect(commands: Any) -> None:
    parser = command(commands, "detect", detect, help="find objects with maps, and compare with annotated boxes",
                     about="Make a box of each R2G map and hold it against the annotated one. dog.safetensors, the maps of one image, "
                     "belongs to dog.jpg of the annotations: a picture of all of that image, of any size.",
                     stopped="No report was written. The same command begins anew.",
                     examples=["--maps runs/maps --boxes annotations.json --out boxes.json --pictures runs/boxes"])  # fmt: skip
    parser.add_argument("--maps", nargs="+", action="extend", required=True, metavar="PATH", help="folders of .safetensors files, or files")
    parser.add_argument("--boxes", required=True, metavar="FILE", help="annotations in COCO's format")
    parser.add_argument("--convention", choices=("method", "release"), default="method", help="how boxes are made (default: method)")
    parser.add_argument("--percentile", type=float, default=65.0, help="of the map's values, above which they are kept (default: 65)")
    parser.add_argument("--kernel", type=int, default=5, help="pixels a side of the square that cleans what is kept (default: 5)")
    parser.add_argument(
        "--at", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="size at which maps are thresholded (default: the annotated image's)"
    )
    parser.add_argument(
        "--layers", nargs="+", action="extend", metavar="PATTERN", help="names or patterns (default: all; release: not the middle block)"
    )
    parser.add_argument("--reference", type=name_or_number, metavar="NAME", help="or number, where a run has several")
    parser.add_argument("--category", help="of the object to find, where an image has several")
    parser.add_argument(
        "--area", type=float, nargs=2, default=(0.0, 1.0), metavar=("LEAST", "MOST"), help="shares of the image that its box may cover"
    )
    parser.add_argument("--choose", choices=("only", "largest", "first"), default="only", help="of objects that still fit (default: only)")
    parser.add_argument("--seed", type=int, default=0, help="of the random boxes and the intervals (default: 0)")
    parser.add_argument("--out", metavar="FILE.json", help="write the report there, and each image's row to FILE.csv")
    parser.add_argument("--pictures", metavar="FOLDER", help="draw each map with its box (white) and the true one (green)")


def detect(parsed: argparse.Namespace) -> None:
    from i2am.common.extras import need

    need("detect", "scipy", "tqdm", *(("PIL", "matplotlib") if parsed.pictures is not None else ()))
    import torch
    from tqdm.auto import tqdm

    from i2am.common.outputs import write_whole
    from i2am.data.coco import read_coco
    from i2am.maps.files import versions
    from i2am.score.detection import detect as compared

    if not 0 <= parsed.seed < 2**63:
        refuse("--seed", "from 0 to 2**63 - 1", str(parsed.seed), "0 is the default.")
    out, pictures = places(parsed)
    files, annotated = map_files(parsed.maps), read_coco(parsed.boxes)
    known = sorted({one.category for image in annotated for one in image.objects})
    if parsed.category is not None and parsed.category not in known:
        refuse("--category", f"one of those annotated ({few(known)})", repr(parsed.category), "Write it as the annotations do.")
    images = by_stem([image for image in annotated if image.stem in files])
    objects = {stem: image.object(parsed.category, tuple(parsed.area), parsed.choose) for stem, image in images.items()}
    truth = {stem: one for stem, one in objects.items() if one is not None}
    unmatched = {
        "maps without an annotated image": [str(file) for stem, file in files.items() if stem not in images],
        "images without an object to find": [images[stem].file for stem, one in objects.items() if one is None],
        "annotated images without maps": [image.file for image in annotated if image.stem not in files],
    }
    told = [f"{len(names)} {what}: {few(names)}" for what, names in unmatched.items() if names]
    if not truth:
        refuse("--maps", "of at least one image with an object to find", f"none ({'; '.join(told)})", "dog.safetensors belongs to dog.jpg.")
    with tqdm(truth.items(), unit="image", desc="boxes") as bar:  # an error comes on a line of its own
        found = {stem: box_of(files[stem], images[stem], one, parsed, pictures) for stem, one in bar}
    report = compared(
        torch.stack(list(found.values())),
        torch.tensor([one.box for one in truth.values()], device="cpu"),
        [images[stem].size for stem in truth],
        seed=parsed.seed,
        places=[images[stem].id for stem in truth],
    )
    each = report.pop("iou")
    print(f"{report['count']} images, {report['missed']} without a box of their map, which count as 0")
    print(f"{'':20}  mean IoU  95% interval    above 0.5")
    for name, label in ROWS.items():
        row = report[name]
        print(f"{label:20}  {row['mean']:8.4f}  {row['low']:.4f}-{row['high']:.4f}  {row['above_half']:9.1%}")
    for line in told:
        print(line)
    if out is not None:
        options = {name: value for name, value in vars(parsed).items() if name not in ("run", "out", "pictures")}
        text = json.dumps({**report, "unmatched": unmatched, "options": options, "versions": versions()}, indent=1) + "\n"
        table = io.StringIO()
        rows = csv.writer(table)
        rows.writerow(["image", "category", *(f"true_{side}" for side in SIDES), *SIDES, *(f"iou_{name}" for name in ROWS)])
        for i, (stem, one) in enumerate(truth.items()):
            sides = ["" if side != side else side for side in found[stem].tolist()]  # NaN
            rows.writerow([images[stem].file, one.category, *one.box, *sides, *(each[name][i].item() for name in ROWS)])
        for path, content in ((out.with_suffix(".csv"), table.getvalue()), (out, text)):
            data = content.encode("utf-8", "backslashreplace")  # a file's name need not be Unicode
            write_whole(path, partial(Path.write_bytes, data=data))


def places(parsed: argparse.Namespace) -> tuple[Path | None, Path | None]:
    """Where the report and the pictures go, both of which can be written."""
    from i2am.common import outputs

    out = None if parsed.out is None else outputs.file(parsed.out, "--out", (".json",))
    if out is not None:
        outputs.file(out.with_suffix(".csv"), "the images' rows beside --out")
        if out.exists() and Path(parsed.boxes).exists() and out.samefile(parsed.boxes):
            refuse("--out", "another file than --boxes", str(out), "The report would be written over the annotations.")
    return out, None if parsed.pictures is None else outputs.folder(parsed.pictures, "--pictures")


def map_files(paths: Sequence[str]) -> dict[str, Path]:
    """The files of maps by their stem."""
    found: dict[str, Path] = {}
    for path in map(Path, paths):
        inside = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
        if not inside or not inside[0].is_file():
            refuse("--maps", "folders of .safetensors files, or files", f"{path}, where none is", "Maps are written by maps.save(path).")
        for file in inside:
            if file.stem in found:
                refuse("--maps", "one file for each image", f"{found[file.stem]} and {file}", "Their images are told apart by that name.")
            found[file.stem] = file
    return found


def by_stem(images: Sequence[Annotated]) -> dict[str, Annotated]:
    found: dict[str, Annotated] = {}
    for image in images:
        if image.stem in found:
            refuse("the annotations", "of images with a name of their own", f"{found[image.stem].file} and {image.file}", "Rename one.")
        found[image.stem] = image
    return found


def few(names: Sequence[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def box_of(file: Path, image: Annotated, one: Object, parsed: argparse.Namespace, pictures: Path | None) -> Tensor:
    """The box [4] of one file of maps, drawn if that is asked for."""
    from i2am.common.outputs import write_whole
    from i2am.maps.levels import load
    from i2am.score.detection import RELEASE, boxes
    from i2am.score.imacs import convention

    maps = load(file)
    if len(maps) != 1:
        refuse(str(file), "the maps of one image", f"of {len(maps)}", "Save each image's by itself: maps[0].save(...).")
    reference, layers, options = parsed.reference, parsed.layers, {}
    if parsed.convention == "release":
        options = RELEASE
        names = maps.names("r2g", reference=reference)
        layers = layers or convention("paint-by-example").layers("r2g", names)
    if parsed.at is not None:
        options = {**options, "at": tuple(parsed.at)}
    map = maps.unified("r2g", layers=layers, reference=reference)
    (box,) = boxes(map, image.size, percentile=parsed.percentile, kernel=parsed.kernel, **options)
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
        write_whole(pictures / f"{image.stem}.png", partial(drawn(maps, map, image, box, one).save, format="PNG"))
    return box


def drawn(maps: AttributionMaps, map: Tensor, image: Annotated, box: Tensor, one: Object) -> Any:
    """The map over the picture that the maps carry, or alone, with the box found (white) and the true one (green)."""
    from PIL import Image, ImageDraw

    from i2am.show.pictures import heat, overlay

    height, width = image.size
    if maps.pictures and maps.pictures.generated:
        own = Image.fromarray(maps.pictures.generated[0].permute(1, 2, 0).numpy()).resize((width, height))
        picture = overlay(own, map)[0]
    else:
        picture = heat(map[0], image.size)
    for (x0, y0, x1, y1), colour in ((one.box, "lime"), (box.tolist(), "white")):
        if x0 == x0:  # not NaN
            ImageDraw.Draw(picture).rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=colour, width=max(1, width // 256))
    return picture
