"""The backward of attention with its maps, in O(G + R) memory with torch alone: any device, any backend's forward.

With o, g, u the gradients of the output, of g2r and of token_maps, and r, z those of r2g and column_maps (w* the weights of each map):

    X_ij = o_i V_j + sum_n wg_ni g_nj + sum_n u_ni wt_jn        what P is asked for
    Y_ij = r_i wr_j + sum_n wc_ni z_nj                           what C is asked for
    dS   = P (X - sum_j P X) + C (Y - sum_i C Y)                 dQ = scale dS K    dK = scale dS^T Q    dV = P^T o
    dwg  = sum_j P g      dwt = sum_i P u      dwr = sum_i C r      dwc = sum_j C z

A block of keys sees every query, so that its columns' softmax and sums are whole when it has been visited. P comes from the row
log-sum-exp L, and so does sum_j P X: it is o_i O_i, u_i token_maps_i, and sum_j P g, which alone asks for a visit of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from i2am_kernels.call import LOG2E, Call, additive, clip
from i2am_kernels.forward import chunked_lse
from i2am_kernels.parts import Part, device_bytes, parts

BLOCK_BYTES = 1 << 20  # a thread's part of each of the tiles, which its second-level cache holds together
TILES = 3  # P, C and what they are asked for


@dataclass(frozen=True)
class Upstream:
    """The gradients of what a call gave, None where nothing comes back, and what it gave that is needed again."""

    out: Tensor | None  # [B, H, G, Dv]
    r2g: Tensor | None  # [B', H, G']
    g2r: Tensor | None  # [B', H, n, R']
    token_maps: Tensor | None  # [B', H, n, G']
    column_maps: Tensor | None  # [B', H, n, R']
    output: Tensor  # [B, H, G, Dv]
    words: Tensor | None  # the token_maps themselves
    learned: tuple[str, ...] = ("generated_weight", "reference_weight", "token_weight", "column_weight")  # of which a gradient is wanted

    @property
    def of_columns(self) -> bool:
        """Whether something comes back through C."""
        return self.r2g is not None or self.column_maps is not None

    @property
    def of_maps(self) -> bool:
        return self.of_columns or self.g2r is not None or self.token_maps is not None


@dataclass
class Gradients:
    """Of the operands [B, H, ...], and of the weights for every head [B', H, ...]; None where nothing comes back for them."""

    query: Tensor
    key: Tensor
    value: Tensor | None = None
    generated_weight: Tensor | None = None
    reference_weight: Tensor | None = None
    token_weight: Tensor | None = None
    column_weight: Tensor | None = None


def backward(call: Call, up: Upstream) -> Gradients:
    """The gradients of a call whose `lse` holds L of the canvas."""
    dtype = torch.float64 if call.query.dtype == torch.float64 else torch.float32
    batch, heads, generated, reference = call.canvas
    found = Gradients(*(t.new_zeros(t.shape, dtype=dtype) for t in (call.query, call.key)))
    if up.out is not None:
        found.value = call.value.new_zeros(call.value.shape, dtype=dtype)
    if up.g2r is not None:
        found.generated_weight = found.query.new_zeros(batch, heads, up.g2r.shape[2], generated)
    if up.r2g is not None:
        found.reference_weight = found.query.new_zeros(batch, heads, reference)
    if up.token_maps is not None:
        found.token_weight = found.query.new_zeros(batch, heads, reference, up.token_maps.shape[2])
    if up.column_maps is not None:
        found.column_weight = found.query.new_zeros(batch, heads, up.column_maps.shape[2], generated)
    first, last = call.rows
    output_alone = replace(up, r2g=None, g2r=None, token_maps=None, column_maps=None)
    for start, stop, one in ((0, first, output_alone), (first, last, up), (last, len(call.query), output_alone)):
        if start < stop and (one.out is not None or one.of_maps):
            Rows(replace(call, rows=(start, stop)), one, found).visit()
    found.query.mul_(call.scale)
    found.key.mul_(call.scale)
    return found


class Asked(NamedTuple):
    """What P or C of one part is asked for, as a product: X = left right."""

    left: Tensor  # [m, tokens, n + 1], the last column a one or what the lines' sums are
    right: Tensor  # [m, n + 1, G]


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
        each = 4 * generated if call.query.device.type == "cpu" else 4 * TILES * generated * call.query.shape[1]
        most = BLOCK_BYTES if call.query.device.type == "cpu" else device_bytes(call.query.device)
        self.block = min(reference, max(16, most // (16 * each) * 16))
        self.words = self.dtype.itemsize // 4
        for part, scratch in parts(call, self.words * TILES * generated * self.block, TILES * BLOCK_BYTES):
            self.tiles = scratch[: len(scratch) // (2 * TILES) * (2 * TILES)].view(self.dtype).view(TILES, -1)
            self.visit_part(part)

    def visit_part(self, part: Part) -> None:
        """Some heads of a row, or some rows of a head; m of them."""
        raise NotImplementedError

    def scores(self, part: Part, keys: Tensor, query: Tensor, start: int, stop: int) -> Tensor:
        """The scores of a block of keys in binary orders, with the mask; [m, c, G] in the first tile."""
        tile = self.tile(0, keys.new_empty(len(keys), 1, 1).expand(-1, stop - start, query.shape[1]))
        torch.baddbmm(tile, keys, query.mT, beta=0, alpha=self.call.scale * LOG2E, out=tile)
        if self.call.mask is not None:
            mask = clip(clip(self.call.mask, self.rows), part.rows, part.heads, slice(None), slice(start, stop))
            tile.add_(additive(mask.flatten(0, 1), self.dtype, LOG2E).mT)
        return tile

    def tile(self, number: int, like: Tensor) -> Tensor:
        """One of the tiles, in the shape of another."""
        return self.tiles[number, : like.numel()].view(like.shape)

    def blocks(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """The keys in blocks, each on the reference or beside it."""
        edges = sorted({first, *(edge for edge in self.call.reference if first < edge < last), last})
        for begin, end in pairwise(edges):
            for start in range(begin, end, self.block):
                yield start, min(start + self.block, end)


class Rows(KeyBlocks):
    """The gradients of rows that all have maps, or of which none has."""

    def __init__(self, call: Call, up: Upstream, found: Gradients) -> None:
        whole = (0, call.query.shape[2])
        super().__init__(call, found.query.dtype, call.lse if up.of_maps and call.generated == whole else None)
        self.up, self.found = up, found

    def visit_part(self, part: Part) -> None:
        (g0, g1), (r0, r1), found = self.call.generated, self.call.reference, self.found
        query, key = self.of(part, self.call.query), self.of(part, self.call.key)  # [m, tokens, D]
        lse = part.of(self.lse).to(self.dtype)[:, None]  # [m, 1, G]
        rowwise = self.asked_of_rows(part, query, key, lse)
        d_query = torch.zeros_like(query.mT)  # [m, D, G]
        for start, stop in self.blocks(0, key.shape[1]):
            on_reference = r0 <= start < r1
            keys = key[:, start:stop]
            scores = self.scores(part, keys, query, start, stop)  # [m, c, G]
            change = self.tile(2, scores)
            if rowwise is not None:
                weight = torch.sub(scores, lse, out=self.tile(1, scores)).exp2_()  # P
                back = torch.bmm(weight, rowwise.right.mT)  # [m, c, n + 1]
                self.keep_rows(part, back, start, stop)
                torch.bmm(rowwise.left[:, start:stop], rowwise.right, out=change).mul_(weight)
            else:
                change.zero_()
            if on_reference and self.up.of_columns:
                change[..., g0:g1] += self.asked_of_columns(part, scores[..., g0:g1], start - r0, stop - r0)
            d_query.baddbmm_(keys.mT, change)
            part.of(found.key[self.rows])[:, start:stop] = torch.bmm(change, query)
        part.of(found.query[self.rows]).copy_(d_query.mT)

    def asked_of_rows(self, part: Part, query: Tensor, key: Tensor, lse: Tensor) -> Asked | None:
        """X - sum_j P X as a product."""
        call, up, (g0, g1), (r0, r1) = self.call, self.up, self.call.generated, self.call.reference
        sums = torch.zeros_like(lse)
        left, right = [], []
        if up.out is not None:
            out = self.of(part, up.out)
            sums[:, 0] += (out * self.of(part, up.output)).sum(-1)
            left, right = [self.of(part, call.value)], [out.mT]
        if up.g2r is not None:
            asked, weight = part.of(up.g2r).to(self.dtype), self.of_heads(part, call.g2r_weight(self.dtype))
            gamma = torch.zeros_like(weight)  # [m, n, G']
            for start, stop in self.blocks(r0, r1):
                tile = self.scores(part, key[:, start:stop], query, start, stop).sub_(lse).exp2_()
                gamma += torch.bmm(asked[..., start - r0 : stop - r0], tile[..., g0:g1])
            assert self.found.generated_weight is not None
            part.of(self.found.generated_weight).copy_(gamma)
            sums[..., g0:g1] += (weight * gamma).sum(1, keepdim=True)
            left.append(padded(asked, r0, key.shape[1]).mT)
            right.append(padded(weight, g0, query.shape[1]))
        if up.token_maps is not None and up.words is not None and call.token_weight is not None:
            asked = part.of(up.token_maps).to(self.dtype)
            sums[..., g0:g1] += (asked * part.of(up.words).to(self.dtype)).sum(1, keepdim=True)
            left.append(padded(self.of_heads(part, call.token_weight.mT), r0, key.shape[1]).mT)
            right.append(padded(asked, g0, query.shape[1]))
        if not left:
            return None
        return Asked(torch.cat([*left, torch.ones_like(key[..., :1])], 2), torch.cat([*right, -sums], 1))

    def keep_rows(self, part: Part, back: Tensor, start: int, stop: int) -> None:
        """What P gives back of a block of keys to the values and to the words' weights."""
        found, r0, r1 = self.found, *self.call.reference
        if found.value is not None and self.up.out is not None:
            part.of(found.value[self.rows])[:, start:stop] = back[..., : found.value.shape[3]]
        if self.up.token_maps is not None and found.token_weight is not None and r0 <= start < r1:
            part.of(found.token_weight)[:, start - r0 : stop - r0] = back[..., -1 - found.token_weight.shape[3] : -1]

    def asked_of_columns(self, part: Part, scores: Tensor, start: int, stop: int) -> Tensor:
        """C (Y - sum_i C Y) of a block of the reference's keys, from the scores of the canvas [m, c, G'], which are lost."""
        call, up, found = self.call, self.up, self.found
        left, right = [], []
        if up.r2g is not None:
            left.append(self.of_heads(part, call.r2g_weight(self.dtype)[:, :, None])[..., start:stop])  # [m, 1, c]
            right.append(part.of(up.r2g).to(self.dtype)[:, None])  # [m, 1, G']
        if up.column_maps is not None and call.column_weight is not None:
            left.append(part.of(up.column_maps).to(self.dtype)[..., start:stop])
            right.append(self.of_heads(part, call.column_weight))
        lefts, rights = torch.cat(left, 1), torch.cat(right, 1)
        high = scores.amax(2, keepdim=True)
        total = scores.sub_(high.masked_fill(high.isneginf(), 0.0)).exp2_().sum(2, keepdim=True)
        scores.mul_((1 / total).masked_fill_(total == 0, 0.0))  # C
        back = torch.bmm(rights, scores.mT)  # [m, n, c]: sum_i C r, sum_i C wc
        if up.r2g is not None and found.reference_weight is not None:
            part.of(found.reference_weight)[:, start:stop] = back[:, 0]
        if up.column_maps is not None and found.column_weight is not None:
            part.of(found.column_weight).baddbmm_(lefts[:, -up.column_maps.shape[2] :], scores)
        sums = (lefts * back).sum(1, keepdim=True)
        asked = torch.bmm(torch.cat([lefts, -sums], 1).mT, torch.cat([rights, torch.ones_like(rights[:, :1])], 1), out=self.tile(1, scores))
        return asked.mul_(scores)


def padded(tensor: Tensor, start: int, size: int, elsewhere: float = 0.0) -> Tensor:
    """[..., tokens] among `size` tokens."""
    return torch.nn.functional.pad(tensor, (start, size - start - tensor.shape[-1]), value=elsewhere)
