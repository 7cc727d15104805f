"""How fast a test set is scored: images a second of `i2am evaluate`, and of the release's way beside it, on the same model and pairs.

    python -m benchmarks.evaluation.throughput

Pairs are drawn and written as a VITON-HD tree; the embedded model paints them with float32 weights. `ours` is the whole evaluation,
reading and checking the data, both directions with every level, scores, SSIM, looks and report, at batches of 1 to 32 and, by torchrun
and on a CPU, in two processes of half the threads. `bare` paints and does nothing else. `release` is the release's way restated
(pipeline/eager_hooks.py): one image at a time, one direction a run, the unified level alone, scored with the same function; it would
need the runs again for each further level, which `levels` counts as the three that it has. Rounds are interleaved in one process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.utils.data import default_collate
from tqdm.auto import tqdm

from benchmarks.measuring.rows import RESULTS, Row, Writer, environment, slug
from benchmarks.pipeline.eager_hooks import EagerHooks
from i2am.data.synthetic import write_vitonhd
from i2am.data.vitonhd import PARTS, VitonHD
from i2am.evaluation import TryOn, evaluate, resolve
from i2am.evaluation.batches import moved
from i2am.evaluation.painter import seed_of
from i2am.evaluation.run import move_pipeline
from i2am.score.imacs import imacs

BATCHES = (1, 2, 4, 8, 16, 32)
LEVELS = 3  # of the release, each a run: unified, time, head
TARGET = 4.0


def resident() -> float:
    """MB that the process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def ours(model: TryOn, data: Path, out: Path, batch: int, count: int, steps: int) -> Row:
    """The whole evaluation; its memory after each batch."""
    held = []

    def paint(*words: Any, **options: Any) -> Any:
        held.append(resident())
        return model.paint(*words, **options)

    began = time.perf_counter()
    page = evaluate(data, replace(model, paint=paint), out=out, batch_size=batch, limit=count, steps=steps, metrics=("ssim",))
    seconds = time.perf_counter() - began
    report = json.loads(page.with_name("report.json").read_text())
    third = max(1, len(held) // 3)
    memory = {"mb_first_third": max(held[:third]), "mb_last_third": max(held[-third:])}
    return {"images_per_second": count / seconds, "share_scoring": report["time"]["share_scoring"], **memory}


def bare(model: TryOn, pairs: VitonHD, batch: int, count: int, steps: int) -> Row:
    began = time.perf_counter()
    for first in range(0, count, batch):
        found = moved(default_collate([pairs[i] for i in range(first, min(first + batch, count))]), model.pipeline.device)
        generators = [torch.Generator("cpu").manual_seed(i) for i in range(len(found["name"]))]
        model.paint(found, steps=steps, guidance_scale=model.guidance_scale, generators=generators)
    return {"images_per_second": count / (time.perf_counter() - began)}


def release(model: TryOn, pairs: VitonHD, count: int, steps: int) -> tuple[Row, dict[str, dict[str, float]]]:
    """Image by image, a run for each direction."""
    grid, special = model.pipeline.reference_tokens
    found: dict[str, dict[str, float]] = {}
    began = time.perf_counter()
    for index in range(count):
        pair = moved(default_collate([pairs[index]]), model.pipeline.device)
        (name,), (cloth,) = pair["name"], pair["cloth"]
        found[name] = {}
        for metric, direction, mask in (("imacs_g", "r2g", "mask"), ("imacs_r", "g2r", "garment_mask")):
            generator = torch.Generator("cpu").manual_seed(seed_of(0, name, cloth))
            with EagerHooks(model.pipeline.unet, direction, grid, special) as hooks:
                model.paint(pair, steps=steps, guidance_scale=model.guidance_scale, generators=[generator])
            found[name][metric] = imacs(hooks.unified(grid)[None], pair[mask]).item()
    return {"images_per_second": count / (time.perf_counter() - began)}, found


def two_processes(data: Path, out: Path, batch: int, count: int, steps: int) -> Row:
    """By torchrun, each with half the threads; its own clock, which starts when the models are loaded."""
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "i2am", "evaluate",
             "--data", str(data), "--out", str(out), "--batch-size", str(batch), "--limit", str(count), "--steps", str(steps),
             "--metrics", "ssim", "--cpu"]  # fmt: skip
    threads = str(max(1, torch.get_num_threads() // 2))
    subprocess.run(words, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": threads})
    spent = json.loads((out / "report.json").read_text())["time"]
    return {"images_per_second": spent["images_per_second"], "share_scoring": spent["share_scoring"]}


def furthest(out: Path, found: dict[str, dict[str, float]]) -> float:
    """The largest difference between the scores of both ways."""
    rows = [json.loads(line) for path in (out / "shards").iterdir() for line in path.read_text().splitlines()]
    return max(abs(row["scores"][metric] - value) for row in rows for metric, value in found.get(row["name"], {}).items())


def measured(
    folder: Path, name: str, batches: Sequence[int], count: int, few: int, steps: int, rounds: int, both: bool, device: torch.device
) -> list[Row]:
    """Every runner in turn, round by round; a row for each is the median."""
    model = resolve(name)
    move_pipeline(model.pipeline, device)
    model.pipeline.set_progress_bar_config(disable=True)
    data = write_vitonhd(folder / "data", count, seed=11, size=(256, 192))
    pairs = VitonHD(data, size=model.size, parts=tuple(p for p in PARTS if p != "agnostic"))
    bare(model, pairs, 2, 2, 1)  # warm
    turns: dict[tuple[str, int, int], list[Row]] = {}
    far = 0.0
    for turn in tqdm(range(rounds), desc="evaluation", unit="round"):
        row, scores = release(model, pairs, few, steps)
        turns.setdefault(("release", 1, 1), []).append(row)
        for batch in batches:
            out = folder / f"{turn}-{batch}"
            turns.setdefault(("ours", batch, 1), []).append(ours(model, data, out, batch, count, steps))
            turns.setdefault(("bare", batch, 1), []).append(bare(model, pairs, batch, count, steps))
            far = max(far, furthest(out, scores))
        if both:
            turns.setdefault(("ours", 8, 2), []).append(two_processes(data, folder / f"{turn}-two", 8, count, steps))
    slow = median(row["images_per_second"] for row in turns["release", 1, 1])
    rows = []
    for (runner, batch, processes), found in turns.items():
        means = {key: median(row[key] for row in found) for key in found[0]}
        speed = means["images_per_second"]
        row = {"benchmark": "evaluation", "runner": runner, "model": name, "batch": batch, "processes": processes, "steps": steps,
               "images": few if runner == "release" else count, "rounds": rounds, **means, "ratio": speed / slow}  # fmt: skip
        if runner == "ours":
            painted = median(r["images_per_second"] for r in turns["bare", batch, 1]) if processes == 1 else None
            row |= {"ratio_levels": LEVELS * speed / slow, "share_maps": painted and 1 - speed / painted, "furthest_score": far}
        rows.append(row)
    return rows


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="small")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--count", type=int, default=32, help="pairs of each evaluation")
    parser.add_argument("--few", type=int, default=4, help="pairs that the release's way scores")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-processes", action="store_true", help="leave two processes out")
    parser.add_argument("--out", type=Path)
    parsed = parser.parse_args(words)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")  # where `i2am evaluate` paints
    both = device.type == "cpu" and not parsed.no_processes
    here = environment(device)
    writer = Writer(parsed.out or RESULTS / f"{slug(here['device'])}-evaluation.jsonl", here)
    with tempfile.TemporaryDirectory() as folder:
        rows = measured(Path(folder), parsed.model, parsed.batches, parsed.count, parsed.few, parsed.steps, parsed.rounds, both, device)
    for row in rows:
        writer.write(row)
        print(line(row))
    return 0


def line(row: Row) -> str:
    more = (
        "" if row["runner"] != "ours" else f"  {row['ratio_levels']:.1f}x with all levels, scoring {row['share_scoring']:.0%} of the time"
    )
    where = f"batch {row['batch']:2}, {row['processes']} process{'es' * (row['processes'] > 1)}"
    return f"{row['runner']:8} {where}: {row['images_per_second']:.2f} images/s, {row['ratio']:.2f}x the release's way{more}"


if __name__ == "__main__":
    sys.exit(main())
