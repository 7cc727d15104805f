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
ONE_TILE_NAMES = 128  # word maps that fit beside it
NAMES = 64  # weightings in one visit of the general sweeps

# sweep -> head size up to -> tile; head sizes count both parts (80 = 64 + 16)
TILES: dict[str, dict[int, Tile]] = {
    "forward": {64: Tile(128, 64, 4, 3), 128: Tile(128, 64, 8, 3), 192: Tile(64, 64, 4, 2), 256: Tile(64, 32, 4, 2)},
    "keys": {64: Tile(64, 128, 4, 3), 128: Tile(64, 128, 8, 3), 192: Tile(64, 64, 4, 2), 256: Tile(32, 64, 4, 2)},
    "queries": {64: Tile(128, 64, 4, 3), 128: Tile(128, 64, 8, 3), 192: Tile(64, 64, 4, 2), 256: Tile(64, 32, 4, 2)},
    "one_tile": {64: Tile(64, 256, 8, 2), 128: Tile(64, 256, 8, 2), 192: Tile(64, 256, 8, 1), 256: Tile(32, 256, 8, 1)},
}
INTERPRETED = Tile(32, 32, 1, 1)


def tile(sweep: str, size: int, interpreted: bool) -> Tile:
    """The tile of a sweep for a head size; the last entry serves whatever is larger."""
    if interpreted:
        return INTERPRETED
    table = TILES[sweep]
    return table[min((limit for limit in table if size <= limit), default=max(table))]


def head_parts(size: int) -> tuple[int, int]:
    """A head size as one or two tile sides: 40 -> (32, 16), 64 -> (64, 0), 112 -> (128, 0)."""
    first = max(16, 1 << (size.bit_length() - 1))
    rest = size - first
    if rest <= 0:
        return first, 0
    second = max(16, 1 << (rest - 1).bit_length())
    return (2 * first, 0) if second >= first else (first, second)
