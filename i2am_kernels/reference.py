"""The definition, eager and obvious: it stores the whole G x R score matrix S = scale * Q K^T + bias.

P = softmax over the keys       G2R[j] = sum_i generated_weight_i P_ij       token_maps[i] = sum_j P_ij token_weight_j
C = softmax over the canvas     R2G[i] = sum_j reference_weight_j C_ij       column_maps[j] = sum_i column_weight_i C_ij
output = P V
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from i2am_kernels.call import LOG2E, Call, additive
from i2am_kernels.groups import repeated


class BiAttention(NamedTuple):
    """The output of attention and its maps, None where one was not asked for."""

    output: Tensor  # [B, H, G, Dv]
    r2g: Tensor | None = None  # [B', H, G']
    g2r: Tensor | None = None  # [B', H, (n,) R']
    token_maps: Tensor | None = None  # [B', H, n, G']
    column_maps: Tensor | None = None  # [B', H, n, R']


def reference(call: Call) -> Tensor:
    """Add the maps of one call into its buffers and return the output, in the precision of the inputs."""
    found = definition(call)
    for buffer, maps in zip((call.r2g, call.g2r, call.token_maps, call.column_maps), found[1:]):
        if buffer is not None and maps is not None:
            buffer.add_(maps.detach())
    return call.empty_output().copy_(found.output)


def definition(call: Call) -> BiAttention:
    """The output and the maps that the call has buffers for, as torch differentiates them, once or twice."""
    (b0, b1), (g0, g1), (r0, r1) = call.rows, call.generated, call.reference
    key, value = (repeated(t, call.group) for t in (call.key, call.value))
    scores = call.query @ key.transpose(-1, -2) * call.scale  # [B, H, G, R]
    if call.mask is not None:
        scores = scores + additive(call.mask, scores.dtype)
    rowwise = softmax(scores, -1)  # P
    seen = rowwise[b0:b1, :, g0:g1, r0:r1]  # [B', H, G', R']
    r2g = g2r = token_maps = column_maps = None
    if call.g2r is not None:
        g2r = call.g2r_weight(seen.dtype) @ seen
    if call.token_maps is not None and call.token_weight is not None:
        token_maps = (seen @ call.token_weight.to(seen.dtype)).transpose(-1, -2)
    if call.wants_columns:
        columnwise = softmax(scores[b0:b1, :, g0:g1, r0:r1], -2)  # C
        if call.column_maps is not None and call.column_weight is not None:
            column_maps = call.column_weight.to(seen.dtype) @ columnwise
        if call.r2g is not None:
            r2g = (columnwise @ call.r2g_weight(seen.dtype)[..., None]).squeeze(-1)
    if call.lse is not None:
        whole = scores.detach()[b0:b1, :, g0:g1].logsumexp(-1) * LOG2E
        call.lse.copy_(torch.where(whole.isneginf(), torch.inf, whole))
    return BiAttention(rowwise @ value, r2g, g2r, token_maps, column_maps)


def softmax(scores: Tensor, dim: int) -> Tensor:
    """softmax in which a line of nothing but hidden scores is zero, not NaN."""
    hidden = scores.amax(dim, keepdim=True).isneginf()
    return torch.softmax(scores.masked_fill(hidden, 0.0), dim).masked_fill(hidden, 0.0)
