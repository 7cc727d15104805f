"""The streaming backend: exact maps in O(G + R) memory with torch alone; the default on a CPU.

With the row log-sum-exp L known, a block of keys that sees all of its queries completes its columns in one visit:

    E  = 2^(K Q^T - L)              one product and one exponential give P on the block [c, G']
    LS = sum_i 2^(L_i - top) E_ji   so that C_ij = 2^(L_i - top) E_ji / LS_j

and thin products read every map off E. L comes from a library attention that returns it. Where one tile holds all keys
of a few heads, E is made from the scores' own row maximum instead and the output is read off it too: one sweep for all.
Where L spans so many binary orders that LS has lost digits, the block's columns are done again with their own maximum.

exp2 rather than exp throughout: torch's exp goes through a library that is 9 times slower on some processors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from i2am_kernels.call import LOG2E, Call, additive, clip
from i2am_kernels.forward import forward, plain

BLOCK_R = 256  # keys in a block
SCRATCH_BYTES = 10 << 20  # the block E, fitted to the last-level cache
TILE_BYTES = 9 << 19  # one head's [G, R] up to here goes in one sweep; beyond, the library forward is faster
FEW = 16  # keys; for up to so many a tile is faster than torch's own attention
UNDERFLOW = 2.0**-80  # a column sum under this has lost digits


def streaming(call: Call) -> Tensor:
    """Add the maps of one call into its buffers and return the output."""
    on_cpu = call.query.device.type == "cpu"
    if on_cpu and 4 * call.query.shape[2] * call.key.shape[2] <= TILE_BYTES:
        return one_tile(call)
    out, lse = forward(call)  # lse [B', H, G']
    (g0, g1), (r0, r1) = call.generated, call.reference
    block = min(BLOCK_R, r1 - r0)
    for part, scratch in parts(call, (g1 - g0) * block):
        log_norm = lse[part].flatten(0, 1)  # [m, G']
        key, query = operands(call, part, slice(r0, r1), slice(g0, g1))
        key_one = torch.cat([key, key.new_ones(len(key), r1 - r0, 1)], -1)  # [m, R', D + 1]
        shifted = torch.cat([query, -log_norm[:, None]], 1)  # [m, D + 1, G']
        maps = Maps(call, part, log_norm)
        for start in range(0, r1 - r0, block):
            columns = slice(start, min(start + block, r1 - r0))
            bias = bias_of(call, part, slice(g0, g1), slice(r0 + columns.start, r0 + columns.stop))
            tile = scores(key_one[:, columns], shifted, bias, part, scratch).exp2_()  # P
            if maps.add(tile, columns, bias):
                maps.add_exact(scores(key[:, columns], query, bias, part), columns)
        maps.close()
    return out


def one_tile(call: Call) -> Tensor:
    """All keys at once: row softmax, output, column statistics and maps from the same visit to the scores."""
    out = call.empty_output()
    for start, stop in ((0, call.rows[0]), (call.rows[1], len(out))):  # rows without maps
        if start < stop and call.key.shape[2] <= FEW:
            visit_tiles(replace(call, r2g=None, g2r=None, token_maps=None, rows=(start, stop)), out)
        elif start < stop:
            out[start:stop] = plain(call, slice(start, stop))
    visit_tiles(call, out)
    return out


def visit_tiles(call: Call, out: Tensor) -> None:
    """The output and the maps of the call's rows."""
    canvas, columns, every = slice(*call.generated), slice(*call.reference), slice(None)
    rows = slice(*call.rows)
    for part, scratch in parts(call, call.query.shape[2] * call.key.shape[2]):
        key, query = operands(call, part, every, every)
        bias = bias_of(call, part, every, every)
        tile = scores(key, query, bias, part, scratch)  # [m, R, G]
        high = tile.amax(1, keepdim=True)  # [m, 1, G]
        high = high.masked_fill_(high.isneginf(), 0.0)
        norm = tile.sub_(high).exp2_().sum(1, keepdim=True).reciprocal_()
        norm = norm.masked_fill_(norm.isinf(), 0.0)
        value = call.value[rows][part].float()  # [b, h, R, Dv]
        if value.shape[2] == 1:  # an outer product, written once
            torch.mul((tile * norm).unflatten(0, part.shape).transpose(2, 3), value, out=out[rows][part])
        else:
            product = torch.bmm(tile.transpose(1, 2), value.flatten(0, 1)).unflatten(0, part.shape)  # [b, h, G, Dv]
            torch.mul(product, norm.unflatten(0, part.shape).transpose(2, 3), out=out[rows][part])
        if call.r2g is None and call.g2r is None and call.token_maps is None:
            continue
        maps = Maps(call, part, high[:, 0, canvas], norm[:, 0, canvas])
        bias = bias_of(call, part, canvas, columns)
        if maps.add(tile[:, columns, canvas], every, bias):
            maps.add_exact(scores(key[:, columns], query[..., canvas], bias, part), every)
        maps.close()


class Part(NamedTuple):
    """Some of the rows that have maps and some of the heads; m = their product."""

    rows: slice
    heads: slice

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows.stop - self.rows.start, self.heads.stop - self.heads.start


def parts(call: Call, elements: int) -> Iterator[tuple[Part, Tensor]]:
    """Cut rows x heads so that a part's tiles of so many elements fit the scratch.

    A part is some heads of one row, which need no copy where tokens are interleaved, or some rows of a single head; as many
    tiles as threads or a multiple, since a tile is one thread's work: never a tile alone, and no thread left over.
    """
    batch, heads, _, _ = call.canvas
    fit = max(2, SCRATCH_BYTES // (4 * elements))
    fit -= fit % min(fit, torch.get_num_threads())
    rows, some = (1, min(fit, heads)) if heads > 1 else (min(fit, batch), 1)
    scratch = call.query.new_empty(rows * some * elements, dtype=torch.float32)
    for b in range(0, batch, rows):
        for h in range(0, heads, some):
            yield Part(slice(b, min(b + rows, batch)), slice(h, min(h + some, heads))), scratch


def operands(call: Call, part: Part, reference: slice, generated: slice) -> tuple[Tensor, Tensor]:
    """Keys [m, R', D] scaled to log2 units and queries [m, D, G'] of one part, in float32."""
    rows = slice(*call.rows)
    key = call.key[rows][part][:, :, reference].flatten(0, 1).float() * (call.scale * LOG2E)
    return key, call.query[rows][part][:, :, generated].flatten(0, 1).float().transpose(1, 2)


def bias_of(call: Call, part: Part, generated: slice, reference: slice) -> Tensor | None:
    """The additive mask of one block in log2 units, [b or 1, h or 1, G' or 1, c or 1]."""
    if call.mask is None:
        return None
    mask = clip(call.mask, slice(*call.rows))
    return additive(clip(mask, part.rows, part.heads, generated, reference), torch.float32, LOG2E)


def scores(key: Tensor, query: Tensor, bias: Tensor | None, part: Part, scratch: Tensor | None = None) -> Tensor:
    """K Q^T + bias as [m, c, G'], in the scratch where one is given."""
    shape = (len(key), key.shape[1], query.shape[2])
    scratch = key.new_empty(math.prod(shape)) if scratch is None else scratch
    tile = torch.bmm(key, query, out=scratch[: math.prod(shape)].view(shape))
    if bias is not None:
        tile.unflatten(0, part.shape).add_(bias.transpose(-1, -2))
    return tile


class Maps:
    """The maps of one part while its blocks come by; a block is E with P = norm * E, and E = 2^(S - log_norm)."""

    def __init__(self, call: Call, part: Part, log_norm: Tensor, norm: Tensor | None = None):
        self.call, self.part = call, part
        self.careful = log_norm.device.type != "cpu"  # looking at the column sums would wait for the device
        rows = part.rows
        high = log_norm.masked_fill(log_norm.isposinf(), -math.inf).amax(-1, keepdim=True)
        high = high.masked_fill_(high.isneginf(), 0.0)
        self.weight = torch.exp2(log_norm - high).masked_fill_(log_norm.isposinf(), 0.0)[:, None]  # [m, 1, G']
        self.norm = torch.ones_like(self.weight) if norm is None else norm[:, None]  # [m, 1, G']
        thin = [] if call.g2r is None else [self.of_heads(call.g2r_weight()[rows]) * self.norm]
        self.thin = torch.cat([*thin, self.weight] if call.r2g is not None else thin or [self.weight[:, :0]], 1)
        self.seen = 0 if call.g2r is None else call.g2r.shape[2]
        wanted = (call.r2g is not None) + (0 if call.token_maps is None else call.token_maps.shape[2])
        self.sums = self.weight.new_zeros(len(log_norm), wanted, log_norm.shape[1])  # r2g, token maps: [m, 1 + n, G']

    def of_heads(self, weight: Tensor) -> Tensor:
        """[b, n, tokens] -> [m, n, tokens]: the same weights for every head."""
        return weight[:, None].expand(-1, self.part.shape[1], -1, -1).flatten(0, 1)

    def add(self, tile: Tensor, columns: slice, bias: Tensor | None) -> bool:
        """Add one block; true, and R2G left out, where its column sums have lost digits or may have."""
        call, rows = self.call, self.part.rows
        totals = torch.bmm(self.thin, tile.transpose(1, 2))  # [m, n + 1, c]
        if call.g2r is not None:
            call.g2r[self.part][..., columns] += totals[:, : self.seen].unflatten(0, self.part.shape)
        spread, lost = [], False
        if call.r2g is not None:
            total = totals[:, self.seen :]  # LS [m, 1, c]
            lost = self.careful or self.lost(total, bias)
            weight = self.of_heads(call.r2g_weight()[rows, None, columns])
            spread.append(torch.zeros_like(total) if lost else (weight / total).masked_fill_(total == 0, 0.0))
        if call.token_maps is not None and call.token_weight is not None:
            spread.append(self.of_heads(call.token_weight[rows, columns].transpose(1, 2)))
        if spread:
            self.sums.baddbmm_(torch.cat(spread, 1), tile)
        return lost

    def lost(self, total: Tensor, bias: Tensor | None) -> bool:
        """Whether a column sum has underflowed that is not zero for want of keys."""
        low = (total < UNDERFLOW).unflatten(0, self.part.shape)
        return bool((low if bias is None else low & bias.isfinite().any(-2, keepdim=True)).any())

    def add_exact(self, tile: Tensor, columns: slice) -> None:
        """R2G of one block from its scores [m, c, G'], each column by its own maximum."""
        rows = self.part.rows
        high = tile.amax(2, keepdim=True)
        tile.sub_(high.masked_fill_(high.isneginf(), 0.0)).exp2_()
        total = tile.sum(2)[:, None]  # [m, 1, c]
        weight = (self.of_heads(self.call.r2g_weight()[rows, None, columns]) / total).masked_fill_(total == 0, 0.0)
        self.add_r2g(torch.bmm(weight, tile)[:, 0])

    def add_r2g(self, sums: Tensor) -> None:
        assert self.call.r2g is not None
        self.call.r2g[self.part] += sums.unflatten(0, self.part.shape)

    def close(self) -> None:
        """Add what was summed over the blocks."""
        call = self.call
        columnwise = call.r2g is not None
        if columnwise:
            self.add_r2g(self.sums[:, 0] * self.weight[:, 0])
        if call.token_maps is not None:
            call.token_maps[self.part] += (self.sums[:, columnwise:] * self.norm).unflatten(0, self.part.shape)
