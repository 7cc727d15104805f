"""Query-major sweep for references of at most one tile: everything but R2G in one visit to the scores.

A program keeps all keys and values, walks over its share of the queries and, with the whole row at hand, forms

    P_ij = 2^(S_ij - m_i) / l_i      out_i = P_i V      token_maps_i = P_i T      G2R_j += w_i P_ij
    Lc_j = top + log2 sum_i 2^(m_i - top) (l_i P_ij),   top = the largest m_i so far

If a column's sum lies under 2^-80 the program visits its queries again with an online maximum. `finish` adds the
programs' shares up in a fixed order; `queries_sweep` then makes R2G from Lc.
"""

import triton
import triton.language as tl

from i2am_kernels.sweeps.forward import store_output
from i2am_kernels.sweeps.keys import add_to, exact_columns
from i2am_kernels.sweeps.pieces import NOTHING, UNDERFLOW, biased, inverse, load_part, load_tokens, log2_or, place, products


@triton.jit
def one_tile_sweep(
    query, key, value, out, mask, weight, token_weight, g2r_parts, columns_parts, token_maps,
    q_b, q_h, q_g, q_d, k_b, k_h, k_r, k_d, v_b, v_h, v_r, v_d, o_b, o_h, o_g, o_d, m_b, m_h, m_g, m_r,
    w_b, w_g, t_b, t_r, t_n, n_b, n_h, n_n, n_g,
    heads, generated, reference, row_start, row_stop, g_start, g_stop, r_start, r_stop, splits, count, scale, even_weight,
    D: tl.constexpr, D0: tl.constexpr, D1: tl.constexpr, V: tl.constexpr, V0: tl.constexpr, V1: tl.constexpr,
    BLOCK_G: tl.constexpr, BLOCK_R: tl.constexpr, EVEN_G: tl.constexpr, EVEN_R: tl.constexpr, BLOCK_N: tl.constexpr,
    KIND: tl.constexpr, G2R: tl.constexpr, WEIGHTED: tl.constexpr, COLUMNS: tl.constexpr, TOKENS: tl.constexpr,
    PRECISION: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    split, row_head, b, h = place(tl.program_id(0), splits, heads)
    keys = tl.arange(0, BLOCK_R)
    queries = tl.arange(0, BLOCK_G)
    names = tl.arange(0, BLOCK_N)
    k0, k1 = load_tokens(key + b * k_b + h * k_h, reference, k_r, k_d, BLOCK_R, D, D0, D1, EVEN_R, UPCAST)
    v0 = load_part(value + b * v_b + h * v_h, reference, v_r, v_d, BLOCK_R, 0, V0, V, EVEN_R, UPCAST)
    v1 = v0
    if V1 > 0:
        v1 = load_part(value + b * v_b + h * v_h, reference, v_r, v_d, BLOCK_R, V0, V1, V, EVEN_R, UPCAST)
    query += b * q_b + h * q_h
    out += b * o_b + h * o_h
    mask += b * m_b + h * m_h
    mapped = (b >= row_start) & (b < row_stop)
    row = b - row_start  # in the buffers and weights
    share = tl.cdiv(tl.cdiv(generated, BLOCK_G), splits) * BLOCK_G
    begin = split * share
    end = tl.minimum(begin + share, generated)

    on_reference = (keys >= r_start) & (keys < r_stop)
    top = tl.max(tl.full([BLOCK_G], NOTHING, tl.float32), 0)
    sums = tl.zeros([BLOCK_R], tl.float32)
    total = tl.zeros([BLOCK_R], tl.float32)
    seen = tl.zeros([BLOCK_R], tl.int32)
    for start in range(begin, end, BLOCK_G):
        here = tl.cast(start, tl.int64)
        left = generated - start
        q0, q1 = load_tokens(query + here * q_g, left, q_g, q_d, BLOCK_G, D, D0, D1, EVEN_G, UPCAST)
        tile = products(q0, q1, k0, k1, scale, D1, PRECISION)  # [BLOCK_G, BLOCK_R]
        tile = biased(tile, mask + here * m_g, queries, keys, left, reference, m_g, m_r, KIND)
        if not EVEN_R:
            tile = tl.where(keys[None, :] < reference, tile, float("-inf"))
        token = start + queries - g_start  # on the canvas
        on_canvas = (token >= 0) & (token < g_stop - g_start)
        if KIND > 0 and COLUMNS:
            seen = tl.maximum(seen, tl.max(((tile > float("-inf")) & on_canvas[:, None]).to(tl.int32), 0))
        high = tl.max(tile, 1)
        base = high
        if KIND > 0:
            base = tl.where(high == float("-inf"), 0.0, high)
        tile = tl.exp2(tile - base[:, None])
        row_total = tl.sum(tile, 1)
        norm = inverse(row_total)
        weights = tile.to(v0.dtype)
        out0 = tl.dot(weights, v0, input_precision=PRECISION)
        out1 = out0
        if V1 > 0:
            out1 = tl.dot(weights, v1, input_precision=PRECISION)
        store_output(out0, out1, norm, out + here * o_g, left, o_g, o_d, BLOCK_G, V, V0, V1)
        if mapped:
            if G2R:
                share_of = norm * even_weight
                if WEIGHTED:
                    share_of = norm * tl.load(weight + row * w_b + token.to(tl.int64) * w_g, mask=on_canvas, other=0.0)
                sums += tl.sum(tile * tl.where(on_canvas, share_of, 0.0)[:, None], 0)
            if COLUMNS:
                alive = on_canvas & (row_total > 0)
                new = tl.maximum(top, tl.max(tl.where(alive, base, NOTHING), 0))
                column = tl.where(alive, tl.exp2(base - new), 0.0)
                total = total * tl.exp2(top - new) + tl.sum(tile * column[:, None], 0)
                top = new
            if TOKENS:
                spread = tl.load(token_weight + row * t_b + (keys[:, None] - r_start).to(tl.int64) * t_r + names[None, :] * t_n,
                                 mask=on_reference[:, None] & (names[None, :] < count), other=0.0)  # fmt: skip
                maps = tl.dot(tile, spread, input_precision=PRECISION) * norm[:, None]
                target = token_maps + row * n_b + h * n_h + token.to(tl.int64)[:, None] * n_g + names[None, :] * n_n
                add_to(target, maps, on_canvas[:, None] & (names[None, :] < count), False)

    if mapped:
        tokens = r_stop - r_start
        mapped_heads = (row_stop - row_start) * heads
        place_of = (split.to(tl.int64) * mapped_heads + row * heads + h) * tokens + keys - r_start
        if G2R:
            tl.store(g2r_parts + place_of, sums, mask=on_reference)
        if COLUMNS:
            low = (total < UNDERFLOW) & on_reference
            if KIND > 0:
                low = low & (seen > 0)
            sum_lse = log2_or(total, top, float("-inf"))
            if tl.max(low.to(tl.int32), 0) > 0:
                inner = tl.maximum(begin, g_start)
                sum_lse = exact_columns(query, mask, k0, k1, q_g, q_d, m_g, m_r, inner, tl.minimum(end, g_stop), reference, scale,
                                        D, D0, D1, BLOCK_G, BLOCK_R, KIND, PRECISION, UPCAST)  # fmt: skip
            tl.store(columns_parts + place_of, sum_lse, mask=on_reference)
