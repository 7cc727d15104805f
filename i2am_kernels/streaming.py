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
from dataclasses import replace

import torch
from torch import Tensor

from i2am_kernels.call import LOG2E, Call, additive, clip
from i2am_kernels.forward import forward, plain
from i2am_kernels.groups import in_shares
from i2am_kernels.parts import SCRATCH_BYTES, Part, device_bytes, parts, product, summed

BLOCK_R = 256  # keys in a block, at most
BLOCK_BYTES = 1 << 20  # a thread's part of P at a time, fitted to its second-level cache
TILE_BYTES = SCRATCH_BYTES  # one head's [G, R] up to here goes in one sweep: two thirds of the time of blocks
FEW = 16  # keys; for up to so many a tile is faster than torch's own attention
UNDERFLOW = 2.0**-80  # a column sum under this has lost digits
NEAR = -60.0  # log2 of P of the first key; where it is less in some row, others may be denormal numbers, which are slow
PEEK = 8  # rows of scores that are looked at beforehand
SHARP = 84.0  # binary orders from the first key's score to the largest in one of these rows: there are others that lose P
FAR = -112.0  # log2 of P: what is less is left out then, which a column sum that is trusted does not miss


def streaming(call: Call) -> Tensor:
    """Add the maps of one call into its buffers and return the output."""
    return in_shares(streamed, call)


def streamed(call: Call) -> Tensor:
    """The same of a call that has as many key heads as query heads."""
    on_cpu = call.query.device.type == "cpu"
    if on_cpu and 4 * call.query.shape[2] * call.key.shape[2] <= TILE_BYTES:
        return one_tile(call)
    out, lse = forward(call)  # lse [B', H, G']
    if call.lse is not None:
        call.lse.copy_(lse)
    _, _, generated, reference = call.canvas
    block = min(reference, BLOCK_R, max(16, BLOCK_BYTES // (64 * generated) * 16))
    if not on_cpu:  # every head of a row at a time, and then as many keys as fit
        block = min(reference, max(BLOCK_R, device_bytes(call.query.device) // (4 * generated * call.query.shape[1])))
    maps = Maps(call)
    for part, scratch in parts(call, generated * block, BLOCK_BYTES):
        maps.open(part, log_norm := part.of(lse))
        key, query = maps.operands()
        # L is taken off in the product
        key_one = torch.cat([key * (call.scale * LOG2E), key.new_ones(len(key), reference, 1)], 2)  # [m, R', D + 1]
        shifted = torch.cat([query, -log_norm[:, None]], 1)  # [m, D + 1, G']
        far = not on_cpu or call.mask is not None
        for start, keys in zip(range(0, reference, block), key_one.split(block, 1)):
            tile = product(keys, shifted, scratch)
            if call.mask is not None:
                tile.add_(maps.bias(start, start + block).mT)
            far = far or (start == 0 and tile[:, 0].amin().item() < NEAR)
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
            visit_tiles(replace(call, r2g=None, g2r=None, token_maps=None, column_maps=None, lse=None, rows=(start, stop)), out)
        elif start < stop:
            out[start:stop] = plain(call, slice(start, stop))
    visit_tiles(call, out)
    return out


def visit_tiles(call: Call, out: Tensor) -> None:
    """The output and the maps of the call's rows."""
    canvas, columns = slice(*call.generated), slice(*call.reference)
    query, key, value, out = (t[slice(*call.rows)] for t in (call.query, call.key, call.value, out))
    maps = Maps(call) if call.wants_maps else None
    far = True if call.mask is not None else None
    for part, scratch in parts(call, query.shape[2] * key.shape[2], SCRATCH_BYTES):
        tile, log_norm, far = softmax(call, part, part.of(query).float(), part.of(key).float(), scratch, far)
        if key.shape[2] == 1:  # an outer product, written once
            torch.mul(tile, part.of(value), out=part.of(out))
        else:
            part.of(out).copy_(torch.bmm(tile, part.of(value).float()))
        if maps is not None:
            maps.open(part, log_norm[:, canvas])
            if call.lse is not None:
                part.of(call.lse).copy_(log_norm[:, canvas])
            maps.add(tile[:, canvas, columns].mT, 0)
            maps.close(scratch)


def softmax(call: Call, part: Part, query: Tensor, key: Tensor, scratch: Tensor, far: bool | None) -> tuple[Tensor, Tensor, bool]:
    """P [m, G, R] of one part, in the scratch, L [m, G] in log2 units, +inf where every key of the row is hidden, and `far`.

    As long as the first key's weight is not lost, nor may be hidden, torch's softmax gives P and that key tells L; not so where `far`,
    which is None as long as nobody has looked.
    """
    few = key.shape[1] <= FEW  # rows of so few keys are too short to work on, columns are not
    left, right, dim = (key, query.mT, 1) if few else (query, key.mT, 2)
    scores = product(left, right, scratch, call.scale * (LOG2E if far else 1.0))
    tile = scores.mT if few else scores
    if far is None:
        far = call.wants_columns and sharp(tile)
        if far:
            scores.mul_(LOG2E)
    if not far:
        first = tile[..., 0] * LOG2E
        torch.softmax(scores, dim, out=scores)
        log_share = tile[..., 0].log2()
        least = log_share.amin().item()
        if call.wants_columns and least < FAR:
            return softmax(call, part, query, key, scratch, far=True)
        if least < NEAR:
            torch.threshold_(scores, 2.0**FAR, 0.0)
        return tile, first.sub_(log_share), far
    bias = bias_of(call, part, slice(None), slice(None))
    if bias is not None:
        tile.add_(bias)
    high, total = raised(scores, dim)
    norm, log_norm = total.reciprocal(), high + total.log2()
    if bias is not None:
        norm.masked_fill_(total == 0, 0.0)
        log_norm.masked_fill_(total == 0, math.inf)
    scores.mul_(norm)
    return tile, log_norm.squeeze(dim), far


def sharp(tile: Tensor) -> bool:
    """Whether the first key's weight will be lost in some of a few rows of scores, in nats: a guess that saves a softmax in vain."""
    some = tile[:, :: max(1, tile.shape[1] // PEEK)]
    return (some.amax(2) - some[..., 0]).amax().item() * LOG2E > SHARP


def raised(scores: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """2^(S - maximum) in place of scores, without what is far below it; the maximum and the sum."""
    high = scores.amax(dim, keepdim=True)
    torch.threshold_(scores.sub_(high.masked_fill(high.isneginf(), 0.0)), FAR, -math.inf).exp2_()
    return high, scores.sum(dim, keepdim=True)


def bias_of(call: Call, part: Part, generated: slice, reference: slice) -> Tensor | None:
    """The additive mask of one block in log2 units, [m or 1, g or 1, c or 1]."""
    if call.mask is None:
        return None
    mask = clip(clip(call.mask, slice(*call.rows)), part.rows, part.heads, generated, reference)
    return additive(mask.flatten(0, 1), torch.float32, LOG2E)


class Maps:
    """The maps of a call, part by part, while the blocks of P come by."""

    def __init__(self, call: Call):
        self.call = call
        self.weightings = 0 if call.g2r is None else call.g2r.shape[2]
        self.words = 0 if call.token_maps is None else call.token_maps.shape[2]
        self.g2r_weight, self.r2g_weight = call.g2r_weight(), call.r2g_weight().unsqueeze(2)  # [B', 1 or H, n, G'], [B', 1 or H, 1, R']
        # on other devices looking at the column sums would wait for them: none is trusted there
        self.on_cpu = call.query.device.type == "cpu"
        self.trusted = False

    def of_heads(self, weight: Tensor) -> Tensor:
        """[B', 1 or H, n, tokens] -> [m, n, tokens]."""
        return self.part.of(weight) if weight.shape[1] > 1 else weight[self.part.rows, 0].expand(self.part.tiles, -1, -1)

    def open(self, part: Part, log_norm: Tensor) -> None:
        """The next part, with L [m, G'] in log2 units."""
        call, self.part = self.call, part
        weights = [self.of_heads(self.g2r_weight)] if call.g2r is not None else []
        self.column_weight = None if call.column_weight is None else self.of_heads(call.column_weight)  # [m, n, G']
        if call.wants_columns:
            top = log_norm if call.mask is None else log_norm.masked_fill(log_norm.isposinf(), -math.inf)
            self.weight = (log_norm - top.amax(1, keepdim=True)).exp2_()  # [m, G']
            self.trusted = self.on_cpu and not self.weight.amin().item() < UNDERFLOW  # where L spans more, some LS will be lost
            if call.mask is not None:
                self.weight.masked_fill_(log_norm.isposinf(), 0.0)
            if self.trusted:
                weights.append(self.weight[:, None])
                if self.column_weight is not None:
                    weights.append(self.column_weight * self.weight[:, None])
            self.reference_weight = self.of_heads(self.r2g_weight)  # [m, 1, R']
        self.query_weights = torch.cat(weights, 1) if weights else log_norm.new_empty(len(log_norm), 0, log_norm.shape[1])
        self.word_weight = self.of_heads(call.token_weight.mT) if call.token_weight is not None and self.words else None  # [m, n, R']
        self.sums: Tensor | None = None
        self.totals: list[Tensor] = []

    def operands(self) -> tuple[Tensor, Tensor]:
        """Keys [m, R', D] and queries [m, D, G'] of the canvases, in float32."""
        call, rows = self.call, slice(*self.call.rows)
        key, query = self.part.of(call.key[rows]), self.part.of(call.query[rows])
        return key[:, slice(*call.reference)].float(), query[:, slice(*call.generated)].float().mT

    def bias(self, start: int, stop: int) -> Tensor:
        """The mask over some of the reference's columns in log2 units, [m or 1, G' or 1, c or 1]."""
        first, last = self.call.reference
        bias = bias_of(self.call, self.part, slice(*self.call.generated), slice(first + start, min(first + stop, last)))
        assert bias is not None
        return bias

    def add(self, tile: Tensor, start: int) -> None:
        """Add one block of P, [m, c, G'], whose columns begin at `start`."""
        totals = summed(self.query_weights, tile.mT)  # [m, n + 1 + columns, c]
        self.totals.append(totals)
        key_weights = []
        if self.trusted and self.call.r2g is not None:
            total = totals[:, self.weightings : self.weightings + 1]  # LS [m, 1, c]
            key_weights.append(self.over(self.reference_weight[..., start : start + tile.shape[1]], total))
        if self.word_weight is not None:
            key_weights.append(self.word_weight[..., start : start + tile.shape[1]])
        if key_weights:
            weights = key_weights[0] if len(key_weights) == 1 else torch.cat(key_weights, 1)
            self.sums = torch.bmm(weights, tile) if self.sums is None else self.sums.baddbmm_(weights, tile)  # [m, 1 + n, G']

    def over(self, sums: Tensor, total: Tensor) -> Tensor:
        """sums [m, n, c] / LS [m, 1, c], and nothing for columns that no row sees."""
        share = sums / total
        return share if self.call.mask is None else share.masked_fill_(total == 0, 0.0)

    def close(self, scratch: Tensor) -> None:
        """Add what was summed over the blocks to the call's buffers."""
        call, part = self.call, self.part
        totals = self.totals[0] if len(self.totals) == 1 else torch.cat(self.totals, 2)
        if call.g2r is not None:
            part.of(call.g2r).add_(totals[:, : self.weightings])
        if call.token_maps is not None and self.sums is not None:
            part.of(call.token_maps).add_(self.sums[:, -self.words :])
        if call.wants_columns:
            total = totals[:, self.weightings : self.weightings + 1]  # LS, where it is trusted
            if not self.trusted or self.lost(total):
                self.exact(scratch)
                return
            if call.r2g is not None and self.sums is not None:
                part.of(call.r2g).addcmul_(self.sums[:, 0], self.weight)
            if call.column_maps is not None:
                part.of(call.column_maps).add_(self.over(totals[:, self.weightings + 1 :], total))

    def lost(self, total: Tensor) -> bool:
        """Whether a column sum [m, 1, R'] has underflowed that is not zero for want of keys."""
        faint = total.amin().item() < UNDERFLOW
        if self.call.mask is None or not faint:
            return faint
        return any(
            (some & self.bias(start, start + BLOCK_R).isfinite().any(1, keepdim=True)).any()
            for start, some in zip(range(0, total.shape[2], BLOCK_R), (total < UNDERFLOW).split(BLOCK_R, 2))
        )

    def exact(self, scratch: Tensor) -> None:
        """Add the maps that C makes from the part's scores once more, each column by its own maximum."""
        call, (key, query) = self.call, self.operands()
        block = max(1, scratch.numel() // (len(query) * query.shape[2]))
        sums = torch.zeros_like(self.weight)  # [m, G']
        for start, keys, key_weight in zip(range(0, key.shape[1], block), key.split(block, 1), self.reference_weight.split(block, 2)):
            tile = product(keys, query, scratch, call.scale * LOG2E)
            if call.mask is not None:
                tile.add_(self.bias(start, start + block).mT)
            total = raised(tile, 2)[1].mT  # [m, 1, c]
            if call.r2g is not None:
                sums += torch.bmm(self.over(key_weight, total), tile)[:, 0]
            if call.column_maps is not None and self.column_weight is not None:
                columns = self.over(torch.bmm(self.column_weight, tile.mT), total)
                self.part.of(call.column_maps)[..., start : start + keys.shape[1]].add_(columns)
        if call.r2g is not None:
            self.part.of(call.r2g).add_(sums)
