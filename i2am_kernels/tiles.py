"""Tile shapes and routes by architecture and head size: a frozen table, so that no run tunes itself over a buffer it adds to.

The shapes come from offline code generation (`make codegen`: no spills, fewest instructions per score); where a GPU has
timed them, `benchmarks/results` holds the rows. The interpreter gets small tiles because it is slow per tile, not per score.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple


class Tile(NamedTuple):
    block_g: int
    block_r: int
    warps: int
    stages: int


ONE_TILE_KEYS = 256  # references up to here are one tile
ONE_TILE_BYTES = 256 * 64 * 2  # keys x head size of that tile; the values lie beside the keys
PER_VISIT = 64  # weightings or words that one visit of the general sweeps serves
FEW_WORDS = 16  # up to so many lie beside R2G without a tile of their own size
TOGETHER = {"": 128, "heavy": 96, "float32": 0}  # head sizes up to which gradients of keys and values are one launch
COLUMNS_PER_VISIT = 16  # sums of C's columns: they lie beside those of the weightings

# sweep -> head size up to -> tile; head sizes count both parts (80 = 64 + 16). "heavy": with a mask or several weightings,
# which want more registers a score; "field": with a few words beside R2G, or with sums of C's columns. "float32": three tf32 products
# each, up to a head size of 128: `missing` refuses larger ones.
Table = dict[str, dict[int, Tile]]
FLOAT32: Table = {
    "forward float32": {64: Tile(64, 32, 4, 1), 256: Tile(32, 32, 4, 1)},
    "keys float32": {256: Tile(32, 64, 4, 1)},
    "queries float32": {256: Tile(64, 32, 4, 1)},
    "one_tile 16 float32": {64: Tile(32, 16, 2, 1), 256: Tile(32, 16, 4, 1)},
    "one_tile 32 float32": {256: Tile(32, 32, 4, 1)},
    "one_tile 64 float32": {256: Tile(32, 64, 4, 1)},
    "one_tile 128 float32": {256: Tile(32, 128, 8, 1)},
    "one_tile 256 float32": {256: Tile(32, 256, 8, 1)},
}
BACKWARD: Table = {  # "heavy": with a mask or several terms. Up to 72 bytes a thread spill at a few head sizes, up to 224 in float32 at 128
    "sums": {256: Tile(64, 64, 4, 2)},
    "sums heavy": {256: Tile(64, 64, 4, 2)},
    "sums float32": {256: Tile(64, 32, 4, 1)},
    "keys_backward": {
        64: Tile(64, 64, 4, 2),
        96: Tile(32, 128, 8, 2),
        128: Tile(64, 64, 8, 2),
        192: Tile(32, 64, 4, 2),
        256: Tile(32, 64, 4, 1),
    },
    "keys_backward heavy": {192: Tile(32, 64, 4, 2), 256: Tile(32, 64, 4, 1)},
    "keys_backward float32": {256: Tile(32, 32, 4, 1)},
    "queries_backward": {96: Tile(128, 32, 4, 2), 128: Tile(64, 64, 4, 2), 192: Tile(64, 32, 4, 2), 256: Tile(64, 32, 4, 1)},
    "queries_backward heavy": {96: Tile(64, 64, 4, 2), 192: Tile(64, 32, 4, 2), 256: Tile(64, 32, 4, 1)},
    "queries_backward float32": {256: Tile(32, 32, 4, 1)},
}
ONE_TILE: Table = {  # by the number of keys, rounded up; "heavy": with a mask that differs from query to query
    "one_tile 16": {64: Tile(64, 16, 4, 2), 128: Tile(128, 16, 4, 2), 256: Tile(32, 16, 2, 2)},
    "one_tile 32": {64: Tile(64, 32, 4, 2), 128: Tile(32, 32, 2, 2), 256: Tile(32, 32, 4, 2)},
    "one_tile 64": {64: Tile(64, 64, 4, 2), 128: Tile(32, 64, 2, 2), 256: Tile(32, 64, 4, 2)},
    "one_tile 128": {64: Tile(64, 128, 4, 2), 256: Tile(32, 128, 4, 2)},
    "one_tile 256": {256: Tile(32, 256, 4, 2)},
    "one_tile 16 heavy": {256: Tile(32, 16, 2, 2)},
    "one_tile 32 heavy": {64: Tile(32, 32, 2, 2), 256: Tile(32, 32, 4, 2)},
    "one_tile 64 heavy": {256: Tile(32, 64, 4, 2)},
    "one_tile 128 heavy": {256: Tile(32, 128, 8, 2)},
    "one_tile 256 heavy": {256: Tile(32, 256, 8, 2)},
}
SAFE: Table = FLOAT32 | ONE_TILE | BACKWARD  # at most 99 KiB of shared memory a program, so that consumer GPUs take it
SAFE |= {
    "forward": {96: Tile(128, 128, 8, 2), 192: Tile(128, 64, 8, 2), 256: Tile(64, 32, 4, 2)},
    "forward heavy": {128: Tile(128, 64, 8, 2), 256: Tile(64, 32, 4, 2)},
    "keys": {64: Tile(128, 128, 4, 2), 192: Tile(128, 64, 4, 2), 256: Tile(128, 64, 8, 1)},
    "keys heavy": {192: Tile(64, 128, 8, 2), 256: Tile(64, 64, 8, 1)},
    "queries": {64: Tile(128, 128, 4, 2), 192: Tile(128, 64, 4, 2), 256: Tile(64, 64, 4, 1)},
    "queries heavy": {192: Tile(128, 64, 8, 2), 256: Tile(64, 64, 8, 1)},
    "keys field": {64: Tile(128, 64, 4, 2), 192: Tile(64, 128, 4, 2), 256: Tile(32, 64, 4, 1)},
    "queries field": {192: Tile(128, 64, 4, 2), 256: Tile(64, 32, 4, 1)},
}
HOPPER: Table = SAFE | {  # 227 KiB
    "forward float32": {256: Tile(64, 32, 4, 1)},
    "forward": {128: Tile(128, 128, 8, 2), 256: Tile(128, 64, 8, 2)},
    "forward heavy": {192: Tile(128, 64, 8, 2), 256: Tile(64, 32, 4, 2)},
    "keys": {64: Tile(128, 128, 4, 2), 192: Tile(128, 64, 4, 2), 256: Tile(128, 64, 8, 2)},
    "queries": {192: Tile(128, 128, 4, 2), 256: Tile(128, 64, 4, 2)},
    "keys field": {
        64: Tile(128, 64, 4, 3),
        96: Tile(128, 64, 4, 2),
        128: Tile(128, 64, 4, 1),
        192: Tile(128, 128, 8, 2),
        256: Tile(64, 64, 4, 1),
    },
    "queries field": {192: Tile(64, 128, 4, 2), 256: Tile(64, 64, 4, 1)},
    "one_tile 16": {128: Tile(64, 16, 4, 2), 256: Tile(32, 16, 2, 2)},
    "one_tile 32": {128: Tile(64, 32, 4, 2), 256: Tile(32, 32, 4, 2)},
    "one_tile 64": {128: Tile(64, 64, 4, 2), 256: Tile(32, 64, 4, 2)},
    "one_tile 128": {256: Tile(64, 128, 4, 2)},
    "keys_backward": {
        64: Tile(64, 128, 8, 2),
        96: Tile(32, 64, 4, 2),
        128: Tile(32, 128, 8, 2),
        192: Tile(64, 64, 4, 2),
        256: Tile(32, 128, 8, 2),
    },
    "keys_backward heavy": {96: Tile(32, 64, 4, 2), 192: Tile(32, 128, 8, 2), 256: Tile(32, 128, 8, 1)},
    "queries_backward": {64: Tile(128, 32, 4, 2), 96: Tile(128, 64, 8, 2), 192: Tile(64, 64, 4, 2), 256: Tile(64, 32, 4, 2)},
    "queries_backward heavy": {96: Tile(64, 64, 4, 2), 128: Tile(128, 64, 8, 2), 192: Tile(64, 32, 4, 2), 256: Tile(64, 32, 4, 1)},
}
BLACKWELL: Table = HOPPER | {  # as Hopper, with accumulators outside the registers
    "keys": {128: Tile(128, 64, 4, 2), 192: Tile(128, 64, 4, 1), 256: Tile(128, 64, 8, 2)},
    "keys field": {96: Tile(128, 64, 4, 2), 128: Tile(128, 64, 4, 1), 192: Tile(64, 128, 4, 2), 256: Tile(64, 64, 4, 1)},
    "queries field": {192: Tile(64, 128, 4, 1), 256: Tile(64, 64, 4, 1)},
    "one_tile 16": {256: Tile(32, 16, 2, 2)},
    "one_tile 32": {128: Tile(32, 32, 2, 2), 256: Tile(32, 32, 4, 2)},
    "one_tile 64": {128: Tile(32, 64, 2, 2), 256: Tile(32, 64, 4, 2)},
    "one_tile 128": {256: Tile(32, 128, 4, 2)},
    "keys_backward": {128: Tile(32, 128, 4, 2), 192: Tile(32, 128, 8, 2), 256: Tile(32, 64, 4, 2)},
    "keys_backward heavy": {96: Tile(32, 128, 4, 2), 192: Tile(32, 128, 8, 2), 256: Tile(32, 64, 4, 2)},
    "queries_backward": {128: Tile(128, 32, 4, 2), 192: Tile(64, 32, 4, 2), 256: Tile(64, 64, 8, 2)},
    "queries_backward heavy": {128: Tile(128, 32, 4, 2), 256: Tile(64, 32, 4, 2)},
}
AMD: Table = FLOAT32 | ONE_TILE | BACKWARD  # 64 threads a warp, 64 KiB; compiled, never run
AMD |= {
    "forward": {256: Tile(128, 64, 4, 1)},
    "forward heavy": {256: Tile(128, 64, 4, 1)},
    "keys": {256: Tile(64, 64, 4, 1)},
    "keys heavy": {256: Tile(64, 64, 4, 1)},
    "queries": {256: Tile(64, 64, 4, 1)},
    "queries heavy": {256: Tile(64, 64, 4, 1)},
    "keys field": {256: Tile(64, 64, 4, 1)},
    "queries field": {256: Tile(64, 64, 4, 1)},
    "one_tile 128": {256: Tile(16, 128, 4, 1)},
    "one_tile 128 heavy": {256: Tile(16, 128, 4, 1)},
    "sums": {256: Tile(64, 64, 4, 1)},
    "sums heavy": {256: Tile(64, 64, 4, 1)},
    "keys_backward": {256: Tile(32, 64, 4, 1)},
    "keys_backward heavy": {256: Tile(32, 64, 4, 1)},
    "queries_backward": {256: Tile(64, 32, 4, 1)},
    "queries_backward heavy": {256: Tile(64, 32, 4, 1)},
}
TILES: dict[tuple[int, int], Table] = {(9, 0): HOPPER, (10, 0): BLACKWELL, (10, 3): BLACKWELL, (0, 0): AMD}
INTERPRETED = Tile(32, 32, 1, 1)

# Whose forward sweep "auto" takes, by capability and head size: "own", or a library's that returns L ("flash", "cudnn").
# Entries are pasted from the verdict of the GPU pack. No GPU has run it yet, so the table is empty, and FlashAttention, which is
# hand-tuned for each architecture, is the assumption.
ROUTES: dict[tuple[tuple[int, int], int], str] = {}

# Where both maps are made in one visit to the scores, by capability and head size: pasted likewise, and as empty.
ONCHIP: frozenset[tuple[tuple[int, int], int]] = frozenset()


def one_tile_keys(capability: tuple[int, int] | None) -> int:
    """The most keys that are one tile; on AMD, where the sums of 256 do not fit into the registers, half as many."""
    return ONE_TILE_KEYS if capability != (0, 0) else ONE_TILE_KEYS // 2


def gradients_apart(size: int, capability: tuple[int, int] | None, kind: str = "") -> bool:
    """Whether the gradients of keys and values are two launches of the backward's key-major sweep: their sums, head sizes beside each
    other, fill the registers otherwise. Blackwell keeps sums elsewhere."""
    return sum(head_parts(size)) > TOGETHER[kind] and (capability is None or capability[0] != 10)


def route(size: int, capability: tuple[int, int] | None) -> str:
    """Whose forward sweep is the fastest for a head size on a capability."""
    return "flash" if capability is None else ROUTES.get((capability, size), "flash")


def tile(sweep: str, size: int, capability: tuple[int, int] | None, kind: str = "") -> Tile:
    """The tile of a sweep for a head size on an NVIDIA capability; (0, 0) for AMD, None for the interpreter."""
    if capability is None:
        return INTERPRETED
    table = TILES.get(capability, SAFE)[f"{sweep} {kind}".strip()]
    return table[min(limit for limit in table if sum(head_parts(size)) <= limit)]


def power_of_2(number: int) -> int:
    """The next one."""
    return 1 << (number - 1).bit_length()


def side(number: int) -> int:
    """The side of a tile that holds so many: a power of two, 16 at least."""
    return max(16, power_of_2(number))


@lru_cache
def head_parts(size: int) -> tuple[int, int]:
    """A head size as one or two tile sides: 40 -> (64, 0), 80 -> (64, 16), 160 -> (128, 32).

    Up to 64 padding costs less than a second product: the exponentials are the limit there.
    """
    first = max(16, 1 << (size.bit_length() - 1))
    rest = size - first
    if rest <= 0:
        return first, 0
    second = side(rest)
    return (2 * first, 0) if first < 64 or second >= first else (first, second)


@lru_cache(4096)
def shares_in_waves(blocks: int, others: int, programs: int) -> int:
    """Into how many shares to cut the blocks of queries, each visited by a program that brings the keys with it.

    The programs run in waves, as many at a time as fill the device; the last is as long as the others. Bringing the keys takes
    about as long as a block.
    """
    length = min(range(1, blocks + 1), key=lambda length: -(-(-(-blocks // length) * others) // programs) * (length + 1))
    return -(-blocks // length)
