"""Query-major sweep over the keys of the reference: R2G from the column log-sum-exp, word maps from L.

C_ij = 2^(S_ij - Lc_j) <= 1      R2G_i = sum_j w_j C_ij      token_maps_i = sum_j 2^(S_ij - L_i) T_j
"""

import triton
import triton.language as tl

from i2am_kernels.sweeps.keys import add_to
from i2am_kernels.sweeps.pieces import biased, load_tokens, load_weights, place, products, start_of, token_of, weighed


@triton.jit
def queries_sweep(
    query, key, lse, columns_lse, mask, reference_weight, token_weight, r2g, token_maps,
    q_b, q_h, q_g, q_d, k_b, k_h, k_r, k_d, l_b, l_h, m_b, m_h, m_g, m_r, w_b, w_r, t_s, t_b, t_r, t_n,
    r_b, r_h, r_g, n_b, n_h, n_n, n_g,
    heads, generated, reference, word_count, scale, even_weight, lse_unit,
    D: tl.constexpr, D0: tl.constexpr, D1: tl.constexpr,
    BLOCK_G: tl.constexpr, BLOCK_R: tl.constexpr, EVEN_G: tl.constexpr, EVEN_R: tl.constexpr, BLOCK_WORDS: tl.constexpr,
    KIND: tl.constexpr, R2G: tl.constexpr, WEIGHTED: tl.constexpr, TOKEN_MAPS: tl.constexpr,
    PRECISION: tl.constexpr, UNIT: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    block, row_head, b, h = place(tl.program_id(0), tl.cdiv(generated, BLOCK_G), heads)
    first = (block * BLOCK_G).to(tl.int64)
    queries_left = generated - block * BLOCK_G
    queries = tl.arange(0, BLOCK_G)
    keys = tl.arange(0, BLOCK_R)
    words = tl.program_id(1) * BLOCK_WORDS + tl.arange(0, BLOCK_WORDS)
    query = start_of(query, b, h, first, q_b, q_h, q_g, UNIT)
    q0, q1 = load_tokens(query, queries_left, q_g, q_d, BLOCK_G, D, D0, D1, EVEN_G, UNIT, UPCAST)
    key = start_of(key, b, h, 0, k_b, k_h, k_r, UNIT)
    mask += b * m_b + h * m_h + first * m_g
    reference_weight += b * w_b
    token_weight += b * t_b
    columns_lse += row_head.to(tl.int64) * reference
    norm = tl.zeros([BLOCK_G], tl.float32)
    if TOKEN_MAPS:
        norm = tl.load(lse + b * l_b + h * l_h + first + queries, mask=queries < queries_left, other=float("inf")) * lse_unit
    sums = tl.zeros([BLOCK_G], tl.float32)
    word_sums = tl.zeros([BLOCK_G, BLOCK_WORDS], tl.float32)
    for start in range(0, reference, BLOCK_R):
        here = tl.cast(start, tl.int64)
        keys_left = reference - start
        k0, k1 = load_tokens(token_of(key, here, k_r, UNIT), keys_left, k_r, k_d, BLOCK_R, D, D0, D1, EVEN_R, UNIT, UPCAST)
        tile = products(q0, q1, k0, k1, D1, PRECISION)  # [BLOCK_G, BLOCK_R]
        tile = biased(tile * scale, mask + here * m_r, queries, keys, queries_left, keys_left, m_g, m_r, KIND)
        if R2G:
            column = tl.load(columns_lse + here + keys, mask=keys < keys_left, other=float("inf"))
            columnwise = tl.exp2(tile - column[None, :])  # C
            if WEIGHTED:
                columnwise = columnwise * tl.load(reference_weight + here * w_r + keys * w_r, mask=keys < keys_left, other=0.0)[None, :]
            sums += tl.sum(columnwise, 1)
        if TOKEN_MAPS:
            if not EVEN_R:
                tile = tl.where(keys[None, :] < keys_left, tile, float("-inf"))
            rowwise = tl.exp2(tile - norm[:, None])  # P
            high, low = load_weights(token_weight + here * t_r, keys, words, keys_left, word_count, t_r, t_n, t_s, PRECISION)
            word_sums = weighed(rowwise, high, low, word_sums, PRECISION)
    if R2G and tl.program_id(1) == 0:
        sums = sums if WEIGHTED else sums * even_weight
        add_to(r2g + b * r_b + h * r_h + first * r_g + queries * r_g, sums, queries < queries_left, False)
    if TOKEN_MAPS:
        target = token_maps + b * n_b + h * n_h + first * n_g + queries[:, None] * n_g + words[None, :] * n_n
        add_to(target, word_sums, (queries[:, None] < queries_left) & (words[None, :] < word_count), False)
