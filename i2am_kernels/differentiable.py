"""Attention and its maps as tensors that carry gradient: the functional form of `bi_attention`, one node of a graph each way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

import torch
from torch import Tensor

from i2am_kernels.backward import Upstream, backward
from i2am_kernels.call import Call
from i2am_kernels.check import DTYPES, Range, check_operands, check_range, checked, refuse
from i2am_kernels.forward import plain
from i2am_kernels.op import LIBRARY, at_addresses, choose, compute, entered
from i2am_kernels.reference import BiAttention, definition
from i2am_kernels.triton_backward import launch_backward

WEIGHTS = ("generated_weight", "reference_weight", "token_weight", "column_weight")
MAPS = ("r2g", "g2r", "token_maps", "column_maps")


def bi_attention_maps(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    r2g: bool = True,
    g2r: bool = True,
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
) -> BiAttention:
    """The output and the maps of `bi_attention` as new tensors, through which gradients flow to query, key, value and the weights.

        found = bi_attention_maps(query, key, value)          # .output, .r2g [B', H, G'], .g2r [B', H, R']
        (task(found.output) + tv(found.r2g)).backward()        # O(G + R) memory: the G x R matrix and its gradient are never stored

    r2g, g2r: whether they are wanted. token_maps and column_maps are, where their weight is given. Everything else is as in
    `bi_attention`. float64 is taken, too (its forward is eager and stores the matrix). The second derivative is refused, and so is a
    gradient of attn_mask; backend="reference" is the eager definition, which torch differentiates as often as you like.
    """
    query, key, value = entered(backend, query, key, value)
    check_operands(query, key, value, (torch.float64, *DTYPES), enable_gqa)
    double = query.dtype == torch.float64
    if double and backend not in ("auto", "reference"):
        refuse("backend", '"auto" or "reference" for float64', repr(backend), "Convert the operands to float32.")
    first, last = check_range("rows", rows, query.shape[0], "batch rows")
    canvas = check_range("generated", generated, query.shape[2], "query tokens")
    tokens = check_range("reference", reference, key.shape[2], "key tokens")
    shape = (last - first, query.shape[1])
    several = isinstance(generated_weight, Tensor) and generated_weight.ndim > 2
    weightings = (size_of(generated_weight, -2),) if several else ()
    buffers = {
        "r2g": buffer(query, *shape, canvas[1] - canvas[0]) if r2g else None,
        "g2r": buffer(query, *shape, *weightings, tokens[1] - tokens[0]) if g2r else None,
        "token_maps": None if token_weight is None else buffer(query, *shape, size_of(token_weight, -1), canvas[1] - canvas[0]),
        "column_maps": None if column_weight is None else buffer(query, *shape, size_of(column_weight, -2), tokens[1] - tokens[0]),
    }
    call = checked(query, key, value, **buffers, generated_weight=generated_weight, reference_weight=reference_weight,
                   token_weight=token_weight, column_weight=column_weight, attn_mask=attn_mask, scale=scale, rows=rows,
                   generated=generated, reference=reference, double=double, grouped=enable_gqa)  # fmt: skip
    if not call.wants_maps:
        return BiAttention(plain(call))
    if backend == "reference":
        found = definition(call)
    else:
        if call.mask is not None and call.mask.requires_grad:
            refuse("attn_mask", "a tensor without requires_grad", "one that asks for a gradient",
                   'Detach it, or take backend="reference".')  # fmt: skip
        out, *maps, _ = torch.ops.i2am_kernels.bi_attention_maps(
            call.query, call.key, call.value, call.mask, *(getattr(call, name) for name in WEIGHTS), call.scale,
            [*call.rows, *call.generated, *call.reference], counts_of(call), backend,
        )  # fmt: skip
        found = BiAttention(out, *(one if getattr(call, name) is not None else None for name, one in zip(MAPS, maps)))
    if found.g2r is not None and not weightings:
        found = found._replace(g2r=found.g2r.squeeze(2))
    return found


def buffer(query: Tensor, *shape: int) -> Tensor:
    """A map to be."""
    return query.new_empty(shape, dtype=exact(query))


def size_of(weight: object, dimension: int) -> int:
    """How many maps a weight asks for; of what is no weight the door says so."""
    return weight.shape[dimension] if isinstance(weight, Tensor) and weight.ndim > 1 else 1


def exact(query: Tensor) -> torch.dtype:
    """What maps are summed in."""
    return torch.float64 if query.dtype == torch.float64 else torch.float32


def counts_of(call: Call) -> list[int]:
    """How many r2g, g2r, token_maps and column_maps there are of each row and head; 0 where they are not wanted."""
    return [0 if maps is None else maps.shape[2] if maps.ndim == 4 else 1 for maps in (getattr(call, name) for name in MAPS)]


def shapes_of(query: Tensor, ranges: Sequence[int], counts: Sequence[int]) -> list[tuple[int, ...]]:
    """Of r2g, g2r, token_maps, column_maps and L; (0,) where they are not wanted."""
    b0, b1, g0, g1, r0, r1 = ranges
    row, canvas, tokens = (b1 - b0, query.shape[1]), g1 - g0, r1 - r0
    shapes = [(*row, canvas), (*row, counts[1], tokens), (*row, counts[2], canvas), (*row, counts[3], tokens)]
    return [*(shape if count else (0,) for shape, count in zip(shapes, counts)), (*row, canvas)]


def call_of(operands: Sequence[Any], scale: float, ranges: Sequence[int]) -> Call:
    """The call without buffers of query, key, value, mask and the four weights."""
    query, key, value, mask, generated, reference, token, column = operands
    b0, b1, g0, g1, r0, r1 = ranges
    return Call(query, key, value, mask, scale, None, None, None, None, generated, reference, token, column, (b0, b1), (g0, g1), (r0, r1))


OPERANDS = (
    "Tensor query, Tensor key, Tensor value, Tensor? mask, Tensor? generated_weight, Tensor? reference_weight, Tensor? token_weight, "
    "Tensor? column_weight"
)
LIBRARY.define(
    f"bi_attention_maps({OPERANDS}, float scale, SymInt[] ranges, SymInt[] counts, str backend) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)
LIBRARY.define(
    f"bi_attention_maps_backward({OPERANDS}, Tensor output, Tensor words, Tensor lse, Tensor? d_output, Tensor? d_r2g, Tensor? d_g2r, "
    "Tensor? d_token_maps, Tensor? d_column_maps, float scale, SymInt[] ranges, bool[] learned, str backend) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)


@torch.library.impl(LIBRARY, "bi_attention_maps", "CompositeExplicitAutograd")
def bi_attention_maps_op(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    generated_weight: Tensor | None,
    reference_weight: Tensor | None,
    token_weight: Tensor | None,
    column_weight: Tensor | None,
    scale: float,
    ranges: Sequence[int],
    counts: Sequence[int],
    backend: str,
) -> tuple[Tensor, ...]:
    """The output, r2g, g2r, token_maps, column_maps and L; empty where they are not wanted."""
    *maps, lse = (torch.zeros(shape, dtype=exact(query), device=query.device) for shape in shapes_of(query, ranges, counts))
    operands = (query, key, value, mask, generated_weight, reference_weight, token_weight, column_weight)
    buffers: dict[str, Any] = {name: one for name, one, count in zip(MAPS, maps, counts) if count}
    call = replace(call_of(operands, scale, ranges), **buffers, lse=lse)
    out = compute(call, "reference" if query.dtype == torch.float64 else backend)
    return out, *maps, lse


@torch.library.register_fake("i2am_kernels::bi_attention_maps", lib=LIBRARY)
def _(query: Tensor, key: Tensor, value: Tensor, *others: Any) -> tuple[Tensor, ...]:
    batch, heads, generated, _ = query.shape
    out = query.new_empty(batch, generated, heads, value.shape[-1]).transpose(1, 2)
    *_, ranges, counts, _ = others
    return out, *(query.new_empty(shape, dtype=exact(query)) for shape in shapes_of(query, ranges, counts))


@torch.library.impl(LIBRARY, "bi_attention_maps_backward", "CompositeExplicitAutograd")
def bi_attention_maps_backward_op(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    generated_weight: Tensor | None,
    reference_weight: Tensor | None,
    token_weight: Tensor | None,
    column_weight: Tensor | None,
    output: Tensor,
    words: Tensor,
    lse: Tensor,
    d_output: Tensor | None,
    d_r2g: Tensor | None,
    d_g2r: Tensor | None,
    d_token_maps: Tensor | None,
    d_column_maps: Tensor | None,
    scale: float,
    ranges: Sequence[int],
    learned: Sequence[bool],
    backend: str,
) -> tuple[Tensor, ...]:
    """The gradients of the operands and, in their shapes, of the weights that are learned; empty where there are none."""
    weights = (generated_weight, reference_weight, token_weight, column_weight)
    call = at_addresses(replace(call_of((query, key, value, mask, *weights), scale, ranges), lse=lse))
    with torch.autocast(query.device.type, enabled=False):
        fused = query.dtype != torch.float64 and choose(backend, call) in ("triton", "onchip")
        names = tuple(name for name, asked in zip(WEIGHTS, learned) if asked)
        up = Upstream(d_output, d_r2g, d_g2r, d_token_maps, d_column_maps, output, words, names)
        found = (launch_backward if fused else backward)(call, up)
    operands = (d.to(t.dtype) if d is not None else torch.zeros_like(t) for d, t in
                ((found.query, query), (found.key, key), (found.value, value)))  # fmt: skip
    return *operands, *(lse.new_empty(0) if d is None else d if w is not None and w.shape[1] > 1 else d.sum(1, keepdim=True)
                        for d, w in zip((getattr(found, name) if name in names else None for name in WEIGHTS), weights))  # fmt: skip


@torch.library.register_fake("i2am_kernels::bi_attention_maps_backward", lib=LIBRARY)
def _(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *others: Any) -> tuple[Tensor, ...]:
    weights, lse, (d_r2g, d_g2r, d_token_maps, d_column_maps) = others[:4], others[6], others[8:12]
    batch, heads, canvas = lse.shape
    tokens = others[13][5] - others[13][4]
    shapes = [None if d_g2r is None else (d_g2r.shape[2], canvas), None if d_r2g is None else (tokens,),
              None if d_token_maps is None else (tokens, d_token_maps.shape[2]),
              None if d_column_maps is None else (d_column_maps.shape[2], canvas)]  # fmt: skip
    own = (heads if w is not None and w.shape[1] > 1 else 1 for w in weights)
    of_weights = (
        lse.new_empty((batch, h, *shape) if asked and shape is not None else 0) for h, shape, asked in zip(own, shapes, others[14])
    )
    return *(torch.empty_like(t) for t in (query, key, value)), *of_weights


def remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    """What the backward reads. Whoever changes one of these tensors in place meanwhile is told so by torch."""
    *operands, ctx.scale, ctx.ranges, _, ctx.backend = inputs
    out, _, _, words, _, lse = output
    ctx.save_for_backward(*operands, out, words, lse)
    ctx.mark_non_differentiable(lse)
    ctx.set_materialize_grads(False)


def gradients(ctx: Any, *up: Tensor | None) -> tuple[Tensor | None, ...]:
    """Of the operands and weights that ask for one."""
    up = tuple(one if one is not None and one.numel() else None for one in up[:5])
    if all(one is None for one in up):
        return (None,) * 12
    learned = list(ctx.needs_input_grad[4:8])
    found = torch.ops.i2am_kernels.bi_attention_maps_backward(*ctx.saved_tensors, *up, ctx.scale, ctx.ranges, learned, ctx.backend)
    query, key, value, *weights = (one if one.numel() else None for one in found)
    return query, key, value if up[0] is not None else None, None, *weights, None, None, None, None


def refuse_second(ctx: Any, *up: Tensor | None) -> NoReturn:
    raise RuntimeError("bi_attention_maps: its gradient has no gradient of its own. Leave create_graph=True out, or pass "
                       'backend="reference", which stores the G x R matrix.')  # fmt: skip


torch.library.register_autograd("i2am_kernels::bi_attention_maps", gradients, setup_context=remember, lib=LIBRARY)
torch.library.register_autograd("i2am_kernels::bi_attention_maps_backward", refuse_second, lib=LIBRARY)
