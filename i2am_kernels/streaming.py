"""The streaming backend: exact maps in O(G + R) memory with torch alone; the default on a CPU.

With the row log-sum-exp L known, a block of keys that sees all of its queries completes its columns in one visit:

    P  = 2^(K Q^T - L)              one product and one exponential on the block [c, G']
    LS = sum_i 2^(L_i - top) P_ji   so that C_ij = 2^(L_i - top) P_ji / LS_j

and thin products read every map off P. L comes from a library attention that returns it. Where a head's scores fit the
cache, torch's softmax gives P of all keys at once, and the output is read off it too; any key j then tells L = S_j - log P_j.
Where L spans so many binary orders that LS has lost digits, the columns are done again with their own maximum.

exp2 rather than exp in what we compute: torch's exp goes through a library that is 9 times slower on some processors.
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

BLOCK_R = 256  # keys in a block, at most
BLOCK_BYTES = 1 << 20  # a thread's part of P at a time, fitted to its second-level cache
SCRATCH_BYTES = 13 << 20  # the threads' parts together, at most
TILE_BYTES = SCRATCH_BYTES  # one head's [G, R] up to here goes in one sweep: two thirds of the time of blocks
FEW = 16  # keys; for up to so many a tile is faster than torch's own attention
UNDERFLOW = 2.0**-80  # a column sum under this has lost digits
NEAR = -60.0  # log2 of P of the first key; where it is less in some row, others may be denormal numbers, which are slow
FAR = -112.0  # log2 of P: what is less is left out then, which a column sum that is trusted does not miss


def streaming(call: Call) -> Tensor:
    """Add the maps of one call into its buffers and return the output."""
    on_cpu = call.query.device.type == "cpu"
    if on_cpu and 4 * call.query.shape[2] * call.key.shape[2] <= TILE_BYTES:
        return one_tile(call)
    out, lse = forward(call)  # lse [B', H, G']
    _, _, generated, reference = call.canvas
    most = BLOCK_BYTES if on_cpu else SCRATCH_BYTES
    block = min(reference, BLOCK_R, max(16, most // (64 * generated) * 16))
    maps = Maps(call)
    for part, scratch in parts(call, generated * block):
        maps.open(part, log_norm := lse[part].flatten(0, 1))
        key, query = maps.operands()
        # L is taken off in the product
        key_one = torch.cat([key * (call.scale * LOG2E), key.new_ones(len(key), reference, 1)], 2)  # [m, R', D + 1]
        shifted = torch.cat([query, -log_norm[:, None]], 1)  # [m, D + 1, G']
        far = not on_cpu or call.mask is not None
        for start, keys in zip(range(0, reference, block), key_one.split(block, 1)):
            tile = product(keys, shifted, scratch)
            if call.mask is not None:
                tile.unflatten(0, part.shape).add_(maps.bias(start, start + block).mT)
            far = far or bool(start == 0 and tile[:, 0].amin() < NEAR)
            if far:
                torch.threshold_(tile, FAR, -math.inf)
            maps.add(tile.exp2_(), start)  # P
        maps.close(scratch)
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
    rows, canvas, columns = slice(*call.rows), slice(*call.generated), slice(*call.reference)
    maps = None if call.r2g is None and call.g2r is None and call.token_maps is None else Maps(call)
    far = call.mask is not None
    for part, scratch in parts(call, call.query.shape[2] * call.key.shape[2]):
        tile, log_norm, far = softmax(call, part, scratch, far)
        value = call.value[rows][part].float()  # [b, h, R, Dv]
        if value.shape[2] == 1:  # an outer product, written once
            torch.mul(tile.unflatten(0, part.shape), value, out=out[rows][part])
        else:
            out[rows][part] = torch.bmm(tile, value.flatten(0, 1)).unflatten(0, part.shape)
        if maps is not None:
            maps.open(part, log_norm[:, canvas])
            maps.add(tile[:, canvas, columns].mT, 0)
            maps.close(scratch)


def softmax(call: Call, part: Part, scratch: Tensor, far: bool) -> tuple[Tensor, Tensor, bool]:
    """P [m, G, R] of one part, in the scratch, L [m, G] in log2 units, +inf where every key of the row is hidden, and `far`.

    As long as scores do not lie far apart, nor may be hidden, torch's softmax gives P and the first key tells L.
    """
    query, key = (t[slice(*call.rows)][part].flatten(0, 1).float() for t in (call.query, call.key))
    few = key.shape[1] <= FEW  # rows of so few keys are too short to work on, columns are not
    left, right, dim = (key, query.mT, 1) if few else (query, key.mT, 2)
    scores = product(left, right, scratch, call.scale * (LOG2E if far else 1.0))
    tile = scores.mT if few else scores
    if not far:
        first = tile[..., 0].clone()
        torch.softmax(scores, dim, out=scores)
        share = tile[..., 0].log2()
        if call.r2g is not None and share.amin() < NEAR:
            return softmax(call, part, scratch, far=True)
        return tile, first.mul_(LOG2E).sub_(share), far
    bias = bias_of(call, part, slice(None), slice(None))
    if bias is not None:
        tile.unflatten(0, part.shape).add_(bias)
    high, total = raised(scores, dim)
    norm, log_norm = total.reciprocal(), high + total.log2()
    if bias is not None:
        norm.masked_fill_(total == 0, 0.0)
        log_norm.masked_fill_(total == 0, math.inf)
    scores.mul_(norm)
    return tile, log_norm.squeeze(dim), far


def raised(scores: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """2^(S - maximum) in place of scores, without what is far below it; the maximum and the sum."""
    high = scores.amax(dim, keepdim=True)
    torch.threshold_(scores.sub_(high.masked_fill(high.isneginf(), 0.0)), FAR, -math.inf).exp2_()
    return high, scores.sum(dim, keepdim=True)


class Part(NamedTuple):
    """Some of the rows that have maps and some of the heads; m = their product."""

    rows: slice
    heads: slice

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows.stop - self.rows.start, self.heads.stop - self.heads.start


def parts(call: Call, elements: int) -> Iterator[tuple[Part, Tensor]]:
    """Cut rows x heads so that a thread's tiles of so many elements fit its cache, and give the memory for them.

    A part is some heads of one row, which need no copy where tokens are interleaved, or some rows of a single head: as many
    tiles as threads or a multiple, since a tile is one thread's work, or fewer where these would take too much memory.
    """
    batch, heads, _, _ = call.canvas
    fit = torch.get_num_threads() * max(1, BLOCK_BYTES // (4 * elements))
    fit = max(1, min(fit, SCRATCH_BYTES // (4 * elements)))
    rows, some = (1, min(fit, heads)) if heads > 1 else (min(fit, batch), 1)
    scratch = call.query.new_empty(rows * some * elements, dtype=torch.float32)
    for b in range(0, batch, rows):
        for h in range(0, heads, some):
            yield Part(slice(b, min(b + rows, batch)), slice(h, min(h + some, heads))), scratch


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


def bias_of(call: Call, part: Part, generated: slice, reference: slice) -> Tensor | None:
    """The additive mask of one block in log2 units, [b or 1, h or 1, g or 1, c or 1]."""
    if call.mask is None:
        return None
    mask = clip(call.mask, slice(*call.rows))
    return additive(clip(mask, part.rows, part.heads, generated, reference), torch.float32, LOG2E)


class Maps:
    """The maps of a call, part by part, while the blocks of P come by."""

    def __init__(self, call: Call):
        self.call = call
        self.seen = 0 if call.g2r is None else call.g2r.shape[2]
        self.words = 0 if call.token_maps is None else call.token_maps.shape[2]
        self.g2r_weight, self.r2g_weight = call.g2r_weight(), call.r2g_weight()[:, None]  # [B', n, G'], [B', 1, R']
        # on other devices looking at the column sums would wait for them: none is trusted there
        self.on_cpu = call.query.device.type == "cpu"

    def of_heads(self, weight: Tensor) -> Tensor:
        """[B', n, tokens] -> [m, n, tokens]: the same weights for every head."""
        return weight[self.part.rows, None].expand(-1, self.part.shape[1], -1, -1).flatten(0, 1)

    def open(self, part: Part, log_norm: Tensor) -> None:
        """The next part, with L [m, G'] in log2 units."""
        call, self.part = self.call, part
        thin = [self.of_heads(self.g2r_weight)] if call.g2r is not None else []
        if call.r2g is not None:
            top = log_norm if call.mask is None else log_norm.masked_fill(log_norm.isposinf(), -math.inf)
            self.weight = (log_norm - top.amax(1, keepdim=True)).exp2_()  # [m, G']
            if call.mask is not None:
                self.weight.masked_fill_(log_norm.isposinf(), 0.0)
            thin.append(self.weight[:, None])
            self.share = self.of_heads(self.r2g_weight)  # [m, 1, R']
        self.thin = torch.cat(thin, 1) if thin else log_norm.new_empty(len(log_norm), 0, log_norm.shape[1])
        self.pieces = self.of_heads(call.token_weight.mT) if call.token_weight is not None and self.words else None  # [m, n, R']
        self.sums = log_norm.new_zeros(len(log_norm), (call.r2g is not None) + self.words, log_norm.shape[1])
        self.totals: list[Tensor] = []

    def operands(self) -> tuple[Tensor, Tensor]:
        """Keys [m, R', D] and queries [m, D, G'] of the canvases, in float32."""
        call, rows = self.call, slice(*self.call.rows)
        key, query = call.key[rows][self.part][:, :, slice(*call.reference)], call.query[rows][self.part][:, :, slice(*call.generated)]
        return key.flatten(0, 1).float(), query.flatten(0, 1).float().mT

    def bias(self, start: int, stop: int) -> Tensor:
        """The mask over some of the reference's columns in log2 units, [b or 1, h or 1, G' or 1, c or 1]."""
        first, last = self.call.reference
        bias = bias_of(self.call, self.part, slice(*self.call.generated), slice(first + start, min(first + stop, last)))
        assert bias is not None
        return bias

    def add(self, tile: Tensor, start: int) -> None:
        """Add one block of P, [m, c, G'], whose columns begin at `start`."""
        totals = summed(self.thin, tile.mT)  # [m, n + 1, c]
        self.totals.append(totals)
        spread = []
        if self.call.r2g is not None:
            total = totals[:, self.seen :]  # LS [m, 1, c]
            spread.append(self.share[..., start : start + tile.shape[1]] / total)
            if self.call.mask is not None:
                spread[0].masked_fill_(total == 0, 0.0)
        if self.pieces is not None:
            spread.append(self.pieces[..., start : start + tile.shape[1]])
        if spread:
            self.sums.baddbmm_(spread[0] if len(spread) == 1 else torch.cat(spread, 1), tile)

    def close(self, scratch: Tensor) -> None:
        """Add what was summed over the blocks to the call's buffers."""
        call, part, shape = self.call, self.part, self.part.shape
        totals = self.totals[0] if len(self.totals) == 1 else torch.cat(self.totals, 2)
        if call.g2r is not None:
            call.g2r[part] += totals[:, : self.seen].unflatten(0, shape)
        if call.token_maps is not None:
            call.token_maps[part] += self.sums[:, -self.words :].unflatten(0, shape)
        if call.r2g is not None:
            lost = not self.on_cpu or self.lost(totals[:, self.seen :])
            sums = self.exact(scratch) if lost else self.sums[:, 0].mul_(self.weight)
            call.r2g[part] += sums.unflatten(0, shape)

    def lost(self, total: Tensor) -> bool:
        """Whether a column sum [m, 1, R'] has underflowed that is not zero for want of keys."""
        faint = total < UNDERFLOW
        if self.call.mask is None or not faint.any():
            return bool(faint.any())
        faint = faint.unflatten(0, self.part.shape)
        return any(
            (some & self.bias(start, start + BLOCK_R).isfinite().any(2, keepdim=True)).any()
            for start, some in zip(range(0, total.shape[2], BLOCK_R), faint.split(BLOCK_R, 3))
        )

    def exact(self, scratch: Tensor) -> Tensor:
        """R2G [m, G'] of the part from its scores once more, each column by its own maximum."""
        call, (key, query) = self.call, self.operands()
        block = max(1, scratch.numel() // (len(query) * query.shape[2]))
        sums = torch.zeros_like(self.weight)
        for start, keys, share in zip(range(0, key.shape[1], block), key.split(block, 1), self.share.split(block, 2)):
            tile = product(keys, query, scratch, call.scale * LOG2E)
            if call.mask is not None:
                tile.unflatten(0, self.part.shape).add_(self.bias(start, start + block).mT)
            total = raised(tile, 2)[1].mT  # [m, 1, c]
            weight = share / total
            if call.mask is not None:  # columns that no row sees
                weight.masked_fill_(total == 0, 0.0)
            sums += torch.bmm(weight, tile)[:, 0]
        return sums
