"""Query-major sweep over the keys of the reference: R2G from the column log-sum-exp, word maps from L.

    C_ij = 2^(S_ij - Lc_j) <= 1      R2G_i = sum_j w_j C_ij      token_maps_i = sum_j P_ij T_j
    P_ij = 2^(S_ij - L_i) = 2^(top - L_i) 2^(Lc_j - top) C_ij,   top = max_j Lc_j

Where both maps are wanted, C serves both: one exponential a score. The factor 2^(top - L_i) waits until the words are summed. If it is
so large that what it multiplies has lost digits, the program visits its keys again for the words, with an exponential of their own.
"""

import triton
import triton.language as tl

from i2am_kernels.sweeps.keys import add_to
from i2am_kernels.sweeps.pieces import NOTHING, biased, load_tokens, load_weights, place, products, start_of, token_of, weighed

FAR = tl.constexpr(-60.0)  # L_i - top, in binary orders: a row under it has lost words that it attends to
LIFT = tl.constexpr(40.0)  # binary orders by which the words are summed above their size: as many more that are not lost


@triton.jit
def queries_sweep(
    query, key, lse, columns_lse, mask, reference_weight, token_weight, r2g, token_maps,
    query_strides, key_strides, lse_strides, mask_strides, reference_weight_strides, token_weight_strides, r2g_strides, token_maps_strides,
    heads, generated, reference, word_count, scale, even_weight, lse_unit,
    D: tl.constexpr, D0: tl.constexpr, D1: tl.constexpr,
    BLOCK_G: tl.constexpr, BLOCK_R: tl.constexpr, EVEN_G: tl.constexpr, EVEN_R: tl.constexpr, BLOCK_WORDS: tl.constexpr,
    MASK_KIND: tl.constexpr, R2G: tl.constexpr, WEIGHTED: tl.constexpr, TOKEN_MAPS: tl.constexpr,
    GROUP: tl.constexpr, PRECISION: tl.constexpr, UNIT: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    block, row_head, b, h = place(tl.program_id(0), tl.cdiv(generated, BLOCK_G), heads)
    first = (block * BLOCK_G).to(tl.int64)
    queries_left = generated - block * BLOCK_G
    queries = tl.arange(0, BLOCK_G)
    keys = tl.arange(0, BLOCK_R)
    words = tl.program_id(1) * BLOCK_WORDS + tl.arange(0, BLOCK_WORDS)
    query = start_of(query, query_strides, b, h, first, UNIT)
    q0, q1 = load_tokens(query, query_strides, queries_left, BLOCK_G, D, D0, D1, EVEN_G, UNIT, UPCAST)
    key = start_of(key, key_strides, b, h // GROUP, 0, UNIT)
    mask_b, mask_h, mask_g, _ = mask_strides
    mask += b * mask_b + h * mask_h + first * mask_g
    weight_b, weight_h, weight_r = reference_weight_strides
    reference_weight += b * weight_b + h * weight_h
    token_part, token_b, token_h, token_r, _ = token_weight_strides
    token_weight += b * token_b + h * token_h
    columns_lse += row_head.to(tl.int64) * reference
    norm = tl.zeros([BLOCK_G], tl.float32)
    if TOKEN_MAPS:
        lse_b, lse_h = lse_strides
        norm = tl.load(lse + b * lse_b + h * lse_h + first + queries, mask=queries < queries_left, other=float("inf")) * lse_unit
    top = NOTHING
    if R2G and TOKEN_MAPS:
        highest = tl.full([BLOCK_R], NOTHING, tl.float32)
        for start in range(0, reference, BLOCK_R):
            column = tl.load(columns_lse + start + keys, mask=keys < reference - start, other=float("inf"))
            highest = tl.maximum(highest, tl.where(column < float("inf"), column, NOTHING))
        top = tl.max(highest, 0)
    sums = tl.zeros([BLOCK_G], tl.float32)
    word_sums = tl.zeros([BLOCK_G, BLOCK_WORDS], tl.float32)
    for start in range(0, reference, BLOCK_R):
        here = tl.cast(start, tl.int64)
        keys_left = reference - start
        tile = scores(q0, q1, key, key_strides, mask, mask_strides, here, queries_left, keys_left, scale,
                      D, D0, D1, BLOCK_G, BLOCK_R, EVEN_R, MASK_KIND, PRECISION, UNIT, UPCAST)  # fmt: skip
        if R2G:
            column = tl.load(columns_lse + here + keys, mask=keys < keys_left, other=float("inf"))
            columnwise = tl.exp2(tile - column[None, :])  # C
            if TOKEN_MAPS:
                factor = tl.exp2(tl.where(column < float("inf"), column - top + LIFT, float("-inf")))
                high, low = load_weights(token_weight + here * token_r, keys, words, keys_left, token_r, token_part, PRECISION)
                word_sums = weighed(columnwise * factor[None, :], high, low, word_sums, PRECISION)
            if WEIGHTED:
                weights = tl.load(reference_weight + here * weight_r + keys * weight_r, mask=keys < keys_left, other=0.0)
                columnwise = columnwise * weights[None, :]
            sums += tl.sum(columnwise, 1)
        elif TOKEN_MAPS:
            word_sums = add_words(tile, norm, token_weight + here * token_r, keys, words, keys_left, token_r, token_part,
                                  word_sums, EVEN_R, PRECISION)  # fmt: skip
    if R2G and TOKEN_MAPS:
        # 0 in rows without keys; by its square root twice, as the whole may be too small for a number; no more than where it is needed
        half = tl.exp2(tl.minimum(top - LIFT - norm, -FAR) * 0.5)
        word_sums = word_sums * half[:, None] * half[:, None]
        if tl.min(norm, 0) - top < FAR:
            word_sums = tl.zeros([BLOCK_G, BLOCK_WORDS], tl.float32)
            for start in range(0, reference, BLOCK_R):
                here = tl.cast(start, tl.int64)
                keys_left = reference - start
                tile = scores(q0, q1, key, key_strides, mask, mask_strides, here, queries_left, keys_left, scale,
                              D, D0, D1, BLOCK_G, BLOCK_R, EVEN_R, MASK_KIND, PRECISION, UNIT, UPCAST)  # fmt: skip
                word_sums = add_words(tile, norm, token_weight + here * token_r, keys, words, keys_left, token_r, token_part,
                                      word_sums, EVEN_R, PRECISION)  # fmt: skip
    if R2G and tl.program_id(1) == 0:
        sums = sums if WEIGHTED else sums * even_weight
        r2g_b, r2g_h, r2g_g = r2g_strides
        add_to(r2g + b * r2g_b + h * r2g_h + first * r2g_g + queries * r2g_g, sums, queries < queries_left, False)
    if TOKEN_MAPS:
        maps_b, maps_h, maps_n, maps_g = token_maps_strides
        target = token_maps + b * maps_b + h * maps_h + first * maps_g + queries[:, None] * maps_g + words[None, :] * maps_n
        add_to(target, word_sums, (queries[:, None] < queries_left) & (words[None, :] < word_count), False)


@triton.jit
def scores(q0, q1, key, key_strides, mask, mask_strides, start, queries_left, keys_left, scale,
           D: tl.constexpr, D0: tl.constexpr, D1: tl.constexpr, BLOCK_G: tl.constexpr, BLOCK_R: tl.constexpr, EVEN_R: tl.constexpr,
           MASK_KIND: tl.constexpr, PRECISION: tl.constexpr, UNIT: tl.constexpr, UPCAST: tl.constexpr):  # fmt: skip
    """The masked scores [BLOCK_G, BLOCK_R] of a program's queries with the keys from `start` on; the mask begins at its first query."""
    k0, k1 = load_tokens(token_of(key, key_strides, start, UNIT), key_strides, keys_left, BLOCK_R, D, D0, D1, EVEN_R, UNIT, UPCAST)
    tile = products(q0, q1, k0, k1, D1, PRECISION)
    _, _, mask_g, mask_r = mask_strides
    queries, keys = tl.arange(0, BLOCK_G), tl.arange(0, BLOCK_R)
    return biased(tile * scale, mask + start * mask_r, queries, keys, queries_left, keys_left, mask_g, mask_r, MASK_KIND)


@triton.jit
def add_words(tile, norm, token_weight, keys, words, keys_left, token_r, token_part, word_sums,
              EVEN_R: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """word_sums + P T, P from the scores and L."""
    if not EVEN_R:
        tile = tl.where(keys[None, :] < keys_left, tile, float("-inf"))
    rowwise = tl.exp2(tile - norm[:, None])  # P
    high, low = load_weights(token_weight, keys, words, keys_left, token_r, token_part, PRECISION)
    return weighed(rowwise, high, low, word_sums, PRECISION)
