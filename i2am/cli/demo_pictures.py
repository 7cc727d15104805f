"""A batch of try-on pictures by the embedded model, traced, and a page that shows what its maps say: `i2am demo`.

The pairs are held-out ones of the procedural world, so where every patch of the cloth comes from is known, and maps can be scored.
"""

from __future__ import annotations

import itertools
import json
import re
import time
import webbrowser
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from i2am.attach.trace import trace
from i2am.cli.demo_page import FILES
from i2am.cli.demo_scores import Scored, score, table
from i2am.cli.demo_words import PAGE as WORDS
from i2am.cli.demo_words import write_words
from i2am.common import outputs
from i2am.common.checks import is_whole, refuse
from i2am.common.extras import need
from i2am.maps.levels import AttributionMaps
from i2am.maps.regions import cells
from i2am.viewer.html import view

if TYPE_CHECKING:
    from PIL.Image import Image

    from i2am.data.synthetic import Pairs

CELLS = (16, 12)  # regions of the generated picture whose sources are asked for
MARK = "i2am demo"
MAPS = "maps.safetensors"
ENLARGED = 4  # times, under a map


@dataclass(frozen=True, eq=False)
class Painted:
    """A finished run: what went in, what came out, and its maps with both pictures."""

    pairs: Pairs
    images: list[Image]
    maps: AttributionMaps
    seconds: float  # of the model, maps included
    steps: int
    seed: int


def demo(
    out: str | Path = "demo",
    *,
    count: int = 8,
    seed: int = 0,
    steps: int = 10,
    model: str | Path | None = None,
    open_browser: bool = False,
) -> Path:
    """Paint `count` pairs, write the pictures, maps, scores and a page under `out`, and return the page, out/index.html.

    model: the folder of another small model, such as a checkpoint of `i2am train-small`; None takes the shipped one. Nothing is
    downloaded. A folder that holds anything but an earlier demo is left alone.
    """
    check(out, count, seed, steps, model)
    out = Path(out)
    done = paint(count, seed, steps, model)
    scored = score(done.pairs, done.maps)
    print(f"{table(scored)}\n\nWriting {out} ...", flush=True)
    sizes = write(out, done, scored, "shipped" if model is None else Path(model).name)
    sizes[WORDS] = write_words(out, seed).stat().st_size / 1e6
    index = out / "index.html"
    per = done.seconds / count
    print(f"It holds {sum(sizes.values()):.0f} MB; {sizes[MAPS]:.0f} of them are {MAPS}, {FILES[MAPS]}.")
    print(f"The model took {done.seconds:.0f} s for {count} picture{'s' * (count > 1)}, {per:.1f} s each, with every map.")
    print(f"Look at {index}")
    if open_browser:
        webbrowser.open(index.resolve().as_uri())
    return index


def check(out: str | Path, count: int, seed: int, steps: int, model: str | Path | None) -> None:
    """Whatever can be refused is, before the model runs."""
    need("the demo", "diffusers", "transformers", "matplotlib", "PIL", "tqdm")
    if not is_whole(count, 1):
        refuse("count", "at least 1 picture", repr(count), "8 fit a screen.")
    if not is_whole(steps, 1):
        refuse("steps", "at least 1", repr(steps), "10 are enough.")
    from i2am.data.synthetic.numbers import TRAINING

    if not is_whole(seed) or seed >= TRAINING:
        refuse("seed", "from 0 to 2**32 - 1", repr(seed), "Larger ones are those that the model was trained on.")
    if model is not None and not (Path(model) / "model_index.json").is_file():
        refuse("model", "the folder of a small model, with its model_index.json", str(model), "Leave it out for the shipped model.")
    out = outputs.folder(out)
    if out.is_dir() and any(out.iterdir()) and mark(out) != MARK:
        refuse("out", "a new folder, or one that an earlier demo wrote", f"{out}, which holds something else", "Choose another out.")


def mark(out: Path) -> Any:
    """Who wrote the folder."""
    try:
        return json.loads((out / "scores.json").read_text(encoding="utf-8"))["made by"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def paint(count: int, seed: int, steps: int, model: str | Path | None) -> Painted:
    """Run the model on held-out pairs inside a trace."""
    from i2am.data.synthetic import draw, unit
    from i2am.models.small import WEIGHTS, load

    pipe = load(model or WEIGHTS)
    pairs = draw(count, seed=seed, size=pipe.size)
    person, cloth, body = (unit(picture) for picture in (pairs.person, pairs.garment, pairs.densepose))
    masks = pairs.mask.float()
    pipe.set_progress_bar_config(desc=f"painting {count} picture{'s' * (count > 1)}", unit="step")
    start = time.perf_counter()
    with trace(pipe, generated_mask=masks, specific=cells(*CELLS), field=True, guidance="none") as run:
        images = pipe(
            image=person,
            mask_image=masks[:, None],
            garment=cloth,
            densepose=body,
            num_inference_steps=steps,
            generator=[torch.Generator("cpu").manual_seed(10_000 * seed + i) for i in range(count)],
        ).images
    seconds = time.perf_counter() - start
    return Painted(pairs, images, run.maps.with_pictures(images, cloth.clamp(0, 1)), seconds, steps, seed)


def write(out: Path, done: Painted, scored: Scored, model: str) -> dict[str, float]:
    """Everything, the mark first, so that a demo that was stopped can be run again; returns the megabytes of each file."""
    from i2am.cli.demo_page import page
    from i2am.data.synthetic import unit
    from i2am.show.drawing import as_images

    count = len(done.images)
    facts: dict[str, Any] = {"steps": done.steps, "seed": done.seed, "seconds": round(done.seconds, 2), "threads": torch.get_num_threads(),
             "model": model, "layers": len(done.maps.layers), "groups": done.maps.groups}  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    text = {"made by": MARK, **facts, **asdict(scored)}
    (out / "scores.json").write_text(json.dumps(text, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    pairs, maps = done.pairs, done.maps
    sets: dict[str, Any] = {"reference": pairs.garment, "agnostic": pairs.agnostic, "generated": done.images, "person": pairs.person}
    pictures = {name: as_images(found if name == "generated" else unit(found).clamp(0, 1)) for name, found in sets.items()}
    under = {name: [backdrop(one) for one in pictures[name]] for name in ("generated", "reference")}
    pictures["warp"] = maps.field("g2r").warp(size=backdrop(pictures["generated"][0]).size[::-1])
    for direction, side in (("r2g", "generated"), ("g2r", "reference")):
        pictures[direction] = maps.overlay(under[side], direction, layers="pointing")
        pictures[f"{direction}_mean"] = maps.overlay(under[side], direction)
    for name, found in pictures.items():
        (out / name).mkdir(exist_ok=True)
        for old in (out / name).glob("[0-9]*.png"):  # of an earlier, larger demo
            old.unlink()
        for i, picture in enumerate(found):
            picture.save(out / name / f"{i:02d}.png")
    contact(pictures).save(out / "sheet.png")
    for level in ("time", "head", "layer"):
        grid(maps, level, under["generated"][0], under["reference"][0]).save(out / f"{level}.png")
    view(maps, out / "viewer.html", title=f"{count} try-on picture{'s' * (count > 1)}")
    facts["megabytes"] = maps[:1].save(out / MAPS).stat().st_size / 1e6
    (out / "index.html").write_text(page(facts, asdict(scored)), encoding="utf-8")
    return {str(path.relative_to(out)): path.stat().st_size / 1e6 for path in out.rglob("*") if path.is_file()}


def backdrop(picture: Image) -> Image:
    """A picture without its colours, so that all colour above it is the map's, and large enough for a smooth one."""
    from PIL.Image import Resampling

    return picture.convert("L").resize((picture.width * ENLARGED, picture.height * ENLARGED), Resampling.LANCZOS)


def contact(pictures: dict[str, list[Image]]) -> Image:
    """Every pair a column, every kind of picture a row."""
    from PIL import Image, ImageDraw

    from i2am.cli.demo_page import ROWS
    from i2am.show.drawing import font

    width, height, gap, left, top = 192, 256, 12, 200, 48
    count = len(pictures["generated"])
    page = Image.new("RGB", (left + count * (width + gap) + gap, top + len(ROWS) * (height + gap) + gap), "white")
    pen = ImageDraw.Draw(page)
    for i in range(count):
        pen.text((left + i * (width + gap) + width / 2, top / 2 + 4), f"{i:02d}", "#5f6068", font=font(20), anchor="mm")
    for j, (name, (title, about)) in enumerate(ROWS.items()):
        y = top + j * (height + gap)
        pen.text((20, y + height / 2 - 16), title, "#1d1d1f", font=font(24), anchor="lm")
        pen.text((20, y + height / 2 + 16), about, "#5f6068", font=font(17), anchor="lm")
        for i, picture in enumerate(pictures[name]):
            page.paste(picture.resize((width, height), Image.Resampling.LANCZOS), (left + i * (width + gap), y))
    return page


def labels(maps: AttributionMaps, level: str, direction: str) -> list[str]:
    """What each map of a level is: the steps of a time group, a head, a layer's block and the size of its generated grid."""
    if level == "head":
        return [f"head {i}" for i in range(maps.buffer(direction, maps.names(direction)[0]).shape[2])]
    if level == "time":
        starts = [-(-i * maps.steps // maps.groups) for i in range(maps.groups + 1)]
        return [f"step {a + 1}" if b == a + 1 else f"steps {a + 1} to {b}" for a, b in itertools.pairwise(starts)]
    found = []
    for name in maps.names(direction):
        block = name.split(".transformer_blocks")[0]
        size = " \N{MULTIPLICATION SIGN} ".join(map(str, maps.buffer("r2g", name).shape[-2:]))
        found.append(f"{block.split('_')[0]} {'.'.join(re.findall('[0-9]+', block))}, {size}")
    return found


def grid(maps: AttributionMaps, level: str, generated: Image, reference: Image) -> Image:
    """A level of the first picture's maps: R2G above, G2R below."""
    from PIL import Image

    from i2am.show.pictures import sheet

    parts = []
    for direction, picture in (("r2g", generated), ("g2r", reference)):
        found = maps.level(direction, level)[0]
        names = labels(maps, level, direction)
        parts.append(sheet([found], row_labels=[direction.upper()], column_labels=names, image=picture,
                           scale="each" if level == "layer" else "shared"))  # fmt: skip
    page = Image.new("RGB", (max(part.width for part in parts), sum(part.height for part in parts)), "white")
    for i, part in enumerate(parts):
        page.paste(part, (0, sum(part.height for part in parts[:i])))
    return page
