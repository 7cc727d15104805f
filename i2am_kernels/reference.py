"""The definition, eager and obvious: it stores the whole G x R score matrix S = scale * Q K^T + bias.

P = softmax over the keys       G2R[j] = sum_i generated_weight_i P_ij       token_maps[i] = sum_j P_ij token_weight_j
C = softmax over the canvas     R2G[i] = sum_j reference_weight_j C_ij       column_maps[j] = sum_i column_weight_i C_ij
output = P V
"""

from __future__ import annotations

import torch
from torch import Tensor

from i2am_kernels.call import Call, additive


def reference(call: Call) -> Tensor:
    """Add the maps of one call into its buffers and return the output, in the precision of the inputs."""
    (b0, b1), (g0, g1), (r0, r1) = call.rows, call.generated, call.reference
    scores = call.query @ call.key.transpose(-1, -2) * call.scale  # [B, H, G, R]
    if call.mask is not None:
        scores = scores + additive(call.mask, scores.dtype)
    rowwise = softmax(scores, -1)  # P
    seen = rowwise.detach()[b0:b1, :, g0:g1, r0:r1]  # [B', H, G', R']
    if call.g2r is not None:
        call.g2r.add_(call.g2r_weight(seen.dtype)[:, None] @ seen)
    if call.token_maps is not None and call.token_weight is not None:
        call.token_maps.add_((seen @ call.token_weight[:, None].to(seen.dtype)).transpose(-1, -2))
    if call.wants_columns:
        columnwise = softmax(scores.detach()[b0:b1, :, g0:g1, r0:r1], -2)  # C
    if call.column_maps is not None and call.column_weight is not None:
        call.column_maps.add_(call.column_weight[:, None].to(seen.dtype) @ columnwise)
    if call.r2g is not None:
        call.r2g.add_((columnwise @ call.r2g_weight(seen.dtype)[:, None, :, None]).squeeze(-1))
    return call.empty_output().copy_(rowwise @ call.value)


def softmax(scores: Tensor, dim: int) -> Tensor:
    """softmax in which a line of nothing but hidden scores is zero, not NaN."""
    return torch.softmax(scores, dim).masked_fill(scores.amax(dim, keepdim=True).isneginf(), 0.0)
