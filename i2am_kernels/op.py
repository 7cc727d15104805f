"""The public function: check at the door, choose a backend, hand one custom op to whoever is watching (torch.compile)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from i2am_kernels import onchip
from i2am_kernels.call import Call, aligned
from i2am_kernels.check import Range, check_aliases, checked, refuse
from i2am_kernels.forward import plain
from i2am_kernels.reference import reference as run_reference
from i2am_kernels.streaming import streaming
from i2am_kernels.triton_backend import launch, missing

BACKENDS: dict[str, Callable[[Call], Tensor]] = {
    "triton": launch,
    "onchip": partial(launch, route="onchip"),
    "streaming": streaming,
    "reference": run_reference,
}


def bi_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    r2g: Tensor | None = None,
    g2r: Tensor | None = None,
    token_maps: Tensor | None = None,
    column_maps: Tensor | None = None,
    generated_weight: Tensor | None = None,
    reference_weight: Tensor | None = None,
    token_weight: Tensor | None = None,
    column_weight: Tensor | None = None,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
    rows: Range | None = None,
    generated: Range | None = None,
    reference: Range | None = None,
    backend: str = "auto",
    enable_gqa: bool = False,
) -> Tensor:
    """Attention that also adds its maps into `r2g`, `g2r`, `token_maps` and `column_maps`, without storing the G x R matrix.

    In plain PyTorch, with b, g, r the slices `rows`, `generated`, `reference` (default: everything):

        S = scale * query @ key.mT + attn_mask                                  # [B, H, G, R], never stored here
        P, C = S.softmax(-1)[b, :, g, r], S[b, :, g, r].softmax(-2)
        g2r += generated_weight[:, None] @ P                                    # default weight 1/G'
        r2g += C @ reference_weight[:, None, :, None]                           # default weight 1/R'
        token_maps += (P @ token_weight[:, None]).mT
        column_maps += column_weight[:, None] @ C
        return S.softmax(-1) @ value

    query [B, H, G, D], key [B, H, R, D], value [B, H, R, Dv]: float32, float16 or bfloat16, any strides. Buffers are float32:
    r2g [B', H, G'], g2r [B', H, R'] or [B', H, n, R'], token_maps [B', H, n, G'], column_maps [B', H, n, R']; they may be views into
    larger tensors. Weights: generated_weight [B', G'] or [B', n, G'], reference_weight [B', R'], token_weight [B', R', n],
    column_weight [B', n, G']; or of every head its own, with H behind B' ([B', H, G'], [B', H, n, G'] ...) and no [:, None] above.
    With `i2am_kernels.moments` of a grid as token_weight and column_weight the last two are the correspondence field, both ways.
    attn_mask is scaled_dot_product_attention's; values at or below -2^24 hide a key like -inf. A row with every key hidden
    has no maps and an output of zero. With no buffer this is scaled_dot_product_attention. The maps carry no gradient (those of
    `bi_attention_maps` do); where the output must, it is scaled_dot_product_attention's own, computed beside the maps.
    enable_gqa as in scaled_dot_product_attention: key and value have Hk heads, Hk divides H, and query head h reads key head
    h // (H // Hk). Buffers, weights and masks stay those of query heads.

    backend: "triton", "onchip" (Triton with both maps from one visit to the scores, on Hopper), "streaming", "reference" or "auto"; an
    explicit choice is never replaced by another.
    """
    query, key, value = entered(backend, query, key, value)
    call = checked(query, key, value, r2g, g2r, token_maps, column_maps, generated_weight, reference_weight, token_weight, column_weight,
                   attn_mask, scale, rows, generated, reference, grouped=enable_gqa)  # fmt: skip
    if not call.wants_maps:
        return plain(call)
    if not torch.compiler.is_compiling():
        inputs = {"query": query, "key": key, "value": value, "generated_weight": call.generated_weight,
                  "reference_weight": call.reference_weight, "token_weight": call.token_weight, "column_weight": call.column_weight,
                  "attn_mask": attn_mask}  # fmt: skip
        check_aliases({"r2g": r2g, "g2r": g2r, "token_maps": token_maps, "column_maps": column_maps}, inputs)
    learning = any(tensor is not None and tensor.requires_grad for tensor in (query, key, value, call.mask))
    if learning and torch.is_grad_enabled():
        run(call, backend)
        return plain(call)
    return run(call, backend)


def bi_attention_reference(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    r2g: Tensor | None = None,
    g2r: Tensor | None = None,
    token_maps: Tensor | None = None,
    column_maps: Tensor | None = None,
    generated_weight: Tensor | None = None,
    reference_weight: Tensor | None = None,
    token_weight: Tensor | None = None,
    column_weight: Tensor | None = None,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
    rows: Range | None = None,
    generated: Range | None = None,
    reference: Range | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """The definition of `bi_attention`: eager, storing S, in the precision of the inputs; float64 inputs and buffers give the truth."""
    call = checked(query, key, value, r2g, g2r, token_maps, column_maps, generated_weight, reference_weight, token_weight, column_weight,
                   attn_mask, scale, rows, generated, reference, double=True, grouped=enable_gqa)  # fmt: skip
    return run_reference(call)


def entered(backend: str, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What every public way in begins with: the name of a backend, and operands in autocast's precision where it is on."""
    if backend not in ("auto", *BACKENDS):
        refuse("backend", 'one of "auto", ' + ", ".join(f'"{name}"' for name in BACKENDS), repr(backend), "See the docstring.")
    if isinstance(query, Tensor) and torch.is_autocast_enabled(query.device.type):
        dtype = torch.get_autocast_dtype(query.device.type)
        return query.to(dtype), key.to(dtype), value.to(dtype)
    return query, key, value


def choose(backend: str, call: Call) -> str:
    """The backend that takes the call."""
    taker = {"triton": "Triton", "onchip": "a cluster of programs"}.get(backend)
    reason = missing(call) or (onchip.missing(call) if backend == "onchip" else None)
    if taker and reason:
        refuse("backend", f'"{backend}" only where {taker} can take the call', f"a call it cannot take: {reason}",
               'backend="auto" chooses for you.')  # fmt: skip
    if backend != "auto":
        return backend
    nvidia = call.query.is_cuda and torch.version.hip is None
    return "triton" if nvidia and reason is None else "streaming"


def run(call: Call, backend: str) -> Tensor:
    """The call as one node of a graph."""
    tokens = (call.query, call.key, call.value, call.mask)
    weights = (call.generated_weight, call.reference_weight, call.token_weight, call.column_weight)
    return torch.ops.i2am_kernels.bi_attention(
        *map(without_gradient, tokens), call.r2g, call.g2r, call.token_maps, call.column_maps, *map(without_gradient, weights), call.scale,
        [*call.rows, *call.generated, *call.reference], backend,
    )  # fmt: skip


def without_gradient(tensor: Tensor | None) -> Tensor | None:
    return tensor if tensor is None or not tensor.requires_grad else tensor.detach()


# Defined by hand rather than by torch.library.custom_op, whose wrappers cost 0.1 ms a call: gradients never reach it.
LIBRARY = torch.library.Library("i2am_kernels", "DEF")
LIBRARY.define(
    "bi_attention(Tensor query, Tensor key, Tensor value, Tensor? mask, Tensor(a!)? r2g, Tensor(b!)? g2r, Tensor(c!)? token_maps, "
    "Tensor(d!)? column_maps, Tensor? generated_weight, Tensor? reference_weight, Tensor? token_weight, Tensor? column_weight, "
    "float scale, SymInt[] ranges, str backend) -> Tensor"
)


@torch.library.impl(LIBRARY, "bi_attention", "CompositeExplicitAutograd")
def bi_attention_op(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    r2g: Tensor | None,
    g2r: Tensor | None,
    token_maps: Tensor | None,
    column_maps: Tensor | None,
    generated_weight: Tensor | None,
    reference_weight: Tensor | None,
    token_weight: Tensor | None,
    column_weight: Tensor | None,
    scale: float,
    ranges: Sequence[int],
    backend: str,
) -> Tensor:
    call = Call(query, key, value, mask, scale, r2g, g2r, token_maps, column_maps,
                generated_weight, reference_weight, token_weight, column_weight,
                rows=(ranges[0], ranges[1]), generated=(ranges[2], ranges[3]), reference=(ranges[4], ranges[5]))  # fmt: skip
    return compute(call, backend)


def compute(call: Call, backend: str) -> Tensor:
    """The call by one of the backends; the output lies in memory as `Call.empty_output` does."""
    call = at_addresses(call)
    kind = call.query.device.type
    with torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext():  # the sums stay float32
        out = BACKENDS[choose(backend, call)](call)
    return out if out.transpose(1, 2).is_contiguous() else call.empty_output().copy_(out)


def at_addresses(call: Call) -> Call:
    """The call with the same bits wherever its tensors lie on a CPU; buffers and masks enter no product."""
    if call.query.device.type != "cpu":
        return call
    products = ("query", "key", "value", "generated_weight", "reference_weight", "token_weight", "column_weight")
    moved: dict[str, Any] = {name: aligned(tensor) for name in products if (tensor := getattr(call, name)) is not None}
    return replace(call, **moved)


@torch.library.register_fake("i2am_kernels::bi_attention", lib=LIBRARY)
def _(query: Tensor, key: Tensor, value: Tensor, *others: object) -> Tensor:
    batch, heads, generated, _ = query.shape
    return query.new_empty(batch, generated, heads, value.shape[-1]).transpose(1, 2)
