"""Which way of weighing makes G2R tell what matters? `python -m benchmarks.world.weighed`: the same pairs, noise and patches for all.

For each way of weighing (`weigh=`) and each choice of layers, the reference patches with the most G2R are hidden, beside as many random
ones, random ones of the garment and those that most of the true picture comes from; and the specific maps are held against the truth.
The gradient is that of the squares of the predicted clean picture inside the mask. Intervals are 95% bootstrap ones over images.
Rows go to benchmarks/results/small-world.jsonl.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

import i2am
from benchmarks.measuring.rows import SMALL_WORLD, Row, Writer, environment
from benchmarks.world import weighed_tables
from benchmarks.world.pointing import HELD_OUT, paint, traced
from i2am.data.synthetic import draw, unit
from i2am.data.truth import oracle_maps
from i2am.maps.levels import AttributionMaps
from i2am.maps.weighing import WEIGHINGS
from i2am.models.pixels import PATCH
from i2am.models.small import WEIGHTS, load
from i2am.score.faithfulness import SHARES, hidden, on_garment, ways
from i2am.score.intervals import bootstrap
from i2am.score.pointing import Pointing, pointing

CHOICES: dict[str, dict[str, Any]] = {  # of the layers and heads that G2R is the mean of
    "all layers": {},
    "fine layers": {"layers": "up_blocks.1*"},
    "last layer": {"layers": "up_blocks.1.attentions.1*"},
    "heads that point": {"layers": "pointing"},
}  # balance=True is "all layers": every layer has as many reference tokens
TRUTH = "the truth itself"  # hidden are the patches that most of the true picture comes from
RESAMPLES, CONFIDENCE, SEED = 10_000, 0.95, 0
Changes = dict[str, list[Tensor]]  # name of a score -> [images] a share
Points = dict[tuple[str, str], Pointing]  # weigh and layer


def interval(values: Tensor, over: Tensor | None = None) -> list[float]:
    """95% of the mean, or of the ratio."""
    return [end.item() for end in bootstrap(values, RESAMPLES, CONFIDENCE, SEED, over)]


def summed(changes: Changes, shares: Sequence[float], weighings: Sequence[str] = WEIGHINGS) -> list[Row]:
    """A row a share, way of weighing and choice, over all images."""
    rows = []
    for place, share in enumerate(shares):
        random, garment = (changes[name][place].double() for name in ("random", "garment"))
        for weigh in weighings:
            for choice in CHOICES:
                rows.append({"share": share, "weigh": weigh, "choice": choice,
                             **beside(changes[f"{weigh}, {choice}"][place].double(), random, garment)})  # fmt: skip
        rows.append({"share": share, "weigh": TRUTH, "choice": "", **beside(changes[TRUTH][place].double(), random, garment)})
    return rows


def beside(top: Tensor, random: Tensor, garment: Tensor) -> Row:
    """The changes of hiding by one map beside those of random patches, and how sure they are."""
    return {
        "images": len(top), "top": top.mean().item(), "random": random.mean().item(), "garment": garment.mean().item(),
        "ratio": (top.sum() / random.sum()).item(), "ratio_interval": interval(top, random),
        "above_garment": (top - garment).mean().item(), "above_garment_interval": interval(top - garment),
    }  # fmt: skip


def pointed(points: Points, weigh: str) -> Row:
    """The best layer of a way of weighing, by its peaks; the truth has none."""
    if weigh == TRUTH:
        return {}
    layer, best = max(((layer, one) for (of, layer), one in points.items() if of == weigh), key=lambda pair: pair[1].accuracy.item())
    return {"best_layer": layer, "accuracy": best.accuracy.item(), "mass": best.mass.item()}


def asked(weigh: str, mask: Tensor) -> dict[str, Any]:
    """What a trace needs: for the gradient the squares of the clean picture, which the model predicts, inside the mask."""
    inside = F.avg_pool2d(mask[:, None], PATCH)  # [B, 1, h, w] of the prediction

    def squares(clean: Tensor) -> Tensor:
        return (clean.chunk(len(clean) // len(inside))[-1].square() * inside).flatten(1).sum(1)  # the conditional rows are the last

    return {"weigh": weigh, **({"scalar": squares} if weigh == "gradient" else {})}


def orders_of(maps: Mapping[str, AttributionMaps], grid: tuple[int, int]) -> dict[str, Tensor]:
    """The scores by which patches of the reference's grid are hidden."""
    found = {f"{weigh}, {name}": of.unified("g2r", grid, **choice) for weigh, of in maps.items() for name, choice in CHOICES.items()}
    return {**found, "random": ways(next(iter(found.values())), SEED)["random"]}


def add(points: Points, maps: Mapping[str, AttributionMaps], truth: Any) -> None:
    """This batch's pointing, layer by layer."""
    for weigh, of in maps.items():
        for layer in of.names("specific"):
            one = pointing(of, truth, layers=layer)
            points[weigh, layer] = points[weigh, layer] + one if (weigh, layer) in points else one


def main(words: Sequence[str] | None = None) -> int:
    raw = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m benchmarks.world.weighed", description=__doc__, formatter_class=raw)
    parser.add_argument("--weights", help="a pipeline's folder; default: the shipped model")
    parser.add_argument("--weighings", nargs="+", default=list(WEIGHINGS), choices=WEIGHINGS)
    parser.add_argument("--shares", nargs="+", type=float, default=list(SHARES))
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--fill", type=float, default=1.0, help="what hidden patches are painted with; 1: white, as around a garment")
    parser.add_argument("--out", type=Path, default=SMALL_WORLD)
    given = parser.parse_args(words)
    pipe = load(given.weights or WEIGHTS)
    pipe.set_progress_bar_config(disable=True)
    grid, _ = pipe.reference_tokens
    changes: Changes = {}
    points: Points = {}
    for first in tqdm(range(0, given.count, given.batch), desc="hiding", unit="batch"):
        pairs = draw(min(given.batch, given.count - first), seed=HELD_OUT, first=first, size=pipe.size)
        how: dict[str, Any] = {"field": True, "specific": i2am.cells(*grid), "groups": 1}
        maps = {weigh: traced(pipe, pairs, first, given.steps, given.guidance, **asked(weigh, pairs.mask.float()), **how)[1]
                for weigh in given.weighings}  # fmt: skip
        add(points, maps, pairs.truth)
        orders = orders_of(maps, grid)
        orders[TRUTH] = oracle_maps(pairs.truth, grid, grid)["g2r"]
        orders["garment"] = on_garment(orders["random"], pairs.garment_mask.float())

        def generate(references: Tensor, pairs=pairs, first=first) -> Tensor:  # type: ignore[no-untyped-def]
            return paint(pipe, pairs, references, first, given.steps, given.guidance)

        for name, found in hidden(generate, unit(pairs.garment), orders, pairs.mask.float(), given.shares, given.fill).items():
            before = changes.get(name, [torch.empty(0)] * len(found))
            changes[name] = [torch.cat(both) for both in zip(before, found)]
    writer = Writer(given.out, environment(torch.device("cpu")))
    options = {"steps": given.steps, "guidance": given.guidance, "fill": given.fill, "weights": given.weights or "shipped"}
    rows = [{**row, **pointed(points, row["weigh"])} for row in summed(changes, given.shares, given.weighings)]
    for row in rows:
        writer.write({"benchmark": "weighed", **options, **row})
    writer.close()
    print(f"{weighed_tables.hiding(rows)}\n\n{weighed_tables.pointing(rows)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
