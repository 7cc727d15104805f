"""Launches that are remembered: what Triton finds out about every argument at every launch, it finds out once.

A compiled kernel depends on its arguments' types, on which pointers are aligned and on which numbers are 1 or multiples of 16. Where all
of them are as they were - the layers of a denoising run are the same in every step - the kernel is looked up by them and launched
as Triton would launch it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from i2am_kernels.plans import NOTES

REMEMBERS = True  # False: every launch goes Triton's own way, for a comparison
EXACT = frozenset((int, tuple))  # sizes, strides and ranges, which are remembered as they are
MOST = 4096  # launches of a kernel that are remembered: the shapes of a process are few


class Kernel:
    """A Triton kernel that is called like one: kernel[grid](*values, **constants)."""

    def __init__(self, jit: Any, **named: str):
        """`named`: what this launcher calls some of the kernel's arguments."""
        self.jit = jit
        self.names = [named.get(name, name) for name in jit.arg_names]
        self.compiles = hasattr(jit, "device_caches")  # the interpreter's stand-in does not
        self.known: dict[tuple[Any, ...], Any] = {}

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., Any]:
        return partial(self.launch, grid)

    def launch(self, grid: tuple[int, ...], *values: Any, **constants: Any) -> Any:
        if not (self.compiles and REMEMBERS):
            return self.jit[grid](*values, **constants)
        key = (
            torch.cuda.current_device() if values[0].is_cuda else None,
            *constants.values(),
            *[v if v.__class__ in EXACT else None if v.__class__ is float else (v.dtype, v.data_ptr() & 15) for v in values],
        )
        compiled = self.known.get(key)
        if compiled is not None:
            compiled[(*grid, 1, 1)[:3]](*values, *self.constants(len(values), constants))
        else:
            if len(self.known) >= MOST:
                self.known.clear()
            compiled = self.known[key] = self.jit[grid](*values, **constants)
        if NOTES.active:
            NOTES.steps.append((compiled, (*grid, 1, 1)[:3], self.names, (*values, *self.constants(len(values), constants))))
        return compiled

    def constants(self, first: int, constants: dict[str, Any]) -> list[Any]:
        """In the order of the kernel's arguments; the options of the compiler are none."""
        return [constants[name] for name in self.jit.arg_names[first:]]
