"""What a loss asks of a tile of scores, for both backward sweeps; the tile's lines are keys in one and queries in the other.

    dS = P (X - sum_j P X) + C (Y - sum_i C Y)      X = o V^T + row_left row_right^T      Y = column_left column_right^T

A vector of the tile comes with the axis that it does not have, [BLOCK, 1] or [1, BLOCK]; a product's factors come with their tokens first.
"""

import triton
import triton.language as tl

from i2am_kernels.sweeps.pieces import load_weights


@triton.jit
def factors(base, strides, b, h, token):
    """Where a token's factors begin."""
    _, stride_b, stride_h, stride_t = strides
    return base + b * stride_b + h * stride_h + token * stride_t


@triton.jit
def add_terms(tile, lines, others, line_strides, other_strides, line, other, line_count, other_count, TERMS: tl.constexpr,
              PRECISION: tl.constexpr):  # fmt: skip
    """tile + sum_n lines_ln others_on. One term is a multiply-add a score. Several are products of bfloat16 pairs, as in `weighed`, or of
    whole numbers, 64 terms at a time."""
    line_part, _, _, line_step = line_strides
    other_part, _, _, other_step = other_strides
    if TERMS == 1:
        here = tl.load(lines + line * line_step, mask=line < line_count, other=0.0)
        there = tl.load(others + other * other_step, mask=other < other_count, other=0.0)
        tile += here[:, None] * there[None, :]
    if TERMS > 1:
        for first in tl.static_range(0, TERMS, 64):
            term = first + tl.arange(0, TERMS if TERMS < 64 else 64)
            high, low = load_weights(lines, line, term, line_count, line_step, line_part, PRECISION)
            other_high, other_low = load_weights(others, other, term, other_count, other_step, other_part, PRECISION)
            if PRECISION != "ieee":
                tile = tl.dot(low, tl.trans(other_high), tile)
                tile = tl.dot(high, tl.trans(other_low), tile)
                tile = tl.dot(high, tl.trans(other_high), tile)
            else:
                tile = tl.dot(high, tl.trans(other_high), tile, input_precision=PRECISION)
    return tile


@triton.jit
def add_products(out0, out1, tile, t0, t1, D1: tl.constexpr, PRECISION: tl.constexpr):
    """(out0, out1) + tile (t0, t1), the tile in the tokens' dtype."""
    tile = tile.to(t0.dtype)
    out0 = tl.dot(tile, t0, out0, input_precision=PRECISION)
    if D1 > 0:
        out1 = tl.dot(tile, t1, out1, input_precision=PRECISION)
    return out0, out1
