"""Grouped-query attention: several query heads that read one key head. A call of it as calls of as many key heads as query heads.

Query head h reads key head h // group. Either the query heads of one key head are a call, whose key is a view with a stride of 0, or the
first of every group are one, the second of every group another; whichever takes fewer calls. Nothing is repeated in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from torch import Tensor

from i2am_kernels.call import Call

BUFFERS = ("r2g", "g2r", "token_maps", "column_maps", "lse")
OF_QUERIES = ("mask", *BUFFERS, "generated_weight", "reference_weight", "token_weight", "column_weight")


class Share(NamedTuple):
    """Some query heads, the key heads that they read, and the call of these alone: views of the whole one's operands and buffers."""

    heads: slice
    keys: slice
    call: Call


def shares(call: Call) -> Iterator[Share]:
    """The call, cut into calls of as many key heads as query heads."""
    group, count = call.group, call.key.shape[1]
    if group == 1:
        yield Share(slice(None), slice(None), call)
    elif count < group:
        for k in range(count):
            heads, keys = slice(k * group, (k + 1) * group), slice(k, k + 1)
            key, value = (t[:, keys].expand(-1, group, -1, -1) for t in (call.key, call.value))
            yield Share(heads, keys, part_of(call, heads, key, value))
    else:
        for member in range(group):
            heads = slice(member, None, group)
            yield Share(heads, slice(None), part_of(call, heads, call.key, call.value))


def part_of(call: Call, heads: slice, key: Tensor, value: Tensor) -> Call:
    """The call of some of its query heads."""
    others: dict[str, Any] = {name: of_heads(getattr(call, name), heads) for name in OF_QUERIES}
    return replace(call, query=call.query[:, heads], key=key, value=value, **others)


def of_heads(tensor: Tensor | None, heads: slice) -> Tensor | None:
    """These heads of a mask, buffer or weight [B, 1 or H, ...], whose only one serves all; [0], which was not asked for, stays."""
    return tensor if tensor is None or tensor.ndim < 2 or tensor.shape[1] == 1 else tensor[:, heads]


def in_shares(run: Callable[[Call], Tensor], call: Call) -> Tensor:
    """The output of a call by what takes as many key heads as query heads."""
    if call.group == 1:
        return run(call)
    out = call.empty_output()
    for share in shares(call):
        place = out[:, share.heads]
        if (made := run(replace(share.call, output=place))) is not place:
            place.copy_(made)
    return out


def repeated(tensor: Tensor, group: int) -> Tensor:
    """Key heads [B, Hk, ...] as query heads have them, [B, H, ...]: a copy where a group is larger than 1."""
    return tensor if group == 1 else tensor[:, :, None].expand(-1, -1, group, *tensor.shape[2:]).flatten(1, 2)
