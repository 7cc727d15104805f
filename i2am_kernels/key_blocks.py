"""A call visited a block of keys at a time, each of which sees every query: P of a block is made, used and dropped.

P^T = 2^(K Q^T - L)         one product and one exponential on the block [c, G], with L the row log-sum-exp
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from i2am_kernels.call import LOG2E, Call, additive, clip
from i2am_kernels.forward import chunked_lse
from i2am_kernels.parts import Part, device_bytes, parts

BLOCK_BYTES = 1 << 20  # a thread's part of each of the tiles, which its second-level cache holds together
TILES = 2  # P and what it is asked for


class KeyBlocks:
    """Rows of the batch, visited part by part and a block of keys at a time; of the scores only a tile exists."""

    def __init__(self, call: Call, dtype: torch.dtype, lse: Tensor | None = None) -> None:
        self.call, self.rows, self.dtype = call, slice(*call.rows), dtype
        self.lse = chunked_lse(replace(call, generated=(0, call.query.shape[2]))) if lse is None else lse  # [b, H, G]

    def of(self, part: Part, tensor: Tensor) -> Tensor:
        """[B, H, ...] -> [m, ...]"""
        return part.of(tensor[self.rows]).to(self.dtype)

    def of_heads(self, part: Part, weight: Tensor) -> Tensor:
        """[b, 1 or H, n, tokens] -> [m, n, tokens]"""
        return part.of(weight.expand(-1, self.call.query.shape[1], -1, -1)).to(self.dtype)

    def visit(self) -> None:
        """All heads of these rows, part by part."""
        call = self.call
        generated, reference = call.query.shape[2], call.key.shape[2]
        each = 4 * generated if call.query.device.type == "cpu" else 4 * TILES * generated * call.query.shape[1]  # bytes a key
        most = BLOCK_BYTES if call.query.device.type == "cpu" else device_bytes(call.query.device)
        wanted = max(16, most // each)
        self.block = -(-reference // max(1, round(reference / wanted)))  # no block of a few keys at the end
        self.words = self.dtype.itemsize // 4
        for part, scratch in parts(call, self.words * TILES * generated * self.block, TILES * BLOCK_BYTES):
            self.tiles = scratch.view(self.dtype).view(TILES, -1)
            self.open(part)
            self.visit_part(part)

    def visit_part(self, part: Part) -> None:
        """Some heads of a row, or some rows of a head; m of them."""
        raise NotImplementedError

    def open(self, part: Part) -> None:
        """The next part: its keys, in binary orders, with a one, its queries with -L, so that L is taken off in the product."""
        query, key = self.of(part, self.call.query), self.of(part, self.call.key)  # [m, tokens, D]
        self.norm = part.of(self.lse).to(self.dtype)[:, None]  # [m, 1, G]
        self.part, self.query, self.key = part, query, key
        self.key_one = torch.cat([key * (self.call.scale * LOG2E), torch.ones_like(key[..., :1])], 2)  # [m, R, D + 1]
        self.shifted = torch.cat([query.mT, -self.norm], 1)  # [m, D + 1, G]
        self.held: tuple[int, int] | None = None

    def weight(self, start: int, stop: int) -> Tensor:
        """P of a block of keys [m, c, G], in the first tile, where it may still be."""
        tile = self.tile(0, stop - start)
        if self.held != (start, stop):
            self.product(self.key_one[:, start:stop], self.shifted, start, stop, tile).exp2_()
            self.held = start, stop
        return tile

    def scores(self, start: int, stop: int) -> Tensor:
        """The scores of a block of keys in binary orders, with the mask; [m, c, G] in the first tile."""
        self.held = None
        return self.product(self.key_one[:, start:stop, :-1], self.query.mT, start, stop, self.tile(0, stop - start))

    def product(self, keys: Tensor, queries: Tensor, start: int, stop: int, tile: Tensor) -> Tensor:
        torch.bmm(keys, queries, out=tile)
        if self.call.mask is not None:
            mask = clip(clip(self.call.mask, self.rows), self.part.rows, self.part.heads, slice(None), slice(start, stop))
            tile.add_(additive(mask.flatten(0, 1), self.dtype, LOG2E).mT)
        return tile

    def tile(self, number: int, keys: int) -> Tensor:
        """One of the tiles, [m, keys, G]."""
        shape = (len(self.key), keys, self.query.shape[1])
        return self.tiles[number, : math.prod(shape)].view(shape)

    def blocks(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """The keys in blocks, each on the reference or beside it."""
        edges = sorted({first, *(edge for edge in self.call.reference if first < edge < last), last})
        for begin, end in pairwise(edges):
            for start in range(begin, end, self.block):
                yield start, min(start + self.block, end)
