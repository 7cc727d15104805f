"""The door: what a call must look like. Everything behind it may rely on what is said here.

torch.compile follows it, with sizes that may be symbols: they are compared, never looked up or written out, until something is refused.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from i2am_kernels.call import Call

Range = tuple[int, int]
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def refuse(what: str, expected: str, got: object, remedy: str, of: str = "bi_attention") -> NoReturn:
    """One shape for every message: the user's own thing, what was expected, what came, what to do."""
    raise ValueError(f"{of}: {what} must be {expected}, got {got}. {remedy}")


def sizes(shape: Sequence[int | None]) -> str:
    """(2, n, 5): None is a size that the buffer chooses."""
    return f"({', '.join('n' if size is None else f'{size}' for size in shape)})"


def described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {sizes(tensor.shape)} on {tensor.device}"


def check_operands(query: Tensor, key: Tensor, value: Tensor, dtypes: tuple[torch.dtype, ...], grouped: bool = False) -> None:
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        if not isinstance(tensor, Tensor) or tensor.ndim != 4:
            came = described(tensor) if isinstance(tensor, Tensor) else type(tensor).__name__
            refuse(
                name,
                "a tensor [batch, heads, tokens, head size]",
                came,
                "Split the heads first: x.unflatten(-1, (heads, -1)).transpose(1, 2).",
            )
        if tensor.dtype not in dtypes:
            names = ", ".join(str(d).removeprefix("torch.") for d in dtypes)
            refuse(name, f"one of {names}", described(tensor), f"Convert it: {name}.to(torch.float32).")
        if tensor.dtype != query.dtype or tensor.device != query.device:
            refuse(name, f"of the query's dtype and device ({described(query)})", described(tensor), f"Convert it: {name}.to(query).")
        if tensor.numel() == 0:
            refuse(name, "without empty dimensions", described(tensor), "Leave the call out when there is nothing to attend to.")
    batch, heads, _, size = query.shape
    own = key.shape[1] == heads
    if not (own or (grouped and heads % key.shape[1] == 0)) or key.shape[0] != batch or key.shape[3] != size:
        wanted = f"Hk = {heads} or a number that divides it, R" if grouped else f"{heads}, R"
        remedy = (
            "Both come from one batch, in heads of one size."
            if own or grouped
            else "Where query heads share key heads pass enable_gqa=True."
        )
        refuse("key", f"[{batch}, {wanted}, {size}] to match the query", sizes(key.shape), remedy)
    if value.shape[:3] != key.shape[:3]:
        refuse(
            "value",
            f"[{batch}, {key.shape[1]}, {key.shape[2]}, Dv] to match the key",
            sizes(value.shape),
            "Key and value come from the same tokens.",
        )


def check_range(name: str, pair: Range | None, size: int, of: str) -> Range:
    if pair is None:
        return 0, size
    try:
        start, stop = (int(x) for x in pair)
    except (TypeError, ValueError):
        refuse(name, "a pair (start, stop)", repr(pair), f"Name the first and the one behind the last of the {of}.")
    if not 0 <= start < stop <= size:
        refuse(
            name,
            f"(start, stop) with 0 <= start < stop <= {size} ({of})",
            sizes((start, stop)),
            "Negative and empty ranges are not read as Python slices.",
        )
    return start, stop


def check_mask(mask: Tensor | None, query: Tensor, key: Tensor) -> Tensor | None:
    """The mask with four dimensions, each the call's own size or 1."""
    if mask is None:
        return None
    full = (*query.shape[:3], key.shape[2])
    kinds = isinstance(mask, Tensor) and (mask.dtype == torch.bool or mask.is_floating_point())
    if not kinds or mask.device != query.device:
        came = described(mask) if isinstance(mask, Tensor) else type(mask).__name__
        refuse(
            "attn_mask",
            f"bool (true = attend) or floating point (added to the scores) on {query.device}",
            came,
            "An integer mask is ambiguous: write mask.bool().",
        )
    if mask.ndim > 4 or any(n != 1 and n != size for n, size in zip(mask.shape, full[4 - mask.ndim :])):
        refuse(
            "attn_mask",
            f"broadcastable to [B, H, G, R] = {sizes(full)}",
            sizes(mask.shape),
            "Add the missing dimensions: mask[:, None, None, :].",
        )
    mask = mask[(None,) * (4 - mask.ndim)]
    return mask[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in mask.stride())]


def check_buffer(
    name: str, buffer: Tensor | None, shape: tuple[int | None, ...], letters: str, query: Tensor, dtypes: tuple[torch.dtype, ...]
) -> None:
    if buffer is None:
        return
    tensor = isinstance(buffer, Tensor)
    fits = tensor and len(shape) == buffer.ndim and all(s is None or s == n for s, n in zip(shape, buffer.shape)) and buffer.numel() > 0
    if not fits or buffer.dtype not in dtypes or buffer.device != query.device:
        refuse(
            name,
            f"{str(dtypes[0]).removeprefix('torch.')} {letters} = {sizes(shape)} on {query.device}",
            described(buffer) if tensor else type(buffer).__name__,
            "It is added to in place: make it once with torch.zeros and pass it to every call.",
        )
    if buffer.requires_grad:
        refuse(name, "a tensor without requires_grad", described(buffer), "Pass a detach()ed one; bi_attention_maps has gradients.")
    if any(stride == 0 and n > 1 for stride, n in zip(buffer.stride(), buffer.shape)):
        refuse(
            name,
            "memory of its own for every element",
            f"strides {sizes(buffer.stride())}",
            "An expanded tensor cannot be added to; clone it.",
        )


def with_heads(shape: tuple[int, ...], letters: str, heads: int) -> str:
    """[B', R'] = (2, 7) for all heads, or [B', H, R'] = (2, 8, 7)."""
    batch, rest = letters[1:-1].split(", ", 1)
    return f"{letters} = {sizes(shape)} for all heads, or [{batch}, H, {rest}] = {sizes((shape[0], heads, *shape[1:]))}"


def check_weight(
    name: str, weight: Tensor | None, shape: tuple[int, ...], letters: str, query: Tensor, serves: str, buffer: Tensor | None
) -> Tensor | None:
    """The weights in float32, or the query's float64, with a dimension of heads behind the batch rows: of size 1 where all share them."""
    if weight is None:
        return None
    if buffer is None:
        refuse(name, f"left out without {serves}", "a tensor", f"Pass {serves} as well, or drop {name}.")
    heads = query.shape[1]
    own = isinstance(weight, Tensor) and weight.ndim == len(shape) + 1  # each head has its own
    wanted = (shape[0], heads, *shape[1:]) if own else shape
    if not isinstance(weight, Tensor) or tuple(weight.shape) != wanted or weight.device != query.device or weight.is_complex():
        came = described(weight) if isinstance(weight, Tensor) else type(weight).__name__
        refuse(
            name,
            f"{with_heads(shape, letters, heads)}, on {query.device}",
            came,
            "Weights are per batch row: weight.expand(rows, ...) where they are shared.",
        )
    weight = weight.to(torch.float64 if query.dtype == torch.float64 else torch.float32)
    weight = weight if own else weight.unsqueeze(1)
    weight = weight[:, :1] if own and weight.stride(1) == 0 and not weight.requires_grad else weight
    if weight.device.type == "cpu" and type(weight) is Tensor and not torch.compiler.is_compiling():  # elsewhere a look would wait
        low, high = (x.item() for x in weight.aminmax())  # NaN where one is NaN
        if not 0 <= low <= high < math.inf:
            refuse(name, "finite and not negative", f"values from {low:g} to {high:g}", "Clip them: weight.clamp(min=0).")
    return weight


def check_scale(scale: float | None, size: int) -> float:
    if scale is None:
        return size**-0.5
    try:
        scale = float(scale)
    except (TypeError, ValueError):
        refuse("scale", "a number", repr(scale), "Leave it out for head size ** -0.5.")
    if not torch.compiler.is_compiling() and not math.isfinite(scale):
        refuse("scale", "finite", scale, "Leave it out for head size ** -0.5.")
    return scale


def check_aliases(buffers: dict[str, Tensor | None], inputs: dict[str, Tensor | None]) -> None:
    """No buffer may overlap another or an input: the sweeps add to them while they read."""
    outs, ins = (
        [(name, t, t.untyped_storage().data_ptr()) for name, t in tensors.items() if t is not None] for tensors in (buffers, inputs)
    )
    for (name, one, here), (other, two, there) in itertools.chain(itertools.combinations(outs, 2), itertools.product(outs, ins)):
        if here == there and overlap(one, two):
            refuse(name, f"apart from {other} in memory", "two tensors that share elements", "Give each its own, or disjoint views of one.")


def overlap(one: Tensor, two: Tensor) -> bool:
    """Whether two strided views of one storage share a byte; numpy solves it without touching the data."""
    try:
        return np.shares_memory(footprint(one), footprint(two), max_work=10_000)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def footprint(tensor: Tensor) -> np.ndarray:
    size = tensor.element_size()
    interface = {
        "version": 3, "shape": tuple(tensor.shape), "strides": tuple(stride * size for stride in tensor.stride()),
        "typestr": f"|V{size}", "data": (tensor.storage_offset() * size + 64, True),  # any address but null
    }  # fmt: skip
    return np.asarray(type("Footprint", (), {"__array_interface__": interface})())


def checked(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    r2g: Tensor | None,
    g2r: Tensor | None,
    token_maps: Tensor | None,
    column_maps: Tensor | None,
    generated_weight: Tensor | None,
    reference_weight: Tensor | None,
    token_weight: Tensor | None,
    column_weight: Tensor | None,
    attn_mask: Tensor | None,
    scale: float | None,
    rows: Range | None,
    generated: Range | None,
    reference: Range | None,
    double: bool = False,
    grouped: bool = False,
) -> Call:
    """The call in the one form the backends know; ValueError where it does not make sense. Nothing is written here."""
    check_operands(query, key, value, (torch.float64, *DTYPES) if double else DTYPES, grouped)
    rows = check_range("rows", rows, query.shape[0], "batch rows")
    generated = check_range("generated", generated, query.shape[2], "query tokens")
    reference = check_range("reference", reference, key.shape[2], "key tokens")
    batch, heads = rows[1] - rows[0], query.shape[1]
    canvas, tokens = generated[1] - generated[0], reference[1] - reference[0]
    dtypes = (torch.float32, torch.float64) if double else (torch.float32,)
    check_buffer("r2g", r2g, (batch, heads, canvas), "[B', H, G']", query, dtypes)
    check_buffer("token_maps", token_maps, (batch, heads, None, canvas), "[B', H, n, G']", query, dtypes)
    check_buffer("column_maps", column_maps, (batch, heads, None, tokens), "[B', H, n, R']", query, dtypes)
    if g2r is not None and isinstance(g2r, Tensor) and g2r.ndim == 4:
        check_buffer("g2r", g2r, (batch, heads, None, tokens), "[B', H, n, R']", query, dtypes)
        weightings = g2r.shape[2]
        weight = check_weight("generated_weight", generated_weight, (batch, weightings, canvas), "[B', n, G']", query, "g2r", g2r)
        if weight is None and weightings > 1:
            refuse(
                "generated_weight",
                f"[B', n, G'] = {sizes((batch, weightings, canvas))} when g2r has {weightings} maps",
                None,
                "Say what each of the maps weighs.",
            )
    else:
        check_buffer("g2r", g2r, (batch, heads, tokens), "[B', H, R']", query, dtypes)
        weight = check_weight("generated_weight", generated_weight, (batch, canvas), "[B', G']", query, "g2r", g2r)
        g2r = None if g2r is None else g2r.unsqueeze(2)
        weight = None if weight is None else weight.unsqueeze(2)
    words = 0 if token_maps is None else token_maps.shape[2]
    columns = 0 if column_maps is None else column_maps.shape[2]
    if token_maps is not None and token_weight is None:
        remedy = "For one map per token pass torch.eye(R').expand(rows, -1, -1)."
        refuse("token_weight", f"[B', R', n] = {sizes((batch, tokens, words))} with token_maps", None, remedy)
    if column_maps is not None and column_weight is None:
        remedy = "For where reference tokens go pass i2am_kernels.moments(grid).expand(rows, -1, -1)."
        refuse("column_weight", f"[B', n, G'] = {sizes((batch, columns, canvas))} with column_maps", None, remedy)
    return Call(
        query=query, key=key, value=value, mask=check_mask(attn_mask, query, key),
        scale=check_scale(scale, query.shape[-1]),
        r2g=r2g, g2r=g2r, token_maps=token_maps, column_maps=column_maps, generated_weight=weight,
        reference_weight=check_weight("reference_weight", reference_weight, (batch, tokens), "[B', R']", query, "r2g", r2g),
        token_weight=check_weight("token_weight", token_weight, (batch, tokens, words), "[B', R', n]", query, "token_maps", token_maps),
        column_weight=check_weight(
            "column_weight", column_weight, (batch, columns, canvas), "[B', n, G']", query, "column_maps", column_maps
        ),
        rows=rows, generated=generated, reference=reference,
    )  # fmt: skip
