"""Key-major sweep over all queries: the gradients of keys and values, from L, Lc and what both kinds of lines sum to.

    dK_j = scale sum_i dS_ij Q_i      dV_j = sum_i P_ij o_i      dS as in `change.py`

With few blocks of keys the queries are split over programs; each share has a part of `d_key` and `d_value` to itself. Without `OUT` the
output gives nothing back, without terms the maps of that direction do not: what is not asked for is not computed. Where the sums of
both gradients do not fit into the registers, `KEYS` and `VALUES` are two launches. A group of query heads reads one key head, and each
has a part of its gradients to itself as well.
"""

import triton
import triton.language as tl

from i2am_kernels.sweeps.change import add_products, add_terms, factors
from i2am_kernels.sweeps.forward import store_output
from i2am_kernels.sweeps.pieces import biased, load_tokens, place, products, start_of, token_of


@triton.jit(do_not_specialize=["generated"])  # as in keys_sweep
def keys_backward_sweep(
    query, key, value, d_out, lse, row_sums, columns_lse, column_sums, lift, mask,
    row_left, row_right, column_left, column_right, d_key, d_value,
    query_strides, key_strides, value_strides, d_out_strides, mask_strides,
    row_left_strides, row_right_strides, column_left_strides, column_right_strides, d_key_strides, d_value_strides,
    key_share_stride, value_share_stride, heads, generated, reference, shares, canvas, scale, d_scale,
    D: tl.constexpr, D0: tl.constexpr, D1: tl.constexpr, V: tl.constexpr, V0: tl.constexpr, V1: tl.constexpr,
    BLOCK_G: tl.constexpr, BLOCK_R: tl.constexpr, EVEN_G: tl.constexpr, EVEN_R: tl.constexpr, MASK_KIND: tl.constexpr,
    OUT: tl.constexpr, KEYS: tl.constexpr, VALUES: tl.constexpr, ROW_TERMS: tl.constexpr, COLUMN_TERMS: tl.constexpr,
    CUT: tl.constexpr, LIFTED: tl.constexpr, GROUP: tl.constexpr, PRECISION: tl.constexpr, UNIT: tl.constexpr, UPCAST: tl.constexpr,
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
    if OUT:
        value = start_of(value, value_strides, b, h // GROUP, first, UNIT)
        v0, v1 = load_tokens(value, value_strides, keys_left, BLOCK_R, V, V0, V1, EVEN_R, UNIT, UPCAST)
        d_out = start_of(d_out, d_out_strides, b, h, 0, UNIT)
    mask_b, mask_h, mask_g, mask_r = mask_strides
    mask += b * mask_b + h * mask_h + first * mask_r
    lse += row_head.to(tl.int64) * generated
    row_sums += row_head.to(tl.int64) * generated
    row_right = factors(row_right, row_right_strides, b, h, first)
    column_right = factors(column_right, column_right_strides, b, h, first)
    row_left = factors(row_left, row_left_strides, b, h, 0)
    column_left = factors(column_left, column_left_strides, b, h, 0)
    if COLUMN_TERMS > 0:
        offset = row_head.to(tl.int64) * reference + first
        column_norm = tl.load(columns_lse + offset + keys, mask=keys < keys_left, other=float("inf"))
        column_sum = tl.load(column_sums + offset + keys, mask=keys < keys_left, other=0.0)
    length = tl.cdiv(tl.cdiv(generated, BLOCK_G), shares) * BLOCK_G
    begin = share * length
    end = tl.minimum(begin + length, generated)
    lifted = 1.0
    if LIFTED:
        lifted = tl.load(lift)

    dk0 = tl.zeros([BLOCK_R, D0], tl.float32)
    dk1 = tl.zeros([BLOCK_R, D1 if D1 > 0 else 1], tl.float32)
    dv0 = tl.zeros([BLOCK_R, V0], tl.float32)
    dv1 = tl.zeros([BLOCK_R, V1 if V1 > 0 else 1], tl.float32)
    for start in range(begin, end, BLOCK_G):
        here = tl.cast(start, tl.int64)
        queries_left = generated - start
        query_here = token_of(query, query_strides, here, UNIT)
        q0, q1 = load_tokens(query_here, query_strides, queries_left, BLOCK_G, D, D0, D1, EVEN_G, UNIT, UPCAST)
        tile = products(k0, k1, q0, q1, D1, PRECISION)  # [BLOCK_R, BLOCK_G]
        tile = biased(tile * scale, mask + here * mask_g, keys, queries, keys_left, queries_left, mask_r, mask_g, MASK_KIND)
        change = tl.zeros([BLOCK_R, BLOCK_G], tl.float32)
        if OUT or ROW_TERMS > 0:
            norm = tl.load(lse + here + queries, mask=queries < queries_left, other=float("inf"))
            weight = tl.exp2(tile - norm[None, :])  # P
            if OUT:
                d_out_here = token_of(d_out, d_out_strides, here, UNIT)
                o0, o1 = load_tokens(d_out_here, d_out_strides, queries_left, BLOCK_G, V, V0, V1, EVEN_G, UNIT, UPCAST)
                if VALUES:
                    dv0, dv1 = add_products(dv0, dv1, weight, o0, o1, V1, PRECISION)
                if KEYS:
                    change = products(v0, v1, o0, o1, V1, PRECISION)
                    if LIFTED:
                        change *= lifted
            if KEYS:
                row_sum = tl.load(row_sums + here + queries, mask=queries < queries_left, other=0.0)
                change -= row_sum[None, :]
                change = add_terms(change, row_right, row_left + here * row_left_strides[3], row_right_strides, row_left_strides,
                                   keys, queries, keys_left, queries_left, ROW_TERMS, PRECISION)  # fmt: skip
                change *= weight
        if KEYS and COLUMN_TERMS > 0:
            weight = tl.exp2(tile - column_norm[:, None])  # C
            if CUT:  # C has no rows outside the canvas
                seen = (start + queries >= canvas[0]) & (start + queries < canvas[1])
                weight = tl.where(seen[None, :], weight, 0.0)
            asked = tl.zeros([BLOCK_R, BLOCK_G], tl.float32) - column_sum[:, None]
            asked = add_terms(asked, column_right, column_left + here * column_left_strides[3], column_right_strides, column_left_strides,
                              keys, queries, keys_left, queries_left, COLUMN_TERMS, PRECISION)  # fmt: skip
            change += weight * asked
        if KEYS:
            dk0, dk1 = add_products(dk0, dk1, change, q0, q1, D1, PRECISION)

    back = tl.full([BLOCK_R], 1.0, tl.float32)
    if KEYS:
        d_key = start_of(d_key + share * key_share_stride, d_key_strides, b, h, first, 1)
        store_output(dk0, dk1, back * (d_scale / lifted), d_key, d_key_strides, keys_left, BLOCK_R, D, D0, D1, 1)
    if VALUES:
        d_value = start_of(d_value + share * value_share_stride, d_value_strides, b, h, first, 1)
        store_output(dv0, dv1, back, d_value, d_value_strides, keys_left, BLOCK_R, V, V0, V1, 1)
