"""Query-major sweep for references of at most one tile: everything but R2G in one visit to the scores.

A program takes one block of queries and, with whole rows at hand, forms

    P_ij = 2^(S_ij - m_i) / l_i      out_i = P_i V      token_maps_i = P_i T
    share of G2R_j = sum_i w_i P_ij  share of Lc_j = top + log2 sum_i 2^(m_i - top) (l_i P_ij),   top = max_i m_i

over its rows i. If one of its column sums lies under 2^-80 it makes the scores again and takes each column's own maximum.
`finish` adds the shares up in a fixed order; `queries_sweep` then makes R2G from Lc.
"""

import triton
import triton.language as tl

from i2am_kernels.sweeps.forward import store_output
from i2am_kernels.sweeps.keys import add_to
from i2am_kernels.sweeps.pieces import (
    NOTHING,
    UNDERFLOW,
    biased,
    inverse,
    load_part,
    load_tokens,
    load_weights,
    log2_or,
    place,
    products,
    start_of,
    weighed,
)


@triton.jit
def one_tile_sweep(
    query, key, value, out, mask, weight, token_weight, g2r_shares, columns_shares, token_maps,
    q_b, q_h, q_g, q_d, k_b, k_h, k_r, k_d, v_b, v_h, v_r, v_d, o_b, o_h, o_g, o_d, m_b, m_h, m_g, m_r,
    w_b, w_g, t_s, t_b, t_r, t_n, n_b, n_h, n_n, n_g,
    heads, generated, reference, row_start, row_stop, g_start, g_stop, r_start, r_stop, count, scale, even_weight,
    D: tl.constexpr, D0: tl.constexpr, V: tl.constexpr, V0: tl.constexpr,
    BLOCK_G: tl.constexpr, BLOCK_R: tl.constexpr, EVEN_G: tl.constexpr, EVEN_R: tl.constexpr, BLOCK_N: tl.constexpr,
    KIND: tl.constexpr, G2R: tl.constexpr, WEIGHTED: tl.constexpr, COLUMNS: tl.constexpr, TOKENS: tl.constexpr,
    PRECISION: tl.constexpr, UNIT: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    block, _, b, h = place(tl.program_id(0), tl.cdiv(generated, BLOCK_G), heads)
    first = (block * BLOCK_G).to(tl.int64)
    left = generated - block * BLOCK_G
    keys = tl.arange(0, BLOCK_R)
    queries = tl.arange(0, BLOCK_G)
    q0, q1 = load_tokens(start_of(query, b, h, first, q_b, q_h, q_g, UNIT), left, q_g, q_d, BLOCK_G, D, D0, 0, EVEN_G, UNIT, UPCAST)
    k0, k1 = load_tokens(start_of(key, b, h, 0, k_b, k_h, k_r, UNIT), reference, k_r, k_d, BLOCK_R, D, D0, 0, EVEN_R, UNIT, UPCAST)
    mask += b * m_b + h * m_h + first * m_g
    tile = products(q0, q1, k0, k1, 0, PRECISION)  # [BLOCK_G, BLOCK_R]
    tile = biased(tile * scale, mask, queries, keys, left, reference, m_g, m_r, KIND)
    if not EVEN_R:
        tile = tl.where(keys[None, :] < reference, tile, float("-inf"))
    token = block * BLOCK_G + queries - g_start  # on the canvas
    on_canvas = (token >= 0) & (token < g_stop - g_start)
    seen = keys < reference
    high = tl.max(tile, 1)
    if KIND > 0:
        if COLUMNS:
            seen = tl.max(((tile > float("-inf")) & on_canvas[:, None]).to(tl.int32), 0) > 0
        high = tl.where(high == float("-inf"), 0.0, high)
    tile = tl.exp2(tile - high[:, None])
    total = tl.sum(tile, 1)
    norm = inverse(total)
    value = start_of(value, b, h, 0, v_b, v_h, v_r, UNIT)
    v0 = load_part(value, reference, v_r, v_d, BLOCK_R, 0, V0, V, EVEN_R, UNIT, UPCAST)
    weights = tile.to(v0.dtype)
    out0 = tl.dot(weights, v0, input_precision=PRECISION)
    store_output(out0, out0, norm, out + b * o_b + h * o_h + first * o_g, left, o_g, o_d, BLOCK_G, V, V0, 0)

    if (b >= row_start) & (b < row_stop):  # this row has maps
        row = b - row_start
        on_reference = (keys >= r_start) & (keys < r_stop)
        share = ((block.to(tl.int64) * (row_stop - row_start) + row) * heads + h) * (r_stop - r_start) + keys - r_start
        if G2R:
            of_row = norm * even_weight
            if WEIGHTED:
                of_row = norm * tl.load(weight + row * w_b + token.to(tl.int64) * w_g, mask=on_canvas, other=0.0)
            tl.store(g2r_shares + share, tl.sum(tile * tl.where(on_canvas, of_row, 0.0)[:, None], 0), mask=on_reference)
        if COLUMNS:
            alive = on_canvas & (total > 0)
            top = tl.max(tl.where(alive, high, NOTHING), 0)
            column = tl.exp2(tl.where(alive, high - top, float("-inf")))
            sums = tl.sum(tile * column[:, None], 0)
            sum_lse = log2_or(sums, top, float("-inf"))
            seen = seen & (tl.zeros([BLOCK_R], tl.float32) + top > NOTHING * 0.5)
            if tl.max(((sums < UNDERFLOW) & seen & on_reference).to(tl.int32), 0) > 0:
                scores = products(q0, q1, k0, k1, 0, PRECISION)
                scores = biased(scores * scale, mask, queries, keys, left, reference, m_g, m_r, KIND)
                scores = tl.where(on_canvas[:, None], scores, float("-inf"))
                highest = tl.maximum(tl.max(scores, 0), NOTHING)
                sum_lse = log2_or(tl.sum(tl.exp2(scores - highest[None, :]), 0), highest, float("-inf"))
            tl.store(columns_shares + share, sum_lse, mask=on_reference)
        if TOKENS:
            words = token_weight + row * t_b
            target = token_maps + row * n_b + h * n_h + token.to(tl.int64)[:, None] * n_g
            for start in range(0, count, BLOCK_N):
                names = start + tl.arange(0, BLOCK_N)
                spread, rest = load_weights(words, keys - r_start, names, r_stop - r_start, count, t_r, t_n, t_s, PRECISION)
                maps = weighed(tile, spread, rest, tl.zeros([BLOCK_G, BLOCK_N], tl.float32), PRECISION) * norm[:, None]
                add_to(target + names[None, :] * n_n, maps, on_canvas[:, None] & (names[None, :] < count), False)
