"""Products of Hopper's matrix units in tests/helpers/ptx.py: numbers that nobody has before he has waited for them.

A product is begun with two descriptors of tiles in shared memory and with the registers of a warp group for its sums. It is finished here
as late as it may be: the operands are read when it is waited for, and until then its registers hold NaN. So to wait for too few, or to
write over an operand too early, gives wrong maps; and both are noted as races. Whether registers are fenced before a product that adds to
them is not looked at.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from ptx_memory import LANES, POISON, THREADS, WORD, Races, Shared

ROWS, DEPTH, BYTES = 64, 16, 2  # of a tile of half-precision numbers: rows of the first operand, channels of both
HALVES = {  # what a tile's numbers are, from their bits
    "f16": lambda bits: bits.view(np.float16).astype(np.float64),
    "bf16": lambda bits: (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64),
}
SWIZZLES = {1: (128, 7), 2: (64, 3), 3: (32, 1)}  # by the descriptor's two highest bits: bytes of a line, bits of the address it turns


@cache
def tile(descriptor: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Where a tile [rows, DEPTH] lies: the addresses of its numbers, and the words that hold them. Groups of eight rows lie `stride` apart;
    in a group the sixteen bytes a row's channels begin with change places, by the row."""
    begin, stride = (descriptor & 0x3FFF) << 4, (descriptor >> 32 & 0x3FFF) << 4
    assert not descriptor >> 49 & 7, "a tile that begins inside of a pattern"
    line, turned = SWIZZLES[descriptor >> 62]
    row, channel = np.arange(rows)[:, None], np.arange(DEPTH)
    straight = begin + row // 8 * stride + row % 8 * line + BYTES * channel
    addresses = straight ^ ((straight >> 7 & turned) << 4)
    return addresses, np.unique(addresses // WORD)


class Product(NamedTuple):
    registers: tuple[str, ...]  # of the sums: a thread has two neighbours of every eight columns, in two rows
    half: str  # what the operands are
    operands: tuple[int, int]  # descriptors, the same in every program of the cluster
    adds: bool  # to what the sums are


class Products:
    """What a cluster's programs, a warp group each, have asked of the matrix units."""

    def __init__(self, shared: Shared, races: Races):
        self.shared, self.races = shared, races
        self.begun: list[Product] = []  # and not yet in a group
        self.groups: list[list[Product]] = []  # not yet waited for
        self.sums: dict[tuple[str, ...], np.ndarray] = {}  # [programs, ROWS, columns] of what is on its way
        self.pending: set[str] = set()  # registers
        self.count = 0

    def begin(self, product: Product, before: list[np.ndarray]) -> None:
        """`before`: what the registers hold, where the product adds to them and none before it is on its way there."""
        if product.registers not in self.sums:
            self.races.note("a product into registers of another one", not self.pending.isdisjoint(product.registers))
            self.sums[product.registers] = gathered(before, len(self.shared.bytes)) if product.adds else np.zeros(1, np.float32)
            self.pending.update(product.registers)
        for words in self.words(product):
            self.shared.lend(words)
        self.begun.append(product)
        self.count += 1

    def words(self, product: Product) -> list[np.ndarray]:
        first, second = product.operands
        return [tile(first, ROWS)[1], tile(second, 2 * len(product.registers))[1]]

    def commit(self) -> None:
        self.groups.append(self.begun)
        self.begun = []

    def wait(self, left: int) -> dict[str, np.ndarray]:
        """Finish all groups but the last `left` of them: what is in the registers then, as bits."""
        ready = max(0, len(self.groups) - left)
        finished = [product for group in self.groups[:ready] for product in group]
        self.groups = self.groups[ready:]
        for product in finished:
            first, second = product.operands
            rows, columns = self.bits(first, ROWS), self.bits(second, 2 * len(product.registers))
            found = HALVES[product.half](rows) @ HALVES[product.half](columns).transpose(0, 2, 1)
            self.sums[product.registers] = (found + (self.sums[product.registers] if product.adds else 0)).astype(np.float32)
            for words in self.words(product):
                self.shared.returned(words)
        left_over = {product.registers for group in [*self.groups, self.begun] for product in group}
        values: dict[str, np.ndarray] = {}
        for registers in {product.registers for product in finished} - left_over:
            values |= zip(registers, scattered(self.sums.pop(registers)))
            self.pending.difference_update(registers)
        return values

    def bits(self, descriptor: int, rows: int) -> np.ndarray:
        """A tile as it lies in every program, [programs, rows, DEPTH]."""
        return self.shared.bytes.view(np.uint16)[:, tile(descriptor, rows)[0] // BYTES]

    def leave(self) -> None:
        self.races.note("an end before a product's", bool(self.groups or self.begun))


def places(columns: int) -> tuple[np.ndarray, np.ndarray]:
    """The row and the column of each register's number in each thread, [registers, threads]."""
    thread, register = np.arange(THREADS), np.arange(columns // 2)[:, None]
    row = 16 * (thread // LANES) + thread % LANES // 4 + 8 * (register // 2 % 2)
    return row, register // 4 * 8 + thread % 4 * 2 + register % 2


def scattered(sums: np.ndarray) -> np.ndarray:
    """Sums [programs, ROWS, columns] as the registers of the cluster's threads hold them: [registers, threads], as bits."""
    row, column = places(sums.shape[2])
    return np.ascontiguousarray(sums[:, row, column].transpose(1, 0, 2)).reshape(len(row), -1).view(np.uint32)


def gathered(registers: list[np.ndarray], programs: int) -> np.ndarray:
    row, column = places(2 * len(registers))
    sums = np.full((programs, ROWS, 2 * len(registers)), np.nan, np.float32)
    sums[:, row, column] = np.stack(registers).view(np.float32).reshape(len(registers), programs, THREADS).transpose(1, 0, 2)
    return sums


def nothing_yet(threads: int) -> np.ndarray:
    """What a register holds whose product is on its way."""
    return np.full(WORD * threads, POISON, np.uint8).view(np.uint32)
