"""What the operations of one call do: each is counted and timed as it is dispatched, on the streaming backend."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.operator import judge
from i2am_kernels.streaming import streaming

LIBRARY = "_scaled_dot_product_flash_attention_for_cpu"
PARTS = ("library attention", "products", "map products", "exponentials", "reductions", "the rest")
REDUCTIONS = ("amax", "sum", "any")


@dataclass
class Work:
    """What operations did: exact numbers, and their seconds."""

    calls: int = 0
    exponentials: int = 0
    multiply_adds: int = 0
    bytes_written: int = 0
    seconds: float = 0.0

    def __iadd__(self, other: Work) -> Work:
        self.__init__(*(a + b for a, b in zip(astuple(self), astuple(other))))  # type: ignore[misc]
        return self


class Counted(TorchDispatchMode):
    """Counts and times every ATen operation of a call, by part."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = {part: Work() for part in PARTS}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        begin = time.perf_counter()
        out = func(*args, **(kwargs or {}))
        seconds = time.perf_counter() - begin
        part, exponentials, multiply_adds = self.kind(func._schema.name.removeprefix("aten::").rstrip("_"), args, kwargs or {})
        self.parts[part] += Work(1, exponentials, multiply_adds, written(func, out), seconds)
        return out

    def kind(self, name: str, args: Sequence[Any], options: dict[str, Any]) -> tuple[str, int, int]:
        """The part that an operation belongs to, its exponentials and its multiply-adds."""
        if name == LIBRARY:
            query, key, value = args[:3]
            scores = query[..., 0].numel() * key.shape[2]
            return "library attention", scores, scores * (query.shape[3] + value.shape[3])
        if name in ("bmm", "baddbmm"):
            left, right = args[-2:]
            thin = left.shape[1] <= 2 and options.get("beta") != 0  # G2R and the column sums, or R2G; scores begin anew
            return "map products" if thin else "products", 0, left.numel() * right.shape[2]
        if name in ("exp2", "exp", "softmax", "_softmax"):
            return "exponentials", args[0].numel(), 0
        return ("reductions" if name in REDUCTIONS else "the rest"), 0, 0


def written(func: Any, out: Any) -> int:
    """Bytes of new or overwritten tensors; a view writes none."""
    outputs = out if isinstance(out, (tuple, list)) else (out,)
    pairs = zip(func._schema.returns, outputs)
    return sum(t.nbytes for how, t in pairs if isinstance(t, Tensor) and (how.alias_info is None or how.alias_info.is_write))


def counted(given: dict[str, Any]) -> dict[str, Work]:
    """The parts of one call behind the door."""
    call = judge.call_of(given)
    with torch.no_grad(), Counted() as mode:
        streaming(call)
    return mode.parts
