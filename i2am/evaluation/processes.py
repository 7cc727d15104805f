"""The processes of one run: who is there, what each of them does of the work, and what all of them know."""

from __future__ import annotations

import atexit
import contextlib
import datetime
import errno
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from i2am.common.checks import refuse
from i2am.evaluation import batches, shards
from i2am.models.inputs import align

Rows = Callable[[Sequence[Sequence[int]]], Iterable[list[shards.Row]]]  # of this process's chunks, the lines of each


def started(cpu: bool) -> tuple[Any, bool]:
    """This process's place among those of accelerate launch or torchrun, or alone, and whether their group was made here."""
    from accelerate import PartialState

    cpu = cpu or not torch.accelerator.is_available()  # else accelerate takes each of several processes on CPUs for the only one
    theirs = torch.distributed.is_initialized()
    return PartialState(cpu=cpu, timeout=datetime.timedelta(days=7)), not theirs  # who is done waits for the others


def ended(state: Any, ours: bool) -> None:
    """Everything is done: a group that was made here is left when the process ends."""
    if ours:
        atexit.register(state.destroy_process_group)  # threads of the group that outlive the interpreter abort some of its exits


def record(rows: Rows, left: list, shard: shards.Shard, done: dict[int, shards.Row], state: Any, doing: str) -> None:
    """Do this process's part of the chunks that are left, and write each one's lines as soon as its files are there.

    done: the lines of what was asked for that are there already.
    """
    mine = left[state.process_index :: state.num_processes]
    missing = sum(i not in done or "failed" in done[i] for chunk in left for i in chunk)
    first, before = sum("failed" not in row for row in done.values()), shards.count(shard.path.parent)
    bar_of = {"unit": "image", "desc": doing, "disable": not state.is_main_process, "smoothing": 0.05}
    with tqdm(total=first + missing, initial=first, **bar_of) as bar:
        for found in rows(mine):
            shard.append([row for row in found if row["index"] not in done or "failed" in done[row["index"]]])
            if state.is_main_process:
                bar.update(first + min(missing, shards.count(shard.path.parent) - before) - bar.n)  # of all processes


def agreed_size(asked: int | str, out: Path, peak: Callable[[int], int], state: Any) -> int:
    """The batch size, the same in every process: the smallest that any of them can hold. peak: bytes that a batch takes on a GPU."""
    on_gpu = state.device.type == "cuda"
    free = torch.cuda.mem_get_info(state.device)[0] if on_gpu else 0
    size = min(gathered([batches.chosen_size(asked, out, peak if on_gpu else None, free)], state))
    if state.is_main_process:
        (out / batches.FILE).write_text(f"{size}\n")
    return size


def gathered(mine: list[Any], state: Any) -> list[Any]:
    """The lists of all processes, one after another."""
    if state.num_processes == 1:
        return mine
    from accelerate.utils import gather_object

    return gather_object(mine)


def move_pipeline(pipeline: Any, device: torch.device) -> None:
    """Move the pipeline, unless it moves itself (offloading) or cannot be moved; on a CPU, its weights to addresses that change no bits."""
    parts = [part for part in (getattr(pipeline, "components", None) or {}).values() if isinstance(part, torch.nn.Module)]
    if hasattr(pipeline, "to") and not any(hasattr(module, "_hf_hook") for part in parts for module in part.modules()):
        pipeline.to(device)
    align(parts)


def quiet(pipeline: Any, stack: contextlib.ExitStack) -> None:
    """No bar for the steps of each batch, until the evaluation is over."""
    if hasattr(pipeline, "set_progress_bar_config"):
        stack.callback(setattr, pipeline, "_progress_bar_config", getattr(pipeline, "_progress_bar_config", {}))
        pipeline.set_progress_bar_config(**{**getattr(pipeline, "_progress_bar_config", {}), "disable": True})


@contextlib.contextmanager
def in_plain_words(out: Path) -> Iterator[None]:
    """A full disk in words."""
    try:
        yield
    except Exception as error:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
        if not full:
            raise
        refuse(f"the disk of {out}", "large enough", f"no space left ({error})",
               "Everything written before is kept: make room, and give the same command again.")  # fmt: skip
