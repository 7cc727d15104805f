"""A library's attention that also returns the row log-sum-exp: output and L in one call of somebody else's kernel."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention  # torch's own, whatever is patched later

from i2am_kernels.call import HIDDEN, LOG2E, Call, additive, clip
from i2am_kernels.groups import in_shares, shares
from i2am_kernels.parts import device_bytes
from i2am_kernels.plans import note_library

CHUNK_BYTES = 8 << 20


def forward(call: Call, library: str = "flash") -> tuple[Tensor, Tensor]:
    """Output [B, H, G, Dv] and L [B', H, G'] float32 in log2 units; +inf where every key of the row is hidden."""
    if call.group > 1:
        out, lse = call.empty_output(), call.query.new_empty(call.canvas[:3], dtype=torch.float32)
        for share in shares(call):
            out[:, share.heads], lse[:, share.heads] = forward(share.call, library)
        return out, lse
    (b0, b1), (g0, g1) = call.rows, call.generated
    if not has_forward(library, call):
        return plain(call), chunked_lse(call)
    out, lse = LIBRARIES[library](call)
    lse = (lse[b0:b1, :, g0:g1] * LOG2E).contiguous()
    # Libraries disagree about a row without keys (0, -inf, NaN); any finite L gives P = 2^(-inf - L) = 0 there.
    return out, lse if call.mask is None else torch.where(lse.isfinite(), lse, torch.inf)


def library_forward(call: Call, library: str) -> tuple[Tensor, Tensor, float]:
    """Output, L [B', H, G'] and what turns L into binary orders: a library's nats are taken as they are, which saves a launch."""
    unit = 1.0
    if call.mask is not None or not has_forward(library, call):
        out, lse = forward(call, library)
    else:
        out, lse = LIBRARIES[library](call)
        lse, unit = lse[slice(*call.rows), :, slice(*call.generated)], LOG2E
        lse = lse if lse.stride(2) == 1 else lse.contiguous()
    return note_library(library, out, lse, unit)


def has_forward(library: str, call: Call) -> bool:
    """Whether this fused attention, which returns L, takes the call: its device, dtype, head size and mask."""
    query, key, value = call.query, call.key, call.value
    if value.shape[-1] != query.shape[-1] or any(t.stride(-1) != 1 for t in (query, key, value)):
        return False
    if query.device.type == "cpu":  # where torch before 2.9 takes as many key heads as query heads for granted
        return library == "flash" and call.group == 1
    half = query.dtype in (torch.float16, torch.bfloat16)
    if not (query.is_cuda and torch.version.hip is None and half and call.mask is None and query.shape[-1] % 8 == 0):
        return False
    return library == "flash" or takes_cudnn(query, key, value)


def takes_cudnn(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """What torch's own dispatcher says: architecture, versions, head size, strides, and whether the user has switched cuDNN off."""
    from torch.backends.cuda import SDPAParams, can_use_cudnn_attention

    return can_use_cudnn_attention(SDPAParams(query, key, value, None, 0.0, False, query.shape[1] != key.shape[1]))


def flash(call: Call) -> tuple[Tensor, Tensor]:
    """Output and L in nats, all rows: FlashAttention on NVIDIA, torch's own flash kernel on a CPU."""
    query, key, value = call.query, call.key, call.value
    if query.device.type == "cpu":
        size = (*query.shape[:3], key.shape[2])
        # contiguous: up to torch 2.6 the kernel takes a mask's last dimension for dense
        bias = None if call.mask is None else additive(call.mask, torch.float32).contiguous().expand(size)
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, attn_mask=bias, scale=call.scale)
    return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, scale=call.scale)[:2]


def cudnn(call: Call) -> tuple[Tensor, Tensor]:
    """Output and L in nats, all rows, by cuDNN's attention, which gives L as [B, H, G, 1]. No GPU has run this yet."""
    attention = torch.ops.aten._scaled_dot_product_cudnn_attention
    out, lse = attention(call.query, call.key, call.value, None, compute_log_sumexp=True, scale=call.scale)[:2]
    return out, lse[..., 0]


LIBRARIES = {"flash": flash, "cudnn": cudnn}


def plain(call: Call, rows: slice = slice(None)) -> Tensor:
    """The output alone, by scaled_dot_product_attention; zero where every key of a row is hidden.

    Its backends disagree about such rows: cuDNN's, which torch takes first on recent GPUs, has filled boolean masks with -65504, so
    that nothing is hidden where everything should be. No backend is switched off for that: torch's switches are the process's own,
    another thread's calls would see them, and two threads that set and restore them may leave them wrong. Not run on a GPU.
    """
    query, key, value = call.query[rows], call.key[rows], call.value[rows]
    mask = None if call.mask is None else clip(call.mask, rows)
    if call.group > 1:  # torch repeats the keys where the attention that it takes does not know them, and may then store S
        return in_shares(plain, replace(call, query=query, key=key, value=value, mask=mask))
    mask = mask if mask is None or mask.dtype in (torch.bool, torch.float32) else mask.to(query.dtype)
    out = scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=call.scale)
    if call.mask is None or (call.mask.dtype == torch.bool and query.device.type == "cpu"):  # there a boolean mask gives zeros
        return out
    mask = clip(call.mask, rows)
    nothing = ~mask if mask.dtype == torch.bool else mask <= HIDDEN
    return out.masked_fill(nothing.all(-1, keepdim=True), 0.0)


def chunked_lse(call: Call) -> Tensor:
    """L of the canvas rows where no library gives it: a few queries at a time against all keys."""
    (b0, b1), (g0, _) = call.rows, call.generated
    dtype = torch.float64 if call.key.dtype == torch.float64 else torch.float32
    keys = call.key[b0:b1].to(dtype).transpose(-1, -2) * (call.scale * LOG2E)  # [B', H, D, R]
    batch, heads, generated, _ = call.canvas
    lse = keys.new_empty(batch, heads, generated)
    most = CHUNK_BYTES if call.query.device.type == "cpu" else device_bytes(call.query.device)
    step = max(1, most // (4 * batch * heads * call.key.shape[2]))
    for start in range(0, generated, step):
        stop = min(start + step, generated)
        scores = call.query[b0:b1, :, g0 + start : g0 + stop].to(dtype) @ keys
        if call.mask is not None:
            part = clip(call.mask, slice(b0, b1), slice(None), slice(g0 + start, g0 + stop))
            scores = scores + additive(part, dtype, LOG2E)
        top = scores.amax(-1, keepdim=True)
        top = torch.where(top.isfinite(), top, 0.0)
        total = torch.exp2(scores - top).sum(-1)
        lse[:, :, start:stop] = torch.where(total > 0, top[..., 0] + torch.log2(total), torch.inf)
    return lse
