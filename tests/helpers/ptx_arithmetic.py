"""The arithmetic of tests/helpers/ptx.py: instructions that make a number of each thread's own numbers."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np

TYPES: dict[str, type[np.generic]] = {
    "pred": np.bool_, "b16": np.uint16, "u16": np.uint16, "b32": np.uint32, "u32": np.uint32, "s32": np.int32, "f32": np.float32,
    "b64": np.uint64, "u64": np.uint64, "s64": np.int64,
}  # fmt: skip
BITS: dict[int, type[np.generic]] = {2: np.uint16, 4: np.uint32, 8: np.uint64}  # what a register holds, by its bytes
SMALLEST = np.finfo(np.float32).tiny  # under it is 0 to an instruction that flushes


class Rule(NamedTuple):
    """What an instruction of arithmetic does, and the types of its operands where they are others than its own, which its name ends in."""

    does: Callable[..., np.ndarray]
    operands: tuple[str, ...] = ()


def exponential(values: np.ndarray) -> np.ndarray:
    found = np.exp2(values.astype(np.float64)).astype(np.float32)
    return np.where(found < SMALLEST, np.float32(0), found)


def quotient(values: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Of whole numbers, towards 0."""
    return np.trunc(values.astype(np.float64) / by).astype(values.dtype)


def wide(values: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """The whole product of two numbers of 32 bits."""
    twice = np.int64 if values.dtype == np.int32 else np.uint64
    return values.astype(twice) * factor.astype(twice)


def field(values: np.ndarray, first: np.ndarray, length: np.ndarray) -> np.ndarray:
    """So many bits, the highest of which is the sign of a signed number."""
    size = 8 * values.itemsize
    left = values << (size - first - length).astype(values.dtype)
    return left >> (size - length).astype(values.dtype)


RULES = {
    "mov": Rule(lambda values: values), "add": Rule(np.add), "sub": Rule(np.subtract), "neg": Rule(np.negative), "mul": Rule(np.multiply),
    "mul.lo": Rule(np.multiply), "mul.wide": Rule(wide), "div": Rule(quotient), "div.full": Rule(np.divide),
    "mad.wide": Rule(lambda one, other, more: wide(one, other) + more.view(wide(one, other).dtype), ("", "", "b64")),
    "fma.rn": Rule(lambda one, other, more: (one.astype(np.float64) * other + more).astype(np.float32)),
    "max": Rule(np.fmax), "min": Rule(np.fmin), "ex2.approx.ftz": Rule(exponential),
    "and": Rule(np.bitwise_and), "or": Rule(np.bitwise_or), "xor": Rule(np.bitwise_xor), "bfe": Rule(field, ("", "u32", "u32")),
    "shl": Rule(lambda values, by: values << by.astype(values.dtype), ("", "u32")),
    "shr": Rule(lambda values, by: values >> by.astype(values.dtype), ("", "u32")),
    "selp": Rule(lambda one, other, first: np.where(first, one, other), ("", "", "pred")),
    "cvt.u32": Rule(lambda values: values.astype(np.uint32)), "cvt.u64": Rule(lambda values: values.astype(np.uint64)),
    "cvt.s64": Rule(lambda values: values.astype(np.int64)),
    "setp.eq": Rule(np.equal), "setp.lt": Rule(np.less), "setp.le": Rule(np.less_equal), "setp.gt": Rule(np.greater),
    "setp.ge": Rule(np.greater_equal), "setp.ne": Rule(lambda one, other: (one < other) | (one > other)),  # NaN is not unequal
    "setp.geu": Rule(lambda one, other: ~(one < other)),  # but NaN is that
}  # fmt: skip


@cache
def constant(text: str, kind: str, threads: int) -> np.ndarray:
    """A number that stands in an instruction, for every thread."""
    number = re.fullmatch(r"0f([0-9A-F]{8})|(-?(?:0x[0-9a-fA-F]+|\d+))", text)
    if not number:
        raise ValueError(f"nothing was put into {text}")
    if kind == "pred":
        return np.full(threads, text != "0")
    bits = BITS[np.dtype(TYPES[kind]).itemsize]
    return np.full(threads, (int(number[1], 16) if number[1] else int(text, 0)) & np.iinfo(bits).max, bits)
