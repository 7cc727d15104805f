"""Query-major sweep for references of at most one tile: output, L, G2R and column sums in one visit to the scores.

A program keeps all keys and values on chip and walks along its share of the queries. With whole rows at hand it forms

    P_ij = 2^(S_ij - m_i) / l_i      out_i = P_i V      L_i = m_i + log2 l_i
    share of G2R_j = sum_i w_i P_ij  share of Lc_j = top + log2 sum_i 2^(m_i - top) (l_i P_ij),   top = max_i m_i

over its rows i. `top` is a running maximum: where it grows, the column sums shrink, as in a softmax that is read once. What
falls under float32 on the way lies under 2^-126 of what `top` ends at, so one test at the end will do: if a column sum lies
under 2^-80, the program visits its queries again and takes each column's own maximum. `finish` adds the shares up in a fixed
order; `queries_sweep` then makes R2G from Lc and the word maps from L.

Sums over rows cross threads, which is slow. So a thread adds up only the rows that it holds anyway, as PARTS sums with a `top`
each, and the parts are brought together once, behind the loop.
"""

import triton
import triton.language as tl

from i2am_kernels.sweeps.forward import store_output
from i2am_kernels.sweeps.keys import exact_columns
from i2am_kernels.sweeps.pieces import (
    NOTHING,
    UNDERFLOW,
    biased,
    inverse,
    load_part,
    log2_or,
    place,
    start_of,
    token_of,
)

GUARD = tl.constexpr(16)  # queries at a time in the second visit


@triton.jit
def one_tile_sweep(
    query, key, value, out, lse, mask, generated_weight, g2r_shares, columns_shares,
    query_strides, key_strides, value_strides, out_strides, mask_strides, weight_strides,
    heads, generated, reference, shares, rows, generated_range, reference_range, scale, even_weight,
    D: tl.constexpr, D0: tl.constexpr, V: tl.constexpr, V0: tl.constexpr,
    BLOCK_G: tl.constexpr, BLOCK_R: tl.constexpr, EVEN_G: tl.constexpr, EVEN_R: tl.constexpr, PARTS: tl.constexpr,
    MASK_KIND: tl.constexpr, VARIED: tl.constexpr, LSE: tl.constexpr, G2R: tl.constexpr, WEIGHTED: tl.constexpr, COLUMNS: tl.constexpr,
    GROUP: tl.constexpr, PRECISION: tl.constexpr, UNIT: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    share, row_head, b, h = place(tl.program_id(0), shares, heads)
    length = tl.cdiv(tl.cdiv(generated, BLOCK_G), shares) * BLOCK_G
    begin = share * length
    end = tl.minimum(begin + length, generated)
    keys = tl.arange(0, BLOCK_R)
    queries = tl.arange(0, BLOCK_G)
    key = start_of(key, key_strides, b, h // GROUP, 0, UNIT)
    value = start_of(value, value_strides, b, h // GROUP, 0, UNIT)
    query = start_of(query, query_strides, b, h, 0, UNIT)
    k0 = load_part(key, key_strides, reference, BLOCK_R, 0, D0, D, EVEN_R, UNIT, UPCAST)
    v0 = load_part(value, value_strides, reference, BLOCK_R, 0, V0, V, EVEN_R, UNIT, UPCAST)
    k0 = tl.trans(k0)  # here: in the loop it would be brought on chip again at every step
    WIDE: tl.constexpr = 8 if V % 8 == 0 else 1  # the output is ours: its strides are multiples of V
    out = start_of(out, out_strides, b, h, 0, WIDE)
    lse += row_head.to(tl.int64) * generated
    mask_b, mask_h, mask_g, mask_r = mask_strides
    mask += b * mask_b + h * mask_h
    row_start, row_stop = rows
    g_start, g_stop = generated_range
    r_start, r_stop = reference_range
    mapped = (b >= row_start) & (b < row_stop)
    row = tl.where(mapped, b - row_start, 0)
    weight_b, weight_h, weight_g = weight_strides
    generated_weight += row * weight_b + h * weight_h
    unscale = 1.0 / scale
    bias = tl.zeros([1, BLOCK_R], tl.float32)
    if MASK_KIND > 0 and not VARIED:  # one mask for all queries
        bias = biased(bias, mask, tl.arange(0, 1), keys, 1, reference, 0, mask_r, MASK_KIND)
    seen = tl.zeros([PARTS, BLOCK_R], tl.int32)
    g2r_sums = tl.zeros([PARTS, BLOCK_R], tl.float32)
    column_sums = tl.zeros([PARTS, BLOCK_R], tl.float32)
    top = tl.full([PARTS], NOTHING, tl.float32)
    for start in range(begin, end, BLOCK_G):
        here = tl.cast(start, tl.int64)
        queries_left = generated - start
        token = start + queries - g_start  # on the canvas
        on_canvas = (token >= 0) & (token < g_stop - g_start)
        q0 = load_part(token_of(query, query_strides, here, UNIT), query_strides, queries_left, BLOCK_G, 0, D0, D, EVEN_G, UNIT, UPCAST)
        tile = tl.zeros([BLOCK_G, BLOCK_R], tl.float32)
        if VARIED:  # under the product: added to it, the mask's layout would be everything's
            tile = biased(tile, mask + here * mask_g, queries, keys, queries_left, reference, mask_g, mask_r, MASK_KIND) * unscale
        tile = tl.dot(q0, k0, tile, input_precision=PRECISION)  # [BLOCK_G, BLOCK_R]
        if MASK_KIND > 0 and not VARIED:
            tile = tile * scale + bias
        elif not EVEN_R:
            tile = tl.where(keys[None, :] < reference, tile, float("-inf"))
        high = tl.max(tile, 1)
        if VARIED and COLUMNS:
            visible = (tile > float("-inf")) & on_canvas[:, None]
            seen = tl.maximum(seen, most(visible.to(tl.int32), PARTS))
        if MASK_KIND > 0:
            high = tl.where(high == float("-inf"), 0.0, high)
        if MASK_KIND > 0 and not VARIED:
            tile = tl.exp2(tile - high[:, None])
        else:  # one multiply-add a score: scale > 0 keeps the order, so the maximum was taken before it
            high = high * scale
            tile = tl.exp2(tile * scale - high[:, None])
        total = tl.sum(tile, 1)
        norm = inverse(total)
        if LSE:
            tl.store(lse + here + queries, log2_or(total, high, float("inf")), mask=queries < queries_left)
        if G2R:
            of_row = norm * even_weight
            if WEIGHTED:
                of_row = norm * tl.load(generated_weight + token.to(tl.int64) * weight_g, mask=on_canvas, other=0.0)
            g2r_sums += added(tile * tl.where(on_canvas, of_row, 0.0)[:, None], PARTS)
        if COLUMNS:
            alive = on_canvas & (total > 0)
            new = tl.maximum(top, most(tl.where(alive, high, NOTHING), PARTS))
            column = tl.exp2(tl.where(alive, high - every_row(new, BLOCK_G, PARTS), float("-inf")))
            column_sums = column_sums * tl.exp2(top - new)[:, None] + added(tile * column[:, None], PARTS)
            top = new
        out0 = tl.dot(tile.to(v0.dtype), v0, input_precision=PRECISION)  # last: the sums above want its registers
        store_output(out0, out0, norm, token_of(out, out_strides, here, WIDE), out_strides, queries_left, BLOCK_G, V, V0, 0, WIDE)

    on_reference = (keys >= r_start) & (keys < tl.where(mapped, r_stop, 0))
    target = ((share.to(tl.int64) * (row_stop - row_start) + row) * heads + h) * (r_stop - r_start) + keys - r_start
    if G2R:
        tl.store(g2r_shares + target, tl.sum(g2r_sums, 0), mask=on_reference)
    if COLUMNS:
        highest = tl.max(top, 0)
        sums = tl.sum(column_sums * tl.exp2(top - highest)[:, None], 0)
        sum_lse = log2_or(sums, highest, float("-inf"))
        faint = on_reference & (sums < tl.where(highest > NOTHING * 0.5, UNDERFLOW, 0.0))
        if VARIED:
            faint = faint & (tl.max(seen, 0) > 0)
        elif MASK_KIND > 0:
            faint = faint & (tl.max(bias, 0) > float("-inf"))
        if tl.max(faint.to(tl.int32), 0) > 0:
            # The keys anew, and counted anew, so that nothing about them is kept through the loop: it would take registers.
            once = tl.where(highest > NOTHING, 1, 0)
            again_strides = (0, 0, key_strides[2] * once, key_strides[3])
            again = load_part(key, again_strides, reference * once, BLOCK_R, 0, D0, D, EVEN_R, UNIT, UPCAST)
            begin, end = tl.maximum(begin, g_start), tl.minimum(end, g_stop)
            sum_lse, _ = exact_columns(query, mask, again, again, query, query_strides, mask_strides, (0, 0, 0, 0, 0), begin, end,
                                       reference, 0, scale, D, D0, 0, GUARD, BLOCK_R, 0, MASK_KIND, PRECISION, UNIT, UPCAST)  # fmt: skip
        tl.store(columns_shares + target, sum_lse, mask=on_reference)


@triton.jit
def parted(tile, PARTS: tl.constexpr):
    """Rows as [repeats, warps, 2, 8]: in the layout of a product a thread holds rows 8 apart and those of every repeat."""
    if len(tile.shape) == 1:
        return tl.reshape(tile, [tile.shape[0] // (2 * PARTS), PARTS // 8, 2, 8])
    else:
        return tl.reshape(tile, [tile.shape[0] // (2 * PARTS), PARTS // 8, 2, 8, tile.shape[1]])


@triton.jit
def added(tile, PARTS: tl.constexpr):
    """Sums over the rows of each part, [PARTS, BLOCK_R]."""
    return tl.reshape(tl.sum(tl.sum(parted(tile, PARTS), 2), 0), [PARTS, tile.shape[1]])


@triton.jit
def most(values, PARTS: tl.constexpr):
    """The largest of each part, [PARTS] or [PARTS, BLOCK_R]."""
    found = tl.max(tl.max(parted(values, PARTS), 2), 0)
    if len(values.shape) == 1:
        return tl.reshape(found, [PARTS])
    else:
        return tl.reshape(found, [PARTS, values.shape[1]])


@triton.jit
def every_row(values, BLOCK_G: tl.constexpr, PARTS: tl.constexpr):
    """The value of its part for every row."""
    four = tl.reshape(values, [1, PARTS // 8, 1, 8])
    return tl.reshape(tl.broadcast_to(four, [BLOCK_G // (2 * PARTS), PARTS // 8, 2, 8]), [BLOCK_G])
