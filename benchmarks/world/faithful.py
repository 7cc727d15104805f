"""Do the small try-on model's maps tell what matters? `python -m benchmarks.world.faithful`: one command, one table, one plot.

The reference patches with the most G2R are hidden and the picture is made again from the same noise; and the garment is exchanged,
to see whether the picture changes where R2G is high. Definitions: i2am/score/faithfulness.py. Rows go to
benchmarks/results/small-world.jsonl, the plot to docs/faithfulness.png.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm.auto import tqdm

from benchmarks.measuring.rows import SMALL_WORLD, Row, Writer, environment
from benchmarks.world.pointing import HELD_OUT, paint, traced
from benchmarks.world.tables import ROOT, plot_changes
from i2am.data.synthetic import draw, unit
from i2am.models.small import WEIGHTS, load
from i2am.score.faithfulness import Change, hiding, swapping

WAYS = ("top", "garment", "random", "bottom")


def summed(changes: Sequence[Change], images: int) -> list[Row]:
    """The means over all images, a row per share."""
    rows = []
    for share in dict.fromkeys(change.share for change in changes):
        here = [change for change in changes if change.share == share]
        whole = Change(share, **{way: torch.cat([getattr(c, way) for c in here]) for way in WAYS if getattr(here[0], way) is not None})
        found = {way: values.mean().item() for way in WAYS if (values := getattr(whole, way)) is not None}
        rows.append({"share": share, "images": images, **found, "ratio": whole.ratio})
    return rows


def main(words: Sequence[str] | None = None) -> int:
    raw = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m benchmarks.world.faithful", description=__doc__, formatter_class=raw)
    parser.add_argument("--weights", help="a pipeline's folder; default: the shipped model")
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--layers", default=None, help='the layers whose maps are asked, such as "up_blocks.1*"; default: all')
    parser.add_argument("--fill", type=float, default=1.0, help="what hidden patches are painted with; 1: white, as around a garment")
    parser.add_argument("--out", type=Path, default=SMALL_WORLD)
    parser.add_argument("--plot", type=Path, default=ROOT / "docs" / "faithfulness.png")
    given = parser.parse_args(words)
    pipe = load(given.weights or WEIGHTS)
    pipe.set_progress_bar_config(disable=True)
    hidden, swapped, ranks = [], [], []
    for first in tqdm(range(0, given.count, given.batch), desc="hiding and swapping", unit="batch"):
        pairs = draw(min(given.batch, given.count - first), seed=HELD_OUT, first=first, size=pipe.size)
        _, maps = traced(pipe, pairs, first, given.steps, given.guidance)
        garments = unit(pairs.garment)

        def generate(references: torch.Tensor, pairs=pairs, first=first) -> torch.Tensor:  # type: ignore[no-untyped-def]
            return paint(pipe, pairs, references, first, given.steps, given.guidance)

        g2r, r2g = (maps.unified(direction, layers=given.layers) for direction in ("g2r", "r2g"))
        hidden += hiding(generate, garments, g2r, pairs.mask.float(), garment_mask=pairs.garment_mask.float(), fill=given.fill)
        changes, correlations = swapping(generate, garments, r2g)
        swapped += changes
        ranks += [one.rho for one in correlations]
    rows = Writer(given.out, environment(torch.device("cpu")))
    options = {"steps": given.steps, "guidance": given.guidance, "fill": given.fill,
               "layers": given.layers or "all", "weights": given.weights or "shipped"}  # fmt: skip
    rank = torch.tensor(ranks).nanmean().item()
    tables = {"hiding": summed(hidden, given.count), "swapping": summed(swapped, given.count)}
    for name, found in tables.items():
        for row in found:
            rows.write({"benchmark": name, **options, **row, **({"rank_correlation": rank} if name == "swapping" else {})})
            numbers = ", ".join(f"{way} {row[way]:.4f}" for way in WAYS if way in row)
            print(f"{name} {row['share']:.0%}: {numbers}: {row['ratio']:.2f} x random")
    print(f"rank correlation of R2G and change, mean over images: {rank:.3f}")
    rows.close()
    plot_changes(tables["hiding"], tables["swapping"], given.plot)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
