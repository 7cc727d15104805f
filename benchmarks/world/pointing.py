"""Does attribution point at the truth? The small try-on model on held-out pairs: `python -m benchmarks.world.pointing`.

    truth        500 held-out pairs: pointing per layer, head and time group, IMACS beside its oracle ceiling and random weights, SSIM
    checkpoints  the same along training, from the checkpoints that `i2am train-small` kept: table, plot, rank correlations

Rows go to benchmarks/results/small-world.jsonl; `python -m benchmarks.world.tables` makes the tables and plots from them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

import i2am
from benchmarks.measuring.rows import SMALL_WORLD, Row, Writer, environment
from i2am.data.synthetic import Pairs, draw, unit
from i2am.data.truth import oracle_maps
from i2am.maps.levels import AttributionMaps
from i2am.models.small import WEIGHTS, GarmentEncoder, SmallTryOnPipeline, load
from i2am.models.small.schedule import scheduler
from i2am.models.small.unet import small_unet
from i2am.score.imacs import imacs
from i2am.score.pointing import add_tables, table
from i2am.score.similarity import ssim

HELD_OUT = 20_261_121  # a seed below the training's
RANDOM = 5  # models of random weights


def noise(first: int, count: int) -> list[torch.Generator]:
    """Each pair's own."""
    return [torch.Generator().manual_seed(first + i) for i in range(count)]


def paint(pipe: SmallTryOnPipeline, pairs: Pairs, garments: Tensor, first: int, steps: int, guidance: float) -> Tensor:
    """Pictures [B, 3, H, W] in [0, 1] of these persons in these garments."""
    return pipe(
        unit(pairs.person),
        pairs.mask[:, None].float(),
        garments,
        unit(pairs.densepose),
        num_inference_steps=steps,
        guidance_scale=guidance,
        generator=noise(first, len(pairs)),
        output_type="pt",
    ).images


def traced(
    pipe: SmallTryOnPipeline, pairs: Pairs, first: int, steps: int, guidance: float, **options: Any
) -> tuple[Tensor, AttributionMaps]:
    """The pictures and the maps of one batch."""
    with i2am.trace(pipe, generated_mask=pairs.mask.float(), **options) as run:
        images = paint(pipe, pairs, unit(pairs.garment), first, steps, guidance)
    return images, run.maps


def measured(pipe: SmallTryOnPipeline, count: int, *, steps: int, guidance: float, batch: int, name: str) -> Row:
    """Everything that is asked of a model, over held-out pairs 0 ... count - 1."""
    pipe.set_progress_bar_config(disable=True)
    grid, _ = pipe.reference_tokens
    tables, scores = [], []
    began = time.perf_counter()
    for first in tqdm(range(0, count, batch), desc=name, unit="batch"):
        pairs = draw(min(batch, count - first), seed=HELD_OUT, first=first, size=pipe.size)
        images, maps = traced(pipe, pairs, first, steps, guidance, specific=i2am.cells(*grid))
        tables.append(table(maps, pairs.truth))
        truth, mask = unit(pairs.person), pairs.mask.float()
        oracle = oracle_maps(pairs.truth, grid, grid)
        change = (images - truth).abs().mean(1)
        scores.append({
            "imacs_g": imacs(maps.unified("r2g"), mask),
            "imacs_r": imacs(maps.unified("g2r"), pairs.garment_mask.float()),
            "oracle_g": imacs(oracle["r2g"], mask),
            "oracle_r": imacs(oracle["g2r"], pairs.garment_mask.float()),
            "ssim": ssim(images, truth),
            "ssim_mask": ssim(images, truth, mask),
            "error_mask": (change * mask).sum((1, 2)) / mask.sum((1, 2)),
        })  # fmt: skip
    every = {key: torch.cat([one[key] for one in scores]) for key in scores[0]}
    return {
        "model": name, "pairs": count, "steps": steps, "guidance": guidance, "seconds": round(time.perf_counter() - began, 1),
        **{key: value.nanmean().item() for key, value in every.items()},
        "without_score": {key: int(value.isnan().sum()) for key, value in every.items() if value.isnan().any()},
        "table": [{k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()} for row in add_tables(*tables)],
    }  # fmt: skip


def random_model(seed: int) -> SmallTryOnPipeline:
    torch.manual_seed(seed)
    return SmallTryOnPipeline(small_unet(), GarmentEncoder(), scheduler())


def kept(folder: Path) -> list[Path]:
    """A training's checkpoints, in their order."""
    return sorted((path for path in folder.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.world.pointing", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=("truth", "random", "checkpoints"))
    parser.add_argument("--weights", help="a pipeline's folder; default: the shipped model")
    parser.add_argument("--checkpoints", type=Path, default=Path("runs/small/checkpoints"))
    parser.add_argument("--count", type=int, help="pairs; default 500, 64 for each checkpoint and random model")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--out", type=Path, default=SMALL_WORLD)
    given = parser.parse_args(words)
    models: list[tuple[str, Any]] = [
        ("shipped" if given.weights is None else Path(given.weights).name, lambda: load(given.weights or WEIGHTS))
    ]
    if given.what == "random":
        models = [(f"random {seed}", lambda seed=seed: random_model(seed)) for seed in range(RANDOM)]
    if given.what == "checkpoints":
        models = [(f"step {path.name}", lambda path=path: load(path)) for path in kept(given.checkpoints)]
    count = given.count or (500 if given.what == "truth" else 64)
    rows = Writer(given.out, environment(torch.device("cpu")))
    for name, model in models:
        row = measured(model(), count, steps=given.steps, guidance=given.guidance, batch=given.batch, name=name)
        best = max((r for r in row["table"] if r["level"] == "layer"), key=lambda r: r["accuracy"])
        rows.write({"benchmark": given.what, **row})
        print(f"{name}: {best['layer']} points right {best['accuracy']:.1%} (identity {best['baseline_accuracy']:.1%}), "
              f"mass {best['mass']:.1%}, SSIM in the mask {row['ssim_mask']:.3f}")  # fmt: skip
    rows.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
