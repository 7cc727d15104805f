"""The evaluation of a data set: who paints what, what is done already, and what goes wrong."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from i2am.common.checks import refuse
from i2am.data.vitonhd import PARTS, Problem, VitonHD
from i2am.data.vitonhd import problems_in_words as listed
from i2am.evaluation import batches, processes, shards
from i2am.evaluation.model_names import resolve
from i2am.evaluation.options import Options, described, results_folder, write_options
from i2am.evaluation.painter import Painter, read_look
from i2am.evaluation.processes import gathered, in_plain_words, move_pipeline, quiet
from i2am.evaluation.provenance import every_version, hardware, summed
from i2am.evaluation.report import write
from i2am.evaluation.tryon import TryOn
from i2am.score.quality import Quality

SET = 16  # images at a time for metrics of sets
NEEDED = ("person", "garment", "mask", "garment_mask")


def evaluate(
    data: str | Path,
    model: str | TryOn = "small",
    *,
    out: str | Path,
    batch_size: int | str = "auto",
    keep_going: bool = False,
    metric_weights: str | Path | None = None,
    model_options: dict[str, str] | None = None,
    cpu: bool = False,
    **options: Any,
) -> Path:
    """Score a model on a VITON-HD tree; returns the path of report.html. Started again with the same `out`, it goes on.

    batch_size: "auto" or a number. keep_going: bad pairs are named, counted and left out; else they stop the run before it starts.
    metric_weights: a folder with the files that LPIPS, FID and KID need. options: those of `i2am.evaluation.Options`.
    Under `accelerate launch` or torchrun every process paints a part, and the first one writes the report.
    """
    state, ours = processes.started(cpu)
    # whatever needs no model comes before it is loaded
    wanted = Options(**options)
    batches.check_batch_size(batch_size)
    if state.is_main_process:
        results_folder(out)
    out = Path(out)
    pairs = VitonHD(data, wanted.split, wanted.paired)
    quality = Quality(wanted.metrics, weights=metric_weights, device=state.device, paired=wanted.paired, repaint=wanted.repaint)
    quality.check()
    built = resolve(model, **(model_options or {}))
    asked = wanted.settled(built)
    pairs.size, pairs.parts = asked.size or built.size, tuple(p for p in PARTS if p in (*NEEDED, *built.parts))
    count = len(pairs) if asked.limit is None else min(asked.limit, len(pairs))
    twice = [name for name, times in Counter(Path(person).stem for person, _ in pairs.pairs[:count]).items() if times > 1]
    if twice:
        refuse(str(pairs.listing), "a list that names each person once", f"{', '.join(twice[:5])} twice or more",
               "Images, maps and looks are named after persons: make a list, and a folder, of each part.")  # fmt: skip
    move_pipeline(built.pipeline, state.device)
    about = described(asked, built, model if isinstance(model, str) else type(model.pipeline).__name__, pairs.pairs)
    began = time.perf_counter()
    with in_plain_words(out), contextlib.ExitStack() as stack:
        with state.main_process_first():
            write_options(out, about)
        shard = shards.Shard(out / "shards", state.process_index)
        stack.callback(shard.close)
        done = {i: row for i, row in shards.read(out / "shards").items() if i < count}
        shards.check_metrics(done.values(), out / "shards")
        problems = examine(pairs, [i for i in range(count) if i not in done], state, keep_going)  # and nobody writes before all have read
        bad = {problem.index for problem in problems if problem.index is not None}
        quiet(built.pipeline, stack)
        painter = Painter(built, asked, out, state.device, quality.per_image, keep_going, tqdm.write)
        size = processes.agreed_size(batch_size, out, lambda n: painter.peak(pairs, n), state)
        run(painter, pairs, shards.todo(batches.chunks(count, size, bad), done), shard, done, state)
        spent = summed({"images": painter.painted, "seconds": time.perf_counter() - began, "scoring": painter.scoring}, state)
        notes = gathered(painter.notes, state)
        if state.is_main_process:
            about |= {"data": str(data), "limit": asked.limit, "batch_size": size, "processes": state.num_processes}
            report(painter, pairs, count, quality, {"options": about, "time": spent, "notes": notes}, problems)
        state.wait_for_everyone()
    processes.ended(state, ours)
    return out / "report.html"


def run(painter: Painter, pairs: VitonHD, left: list, shard: shards.Shard, done: dict[int, shards.Row], state: Any) -> None:
    """Paint this process's chunks, and write each pair's line as soon as its files are there. done: the lines of the pairs asked for."""

    def rows(mine: Sequence[Sequence[int]]) -> Iterator[list[shards.Row]]:
        for batch, failed in batches.read_ahead(pairs, mine, painter.keep_going):
            yield failed + (painter.rows(batch) if batch is not None else [])

    processes.record(rows, left, shard, done, state, "evaluating")


def report(painter: Painter, pairs: VitonHD, count: int, quality: Quality, known: dict[str, Any], problems: list[Problem]) -> None:
    """Metrics of whole sets, and the three files."""
    there = shards.read(painter.out / "shards")
    rows = [there[i] for i in sorted(there) if i < count]
    shards.check_metrics(rows, painter.out / "shards")
    scored = [row for row in rows if "failed" not in row]
    lost = {pairs.pairs[p.index][0]: str(p) for p in reversed(problems) if p.index is not None}
    lost |= {row["name"]: row["failed"] for row in rows if "failed" in row}
    failed = [{"name": name, "what": what} for name, what in sorted(lost.items())]
    sets = quality.of_sets(both(painter.out, pairs, scored), len(scored)) if scored else {}
    known["notes"] += quality.notes
    setting = "paired" if painter.options.paired else "unpaired"
    facts = {"title": f"{known['options']['model']}: {len(scored):,} pairs, {setting}", "convention": asdict(painter.convention),
             "versions": every_version(), "hardware": hardware(painter.device), "sets": sets, "settings": quality.settings(),
             "pairs": {"asked": count, "scored": len(scored), "failed": len(failed)}, "failed": failed}  # fmt: skip
    write(painter.out, scored, known | facts)


def examine(pairs: VitonHD, indices: list[int], state: Any, keep_going: bool) -> list[Problem]:
    """What is wrong with the pairs that are still to be painted; each process looks at a part."""
    mine = indices[state.process_index :: state.num_processes]
    problems = list(dict.fromkeys(gathered(pairs.check(mine, progress=state.is_main_process), state)))
    whole = [problem for problem in problems if problem.index is None]
    if whole or (problems and not keep_going):
        way_out = "Mend the copy." if whole else "Mend them, or leave them out with --keep-going."
        raise ValueError(f"i2am: the data in {pairs.root} have problems, and nothing was generated.\n{listed(problems)}\n{way_out}")
    if problems and state.is_main_process:
        tqdm.write(f"i2am: left out, and counted in the report:\n{listed(problems)}")
    return problems


def both(out: Path, pairs: VitonHD, scored: list[shards.Row]) -> Iterator[tuple[torch.Tensor, ...]]:
    """The generated images, the real ones and the masks, for metrics of sets."""
    for first in range(0, len(scored), SET):
        part = scored[first : first + SET]
        images = torch.stack([read_look(out / "images" / f"{Path(row['name']).stem}.png") for row in part])
        real = [pairs[row["index"]] for row in part]
        yield images, torch.stack([pair["person"] for pair in real]), torch.stack([pair["mask"] for pair in real])
