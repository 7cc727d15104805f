"""Tile shapes and routes by architecture and head size: a frozen table, so that no run tunes itself over a buffer it adds to.

The shapes come from offline code generation (`make codegen`: no spills, fewest instructions per score); where a GPU has
timed them, `benchmarks/results` holds the rows. The interpreter gets small tiles because it is slow per tile, not per score.
"""

from __future__ import annotations

from typing import NamedTuple


class Tile(NamedTuple):
    block_g: int
    block_r: int
    warps: int
    stages: int


ONE_TILE_KEYS = 256  # references up to here are one tile
ONE_TILE_ELEMENTS = 256 * 128  # keys x head size of that tile
NAMES = 64  # weightings in one visit of the general sweeps

# sweep -> head size up to -> tile; head sizes count both parts (80 = 64 + 16). "heavy": with a mask, several weightings or
# float32 products, which want more registers a score.
Table = dict[str, dict[int, Tile]]
HEAVY: Table = {
    "forward heavy": {192: Tile(128, 64, 8, 2), 256: Tile(64, 32, 4, 2)},
    "keys heavy": {192: Tile(64, 128, 8, 2), 256: Tile(64, 64, 8, 1)},
    "queries heavy": {192: Tile(128, 64, 8, 2), 256: Tile(64, 64, 8, 1)},
    "one_tile": {256: Tile(32, 256, 8, 1)},
}
ROOMY: Table = HEAVY | {  # 227 KiB of shared memory a program: sm_90, sm_100
    "forward": {128: Tile(128, 128, 8, 2), 256: Tile(128, 64, 8, 2)},
    "keys": {64: Tile(128, 128, 4, 2), 192: Tile(128, 64, 4, 2), 256: Tile(128, 64, 8, 2)},
    "queries": {192: Tile(128, 128, 4, 2), 256: Tile(128, 64, 4, 2)},
}
SAFE: Table = HEAVY | {  # everything else; at most 99 KiB, so that consumer GPUs take it
    "forward": {96: Tile(128, 128, 8, 2), 192: Tile(128, 64, 8, 2), 256: Tile(64, 32, 4, 2)},
    "keys": {64: Tile(128, 128, 4, 2), 192: Tile(128, 64, 4, 2), 256: Tile(128, 64, 8, 1)},
    "queries": {64: Tile(128, 128, 4, 2), 192: Tile(128, 64, 4, 2), 256: Tile(64, 64, 4, 1)},
}
TILES: dict[tuple[int, int], Table] = {(9, 0): ROOMY, (10, 0): ROOMY, (10, 3): ROOMY}
INTERPRETED = Tile(32, 32, 1, 1)


def tile(sweep: str, size: int, capability: tuple[int, int] | None, heavy: bool = False) -> Tile:
    """The tile of a sweep for a head size on an NVIDIA capability; (0, 0) for any other GPU, None for the interpreter."""
    if capability is None:
        return INTERPRETED
    table = TILES.get(capability, SAFE)[f"{sweep} heavy" if heavy else sweep]
    return table[min(limit for limit in table if sum(head_parts(size)) <= limit)]


def head_parts(size: int) -> tuple[int, int]:
    """A head size as one or two tile sides: 40 -> (64, 0), 80 -> (64, 16), 160 -> (128, 32).

    Up to 64 padding costs less than a second product: the exponentials are the limit there.
    """
    first = max(16, 1 << (size.bit_length() - 1))
    rest = size - first
    if rest <= 0:
        return first, 0
    second = max(16, 1 << (rest - 1).bit_length())
    return (2 * first, 0) if first < 64 or second >= first else (first, second)
