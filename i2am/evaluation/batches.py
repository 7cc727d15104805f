"""Which pairs go together, how many at a time, and reading them ahead of the model."""

from __future__ import annotations

import gc
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import default_collate

from i2am.common.checks import is_whole, refuse
from i2am.common.machine import out_of_memory
from i2am.evaluation.shards import Row
from i2am.evaluation.tryon import Batch

READERS = 4  # threads that read pictures while the model paints
AHEAD = 2  # chunks
ON_A_CPU = 8  # larger batches are no faster there
LARGEST = 64
FILE = "batch-size"


def chunks(count: int, size: int, without: set[int]) -> list[list[int]]:
    """Pairs 0 ... count - 1, cut at multiples of size, whoever paints them and whatever is missing."""
    cut = ([i for i in range(first, min(first + size, count)) if i not in without] for first in range(0, count, size))
    return [chunk for chunk in cut if chunk]


def check_batch_size(asked: int | str) -> None:
    if asked != "auto" and not is_whole(asked, 1):
        refuse("batch_size", '"auto" or a whole number of at least 1', repr(asked), "What fits is the default.")


def chosen_size(asked: int | str, out: Path, peak: Callable[[int], int] | None, free: int) -> int:
    """The batch size: as asked; or that of the run which began this folder; or what fits, by the peak memory of batches of 1 and 2."""
    check_batch_size(asked)
    if asked != "auto":
        return int(asked)
    path = out / FILE
    if path.is_file() and (kept := path.read_bytes().strip()).isdigit() and int(kept):
        return int(kept)
    return ON_A_CPU if peak is None else fitting(peak, free)


def fitting(peak: Callable[[int], int], free: int) -> int:
    """The largest power of two whose extrapolated peak leaves a fifth of the free memory."""
    size, one = 1, peak(1)
    try:
        two = peak(2)
    except torch.OutOfMemoryError:
        return 1
    while size < LARGEST and one + (2 * size - 1) * max(1, two - one) <= 0.8 * free:
        size *= 2
    return size


def in_parts(
    count: int, most: int | None, part: Callable[[slice], list[Row]], smaller: Callable[[int], None], device: torch.device
) -> list[Row]:
    """The lines of a batch of this many, in parts where it does not fit into memory at once.

    most: the largest that is known to fit. part: the lines of some of them. smaller: is told what size it goes on with.
    """
    size, found, first = min(count, most or count), list[Row](), 0
    while first < count:
        try:
            found += part(slice(first, first + size))
            first += size
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error) or size == 1:
                raise
        else:
            continue
        gc.collect()  # outside the handler, which holds the tensors of the attempt
        if device.type == "cuda":
            torch.cuda.empty_cache()
        size = math.ceil(size / 2)
        smaller(size)
    return found


def moved(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on this device."""
    return {name: values.to(device) if isinstance(values, torch.Tensor) else values for name, values in batch.items()}


def read_ahead(data: Any, mine: Sequence[Sequence[int]], keep_going: bool) -> Iterator[tuple[Batch | None, list[Row]]]:
    """Each chunk as a batch, with the pairs that could not be read, which are failures if keep_going and errors otherwise.

    A reader works alone: teams of OpenMP threads for each would be more threads than cores, and then OpenMP puts the model's own to
    sleep after every operation.
    """
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(READERS, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        waiting: deque[list[Future]] = deque()
        left = iter(mine)
        try:
            for _ in range(AHEAD):
                waiting.extend([[pool.submit(data.__getitem__, i) for i in chunk] for chunk in (next(left, None),) if chunk])
            for chunk in mine:
                futures = waiting.popleft()
                waiting.extend([[pool.submit(data.__getitem__, i) for i in more] for more in (next(left, None),) if more])
                items, failed = [], []
                for index, future in zip(chunk, futures):
                    try:
                        items.append(future.result())
                    except ValueError as error:
                        if not keep_going:
                            raise
                        name, cloth = data.pairs[index]
                        failed.append({"index": index, "name": name, "cloth": cloth, "failed": str(error)})
                yield (default_collate(items) if items else None), failed
        finally:
            for futures in waiting:
                for future in futures:
                    future.cancel()
            torch.set_num_threads(threads)  # what threads that begin later take for their number
