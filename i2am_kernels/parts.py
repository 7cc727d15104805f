"""A call in parts that fit the caches of a CPU or fill a GPU: which heads of which rows go together, and the memory of their scores."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from i2am_kernels.call import Call

SCRATCH_BYTES = 13 << 20  # the tiles of a part together, at most
DEVICE_BYTES = 256 << 20  # the same elsewhere, where what counts is how few operations are launched
DEVICE_SHARE = 64  # of the device's memory, at most one part in so many


class Part(NamedTuple):
    """Some heads of one of the rows that have maps, or some of these rows and one head; m of them."""

    rows: slice
    heads: slice

    @property
    def tiles(self) -> int:
        return (self.rows.stop - self.rows.start) * (self.heads.stop - self.heads.start)

    def of(self, tensor: Tensor) -> Tensor:
        """[B', H, ...] -> [m, ...], never a copy."""
        alone = self.rows.stop - self.rows.start == 1
        return tensor[self.rows.start, self.heads] if alone else tensor[self.rows, self.heads.start]


@lru_cache
def device_bytes(device: torch.device) -> int:
    """What a part may take on a device that is no CPU."""
    if device.type != "cuda":
        return DEVICE_BYTES
    return max(SCRATCH_BYTES, min(DEVICE_BYTES, torch.cuda.get_device_properties(device).total_memory // DEVICE_SHARE))


def parts(call: Call, elements: int, most: int) -> Iterator[tuple[Part, Tensor]]:
    """Cut rows x heads into parts whose tiles, of so many elements each, take up to `most` bytes a thread, and give the memory for them.

    On a CPU a tile is one thread's work: a part has as many as there are threads or a multiple, or fewer where these would take too
    much memory. Elsewhere it has as many as fit.
    """
    batch, heads, _, _ = call.canvas
    if call.query.device.type == "cpu":
        threads = torch.get_num_threads()
        fit = max(1, min(threads * max(1, most // (4 * elements)), SCRATCH_BYTES // (4 * elements)))
        fit -= fit % threads if fit > threads else 0
    else:
        fit = max(1, device_bytes(call.query.device) // (4 * elements))
    part_rows, part_heads = (1, min(fit, heads)) if heads > 1 else (min(fit, batch), 1)
    scratch = memory(call.query, part_rows * part_heads * elements)
    for b in range(0, batch, part_rows):
        for h in range(0, heads, part_heads):
            yield Part(slice(b, min(b + part_rows, batch)), slice(h, min(h + part_heads, heads))), scratch


class Kept(threading.local):
    """A thread's memory for tiles on a CPU, from call to call: the first touch of a page of new memory costs microseconds."""

    memory: Tensor | None = None


KEPT = Kept()


def memory(like: Tensor, elements: int) -> Tensor:
    """So many float32 numbers of any value, on the device of `like`."""
    if like.device.type != "cpu" or 4 * elements > SCRATCH_BYTES:
        return like.new_empty(elements, dtype=torch.float32)
    if KEPT.memory is None or KEPT.memory.numel() < elements:
        KEPT.memory = None
        with torch.inference_mode(False):  # what is made in that mode cannot be written to outside it
            KEPT.memory = torch.empty(elements, dtype=torch.float32, device="cpu")
    return KEPT.memory[:elements]


def product(left: Tensor, right: Tensor, scratch: Tensor, scale: float = 1.0) -> Tensor:
    """scale * left @ right, in the scratch."""
    shape = (len(left), left.shape[1], right.shape[2])
    tile = scratch[: math.prod(shape)].view(shape)
    return torch.baddbmm(tile, left, right, beta=0, alpha=scale, out=tile)


def summed(left: Tensor, right: Tensor) -> Tensor:
    """left @ right, [m, n, G] and [m, G, c]; a single product, which one thread would do, is cut into a sum of one a thread."""
    threads = torch.get_num_threads()
    if len(left) > 1 or left.shape[2] % threads:
        return torch.bmm(left, right)
    return torch.bmm(left[0].unflatten(1, (threads, -1)).transpose(0, 1), right[0].unflatten(0, (threads, -1))).sum(0, keepdim=True)
