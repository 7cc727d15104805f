"""Calls that are remembered: what a call of a kind launches, over which memory, is found out once.

A launcher decides from shapes, strides and options alone which kernels run with which numbers, and where in which tensor each begins. The
layers of a denoising run ask for the same in every step. The first call of a kind is written down while it is made; the next of its kind
takes new memory of the same sizes and hands the same launches to the driver, with the addresses of its own tensors.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from i2am_kernels.call import Call

Launch = Callable[[Call, str | None], Tensor]
Forward = Callable[[Call, str], tuple[Tensor, Tensor, float]]
ENABLED = True  # False: every call is launched step by step, for a comparison
FIELDS = ("query", "key", "value", "mask", "r2g", "g2r", "token_maps", "column_maps",
          "generated_weight", "reference_weight", "token_weight", "column_weight")  # fmt: skip
MOST = 4096  # kinds that are remembered


class Address(NamedTuple):
    """Where an argument of a launch points: so many bytes behind the first element of a tensor of the call, or of its own memory."""

    argument: int
    source: int
    offset: int


class Step(NamedTuple):
    """A launch: a compiled kernel on its grid, and all its arguments, addresses left out."""

    kernel: Callable[..., None]
    arguments: tuple[Any, ...]
    addresses: tuple[Address, ...]


class Plan(NamedTuple):
    library: str | None  # whose forward comes before
    given: tuple[Any, ...]  # how that gave its output and L
    memory: tuple[tuple[tuple[int, ...], tuple[int, ...], torch.dtype], ...]  # to be taken: shape, strides, dtype
    output: int | None  # which of it is the call's output; None: the library's
    steps: tuple[Step, ...]


class Notes(threading.local):
    """What a thread writes down of the call that it makes."""

    active = False
    library: tuple[str, Tensor, Tensor, float] | None  # its name, the output, L, and what turns L into binary orders
    taken: list[Tensor]
    steps: list[tuple[Any, tuple[int, ...], Sequence[str], tuple[Any, ...]]]  # compiled kernel, grid, arguments and their names


NOTES = Notes()
UNKNOWN = "unknown"
PLANS: dict[tuple[Any, ...], Plan | None] = {}  # kind -> its plan; None: each call of it is made step by step


def note_memory(tensor: Tensor) -> Tensor:
    """To be told of what a launcher takes for itself."""
    if NOTES.active:
        NOTES.taken.append(tensor)
    return tensor


def note_library(name: str, output: Tensor, lse: Tensor, unit: float) -> tuple[Tensor, Tensor, float]:
    """To be told of a library's forward."""
    if NOTES.active:
        NOTES.library = name, output, lse, unit
    return output, lse, unit


def planned(call: Call, route: str | None, launch: Launch, library_forward: Forward) -> Tensor:
    """The call as its kind was planned; by `launch`, step by step, where it is the first of it or has no plan."""
    if NOTES.active:  # a call inside of a call
        return launch(call, route)
    kind = kind_of(call, route)
    plan = PLANS.get(kind, UNKNOWN)
    if not isinstance(plan, str):
        found = None if plan is None else follow(plan, call, library_forward)
        return launch(call, route) if found is None else found
    NOTES.active, NOTES.library, NOTES.taken, NOTES.steps = True, None, [], []
    try:
        output = launch(call, route)
        if len(PLANS) >= MOST:
            PLANS.clear()
        PLANS[kind] = made(call, output)
        return output
    finally:
        NOTES.active = False
        NOTES.library, NOTES.taken, NOTES.steps = None, [], []


def kind_of(call: Call, route: str | None) -> tuple[Any, ...]:
    """All that the launches depend on but the tensors' addresses; whether these are multiples of 16 is part of it."""
    parts: list[Any] = [route, call.scale, call.rows, call.generated, call.reference, call.query.device]
    for name in FIELDS:
        tensor = getattr(call, name)
        parts.append(None if tensor is None else (tensor.dtype, tensor.shape, tensor.stride(), tensor.data_ptr() & 15))
    return tuple(parts)


def made(call: Call, output: Tensor) -> Plan | None:
    """The plan of a call that has just been made; None where an argument is none of its tensors, nor memory that was noted."""
    library = () if NOTES.library is None else NOTES.library[1:3]
    sources: list[Tensor | None] = [*(getattr(call, name) for name in FIELDS), *library, *NOTES.taken]
    steps = []
    for kernel, grid, names, arguments in NOTES.steps:
        addresses = []
        for place, (name, value) in enumerate(zip(names, arguments)):
            if isinstance(value, Tensor):
                number = source_of(name, value, call, sources)
                if number is None:
                    return None
                addresses.append(Address(place, number, value.data_ptr() - start_of(sources[number])))
        steps.append(Step(kernel[grid], tuple(None if isinstance(value, Tensor) else value for value in arguments), tuple(addresses)))
    mine = next((number for number, tensor in enumerate(NOTES.taken) if tensor is output), None)
    if mine is None and not any(tensor is output for tensor in library):
        return None
    memory = tuple((tuple(tensor.shape), tensor.stride(), tensor.dtype) for tensor in NOTES.taken)
    whose = NOTES.library[0] if NOTES.library else None
    return Plan(whose, how(*NOTES.library[1:]) if NOTES.library else (), memory, mine, tuple(steps))


def how(output: Tensor, lse: Tensor, unit: float) -> tuple[Any, ...]:
    """What the launches depend on of what a library gives. It may be another way the next time: libraries can be switched off."""
    return output.stride(), lse.stride(), lse.data_ptr() & 15, unit


def start_of(source: Tensor | None) -> int:
    return 0 if source is None else source.data_ptr()


def source_of(name: str, value: Tensor, call: Call, sources: list[Tensor | None]) -> int | None:
    """Which tensor an argument lies in. Tokens or maps may lie between each other in memory: there the argument's name says whose it is."""
    where = value.untyped_storage().data_ptr()
    inside = [source is not None and source.untyped_storage().data_ptr() == where for source in sources]
    if name in FIELDS and inside[FIELDS.index(name)]:
        return FIELDS.index(name)
    own = next((number for number in range(len(FIELDS), len(sources)) if inside[number]), None)
    return 0 if own is None and inside[0] else own  # the query stands in for what a kernel will not look at


def follow(plan: Plan, call: Call, library_forward: Forward) -> Tensor | None:
    """The call once more as it was planned: its output; None where the library gave something else than it did."""
    device = call.query.device
    library: tuple[Tensor, ...] = ()
    if plan.library is not None:
        given = library_forward(call, plan.library)
        if how(*given) != plan.given:
            return None
        library = given[:2]
    memory = [torch.empty_strided(shape, strides, dtype=dtype, device=device) for shape, strides, dtype in plan.memory]
    starts = [start_of(tensor) for tensor in (*[getattr(call, name) for name in FIELDS], *library, *memory)]
    for kernel, plain, addresses in plan.steps:
        arguments = list(plain)
        for place, source, offset in addresses:
            arguments[place] = starts[source] + offset
        kernel(*arguments)
    return library[0] if plan.output is None else memory[plan.output]
