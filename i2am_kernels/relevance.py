"""Gradient times attention: what each pair of tokens adds to a scalar F that was made of attention's output, in O(G + R) memory.

    dF/dP_ij = dO_i . v_j            O = P V, dO the gradient of F by the output
    M_ij     = P_ij max(dO_i . v_j, 0)
    r2g_i    = sum_j reference_weight_j M_ij        g2r_j = sum_i generated_weight_i M_ij

Without the max the sums need no matrix at all (g2r_j is then v_j . dV_j); with it, which is the usual choice (Chefer et al. 2021), M is
made a block of keys at a time and dropped. Both maps are sums of M, and M of P: r2g is not bi_attention's, which is made of C.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from i2am_kernels.call import Call, clip
from i2am_kernels.check import Range, check_weight, checked, described, refuse, sizes
from i2am_kernels.groups import shares
from i2am_kernels.key_blocks import KeyBlocks
from i2am_kernels.parts import Part


class Relevance(NamedTuple):
    """Sums over the pairs of tokens, in float32, or the operands' float64."""

    r2g: Tensor  # [B', H, G'], or [B', H, n, G'] for n weightings of the reference
    g2r: Tensor  # [B', H, R'], or [B', H, n, R'] for n weightings of the generated tokens


@torch.no_grad()
def relevance(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    d_output: Tensor,
    *,
    generated_weight: Tensor | None = None,
    reference_weight: Tensor | None = None,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
    rows: Range | None = None,
    generated: Range | None = None,
    reference: Range | None = None,
    positive: bool = True,
    enable_gqa: bool = False,
) -> Relevance:
    """How much each token of a call of attention adds to a scalar, by gradient times attention; the G x R matrix is never stored.

        output = scaled_dot_product_attention(query, key, value)                # with gradient
        d_output, = torch.autograd.grad(scalar_made_of(output), output)
        r2g, g2r = relevance(query, key, value, d_output)

    In plain PyTorch, with b, g, r the slices `rows`, `generated`, `reference` (default: everything):

        P = (scale * query @ key.mT + attn_mask).softmax(-1)                    # [B, H, G, R], never stored here
        M = (P * (d_output @ value.mT).clamp(min=0))[b, :, g, r]                # positive=False: without the clamp
        r2g = (M @ reference_weight[:, None, :, None])[..., 0]                  # default weight 1/R'
        g2r = (generated_weight[:, None, None] @ M)[..., 0, :]                  # default weight 1/G'

    Operands, mask, ranges and enable_gqa are as in `bi_attention_maps`, float64 included; d_output has the output's shape and the
    operands' dtype. Weights: generated_weight [B', G'] or [B', n, G'], reference_weight [B', R'] or [B', R', n]. Nothing carries gradient.
    """
    call = checked(query, key, value, None, None, None, None, None, None, None, None, attn_mask, scale, rows, generated, reference,
                   double=True, grouped=enable_gqa)  # fmt: skip
    shape = (*query.shape[:3], value.shape[3])
    if not isinstance(d_output, Tensor) or d_output.shape != shape or (d_output.dtype, d_output.device) != (query.dtype, query.device):
        came = described(d_output) if isinstance(d_output, Tensor) else type(d_output).__name__
        refuse("d_output", f"the gradient of the output, {sizes(shape)}, of the query's dtype and device ({described(query)})", came,
               "It is torch.autograd.grad(scalar, output)[0].", "relevance")  # fmt: skip
    batch, _, canvas, tokens = call.canvas
    left = weights("generated_weight", generated_weight, (batch, canvas), "G'", query)
    right = weights("reference_weight", reference_weight, (batch, tokens), "R'", query)
    (b0, b1), (g0, g1) = call.rows, call.generated
    mask = None if call.mask is None else clip(call.mask, slice(b0, b1), slice(None), slice(g0, g1))
    part = Call(query[b0:b1, :, g0:g1], key[b0:b1], value[b0:b1], mask, call.scale, *(None,) * 8,
                rows=(0, batch), generated=(0, canvas), reference=call.reference)  # fmt: skip
    with torch.autocast(query.device.type, enabled=False):
        r2g = left.new_zeros(batch, query.shape[1], right.shape[2], canvas)
        g2r = left.new_empty(batch, query.shape[1], left.shape[2], tokens)
        for heads, _, one in shares(part):
            Pairs(one, d_output[b0:b1, heads, g0:g1], left, right, positive, r2g[:, heads], g2r[:, heads]).visit()
    return Relevance(r2g if reference_weight is not None and reference_weight.ndim > 2 else r2g.squeeze(2),
                     g2r if generated_weight is not None and generated_weight.ndim > 2 else g2r.squeeze(2))  # fmt: skip


def weights(name: str, weight: Any, shape: tuple[int, int], tokens: str, query: Tensor) -> Tensor:
    """[B', 1, n, tokens], float32 or the query's float64."""
    batch, count = shape
    if weight is None:
        dtype = torch.float64 if query.dtype == torch.float64 else torch.float32
        return query.new_full((), 1 / count, dtype=dtype).expand(batch, 1, 1, count)
    if not isinstance(weight, Tensor) or weight.ndim != 3:
        found = check_weight(name, weight, (batch, count), f"[B', {tokens}]", query, "", query)
        assert found is not None
        return found[:, :, None]
    if name == "generated_weight":
        found = check_weight(name, weight, (batch, weight.shape[1], count), f"[B', n, {tokens}]", query, "", query)
    else:
        found = check_weight(name, weight, (batch, count, weight.shape[2]), f"[B', {tokens}, n]", query, "", query)
    assert found is not None
    return found if name == "generated_weight" else found.mT


class Pairs(KeyBlocks):
    """M of the canvas and of the reference's keys, summed a block of keys at a time."""

    def __init__(self, call: Call, d_output: Tensor, left: Tensor, right: Tensor, positive: bool, r2g: Tensor, g2r: Tensor) -> None:
        super().__init__(call, left.dtype)
        self.d_output, self.left, self.right, self.positive = d_output, left, right, positive
        self.r2g, self.g2r = r2g, g2r  # written to; r2g at zero

    def visit_part(self, part: Part) -> None:
        r0, r1 = self.call.reference
        d_output, value = self.of(part, self.d_output), self.of(part, self.call.value)  # [m, G, Dv], [m, R, Dv]
        left, right = self.of_heads(part, self.left), self.of_heads(part, self.right)  # [m, n, G], [m, n, R]
        r2g, g2r = part.of(self.r2g), part.of(self.g2r)
        for start, stop in self.blocks(r0, r1):
            here = slice(start - r0, stop - r0)
            asked = torch.bmm(value[:, start:stop], d_output.mT, out=self.tile(1, stop - start))  # dF/dP [m, c, G]
            asked = (asked.clamp_(min=0) if self.positive else asked).mul_(self.weight(start, stop))
            g2r[..., here] = torch.bmm(left, asked.mT)
            r2g.baddbmm_(right[..., here], asked)
