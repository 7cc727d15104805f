"""What the sweeps take of a call: pointers with something behind them, strides, head sizes as tile sides, scratch.

The small sums, here and in `tiles`, are our own: Triton's `cdiv` costs two microseconds outside a kernel, and a launch asks for several.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from i2am_kernels import tiles
from i2am_kernels.call import Call, clip
from i2am_kernels.plans import note_memory

EVERY = slice(None)


def cdiv(number: int, by: int) -> int:
    return -(-number // by)


class Mask(NamedTuple):
    values: Tensor
    strides: tuple[int, ...]  # 0 where one value serves the whole dimension
    kind: int  # as in sweeps.pieces.biased


def mask_of(call: Call, rows: slice, generated: slice, reference: slice) -> Mask:
    if call.mask is None:
        return Mask(call.query, (0, 0, 0, 0), 0)
    values = clip(call.mask, rows, EVERY, generated, reference)
    strides = tuple(0 if size == 1 else stride for size, stride in zip(values.shape, values.stride()))
    return Mask(values.view(torch.int8), strides, 1) if values.dtype == torch.bool else Mask(values, strides, 2)


def on_canvas(call: Call) -> tuple[Tensor, Tensor]:
    rows = slice(*call.rows)
    return call.query[rows, :, slice(*call.generated)], call.key[rows, :, slice(*call.reference)]


def pointer_of(call: Call, tensor: Tensor | None) -> Tensor:
    """The tensor, or one that stands in for a pointer the sweep will not follow."""
    return call.query if tensor is None else tensor


def scratch(call: Call, *shape: int) -> Tensor:
    return note_memory(call.query.new_empty(shape, dtype=torch.float32))


def high_and_low(call: Call, weight: Tensor | None, per_visit: int, whole: bool) -> Tensor:
    """Weightings [B', 1 or H, tokens, n] as sweeps.pieces.load_weights wants them, [parts, B', H, tokens, n in whole visits]: two
    bfloat16 numbers each, or whole; one that needs no product as it is. What rows or heads share lies in memory once."""
    if weight is None:
        return call.query
    batch, heads, _, _ = call.canvas
    if per_visit == 1:
        return weight.expand(-1, heads, -1, -1)[None]
    _, own, tokens, count = weight.shape
    shared = batch > 1 and weight.stride(0) == 0  # one for all rows
    weight = weight[:1] if shared else weight
    parts, dtype = (1, torch.float32) if whole else (2, torch.bfloat16)
    found = weight.new_zeros(parts, len(weight), own, tokens, cdiv(count, per_visit) * per_visit, dtype=dtype)
    found[0, ..., :count] = weight
    if not whole:
        found[1, ..., :count] = weight - found[0, ..., :count]
    return found.expand(-1, batch, heads, -1, -1)


def five(tensor: Tensor) -> tuple[int, ...]:
    """The strides of weightings, shares or a buffer; one that has no parts or shares lies in the first."""
    return (0, *tensor.stride())[-5:]


def head(letter: str, tensor: Tensor) -> dict[str, int]:
    size = tensor.shape[-1]
    first, second = tiles.head_parts(size)
    return {letter: size, f"{letter}0": first, f"{letter}1": second}


def padded_head(letter: str, tensor: Tensor) -> dict[str, int]:
    size = tensor.shape[-1]
    return {letter: size, f"{letter}0": tiles.side(size)}


def stride_unit(call: Call) -> int:
    """8 where every token of the operands begins at a multiple of 8 elements, else 1."""
    return 8 if all(map(in_eights, (call.query, call.key, call.value))) else 1


def in_eights(tensor: Tensor) -> bool:
    b, h, t, d = tensor.stride()
    return d == 1 and (not (b | h | t) & 7 or all(stride % 8 == 0 for size, stride in zip(tensor.shape, (b, h, t)) if size > 1))
