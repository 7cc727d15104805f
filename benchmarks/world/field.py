"""Does the field end at the truth, and do its scores follow? `python -m benchmarks.world.field`.

    truth     held-out pairs: the end-point error of the field per layer and head, of the heads that point, and of all together
    scores    the scores without truth beside the truth: shipped model, checkpoints of trainings with different seeds, random weights, and
              the shipped model with attention broken on purpose

Rows go to benchmarks/results/small-world.jsonl; `python -m benchmarks.world.tables` makes the tables and the plot from them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

import i2am
from benchmarks.measuring.rows import SMALL_WORLD, Row, Writer, environment
from benchmarks.world.damage import DAMAGES, damaged
from benchmarks.world.pointing import HELD_OUT, RANDOM, kept, random_model, traced
from i2am.data.synthetic import Pairs, draw, unit
from i2am.maps.levels import AttributionMaps
from i2am.models.small import WEIGHTS, SmallTryOnPipeline, load
from i2am.score import correspondence
from i2am.score.end_points import EndPoints, end_points
from i2am.score.imacs import imacs
from i2am.score.pointing import pointing
from i2am.score.similarity import ssim

Batch = tuple[Pairs, torch.Tensor, AttributionMaps]


def batches(pipe: SmallTryOnPipeline, count: int, batch: int, name: str, **how: Any) -> Iterator[Batch]:
    """Held-out pairs, the pictures and the maps of each batch."""
    pipe.set_progress_bar_config(disable=True)
    for first in tqdm(range(0, count, batch), desc=name, unit="batch"):
        pairs = draw(min(batch, count - first), seed=HELD_OUT, first=first, size=pipe.size)
        yield pairs, *traced(pipe, pairs, first, field=True, **how)


def choices(maps: AttributionMaps) -> Iterator[tuple[str, int | None, dict[str, Any]]]:
    """What the field is asked of: all layers, the heads that point, each layer, and each of its heads; on one grid."""
    size = maps.field("g2r").positions.shape[1:3]
    yield "all layers", None, {}
    yield "all layers, evenly", None, {"weigh": "evenly"}
    yield "heads that point", None, {"layers": "pointing"}
    for layer in maps.names("field_g2r"):
        yield layer, None, {"layers": layer, "size": size}
        for head in range(maps.tokens("field_g2r", layer).shape[2]):
            yield layer, head, {"layers": layer, "heads": head, "size": size}


def truth(count: int, batch: int, **how: Any) -> Row:
    """End-point errors of the shipped model."""
    found: dict[tuple[str, int | None], EndPoints] = {}
    began = time.perf_counter()
    for pairs, _, maps in batches(load(WEIGHTS), count, batch, "end points", **how):
        for layer, head, choice in choices(maps):
            ends = end_points(maps, pairs.truth, **choice)
            found[layer, head] = found[layer, head] + ends if (layer, head) in found else ends
    table = [
        {"layer": layer, "head": head, "median": round(ends.median, 4), "p90": round(ends.quantile(0.9), 4),
         "within": round(ends.within(), 5), "patches": len(ends.errors)}
        for (layer, head), ends in found.items()
    ]  # fmt: skip
    return {"model": "shipped", "pairs": count, **how, "seconds": round(time.perf_counter() - began, 1), "table": table}


def scored(name: str, pipe: SmallTryOnPipeline, count: int, batch: int, damage: str | None, **how: Any) -> Row:
    """The scores of one model, and what the truth says of it."""
    grid, _ = pipe.reference_tokens
    columns: list[dict[str, torch.Tensor]] = []
    ends: list[EndPoints] = []
    points: list[Any] = []
    began = time.perf_counter()
    with damaged(pipe, damage) if damage else nullcontext():
        for pairs, images, maps in batches(pipe, count, batch, name, specific=i2am.cells(*grid), **how):
            mask, garment = pairs.mask.float(), pairs.garment_mask.float()
            columns.append({
                **correspondence.scores(maps, mask, garment),
                "imacs_g": imacs(maps.unified("r2g"), mask), "imacs_r": imacs(maps.unified("g2r"), garment),
                "ssim_mask": ssim(images, unit(pairs.person), mask),
            })  # fmt: skip
            ends.append(end_points(maps, pairs.truth))
            points.append(pointing(maps, pairs.truth, level="layer"))
    whole, all_ends = points[0], ends[0]
    for one, more in zip(points[1:], ends[1:]):
        whole, all_ends = whole + one, all_ends + more
    means = {key: torch.cat([one[key] for one in columns]).nanmean().item() for key in columns[0]}
    return {
        "model": name, "damage": damage, "pairs": count, **how, "seconds": round(time.perf_counter() - began, 1), **means,
        "pointing": whole.accuracy.max().item(), "end_point": all_ends.median, "within": all_ends.within(),
    }  # fmt: skip


def models(trainings: Sequence[Path]) -> Iterator[tuple[str, str | None, Any]]:
    """Name, damage and how to make each."""
    yield "shipped", None, lambda: load(WEIGHTS)
    for damage in DAMAGES:
        yield f"shipped, {damage}", damage, lambda: load(WEIGHTS)
    for seed in range(RANDOM):
        yield f"random {seed}", None, lambda seed=seed: random_model(seed)
    for training in trainings:
        for folder in kept(training / "checkpoints"):
            yield f"{training.name}, step {folder.name}", None, lambda folder=folder: load(folder)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.world.field", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=("truth", "scores"))
    parser.add_argument("--trainings", type=Path, nargs="*", default=[], help="folders of i2am train-small --seed N, of different seeds")
    parser.add_argument("--count", type=int, help="pairs; default 500, 24 for each of many models")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--out", type=Path, default=SMALL_WORLD)
    given = parser.parse_args(words)
    how = {"steps": given.steps, "guidance": given.guidance}
    rows = Writer(given.out, environment(torch.device("cpu")))
    if given.what == "truth":
        row = truth(given.count or 500, given.batch, **how)
        rows.write({"benchmark": "end points", **row})
        for one in row["table"]:
            print(f"{one['layer']:55} {'' if one['head'] is None else one['head']!s:2} median {one['median']:.2f}, 90% within "
                  f"{one['p90']:.2f}; within a patch {one['within']:.1%}")  # fmt: skip
    else:
        for name, damage, model in models(given.trainings):
            row = scored(name, model(), given.count or 24, given.batch, damage, **how)
            rows.write({"benchmark": "field scores", **row})
            print(f"{name}: correspondence {row['correspondence']:.3f}, end-point error {row['end_point']:.2f}, "
                  f"points right {row['pointing']:.1%}", flush=True)  # fmt: skip
    rows.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
