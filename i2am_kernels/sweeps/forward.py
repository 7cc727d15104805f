"""Query-major sweep over all keys: the output and the row log-sum-exp.

out_i = sum_j P_ij V_j,   L_i = log2 sum_j 2^S_ij      (S in log2 units; L = +inf where every key is hidden)
"""

import triton
import triton.language as tl

from i2am_kernels.sweeps.pieces import NOTHING, biased, inverse, load_part, load_tokens, log2_or, place, products, start_of, token_of


@triton.jit
def forward_sweep(
    query, key, value, out, lse, mask,
    query_strides, key_strides, value_strides, out_strides, mask_strides,
    heads, generated, reference, scale,
    D: tl.constexpr, D0: tl.constexpr, D1: tl.constexpr, V: tl.constexpr, V0: tl.constexpr, V1: tl.constexpr,
    BLOCK_G: tl.constexpr, BLOCK_R: tl.constexpr, EVEN_G: tl.constexpr, EVEN_R: tl.constexpr,
    MASK_KIND: tl.constexpr, GROUP: tl.constexpr, PRECISION: tl.constexpr, UNIT: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    block, row_head, b, h = place(tl.program_id(0), tl.cdiv(generated, BLOCK_G), heads)
    first = (block * BLOCK_G).to(tl.int64)
    queries_left = generated - block * BLOCK_G
    queries = tl.arange(0, BLOCK_G)
    keys = tl.arange(0, BLOCK_R)
    query = start_of(query, query_strides, b, h, first, UNIT)
    q0, q1 = load_tokens(query, query_strides, queries_left, BLOCK_G, D, D0, D1, EVEN_G, UNIT, UPCAST)
    key = start_of(key, key_strides, b, h // GROUP, 0, UNIT)
    value = start_of(value, value_strides, b, h // GROUP, 0, UNIT)
    mask_b, mask_h, mask_g, mask_r = mask_strides
    mask += b * mask_b + h * mask_h + first * mask_g
    high = tl.full([BLOCK_G], NOTHING, tl.float32)
    total = tl.zeros([BLOCK_G], tl.float32)
    out0 = tl.zeros([BLOCK_G, V0], tl.float32)
    out1 = tl.zeros([BLOCK_G, V1 if V1 > 0 else 1], tl.float32)
    for start in range(0, reference, BLOCK_R):
        here = tl.cast(start, tl.int64)
        keys_left = reference - start
        k0, k1 = load_tokens(token_of(key, key_strides, here, UNIT), key_strides, keys_left, BLOCK_R, D, D0, D1, EVEN_R, UNIT, UPCAST)
        tile = products(q0, q1, k0, k1, D1, PRECISION)  # [BLOCK_G, BLOCK_R]
        if MASK_KIND > 0:
            tile = biased(tile * scale, mask + here * mask_r, queries, keys, queries_left, keys_left, mask_g, mask_r, MASK_KIND)
        if not EVEN_R:
            tile = tl.where(keys[None, :] < keys_left, tile, float("-inf"))
        new = tl.maximum(high, tl.max(tile, 1))
        if MASK_KIND > 0:
            new = tl.where(new == float("-inf"), NOTHING, new)
            tile = tl.exp2(tile - new[:, None])
            shrink = tl.exp2(high - new)
        else:  # one multiply-add a score: scale > 0 keeps the order, so the maximum was taken before it
            tile = tl.exp2(tile * scale - (new * scale)[:, None])
            shrink = tl.exp2((high - new) * scale)
        total = total * shrink + tl.sum(tile, 1)
        v0 = load_part(token_of(value, value_strides, here, UNIT), value_strides, keys_left, BLOCK_R, 0, V0, V, EVEN_R, UNIT, UPCAST)
        weights = tile.to(v0.dtype)
        out0 = tl.dot(weights, v0, out0 * shrink[:, None], input_precision=PRECISION)
        if V1 > 0:
            v1 = load_part(token_of(value, value_strides, here, UNIT), value_strides, keys_left, BLOCK_R, V0, V1, V, EVEN_R, UNIT, UPCAST)
            out1 = tl.dot(weights, v1, out1 * shrink[:, None], input_precision=PRECISION)
        high = new
    if MASK_KIND == 0:
        high = high * scale
    tl.store(lse + row_head.to(tl.int64) * generated + first + queries, log2_or(total, high, float("inf")), mask=queries < queries_left)
    norm = inverse(total)
    store_output(out0, out1, norm, start_of(out, out_strides, b, h, first, 1), out_strides, queries_left, BLOCK_G, V, V0, V1, 1)


@triton.jit
def store_output(out0, out1, norm, base, strides, count,
                 BLOCK_G: tl.constexpr, V: tl.constexpr, V0: tl.constexpr, V1: tl.constexpr, UNIT: tl.constexpr):  # fmt: skip
    rows = tl.arange(0, BLOCK_G)[:, None]
    channels = tl.arange(0, V0)[None, :]
    pointers = base + rows * (strides[2] // UNIT * UNIT)
    inside = (rows < count) & (channels < V)
    tl.store(pointers + channels * strides[3], (out0 * norm[:, None]).to(base.dtype.element_ty), mask=inside)
    if V1 > 0:
        channels = V0 + tl.arange(0, V1)[None, :]
        inside = (rows < count) & (channels < V)
        tl.store(pointers + channels * strides[3], (out1 * norm[:, None]).to(base.dtype.element_ty), mask=inside)
