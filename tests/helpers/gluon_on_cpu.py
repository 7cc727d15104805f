"""A Gluon kernel run on a CPU from its own source, since Triton's interpreter has no Gluon: every operation is done on whole tensors.

The kernel's functions are taken as they stand, with torch behind the names of Gluon's language. A tensor is that of a whole cluster, as it
is in the language; layouts say where numbers lie, change none, and are left out. Products of half-precision tokens are sums in float32.
What it cannot tell is what the compiler answers for: that layouts fit, and that nobody reads before another has written. That is told by
`tests/helpers/ptx.py`.
"""

from __future__ import annotations

import ast
import inspect
import types
from typing import Any

import torch
from torch import Tensor


class Rebound(ast.NodeTransformer):
    """`a += b` as `a = a + b`: in the language it gives a name other numbers, and leaves those that another name has."""

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.Assign:
        assert isinstance(node.target, ast.Name)
        sum_of = ast.BinOp(ast.Name(node.target.id, ast.Load()), node.op, node.value)
        return ast.copy_location(ast.Assign([node.target], sum_of), node)


def rebound(function: types.FunctionType, names: dict[str, Any]) -> types.FunctionType:
    """The function from its source, without its decorators, among these names."""
    tree = Rebound().visit(ast.parse(inspect.getsource(function)))
    tree.body[0].decorator_list = []
    place: dict[str, Any] = {}
    exec(compile(ast.fix_missing_locations(tree), inspect.getsourcefile(function) or "", "exec"), names, place)
    return place[function.__name__]


class Pointer:
    """Addresses in a tensor's memory: a shape of offsets from its first element."""

    def __init__(self, memory: Tensor, offsets: Any = 0):
        self.memory, self.offsets = memory, offsets

    def __add__(self, more: Any) -> Pointer:
        return Pointer(self.memory, self.offsets + more)

    @property
    def dtype(self) -> Any:
        return types.SimpleNamespace(element_ty=self.memory.dtype)

    def at(self, mask: Any) -> tuple[Tensor, Tensor]:
        """Where the elements that the mask lets through lie in the memory, and the mask; both of the same shape."""
        offsets = torch.as_tensor(self.offsets)
        offsets, mask = torch.broadcast_tensors(offsets, torch.as_tensor(True if mask is None else mask))
        inside = offsets[mask]
        assert not inside.numel() or (inside.min() >= 0 and inside.max() < flat(self.memory).numel()), "an address outside of the tensor"
        return offsets, mask


def flat(tensor: Tensor) -> Tensor:
    """Every element from the tensor's first to its last, in memory order."""
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride()))
    return tensor.as_strided((last + 1,), (1,))


class Shared:
    """Shared memory: what lies there, one tensor or several."""

    def __init__(self, values: Tensor):
        self.values = values

    def index(self, number: int) -> Shared:
        return Shared(self.values[int(number)])

    def permute(self, order: tuple[int, ...]) -> Shared:
        return Shared(self.values.permute(order))


class Number(int):
    """A program's number, which can be asked for as another type."""

    def to(self, dtype: Any) -> Number:
        return self

    def __floordiv__(self, other: int) -> Number:
        return Number(int(self) // other)

    def __mod__(self, other: int) -> Number:
        return Number(int(self) % other)


class Language:
    """The names of `triton.experimental.gluon.language` that the kernels use."""

    float32, int32, int64, constexpr = torch.float32, torch.int32, torch.int64, staticmethod(lambda value: value)
    static_range, exp2, where = staticmethod(range), staticmethod(torch.exp2), staticmethod(torch.where)
    NVMMADistributedLayout = BlockedLayout = SliceLayout = NVMMASharedLayout = staticmethod(lambda *of, **more: None)
    program = 0

    @classmethod
    def program_id(cls, axis: int) -> Number:
        return Number(cls.program)

    @staticmethod
    def arange(first: int, last: int, layout: Any = None) -> Tensor:
        return torch.arange(first, last, dtype=torch.int32)  # whose products wrap as those of a GPU do

    @staticmethod
    def full(shape: list[int], value: float, dtype: Any, layout: Any = None) -> Tensor:
        return torch.full(shape, value, dtype=dtype)

    @staticmethod
    def zeros(shape: list[int], dtype: Any, layout: Any = None) -> Tensor:
        return torch.zeros(shape, dtype=dtype)

    @staticmethod
    def cdiv(number: int, by: int) -> int:
        return -(-number // by)

    @staticmethod
    def load(pointer: Pointer, mask: Any = None, other: float = 0.0) -> Tensor:
        offsets, inside = pointer.at(mask)
        values = torch.full(offsets.shape, other, dtype=pointer.memory.dtype)
        values[inside] = flat(pointer.memory)[offsets[inside]]
        return values

    @staticmethod
    def store(pointer: Pointer, values: Tensor, mask: Any = None) -> None:
        offsets, inside = pointer.at(mask)
        flat(pointer.memory)[offsets[inside]] = values.expand(offsets.shape)[inside].to(pointer.memory.dtype)

    @staticmethod
    def maximum(a: Tensor, b: Any) -> Tensor:
        return torch.maximum(a, torch.as_tensor(b, dtype=a.dtype))

    @staticmethod
    def minimum(a: Any, b: Any) -> Any:
        return torch.minimum(a, torch.as_tensor(b, dtype=a.dtype)) if isinstance(a, Tensor) else min(a, b)

    @staticmethod
    def max(values: Tensor, axis: int) -> Tensor:
        return values.amax(axis)

    @staticmethod
    def min(values: Tensor, axis: int) -> Tensor:
        return values.amin(axis)

    @staticmethod
    def sum(values: Tensor, axis: int) -> Tensor:
        return values.sum(axis)

    @staticmethod
    def join(a: Tensor, b: Tensor) -> Tensor:
        return torch.stack((a, b), -1)

    @staticmethod
    def split(values: Tensor) -> tuple[Tensor, ...]:
        assert values.shape[-1] == 2
        return values.unbind(-1)

    reshape, permute = staticmethod(torch.reshape), staticmethod(torch.permute)

    @staticmethod
    def convert_layout(values: Tensor, layout: Any) -> Tensor:
        return values

    @staticmethod
    def allocate_shared_memory(dtype: Any, shape: list[int], layout: Any, values: Tensor | None = None) -> Shared:
        return Shared(torch.full(shape, torch.nan, dtype=dtype) if values is None else values.to(dtype))

    @staticmethod
    def barrier() -> None:
        pass


def async_load(target: Shared, pointer: Pointer, mask: Any = None) -> None:
    target.values.copy_(Language.load(pointer, mask))


def warpgroup_mma(a: Shared, b: Shared, sums: Tensor, use_acc: bool = True, is_async: bool = False) -> Tensor:
    found = a.values.float() @ b.values.float()
    return sums + found if use_acc else found


NAMES = {
    "gl": Language, "async_load": async_load, "warpgroup_mma": warpgroup_mma,
    "warpgroup_mma_wait": lambda outstanding, deps: deps[0],
    **dict.fromkeys(("commit_group", "wait_group", "fence_async_shared"), lambda *of: None),
}  # fmt: skip


class OnCpu:
    """Stands where a launcher's `Kernel` of a Gluon kernel stands."""

    compiles = True

    def __init__(self, kernel: Any):
        source = kernel.fn.__globals__
        names = {**source, **NAMES}
        for name, value in source.items():
            if hasattr(value, "fn") and isinstance(getattr(value, "fn", None), types.FunctionType):
                names[name] = rebound(value.fn, names)
            elif type(value).__name__ == "constexpr":
                names[name] = value.value
        self.kernel = names[kernel.fn.__name__]

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def launch(*values: Any, num_warps: int, num_ctas: int, enable_fp_fusion: bool, **constants: Any) -> None:
            assert (enable_fp_fusion, num_ctas, num_warps) == (True, constants["PROGRAMS"], 4)
            for Language.program in range(grid[0]):
                self.kernel(*(Pointer(value) if isinstance(value, Tensor) else value for value in values), **constants)

        return launch
