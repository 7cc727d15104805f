"""The backward of attention with its maps, in O(G + R) memory with torch alone: any device, any backend's forward.

With o, g, u the gradients of the output, of g2r and of token_maps, and r, z those of r2g and column_maps (w* the weights of each map):

    X_ij = o_i V_j + sum_n wg_ni g_nj + sum_n u_ni wt_jn        what P is asked for
    Y_ij = r_i wr_j + sum_n wc_ni z_nj                           what C is asked for
    dS   = P (X - sum_j P X) + C (Y - sum_i C Y)                 dQ = scale dS K    dK = scale dS^T Q    dV = P^T o
    dwg  = sum_j P g      dwt = sum_i P u      dwr = sum_i C r      dwc = sum_j C z

A block of keys sees every query, so that its columns' softmax and sums are whole when it has been visited. P comes from the row
log-sum-exp L, and so does sum_j P X: it is o_i O_i, u_i token_maps_i, and sum_j P g, which alone asks for a visit of its own. So does C:

    e_i = 2^(L_i - max L)        LS_j = sum_i e_i P_ij        C_ij = e_i P_ij / LS_j

so that what C is asked for joins X as two columns of one product. Where LS has lost digits, the block's scores are made again and its
columns have their own maximum; on a device where looking at LS would wait for it, all have.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from i2am_kernels.call import Call
from i2am_kernels.groups import Share, of_heads, shares
from i2am_kernels.key_blocks import KeyBlocks
from i2am_kernels.parts import Part

LOST = 2.0**-64  # a column sum under this has lost digits; what is asked of C is divided by those above, and must stay a number


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

    def of_heads(self, heads: slice) -> Upstream:
        """The same for some query heads."""
        some: dict[str, Any] = {one.name: of_heads(getattr(self, one.name), heads) for one in fields(self) if one.name != "learned"}
        return replace(self, **some)

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
    if call.group > 1:
        return joined([(share, backward(share.call, up.of_heads(share.heads))) for share in shares(call)], call)
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


def joined(parts: list[tuple[Share, Gradients]], call: Call) -> Gradients:
    """The gradients of a call from those of its shares: a key head's are the sum over its group, in their order."""
    found = replace(parts[0][1])
    for name in (one.name for one in fields(found)):
        like, of_keys = getattr(found, name), name in ("key", "value")
        if like is None:
            continue
        whole = like.new_zeros(len(like), (call.key if of_keys else call.query).shape[1], *like.shape[2:])
        for share, gradients in parts:
            one: Tensor = getattr(gradients, name)
            if not of_keys:
                whole[:, share.heads] = one
            else:
                whole[:, share.keys] += one if share.keys == slice(None) else one.sum(1, keepdim=True)
        setattr(found, name, whole)
    return found


class Asked(NamedTuple):
    """What P or C of one part is asked for, as a product: X = left right."""

    left: Tensor  # [m, tokens, n + 1], the last column a one or what the lines' sums are
    right: Tensor  # [m, n + 1, G]


class Rows(KeyBlocks):
    """The gradients of rows that all have maps, or of which none has."""

    def __init__(self, call: Call, up: Upstream, found: Gradients) -> None:
        whole = (0, call.query.shape[2])
        super().__init__(call, found.query.dtype, call.lse if up.of_maps and call.generated == whole else None)
        self.up, self.found = up, found

    def visit_part(self, part: Part) -> None:
        (g0, g1), (r0, r1), found = self.call.generated, self.call.reference, self.found
        asked = self.asked_of_rows(part)
        columns = Columns(self, part) if self.up.of_columns else None
        both = torch.cat([asked.right, columns.right], 1) if columns is not None and columns.readable else asked.right
        d_query = torch.zeros_like(self.query.mT)  # [m, D, G]
        for start, stop in self.blocks(0, self.key.shape[1]):
            here = columns if r0 <= start < r1 else None
            left, right = asked.left[:, start:stop], asked.right if here is None else both
            weight = self.weight(start, stop)  # [m, c, G]
            back = torch.bmm(weight, right.mT)  # [m, c, n]
            self.keep_rows(part, back[..., : left.shape[2]], start, stop)
            lost = here is not None and here.lost(back)
            if here is not None and not lost:
                left = torch.cat([left, here.left(back, weight, start - r0, stop - r0)], 2)
            change = torch.bmm(left, right[:, : left.shape[2]], out=self.tile(1, stop - start)).mul_(weight)
            if here is not None and lost:
                change[..., g0:g1] += here.exact(self.scores(start, stop)[..., g0:g1], start - r0, stop - r0)
            d_query.baddbmm_(self.key[:, start:stop].mT, change)
            part.of(found.key[self.rows])[:, start:stop] = torch.bmm(change, self.query)
        part.of(found.query[self.rows]).copy_(d_query.mT)

    def asked_of_rows(self, part: Part) -> Asked:
        """X - sum_j P X as a product."""
        call, up, (g0, g1), (r0, r1) = self.call, self.up, self.call.generated, self.call.reference
        tokens, queries = self.key.shape[1], self.query.shape[1]
        sums = torch.zeros_like(self.norm)
        left, right = [], []
        if up.out is not None:
            out = self.of(part, up.out)
            sums[:, 0] += (out * self.of(part, up.output)).sum(-1)
            left, right = [self.of(part, call.value)], [out.mT]
        if up.g2r is not None:
            asked, weight = part.of(up.g2r).to(self.dtype), self.of_heads(part, call.g2r_weight(self.dtype))
            gamma = torch.zeros_like(weight)  # [m, n, G']
            for start, stop in reversed(list(self.blocks(r0, r1))):  # the first block is visited next
                gamma += torch.bmm(asked[..., start - r0 : stop - r0], self.weight(start, stop)[..., g0:g1])
            assert self.found.generated_weight is not None
            part.of(self.found.generated_weight).copy_(gamma)
            sums[..., g0:g1] += (weight * gamma).sum(1, keepdim=True)
            left.append(padded(asked, r0, tokens).mT)
            right.append(padded(weight, g0, queries))
        if up.token_maps is not None and up.words is not None and call.token_weight is not None:
            asked = part.of(up.token_maps).to(self.dtype)
            sums[..., g0:g1] += (asked * part.of(up.words).to(self.dtype)).sum(1, keepdim=True)
            left.append(padded(self.of_heads(part, call.token_weight.mT), r0, tokens).mT)
            right.append(padded(asked, g0, queries))
        return Asked(torch.cat([*left, torch.ones_like(self.key[..., :1])], 2), torch.cat([*right, -sums], 1))

    def keep_rows(self, part: Part, back: Tensor, start: int, stop: int) -> None:
        """What P gives back of a block of keys to the values and to the words' weights."""
        found, r0, r1 = self.found, *self.call.reference
        if found.value is not None and self.up.out is not None:
            part.of(found.value[self.rows])[:, start:stop] = back[..., : found.value.shape[3]]
        if self.up.token_maps is not None and found.token_weight is not None and r0 <= start < r1:
            part.of(found.token_weight)[:, start - r0 : stop - r0] = back[..., -1 - found.token_weight.shape[3] : -1]


class Columns:
    """C (Y - sum_i C Y) of one part: as more columns of what P is asked for, or a block at a time with maxima of its own."""

    def __init__(self, rows: Rows, part: Part) -> None:
        call, up, found, (g0, g1) = rows.call, rows.up, rows.found, rows.call.generated
        lefts, rights = [], []
        self.reference_weight = self.column_weight = None
        if up.r2g is not None and found.reference_weight is not None:
            self.reference_weight = part.of(found.reference_weight)
            lefts.append(rows.of_heads(part, call.r2g_weight(rows.dtype)[:, :, None]))  # [m, 1, R']
            rights.append(part.of(up.r2g).to(rows.dtype)[:, None])  # [m, 1, G']
        if up.column_maps is not None and call.column_weight is not None and found.column_weight is not None:
            self.column_weight = part.of(found.column_weight)
            lefts.append(part.of(up.column_maps).to(rows.dtype))
            rights.append(rows.of_heads(part, call.column_weight))
        self.lefts, self.rights = torch.cat(lefts, 1).mT, torch.cat(rights, 1)  # [m, R', k], [m, k, G']
        self.canvas = slice(g0, g1)
        # on other devices looking at the column sums would wait for them: none is read there
        self.readable = call.query.device.type == "cpu"
        norm = rows.norm[..., g0:g1]
        norm = norm.masked_fill(norm.isposinf(), -torch.inf)
        top = norm.amax(2, keepdim=True)
        self.share = (norm - top.masked_fill(top.isneginf(), 0.0)).exp2_()  # e [m, 1, G']
        self.right = padded(torch.cat([self.rights * self.share, self.share], 1), g0, rows.query.shape[1])  # [m, k + 1, G]

    def lost(self, back: Tensor) -> bool:
        """Whether some LS has lost digits; that of a key which no query sees looks the same."""
        return not self.readable or back[..., -1].amin().item() < LOST

    def left(self, back: Tensor, weight: Tensor, start: int, stop: int) -> Tensor:
        """What goes with `right`, of a block of keys whose sums [m, c, k + 1] end `back` and whose P is `weight`; [m, c, k + 1]"""
        total = back[..., -1:]  # LS
        lefts, sums = self.lefts[:, start:stop] / total, back[..., -1 - self.lefts.shape[2] : -1] / total
        self.keep(lefts, sums, weight[..., self.canvas], start, stop, self.share)
        return torch.cat([lefts, -(lefts * sums).sum(2, keepdim=True)], 2)

    def exact(self, scores: Tensor, start: int, stop: int) -> Tensor:
        """C (Y - sum_i C Y) of a block of keys, from its scores of the canvas [m, c, G'], which are lost."""
        high = scores.amax(2, keepdim=True)
        total = scores.sub_(high.masked_fill(high.isneginf(), 0.0)).exp2_().sum(2, keepdim=True)
        scores.mul_((1 / total).masked_fill_(total == 0, 0.0))  # C
        lefts, sums = self.lefts[:, start:stop], torch.bmm(scores, self.rights.mT)  # [m, c, k]: sum_i C r, sum_i C wc
        self.keep(lefts, sums, scores, start, stop)
        asked = torch.bmm(lefts, self.rights).sub_((lefts * sums).sum(2, keepdim=True))
        return asked.mul_(scores)

    def keep(self, lefts: Tensor, sums: Tensor, scores: Tensor, start: int, stop: int, share: Tensor | None = None) -> None:
        """What C, or P times e, gives back of a block of keys to the weights."""
        if self.reference_weight is not None:
            self.reference_weight[:, start:stop] = sums[..., 0]
        if self.column_weight is not None:
            more = torch.bmm(lefts[..., -self.column_weight.shape[1] :].mT, scores)  # [m, n, G']
            self.column_weight.add_(more if share is None else more.mul_(share))


def padded(tensor: Tensor, start: int, size: int, elsewhere: float = 0.0) -> Tensor:
    """[..., tokens] among `size` tokens."""
    return torch.nn.functional.pad(tensor, (start, size - start - tensor.shape[-1]), value=elsewhere)
