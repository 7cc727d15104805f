"""Query-major sweep over all keys: the gradient of the queries, from L, Lc and what both kinds of lines sum to.

dQ_i = scale sum_j dS_ij K_j      dS as in `change.py`
"""

import triton
import triton.language as tl

from i2am_kernels.sweeps.change import add_products, add_terms, factors
from i2am_kernels.sweeps.forward import store_output
from i2am_kernels.sweeps.pieces import biased, load_tokens, place, products, start_of, token_of


@triton.jit
def queries_backward_sweep(
    query, key, value, d_out, lse, row_sums, columns_lse, column_sums, lift, mask,
    row_left, row_right, column_left, column_right, d_query,
    query_strides, key_strides, value_strides, d_out_strides, mask_strides,
    row_left_strides, row_right_strides, column_left_strides, column_right_strides, d_query_strides,
    heads, generated, reference, canvas, scale, d_scale,
    D: tl.constexpr, D0: tl.constexpr, D1: tl.constexpr, V: tl.constexpr, V0: tl.constexpr, V1: tl.constexpr,
    BLOCK_G: tl.constexpr, BLOCK_R: tl.constexpr, EVEN_G: tl.constexpr, EVEN_R: tl.constexpr, MASK_KIND: tl.constexpr,
    OUT: tl.constexpr, ROW_TERMS: tl.constexpr, COLUMN_TERMS: tl.constexpr, CUT: tl.constexpr, LIFTED: tl.constexpr,
    GROUP: tl.constexpr, PRECISION: tl.constexpr, UNIT: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    block, row_head, b, h = place(tl.program_id(0), tl.cdiv(generated, BLOCK_G), heads)
    first = (block * BLOCK_G).to(tl.int64)
    queries_left = generated - block * BLOCK_G
    queries = tl.arange(0, BLOCK_G)
    keys = tl.arange(0, BLOCK_R)
    query = start_of(query, query_strides, b, h, first, UNIT)
    q0, q1 = load_tokens(query, query_strides, queries_left, BLOCK_G, D, D0, D1, EVEN_G, UNIT, UPCAST)
    key = start_of(key, key_strides, b, h // GROUP, 0, UNIT)
    if OUT:
        value = start_of(value, value_strides, b, h // GROUP, 0, UNIT)
        d_out = start_of(d_out, d_out_strides, b, h, first, UNIT)
        o0, o1 = load_tokens(d_out, d_out_strides, queries_left, BLOCK_G, V, V0, V1, EVEN_G, UNIT, UPCAST)
    mask_b, mask_h, mask_g, mask_r = mask_strides
    mask += b * mask_b + h * mask_h + first * mask_g
    offset = row_head.to(tl.int64) * generated + first
    if OUT or ROW_TERMS > 0:
        norm = tl.load(lse + offset + queries, mask=queries < queries_left, other=float("inf"))
        row_sum = tl.load(row_sums + offset + queries, mask=queries < queries_left, other=0.0)
    row_left = factors(row_left, row_left_strides, b, h, first)
    column_left = factors(column_left, column_left_strides, b, h, first)
    row_right = factors(row_right, row_right_strides, b, h, 0)
    column_right = factors(column_right, column_right_strides, b, h, 0)
    columns_lse += row_head.to(tl.int64) * reference
    column_sums += row_head.to(tl.int64) * reference
    seen = (first + queries >= canvas[0]) & (first + queries < canvas[1])
    lifted = 1.0
    if LIFTED:
        lifted = tl.load(lift)

    dq0 = tl.zeros([BLOCK_G, D0], tl.float32)
    dq1 = tl.zeros([BLOCK_G, D1 if D1 > 0 else 1], tl.float32)
    for start in range(0, reference, BLOCK_R):
        here = tl.cast(start, tl.int64)
        keys_left = reference - start
        k0, k1 = load_tokens(token_of(key, key_strides, here, UNIT), key_strides, keys_left, BLOCK_R, D, D0, D1, EVEN_R, UNIT, UPCAST)
        tile = products(q0, q1, k0, k1, D1, PRECISION)  # [BLOCK_G, BLOCK_R]
        tile = biased(tile * scale, mask + here * mask_r, queries, keys, queries_left, keys_left, mask_g, mask_r, MASK_KIND)
        change = tl.zeros([BLOCK_G, BLOCK_R], tl.float32)
        if OUT or ROW_TERMS > 0:
            rowwise = tile
            if not EVEN_R:
                rowwise = tl.where(keys[None, :] < keys_left, tile, float("-inf"))
            weight = tl.exp2(rowwise - norm[:, None])  # P
            if OUT:
                value_here = token_of(value, value_strides, here, UNIT)
                v0, v1 = load_tokens(value_here, value_strides, keys_left, BLOCK_R, V, V0, V1, EVEN_R, UNIT, UPCAST)
                change = products(o0, o1, v0, v1, V1, PRECISION)
                if LIFTED:
                    change *= lifted
            change -= row_sum[:, None]
            change = add_terms(change, row_left, row_right + here * row_right_strides[3], row_left_strides, row_right_strides,
                               queries, keys, queries_left, keys_left, ROW_TERMS, PRECISION)  # fmt: skip
            change *= weight
        if COLUMN_TERMS > 0:
            column_norm = tl.load(columns_lse + here + keys, mask=keys < keys_left, other=float("inf"))
            column_sum = tl.load(column_sums + here + keys, mask=keys < keys_left, other=0.0)
            weight = tl.exp2(tile - column_norm[None, :])  # C
            if CUT:  # C has no rows outside the canvas
                weight = tl.where(seen[:, None], weight, 0.0)
            asked = tl.zeros([BLOCK_G, BLOCK_R], tl.float32) - column_sum[None, :]
            asked = add_terms(asked, column_left, column_right + here * column_right_strides[3], column_left_strides, column_right_strides,
                              queries, keys, queries_left, keys_left, COLUMN_TERMS, PRECISION)  # fmt: skip
            change += weight * asked
        dq0, dq1 = add_products(dq0, dq1, change, k0, k1, D1, PRECISION)

    back = tl.full([BLOCK_G], 1.0, tl.float32)
    d_query = start_of(d_query, d_query_strides, b, h, first, 1)
    store_output(dq0, dq1, back * (d_scale / lifted), d_query, d_query_strides, queries_left, BLOCK_G, D, D0, D1, 1)
