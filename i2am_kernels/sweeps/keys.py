"""Key-major sweep over the queries of the canvas: G2R, the column log-sum-exp and the sums of C's columns in one visit, from L.

    P_ij = 2^(S_ij - L_i)      G2R_j = sum_i w_i P_ij      Lc_j = top + log2 sum_i 2^(L_i - top) P_ij,   top = max_i L_i
    column_maps_j = sum_i w_i 2^(L_i - top) P_ij / sum_i 2^(L_i - top) P_ij

The weight 2^(L_i - top) turns P back into 2^(S - top): one exponential per score serves all sums. It is given to P and not to the
w of column_maps, so that what rounding does to it is the same for every w, and a covariance is that of some distribution.
If L spans so many binary orders that a column's sum lies under 2^-80, the program visits its queries again with an online maximum.
L comes in binary orders, or in a library's nats: `lse_unit` turns it into binary orders.
With few blocks of keys the queries are split over programs; `finish` adds the shares up in a fixed order.
"""

import triton
import triton.language as tl

from i2am_kernels.sweeps.pieces import (
    NOTHING,
    UNDERFLOW,
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


@triton.jit(do_not_specialize=["generated"])  # as a constant, one query makes Triton 3.6 fail on sm_100
def keys_sweep(
    query, key, lse, mask, generated_weight, column_weight, g2r, columns_lse, column_maps,
    query_strides, key_strides, lse_strides, mask_strides, weight_strides, column_weight_strides, g2r_strides, column_maps_strides,
    share_stride, heads, generated, reference, shares, weighting_count, column_count, scale, even_weight, lse_unit,
    D: tl.constexpr, D0: tl.constexpr, D1: tl.constexpr,
    BLOCK_G: tl.constexpr, BLOCK_R: tl.constexpr, EVEN_G: tl.constexpr, EVEN_R: tl.constexpr, BLOCK_WEIGHTINGS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr, MASK_KIND: tl.constexpr, G2R: tl.constexpr, WEIGHTED: tl.constexpr, COLUMNS: tl.constexpr,
    SPLIT: tl.constexpr, GROUP: tl.constexpr, PRECISION: tl.constexpr, UNIT: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    program, row_head, b, h = place(tl.program_id(0), tl.cdiv(reference, BLOCK_R) * shares, heads)
    block, share = program // shares, program % shares
    first = (block * BLOCK_R).to(tl.int64)
    keys_left = reference - block * BLOCK_R
    keys = tl.arange(0, BLOCK_R)
    queries = tl.arange(0, BLOCK_G)
    key = start_of(key, key_strides, b, h // GROUP, first, UNIT)
    k0, k1 = load_tokens(key, key_strides, keys_left, BLOCK_R, D, D0, D1, EVEN_R, UNIT, UPCAST)
    query = start_of(query, query_strides, b, h, 0, UNIT)
    lse_b, lse_h = lse_strides
    lse += b * lse_b + h * lse_h
    mask_b, mask_h, _, mask_r = mask_strides
    mask += b * mask_b + h * mask_h + first * mask_r
    weight_part, weight_b, weight_h, weight_g, _ = weight_strides
    generated_weight += b * weight_b + h * weight_h
    column_part, column_b, column_h, column_g, _ = column_weight_strides
    column_weight += b * column_b + h * column_h
    length = tl.cdiv(tl.cdiv(generated, BLOCK_G), shares) * BLOCK_G
    begin = share * length
    end = tl.minimum(begin + length, generated)

    top = tl.full([BLOCK_G], NOTHING, tl.float32)
    if COLUMNS:
        for start in range(begin, end, BLOCK_G):
            norm = tl.load(lse + start + queries, mask=queries < end - start, other=float("inf")) * lse_unit
            top = tl.maximum(top, tl.where(norm < float("inf"), norm, NOTHING))
    highest = tl.max(top, 0)
    weightings = tl.program_id(1) * BLOCK_WEIGHTINGS + tl.arange(0, BLOCK_WEIGHTINGS)
    sums = tl.zeros([BLOCK_R], tl.float32)
    weighting_sums = tl.zeros([BLOCK_R, BLOCK_WEIGHTINGS], tl.float32)
    total = tl.zeros([BLOCK_R], tl.float32)
    seen = tl.zeros([BLOCK_R], tl.int32)
    first_column = tl.program_id(1) * BLOCK_COLUMNS
    columns = first_column + tl.arange(0, BLOCK_COLUMNS if BLOCK_COLUMNS > 0 else 1)
    column_sums = tl.zeros([BLOCK_R, BLOCK_COLUMNS if BLOCK_COLUMNS > 0 else 1], tl.float32)
    for start in range(begin, end, BLOCK_G):
        here = tl.cast(start, tl.int64)
        queries_left = generated - start
        tile = scores(k0, k1, query, query_strides, mask, mask_strides, here, keys_left, queries_left, scale,
                      D, D0, D1, BLOCK_G, BLOCK_R, EVEN_G, MASK_KIND, PRECISION, UNIT, UPCAST)  # fmt: skip
        norm = tl.load(lse + here + queries, mask=queries < queries_left, other=float("inf"))
        if MASK_KIND > 0 and COLUMNS:
            seen = tl.maximum(seen, tl.max((tile > float("-inf")).to(tl.int32), 1))
        # times lse_unit at each of its uses: Triton 3.6 would otherwise lay one product out for the scores, and take exponentials
        # of it there
        tile = tl.exp2(tile - (norm * lse_unit)[None, :])  # P
        raised = tile
        if COLUMNS:
            raised = tile * tl.exp2(norm_or_nothing(norm) * lse_unit - highest)[None, :]
            total += tl.sum(raised, 1)
        if G2R and BLOCK_WEIGHTINGS == 1:
            if WEIGHTED:
                weights = tl.load(generated_weight + here * weight_g + queries * weight_g, mask=queries < queries_left, other=0.0)
                tile = tile * weights[None, :]
            sums += tl.sum(tile, 1)
        if G2R and BLOCK_WEIGHTINGS > 1:
            generated_weights = generated_weight + here * weight_g
            high, low = load_weights(generated_weights, queries, weightings, queries_left, weight_g, weight_part, PRECISION)
            weighting_sums = weighed(tile, high, low, weighting_sums, PRECISION)
        if BLOCK_COLUMNS > 0:  # last: P's registers are free again
            high, low = load_weights(column_weight + here * column_g, queries, columns, queries_left, column_g, column_part, PRECISION)
            column_sums = weighed(raised, high, low, column_sums, PRECISION)

    visit = 0 if BLOCK_COLUMNS > 0 else tl.program_id(1)
    if COLUMNS and visit == 0:
        faint = (total < UNDERFLOW) & (keys < keys_left)
        if MASK_KIND > 0:
            faint = faint & (seen > 0)
        sum_lse = log2_or(total, highest, float("-inf"))
        column_sums *= inverse(tl.maximum(total, UNDERFLOW))[:, None]
        if tl.max(faint.to(tl.int32), 0) > 0:
            sum_lse, column_sums = exact_columns(
                query, mask, k0, k1, column_weight, query_strides, mask_strides, column_weight_strides, begin, end, keys_left,
                first_column, scale, D, D0, D1, BLOCK_G, BLOCK_R, BLOCK_COLUMNS, MASK_KIND, PRECISION, UNIT, UPCAST,
            )  # fmt: skip
        if not SPLIT:
            sum_lse = tl.where(sum_lse == float("-inf"), float("inf"), sum_lse)
        inside = keys < keys_left
        if BLOCK_COLUMNS > 0:
            maps_share, maps_b, maps_h, maps_n, maps_r = column_maps_strides
            column_maps += share * maps_share + b * maps_b + h * maps_h + first * maps_r
            target = column_maps + keys[:, None] * maps_r + columns[None, :] * maps_n
            add_to(target, column_sums, inside[:, None] & (columns[None, :] < column_count), SPLIT)
            inside = keys < tl.where(tl.program_id(1) == 0, keys_left, 0)
        tl.store(columns_lse + share * share_stride + row_head.to(tl.int64) * reference + first + keys, sum_lse, mask=inside)
    if G2R:
        g2r_share, g2r_b, g2r_h, g2r_n, g2r_r = g2r_strides
        g2r += share * g2r_share + b * g2r_b + h * g2r_h + first * g2r_r
        if BLOCK_WEIGHTINGS == 1:
            mine = keys < keys_left
            if BLOCK_COLUMNS > 0:  # of several visits the first
                mine = keys < tl.where(tl.program_id(1) == 0, keys_left, 0)
            add_to(g2r + keys * g2r_r, sums if WEIGHTED else sums * even_weight, mine, SPLIT)
        else:
            target = g2r + keys[:, None] * g2r_r + weightings[None, :] * g2r_n
            add_to(target, weighting_sums, (keys[:, None] < keys_left) & (weightings[None, :] < weighting_count), SPLIT)


@triton.jit
def scores(k0, k1, query, query_strides, mask, mask_strides, start, keys_left, queries_left, scale,
           D: tl.constexpr, D0: tl.constexpr, D1: tl.constexpr, BLOCK_G: tl.constexpr, BLOCK_R: tl.constexpr, EVEN_G: tl.constexpr,
           MASK_KIND: tl.constexpr, PRECISION: tl.constexpr, UNIT: tl.constexpr, UPCAST: tl.constexpr):  # fmt: skip
    """The masked scores [BLOCK_R, BLOCK_G] of a program's keys with the queries from `start` on; the mask begins at its first key."""
    q0, q1 = load_tokens(token_of(query, query_strides, start, UNIT), query_strides, queries_left, BLOCK_G, D, D0, D1, EVEN_G, UNIT, UPCAST)
    tile = products(k0, k1, q0, q1, D1, PRECISION)
    _, _, mask_g, mask_r = mask_strides
    keys, queries = tl.arange(0, BLOCK_R), tl.arange(0, BLOCK_G)
    return biased(tile * scale, mask + start * mask_g, keys, queries, keys_left, queries_left, mask_r, mask_g, MASK_KIND)


@triton.jit
def norm_or_nothing(norm):
    """L with -inf in place of +inf, so that a row without keys weighs nothing."""
    return tl.where(norm < float("inf"), norm, float("-inf"))


@triton.jit
def add_to(pointers, values, inside, FRESH: tl.constexpr):
    """+= into a buffer that this program alone writes, or = into fresh scratch."""
    if not FRESH:
        values += tl.load(pointers, mask=inside, other=0.0)
    tl.store(pointers, values, mask=inside)


@triton.jit
def exact_columns(query, mask, k0, k1, column_weight, query_strides, mask_strides, column_weight_strides, begin, end, keys_left,
                  first_column, scale,
                  D: tl.constexpr, D0: tl.constexpr, D1: tl.constexpr, BLOCK_G: tl.constexpr, BLOCK_R: tl.constexpr,
                  BLOCK_COLUMNS: tl.constexpr, MASK_KIND: tl.constexpr, PRECISION: tl.constexpr, UNIT: tl.constexpr,
                  UPCAST: tl.constexpr):  # fmt: skip
    """The column log-sum-exp of a block of `keys_left` keys over the queries begin..end by an online maximum, -inf where none is
    seen; and C's columns over these queries, weighed, as far as BLOCK_COLUMNS goes."""
    queries = tl.arange(0, BLOCK_G)
    columns = first_column + tl.arange(0, BLOCK_COLUMNS if BLOCK_COLUMNS > 0 else 1)
    column_part, _, _, column_g, _ = column_weight_strides
    high = tl.full([BLOCK_R], NOTHING, tl.float32)
    total = tl.zeros([BLOCK_R], tl.float32)
    sums = tl.zeros([BLOCK_R, BLOCK_COLUMNS if BLOCK_COLUMNS > 0 else 1], tl.float32)
    for start in range(begin, end, BLOCK_G):
        here = tl.cast(start, tl.int64)
        queries_left = end - start
        tile = scores(k0, k1, query, query_strides, mask, mask_strides, here, keys_left, queries_left, scale,
                      D, D0, D1, BLOCK_G, BLOCK_R, False, MASK_KIND, PRECISION, UNIT, UPCAST)  # fmt: skip
        tile = tl.where(queries[None, :] < queries_left, tile, float("-inf"))
        new = tl.maximum(high, tl.max(tile, 1))
        tile = tl.exp2(tile - new[:, None])
        shrink = tl.exp2(high - new)
        total = total * shrink + tl.sum(tile, 1)
        if BLOCK_COLUMNS > 0:
            weight, rest = load_weights(column_weight + here * column_g, queries, columns, queries_left, column_g, column_part, PRECISION)
            sums = weighed(tile, weight, rest, sums * shrink[:, None], PRECISION)
        high = new
    return log2_or(total, high, float("-inf")), sums * inverse(total)[:, None]


@triton.jit
def finish(g2r_shares, columns_shares, maps_shares, g2r, columns_lse, column_maps, g2r_strides, column_maps_strides,
           heads, reference, weighting_count, column_count, shares, share_stride,
           BLOCK: tl.constexpr, AT_ONCE: tl.constexpr, G2R: tl.constexpr, COLUMNS: tl.constexpr, COLUMN_MAPS: tl.constexpr):  # fmt: skip
    """Add the shares up: G2R into its buffer, the column log-sum-exps into one, +inf where a column sees no query, and the means of
    C's columns by what each share has of a column.

    AT_ONCE of them are read at once: one after the other, each would wait for memory.
    """
    block, row_head, b, h = place(tl.program_id(0), tl.cdiv(reference, BLOCK), heads)
    one = tl.program_id(1)  # of the weightings and of the columns
    keys = block * BLOCK + tl.arange(0, BLOCK)
    inside = keys < reference
    if G2R:
        counts = keys < tl.where(one < weighting_count, reference, 0)
        sums = tl.zeros([BLOCK], tl.float32)
        source = g2r_shares + (row_head.to(tl.int64) * weighting_count + one) * reference + keys
        for first in range(0, shares, AT_ONCE):
            share = first + tl.arange(0, AT_ONCE)[:, None]
            there = (share < shares) & counts[None, :]
            sums += tl.sum(tl.load(source[None, :] + share.to(tl.int64) * share_stride * weighting_count, mask=there, other=0.0), 0)
        g2r_b, g2r_h, g2r_n, g2r_r = g2r_strides
        add_to(g2r + b * g2r_b + h * g2r_h + one * g2r_n + keys * g2r_r, sums, counts, False)
    last = column_count if COLUMN_MAPS else 1
    if COLUMNS and one < last:
        source = columns_shares + row_head.to(tl.int64) * reference + keys
        maps_source = maps_shares + (row_head.to(tl.int64) * column_count + one) * reference + keys
        high = tl.full([BLOCK], NOTHING, tl.float32)
        total = tl.zeros([BLOCK], tl.float32)
        maps = tl.zeros([BLOCK], tl.float32)
        for first in range(0, shares, AT_ONCE):
            share = first + tl.arange(0, AT_ONCE)[:, None]
            there = (share < shares) & inside[None, :]
            parts = tl.load(source[None, :] + share.to(tl.int64) * share_stride, mask=there, other=float("-inf"))
            new = tl.maximum(high, tl.max(parts, 0))
            parts = tl.exp2(parts - new[None, :])
            total = total * tl.exp2(high - new) + tl.sum(parts, 0)
            if COLUMN_MAPS:
                means = tl.load(maps_source[None, :] + share.to(tl.int64) * share_stride * column_count, mask=there, other=0.0)
                maps = maps * tl.exp2(high - new) + tl.sum(parts * means, 0)
            high = new
        if COLUMN_MAPS:
            maps_b, maps_h, maps_n, maps_r = column_maps_strides
            target = column_maps + b * maps_b + h * maps_h + one * maps_n + keys * maps_r
            add_to(target, maps * inverse(total), inside, False)
        inside = keys < tl.where(one == 0, reference, 0)
        tl.store(columns_lse + row_head.to(tl.int64) * reference + keys, log2_or(total, high, float("inf")), mask=inside)
