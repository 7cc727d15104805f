"""What others would write for the same job, each in our own short code: output and both maps, added into the same buffers.

A baseline takes a checked `Call`, so it pays for none of the operator's door. `Unsupported` says what it cannot do; the
runner writes that down as a row. Weights are even and there is no mask: the shape list has neither.

The log-sum-exp trick: with L_i the row and Lc_j the column log-sum-exp of S (nats), the maps are log-sum-exps themselves,

    log G2R_j = log sum_i exp(S_ij + log w_i - L_i)        log R2G_i = log sum_j exp(S_ij + log u_j - Lc_j)

so an attention that takes a bias per key and returns its log-sum-exp makes them from S^T and S in two more calls each way.
"""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from i2am_kernels.call import Call

# (query, key, value, bias per key or None, scale) -> output, log-sum-exp in nats
Attention = Callable[[Tensor, Tensor, Tensor, Tensor | None, float], tuple[Tensor, Tensor]]


class Unsupported(RuntimeError):
    """This baseline cannot do this call; the message is the reason that the row carries."""


def plain_only(call: Call, name: str) -> None:
    extra = {"attn_mask": call.mask, "token_maps": call.token_maps, "column_maps": call.column_maps,
             "generated_weight": call.generated_weight, "reference_weight": call.reference_weight}  # fmt: skip
    asked = [option for option, value in extra.items() if value is not None]
    if asked:
        raise Unsupported(f"{name} has no {', '.join(asked)}")


def needs_cuda(call: Call, message: str) -> None:
    if call.query.device.type != "cuda":
        raise Unsupported(message)


def canvases(call: Call) -> tuple[Tensor, Tensor]:
    """Queries of the generated canvas and keys of the reference, on the rows that have maps."""
    rows = slice(*call.rows)
    return call.query[rows, :, slice(*call.generated)], call.key[rows, :, slice(*call.reference)]


def add(call: Call, r2g: Tensor, g2r: Tensor) -> None:
    if call.r2g is not None:
        call.r2g.add_(r2g)
    if call.g2r is not None:
        call.g2r.add_(g2r.unsqueeze(2))


def sdpa(call: Call) -> Tensor:
    """The floor: the output alone. Stores no maps."""
    return F.scaled_dot_product_attention(call.query, call.key, call.value, scale=call.scale, enable_gqa=call.group > 1)


def sdpa_by(backend: str, call: Call) -> Tensor:
    """The same by one of torch's fused kernels, whichever of them torch takes by itself."""
    needs_cuda(call, f"a CPU has one fused attention, no {backend}")
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(getattr(SDPBackend, backend)):
        try:
            return sdpa(call)
        except RuntimeError as reason:
            if "No available kernel" in str(reason):
                raise Unsupported(f"{backend} does not take this call") from reason
            raise


def picked(call: Call) -> str:
    """Which of them torch takes by itself."""
    from torch.nn.attention import SDPBackend

    return SDPBackend(torch._fused_sdp_choice(call.query, call.key, call.value, scale=call.scale)).name


def eager(call: Call) -> Tensor:
    """Textbook: S and both softmaxes. Stores S, P [B, H, G, R] and C [B', H, G', R'] in the inputs' dtype."""
    plain_only(call, "eager")
    batch, heads, generated, _ = call.query.shape
    elements = batch * heads * generated * call.key.shape[2] + math.prod(call.canvas)
    need, free = 2 * elements * call.query.element_size(), free_bytes(call.query.device)
    if need > free:
        raise Unsupported(f"eager needs {need / 1e9:.0f} GB for its matrices, {free / 1e9:.0f} GB are free")
    rows, canvas, tokens = slice(*call.rows), slice(*call.generated), slice(*call.reference)
    scores = call.query * call.scale @ call.key.transpose(-1, -2)
    rowwise = scores.softmax(-1)
    g2r = rowwise[rows, :, canvas, tokens].mean(-2, dtype=torch.float32)
    r2g = scores[rows, :, canvas, tokens].softmax(-2).mean(-1, dtype=torch.float32)
    add(call, r2g, g2r)
    return rowwise @ call.value


def free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def compose(call: Call, attention: Attention) -> Tensor:
    """The log-sum-exp trick over any attention that takes a bias per key and returns its log-sum-exp, four calls in all."""
    rows, canvas = slice(*call.rows), slice(*call.generated)
    queries, keys = canvases(call)
    out, lse = attention(call.query, call.key, call.value, None, call.scale)
    columns = attention(keys, queries, queries, None, call.scale)[1]  # Lc [B', H, R']
    bias = -lse[rows, :, canvas] - math.log(queries.shape[2])
    g2r = attention(keys, queries, queries, bias, call.scale)[1].exp()
    r2g = attention(queries, keys, keys, -columns - math.log(keys.shape[2]), call.scale)[1].exp()
    add(call, r2g, g2r)
    return out


def four_flash(call: Call) -> Tensor:
    """Four flash calls with the log-sum-exp trick. Stores L, Lc, an output per call and, on CUDA, wider copies of Q and K."""
    plain_only(call, "four_flash")
    query = call.query
    if call.value.shape[-1] != query.shape[-1]:
        raise Unsupported("flash attention wants values as wide as the keys")
    if query.device.type == "cpu":
        return compose(call, flash_cpu)
    if query.dtype == torch.float32:
        raise Unsupported("flash attention on CUDA takes float16 and bfloat16")
    if widened(query.shape[-1]) > 256:
        raise Unsupported(f"flash attention takes head sizes up to 256; with the bias beside it {query.shape[-1]} is more")
    return compose(call, flash_cuda)


def flash_cpu(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    mask = None if bias is None else bias[:, :, None].expand(-1, -1, query.shape[2], -1)
    if mask is not None and query.dtype != torch.float32:  # a half-precision bias would cost digits of L
        query, key, value = with_bias(query, key, bias, scale)
        mask = None
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, attn_mask=mask, scale=scale)


def flash_cuda(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    if bias is not None:
        query, key, value = with_bias(query, key, bias, scale)
    return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, scale=scale)[:2]


def widened(size: int) -> int:
    """Three columns more, rounded up to the multiple of 8 that flash attention wants."""
    return -(-(size + 3) // 8) * 8


def with_bias(query: Tensor, key: Tensor, bias: Tensor | None, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """A bias per key for a flash attention that takes none: three more head columns whose products with 1 add up to it.

    Three terms hold float32's digits in float16 and bfloat16, and 1 times a term is exact; the price is a wider head (flash
    runs 64 as 96 and 128 as 192) and a copy of both operands. The values are the keys: the output is not wanted.
    """
    assert bias is not None
    left, terms = bias / scale, []
    for _ in range(3):
        terms.append(left.to(key.dtype))
        left = left - terms[-1].float()
    pad = widened(key.shape[-1]) - key.shape[-1] - 3
    key = F.pad(torch.cat([key, torch.stack(terms, -1)], -1), (0, pad))
    query = F.pad(F.pad(query, (0, 3), value=1.0), (0, pad))
    return query, key, key


def flex(call: Call) -> Tensor:
    """The log-sum-exp trick over compiled FlexAttention, the bias as a score_mod. Stores L, Lc and an output per call."""
    plain_only(call, "flex")
    needs_cuda(call, "compiled FlexAttention returns its log-sum-exp on CUDA only")
    return compose(call, flex_compiled)


def flex_compiled(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    return compiled_flex()(query, key, value, bias, scale)


@lru_cache
def compiled_flex() -> Attention:
    # fullgraph: past the recompilation limit torch would run FlexAttention unfused instead, another algorithm
    return torch.compile(flex_with_lse, dynamic=False, fullgraph=True)


def flex_with_lse(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    from torch.nn.attention import flex_attention as library

    def biased(score: Tensor, row: Tensor, head: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return score if bias is None else score + bias[row, head, j]

    request: Any = getattr(library, "AuxRequest", None)
    if request is None:
        return library.flex_attention(query, key, value, score_mod=biased, scale=scale, return_lse=True)
    out, more = library.flex_attention(query, key, value, score_mod=biased, scale=scale, return_aux=request(lse=True))
    return out, more.lse


def colreduce(call: Call) -> Tensor:
    """SDPA, then flash-colreduce once each way. Stores the row statistics of both directions; maps in the inputs' dtype."""
    plain_only(call, "colreduce")
    if importlib.util.find_spec("flash_colreduce") is None:
        raise Unsupported("flash-colreduce is not installed: pip install flash-colreduce")
    needs_cuda(call, "flash-colreduce runs on CUDA only")
    from flash_colreduce import flash_colreduce

    rows, tokens = slice(*call.rows), slice(*call.reference)
    queries, keys = canvases(call)
    g2r = flash_colreduce(queries, call.key[rows], "mean", scale=call.scale)[..., tokens]  # the row softmax runs over all keys
    r2g = flash_colreduce(keys, queries, "mean", scale=call.scale)
    add(call, r2g, g2r)
    return sdpa(call)


BASELINES: dict[str, Callable[[Call], Tensor]] = {
    "sdpa": sdpa,
    "sdpa_cudnn": partial(sdpa_by, "CUDNN_ATTENTION"),
    "sdpa_flash": partial(sdpa_by, "FLASH_ATTENTION"),
    "sdpa_efficient": partial(sdpa_by, "EFFICIENT_ATTENTION"),
    "eager": eager,
    "four_flash": four_flash,
    "flex": flex,
    "colreduce": colreduce,
}
