"""Does training with losses on the maps mend what they show? `python -m benchmarks.world.refined runs/...`

Each folder is a training of `i2am train-small`, with or without --losses, from the same start and with the same seed and steps: held-out
pairs are painted, and every layer's pointing, IMACS, similarity and correspondence stand in a row beside the losses' weights. Rows go to
benchmarks/results/small-world.jsonl, pictures of the first pairs beside each other to docs/refined.jpg.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks.measuring.rows import SMALL_WORLD, Row, Writer, environment
from benchmarks.world.field import scored
from benchmarks.world.pointing import HELD_OUT, measured, traced
from benchmarks.world.refined_tables import named
from benchmarks.world.tables import ROOT
from i2am.data.synthetic import draw, unit
from i2am.losses.refining import LOSSES
from i2am.models.small import load
from i2am.show.field_sheets import row as labelled


def trained(folder: Path) -> Row:
    """What a training says of itself."""
    about = json.loads((folder / "weights" / "training.json").read_text())
    options = about["options"]
    return {
        "losses": {name: options[name] for name in LOSSES if options[name]},
        "loss_layers": options["loss_layers"],
        "from": "shipped" if options["start"] else "nothing",
        **{f"train_{name}": options[name] for name in ("steps", "batch", "rate", "seed")},
        "final_loss": about["final_loss"],
    }


def row_of(folder: Path, count: int, batch: int, **how: Any) -> Row:
    """A training's numbers on held-out pairs."""
    pipe = load(folder / "weights")
    found = measured(pipe, count, batch=batch, name=folder.name, **how)
    scores = scored(folder.name, pipe, count, batch, None, **how)
    more = {key: round(scores[key], 5) for key in ("correspondence", "returning", "inside", "end_point")}
    return {"benchmark": "refined", **found, **more, **trained(folder)}


def draw_pictures(folders: Sequence[Path], count: int, path: Path, **how: Any) -> None:
    """A row a pair: the garment, the person, then of each training what it paints, its unified G2R and R2G."""
    columns: list[tuple[str, list[Any]]] = []
    for folder in folders:
        pipe = load(folder / "weights")
        pipe.set_progress_bar_config(disable=True)
        pairs = draw(count, seed=HELD_OUT, size=pipe.size)
        images, maps = traced(pipe, pairs, 0, **how)
        garments = pipe.numpy_to_pil(unit(pairs.garment).permute(0, 2, 3, 1).numpy())
        painted = pipe.numpy_to_pil(images.permute(0, 2, 3, 1).numpy())
        if not columns:
            columns = [("garment", garments), ("person", pipe.numpy_to_pil(unit(pairs.person).permute(0, 2, 3, 1).numpy()))]
        name = named(trained(folder))
        columns += [(name, painted), ("its G2R", maps.overlay(garments, "g2r")), ("its R2G", maps.overlay(painted, "r2g"))]
    rows = [labelled([pictures[i] for _, pictures in columns], tuple(name for name, _ in columns)) for i in range(count)]
    page = Image.new("RGB", (rows[0].width, sum(one.height for one in rows)), "white")
    for i, one in enumerate(rows):
        page.paste(one, (0, i * one.height))
    page.save(path, quality=90)


def main(words: Sequence[str] | None = None) -> int:
    raw = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m benchmarks.world.refined", description=__doc__, formatter_class=raw)
    parser.add_argument("trainings", type=Path, nargs="+", help="folders of i2am train-small, the one without losses first")
    parser.add_argument("--count", type=int, default=64, help="held-out pairs")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--out", type=Path, default=SMALL_WORLD)
    parser.add_argument("--draw", type=Path, nargs="*", default=[], help="trainings whose pictures are drawn; default: none")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs" / "refined.jpg")
    given = parser.parse_args(words)
    how = {"steps": given.steps, "guidance": given.guidance}
    rows = Writer(given.out, environment(torch.device("cpu")))
    for folder in given.trainings:
        row = row_of(folder, given.count, given.batch, **how)
        rows.write(row)
        best = max(one["accuracy"] for one in row["table"] if one["level"] == "layer")
        print(f"{named(row)}: SSIM in the mask {row['ssim_mask']:.3f}, the best layer points right {best:.1%}, "
              f"correspondence {row['correspondence']:.3f}", flush=True)  # fmt: skip
    rows.close()
    if given.draw:
        draw_pictures(given.draw, 4, given.picture, **how)
        print(f"drew {given.picture}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
