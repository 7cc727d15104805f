"""Right or wrong: every result beside the definition in float64, on the first and last batch row and head."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import torch
from torch import Tensor

from i2am_kernels.call import Call, clip
from i2am_kernels.check import checked
from i2am_kernels.forward import plain
from i2am_kernels.reference import reference

Answer = dict[str, Tensor]  # output, r2g, g2r, token_maps, column_maps: one entry per sampled row and head, float64
BUFFERS = ("r2g", "g2r", "token_maps", "column_maps")
WEIGHTS = ("generated_weight", "reference_weight", "token_weight", "column_weight")
OPTIONS = (*WEIGHTS, "attn_mask", "scale", "rows", "generated", "reference")
# Half a unit in the last place of the output and once more for P, which low precision rounds before the product with V.
OUTPUT_FLOOR = {torch.float32: 2.0**-18, torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}
HALF_ON_CPU = 1e-4  # torch's half-precision attention on a CPU gives its log-sum-exp no better than this


def call_of(arguments: dict[str, Any]) -> Call:
    """The keyword arguments of `bi_attention` behind its door."""
    complete: dict[str, Any] = {name: arguments.get(name) for name in ("query", "key", "value", *BUFFERS, *OPTIONS)}
    return checked(**complete, grouped=arguments.get("enable_gqa", False))


def pairs(call: Call) -> list[tuple[int, int]]:
    """First and last batch row, first and last head: the row range ends on one of them, and offsets are largest on another."""
    batch, heads = call.query.shape[:2]
    return list(itertools.product(sorted({0, batch - 1}), sorted({0, heads - 1})))


def one_head(call: Call, row: int, head: int, dtype: torch.dtype) -> Call:
    """One batch row and head of the call with fresh buffers, in another precision."""
    b, h, k = slice(row, row + 1), slice(head, head + 1), slice(head // call.group, head // call.group + 1)
    here = row - call.rows[0]
    mapped = 0 <= here < call.canvas[0]
    m = slice(here, here + 1)

    def fresh(buffer: Tensor | None) -> Tensor | None:
        return torch.zeros_like(buffer[m, h], dtype=dtype) if buffer is not None and mapped else None

    def weight(tensor: Tensor | None) -> Tensor | None:
        return tensor[m] if tensor is not None and mapped else None

    changed: dict[str, Any] = {name: fresh(getattr(call, name)) for name in BUFFERS}
    changed |= {name: weight(getattr(call, name)) for name in WEIGHTS}
    return dataclasses.replace(
        call,
        query=call.query[b, h].to(dtype), key=call.key[b, k].to(dtype), value=call.value[b, k].to(dtype),
        mask=None if call.mask is None else clip(call.mask, b, h), rows=(0, 1),
        **changed,
    )  # fmt: skip


def answer(call: Call, dtype: torch.dtype) -> Answer:
    """What the definition gives in this precision; float64 is the truth."""
    found: dict[str, list[Tensor]] = {}
    for row, head in pairs(call):
        part = one_head(call, row, head, dtype)
        out = reference(part)
        for name, tensor in {"output": out, **{name: getattr(part, name) for name in BUFFERS}}.items():
            if tensor is not None:
                found.setdefault(name, []).append(tensor[0, 0].double())
    return {name: torch.stack(tensors) for name, tensors in found.items()}


def picked(call: Call, out: Tensor, before: dict[str, Tensor] | None = None) -> Answer:
    """The same elements of a full result; `before` holds what the buffers had in them."""
    found: dict[str, list[Tensor]] = {"output": [out[row, head].double() for row, head in pairs(call)]}
    for name in BUFFERS:
        buffer = getattr(call, name)
        if buffer is None:
            continue
        added = buffer.double() if before is None else buffer.double() - before[name].double().view_as(buffer)
        found[name] = [added[row - call.rows[0], head] for row, head in pairs(call) if call.rows[0] <= row < call.rows[1]]
    return {name: torch.stack(tensors) for name, tensors in found.items() if tensors}


def errors(got: Answer, truth: Answer) -> dict[str, float]:
    """Largest difference over the largest true value, per output; infinite where a number is missing."""
    found = {}
    for name, true in truth.items():
        if name in got:
            error = ((got[name] - true).abs().amax() / true.abs().amax().clamp_min(1e-300)).item()
            found[name] = error if error == error else float("inf")
    return found


def allowed(call: Call, truth: Answer, precise: bool = True) -> dict[str, float]:
    """What each error may be: four times that of somebody obvious, and a floor.

    A `precise` implementation is held to scaled_dot_product_attention in its output and to the float32 definition in its maps,
    whatever the inputs are; others to the definition in the inputs' own precision. A float32 logit S is known to about
    |S| 2^-24 and moves a probability by as much, hence the floor of the maps.
    """
    dtype = call.query.dtype
    limits = errors(answer(call, torch.float32 if precise else dtype), truth)
    if precise:
        output = torch.stack([plain(one_head(call, row, head, dtype))[0, 0].double() for row, head in pairs(call)])
        limits |= errors({"output": output}, truth)
    floor = (16 + max(logit(call, row, head) for row, head in pairs(call))) * 2.0**-20
    if call.query.device.type == "cpu" and dtype != torch.float32:
        floor += HALF_ON_CPU
    floors = {name: floor if name in BUFFERS else max(OUTPUT_FLOOR[dtype], floor) for name in limits}
    return {name: floors[name] + (4 * error if error < float("inf") else 0.0) for name, error in limits.items()}


def logit(call: Call, row: int, head: int) -> float:
    """The largest |S| of one row and head, without the mask; a part of the queries at a time."""
    key = call.key[row, head // call.group].float()
    return max((part.float() @ key.T).abs().amax().item() for part in call.query[row, head].split(1024)) * abs(call.scale)


def red(found: dict[str, float], limits: dict[str, float]) -> bool:
    """Whether any error is over its limit."""
    return any(not error <= limits[name] for name, error in found.items())
