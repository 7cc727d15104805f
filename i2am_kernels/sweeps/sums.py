"""Sums of P or of C, in one visit to the scores of lines with others: queries with keys, or keys with queries.

    sums_ln = sum_o 2^(S_lo - norm) w_on                                 norm
    P g         lines are queries: gradient of generated_weight           L of the lines
    C^T r       lines are keys: what a column's gradients sum to          Lc of the lines, which the sweep finds with an online maximum
    P^T u       lines are keys: gradient of token_weight                  L of the others
    C z         lines are queries: gradient of column_weight              Lc of the others

With few lines the others are split over programs; each share has a part of `sums` and of the norms that were found to itself.
"""

import triton
import triton.language as tl

from i2am_kernels.sweeps.pieces import (
    NOTHING,
    biased,
    inverse,
    load_tokens,
    load_weights,
    log2_or,
    place,
    products,
    start_of,
    token_of,
    weighed,
)


@triton.jit(do_not_specialize=["line_count", "other_count"])  # as in keys_sweep
def sums_sweep(
    lines, others, norms, mask, weights, sums, found_norms,
    line_strides, other_strides, mask_strides, weight_strides, sums_strides,
    share_stride, heads, line_count, other_count, shares, scale,
    D: tl.constexpr, D0: tl.constexpr, D1: tl.constexpr, TERMS: tl.constexpr, NORM: tl.constexpr,
    BLOCK_LINES: tl.constexpr, BLOCK_OTHERS: tl.constexpr, EVEN_LINES: tl.constexpr, EVEN_OTHERS: tl.constexpr,
    LINE_GROUP: tl.constexpr, OTHER_GROUP: tl.constexpr, MASK_KIND: tl.constexpr,
    PRECISION: tl.constexpr, UNIT: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    program, row_head, b, h = place(tl.program_id(0), tl.cdiv(line_count, BLOCK_LINES) * shares, heads)
    block, share = program // shares, program % shares
    first = (block * BLOCK_LINES).to(tl.int64)
    lines_left = line_count - block * BLOCK_LINES
    line = tl.arange(0, BLOCK_LINES)
    other = tl.arange(0, BLOCK_OTHERS)
    term = tl.program_id(1) * TERMS + tl.arange(0, TERMS)
    lines = start_of(lines, line_strides, b, h // LINE_GROUP, first, UNIT)
    l0, l1 = load_tokens(lines, line_strides, lines_left, BLOCK_LINES, D, D0, D1, EVEN_LINES, UNIT, UPCAST)
    others = start_of(others, other_strides, b, h // OTHER_GROUP, 0, UNIT)
    mask_b, mask_h, mask_l, mask_o = mask_strides
    mask += b * mask_b + h * mask_h + first * mask_l
    weight_part, weight_b, weight_h, weight_o = weight_strides
    weights += b * weight_b + h * weight_h
    norm = tl.zeros([BLOCK_LINES], tl.float32)
    if NORM == "lines":
        norms += row_head.to(tl.int64) * line_count + first
        norm = tl.load(norms + line, mask=line < lines_left, other=float("inf"))
    else:
        norms += row_head.to(tl.int64) * other_count
    length = tl.cdiv(tl.cdiv(other_count, BLOCK_OTHERS), shares) * BLOCK_OTHERS
    begin = share * length
    end = tl.minimum(begin + length, other_count)

    high = tl.full([BLOCK_LINES], NOTHING, tl.float32)
    total = tl.zeros([BLOCK_LINES], tl.float32)
    one = tl.zeros([BLOCK_LINES], tl.float32)
    several = tl.zeros([BLOCK_LINES, TERMS], tl.float32)
    for start in range(begin, end, BLOCK_OTHERS):
        here = tl.cast(start, tl.int64)
        left = other_count - start
        others_here = token_of(others, other_strides, here, UNIT)
        o0, o1 = load_tokens(others_here, other_strides, left, BLOCK_OTHERS, D, D0, D1, EVEN_OTHERS, UNIT, UPCAST)
        tile = products(l0, l1, o0, o1, D1, PRECISION)
        tile = biased(tile * scale, mask + here * mask_o, line, other, lines_left, left, mask_l, mask_o, MASK_KIND)
        if not EVEN_OTHERS:
            tile = tl.where(other[None, :] < left, tile, float("-inf"))
        if NORM == "found":
            new = tl.maximum(high, tl.max(tile, 1))
            shrink = tl.exp2(high - new)
            tile = tl.exp2(tile - new[:, None])
            total = total * shrink + tl.sum(tile, 1)
            one *= shrink
            several *= shrink[:, None]
            high = new
        elif NORM == "lines":
            tile = tl.exp2(tile - norm[:, None])
        else:
            tile = tl.exp2(tile - tl.load(norms + here + other, mask=other < left, other=float("inf"))[None, :])
        if TERMS == 1:
            weight = tl.load(weights + (here + other) * weight_o, mask=other < left, other=0.0)
            one += tl.sum(tile * weight[None, :], 1)
        else:
            upper, lower = load_weights(weights + here * weight_o, other, term, left, weight_o, weight_part, PRECISION)
            several = weighed(tile, upper, lower, several, PRECISION)

    if NORM == "found":
        one *= inverse(total)
        several *= inverse(total)[:, None]
        inside = line < tl.where(tl.program_id(1) == 0, lines_left, 0)
        found_norms += share * share_stride + row_head.to(tl.int64) * line_count + first
        tl.store(found_norms + line, log2_or(total, high, float("-inf")), mask=inside)
    sums_share, sums_row, sums_l = sums_strides
    sums += share * sums_share + row_head.to(tl.int64) * sums_row + first * sums_l
    if TERMS == 1:
        tl.store(sums + line * sums_l, one, mask=line < lines_left)
    else:
        tl.store(sums + line[:, None] * sums_l + term[None, :], several, mask=line[:, None] < lines_left)
