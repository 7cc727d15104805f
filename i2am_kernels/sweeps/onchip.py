"""Both maps from one visit to the scores: a cluster of programs holds a block of keys against every query on chip. Hopper, in Gluon.

    P_ij = 2^(S_ij - L_i)      G2R_j = sum_i w_i P_ij      LS_j = sum_i 2^(L_i - top) P_ij      top = max_i L_i
    R2G_i = 2^(L_i - top) sum_j w_j P_ij / LS_j

A column is whole once its block has met all queries, which no single program has room for: each of the cluster's holds TILES * 64 queries
and, in its registers, P of these with KEYS keys, as float32. Sums of columns cross the cluster through shared memory, once a block; sums of
rows stay with the threads until the last block. So one product and one exponential serve everything, against two of each in the sweeps.
If L spans so many binary orders that some LS of a block lies under 2^-80, the block is multiplied again and each column takes its own
maximum. Blocks of keys are split over `shares` clusters; each has a part of R2G to itself, which is added up in a fixed order.
"""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere.async_copy import async_load, commit_group, wait_group
from triton.experimental.gluon.language.nvidia.hopper import fence_async_shared, warpgroup_mma, warpgroup_mma_wait

from i2am_kernels.sweeps.pieces import HIDDEN, LOG2E, NOTHING, UNDERFLOW

ROWS = gl.constexpr(64)  # of a tile in one program: a warp group's product


@gluon.constexpr_function
def spread(programs, *step):
    """How the programs of a cluster share a tensor: at each doubling of their number so much further; nowhere, where all have all of it."""
    return [[number * (1 << bit) for number in step] for bit in range((programs - 1).bit_length())]


@gluon.constexpr_function
def in_rows(size, cga):
    """Tokens of so many channels, read 16 bytes a thread."""
    across = min(size // 8, 16)
    return gl.BlockedLayout([1, 8], [32 // across, across], [4, 1], [1, 0], cga)


@gluon.constexpr_function
def for_products(size, cga):
    """Tokens of so many channels in shared memory."""
    return gl.NVMMASharedLayout(min(128, 2 * size), 16, 2, cga_layout=cga)


@gluon.jit
def onchip_sweep(
    query, key, lse, mask, generated_weight, reference_weight, g2r, r2g,
    query_strides, key_strides, lse_strides, mask_strides, generated_weight_strides, reference_weight_strides, g2r_strides, r2g_strides,
    heads, generated, reference, shares, scale, even_generated, even_reference, lse_unit,
    D: gl.constexpr, D0: gl.constexpr, D1: gl.constexpr, PROGRAMS: gl.constexpr, TILES: gl.constexpr, BLOCK_R: gl.constexpr,
    MASK_KIND: gl.constexpr, GENERATED_WEIGHTED: gl.constexpr, REFERENCE_WEIGHTED: gl.constexpr, SPLIT: gl.constexpr, GROUP: gl.constexpr,
):  # fmt: skip
    BLOCK_G: gl.constexpr = ROWS * PROGRAMS
    by_rows: gl.constexpr = spread(PROGRAMS, 1, 0)
    to_all: gl.constexpr = spread(PROGRAMS, 0, 0)
    tile: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BLOCK_R, 16], by_rows)
    by_row: gl.constexpr = gl.SliceLayout(1, tile)
    by_key: gl.constexpr = gl.SliceLayout(0, tile)
    by_lane_of_keys: gl.constexpr = gl.BlockedLayout([1], [32], [4], [0], spread(PROGRAMS, 0))

    row_head = gl.program_id(0) // shares
    share = gl.program_id(0) % shares
    b = (row_head // heads).to(gl.int64)
    h = (row_head % heads).to(gl.int64)
    query += b * (query_strides[0] // 8 * 8) + h * (query_strides[1] // 8 * 8)
    key += b * (key_strides[0] // 8 * 8) + (h // GROUP) * (key_strides[1] // 8 * 8)
    lse += b * lse_strides[0] + h * lse_strides[1]
    mask += b * mask_strides[0] + h * mask_strides[1]
    generated_weight += b * generated_weight_strides[0] + h * generated_weight_strides[1]
    reference_weight += b * reference_weight_strides[0] + h * reference_weight_strides[1]
    g2r += b * g2r_strides[0] + h * g2r_strides[1]
    r2g += share.to(gl.int64) * r2g_strides[0] + b * r2g_strides[1] + h * r2g_strides[2]

    length = gl.cdiv(gl.cdiv(reference, BLOCK_R), shares) * BLOCK_R
    begin = share * length
    end = gl.minimum(begin + length, reference)

    rows = gl.arange(0, BLOCK_G, layout=by_row)
    q0 = ()
    q1 = ()
    norm = ()
    sums = ()
    highest = gl.full([BLOCK_G], NOTHING, gl.float32, layout=by_row)
    for t in gl.static_range(TILES):
        q0 = q0 + (queries_on_chip(query, query_strides, t * BLOCK_G, generated, BLOCK_G, 0, D0, D, by_rows),)
        if D1 > 0:
            q1 = q1 + (queries_on_chip(query, query_strides, t * BLOCK_G, generated, BLOCK_G, D0, D1, D, by_rows),)
        norm = norm + (gl.load(lse + t * BLOCK_G + rows, mask=t * BLOCK_G + rows < generated, other=float("inf")) * lse_unit,)
        highest = gl.maximum(highest, gl.where(norm[t] < float("inf"), norm[t], NOTHING))
        sums = sums + (by_lane(gl.zeros([BLOCK_G, BLOCK_R], gl.float32, layout=tile), 0.0, BLOCK_G, BLOCK_R),)
    top = gl.max(highest, 0)
    raised = ()
    for t in gl.static_range(TILES):
        raised = raised + (gl.exp2(gl.where(norm[t] < float("inf"), norm[t], float("-inf")) - top),)

    k0 = gl.allocate_shared_memory(key.dtype.element_ty, [2, BLOCK_R, D0], for_products(D0, to_all))
    k1 = gl.allocate_shared_memory(key.dtype.element_ty, [2, BLOCK_R, D1 if D1 > 0 else 16], for_products(D1 if D1 > 0 else 16, to_all))
    bring_keys(k0.index(0), k1.index(0), key, key_strides, begin, reference, BLOCK_R, D, D0, D1, to_all)
    keys = gl.arange(0, BLOCK_R, layout=by_lane_of_keys)
    least = gl.full([BLOCK_R], 1.0, gl.float32, layout=by_lane_of_keys)
    for start in range(begin, end, BLOCK_R):
        side = (start - begin) // BLOCK_R % 2
        wait_for_keys()
        products = ()
        for t in gl.static_range(TILES):
            products = products + (product(q0, q1, k0.index(side), k1.index(side), t, D1, BLOCK_G, BLOCK_R, tile),)
        if start + BLOCK_R < end:  # the other side's products are done
            bring_keys(k0.index(1 - side), k1.index(1 - side), key, key_strides, start + BLOCK_R, reference, BLOCK_R, D, D0, D1, to_all)
        inside = keys < end - start
        key_weight = weights_of(reference_weight, reference_weight_strides[2], start, keys, inside, even_reference, REFERENCE_WEIGHTED)
        bias = gl.zeros([BLOCK_R], gl.float32, layout=by_key)
        if MASK_KIND > 0:
            key_bias = bias_of(mask, mask_strides[3], start, keys, inside, MASK_KIND)
            inside = inside & (key_bias > float("-inf"))
            bias = gl.convert_layout(key_bias, by_key)

        probabilities = ()
        for t in gl.static_range(TILES):
            scores = warpgroup_mma_wait((2 if D1 > 0 else 1) * (TILES - 1 - t), deps=[products[t]]) * scale
            if MASK_KIND > 0:
                scores += bias[None, :]
            probabilities = probabilities + (gl.exp2(scores - norm[t][:, None]),)  # P
            weighed = probabilities[t]
            if GENERATED_WEIGHTED:  # read again each time: registers are what a thread has least of
                here = t * BLOCK_G + rows
                weight = gl.load(generated_weight + here.to(gl.int64) * generated_weight_strides[2], mask=here < generated, other=0.0)
                weighed = weighed * weight[:, None]
            lifted = probabilities[t] * raised[t][:, None]
            if t == 0:
                ours = weighed
                total = lifted
            else:
                ours += weighed
                total += lifted
        ours, total = over_the_cluster(ours, total, PROGRAMS, BLOCK_R, by_lane_of_keys)
        least = gl.minimum(least, gl.where(inside, total, 1.0))  # of keys that are seen
        over = gl.convert_layout(key_weight / gl.where(total > 0, total, 1.0), by_key)
        new = ()
        for t in gl.static_range(TILES):
            new = new + (by_lane(probabilities[t] * over[None, :], sums[t], BLOCK_G, BLOCK_R),)
        sums = new
        # last: between the two waits for the cluster everybody would wait for this memory too
        target = g2r + (start + keys).to(gl.int64) * g2r_strides[2]
        ours = ours if GENERATED_WEIGHTED else ours * even_generated
        gl.store(target, gl.load(target, mask=inside, other=0.0) + ours, mask=inside)

    faint = gl.min(least, 0) < UNDERFLOW
    for t in gl.static_range(TILES):
        half = gl.exp2((gl.where(norm[t] < float("inf"), norm[t], float("-inf")) - top) * 0.5)  # twice: the whole may be too small
        found = gl.convert_layout(gl.sum(sums[t], 1), by_row) * half * half
        add_rows(r2g, r2g_strides[3], t * BLOCK_G + rows, generated, gl.where(faint, 0.0, found), SPLIT)
    if faint:
        for start in range(begin, end, BLOCK_R):
            gl.barrier()  # every warp has done with the block before
            bring_keys(k0.index(0), k1.index(0), key, key_strides, start, reference, BLOCK_R, D, D0, D1, to_all)
            wait_for_keys()
            inside = keys < end - start
            key_weight = weights_of(reference_weight, reference_weight_strides[2], start, keys, inside, even_reference, REFERENCE_WEIGHTED)
            bias = gl.zeros([BLOCK_R], gl.float32, layout=by_key)
            if MASK_KIND > 0:
                bias = gl.convert_layout(bias_of(mask, mask_strides[3], start, keys, inside, MASK_KIND), by_key)
            exact_block(q0, q1, k0.index(0), k1.index(0), norm, gl.convert_layout(key_weight, by_key), bias, r2g, r2g_strides[3], generated,
                        scale, D1, TILES, BLOCK_G, BLOCK_R, tile)  # fmt: skip


@gluon.jit
def weights_of(reference_weight, stride, start, keys, inside, even, WEIGHTED: gl.constexpr):
    """The weights of a block of keys, 0 behind the last."""
    if WEIGHTED:
        return gl.load(reference_weight + (start + keys).to(gl.int64) * stride, mask=inside, other=0.0)
    else:
        return gl.where(inside, even, 0.0)


@gluon.jit
def exact_block(q0, q1, k0, k1, norm, key_weight, bias, r2g, r2g_stride, generated, scale,
                D1: gl.constexpr, TILES: gl.constexpr, BLOCK_G: gl.constexpr, BLOCK_R: gl.constexpr, tile: gl.constexpr):  # fmt: skip
    """Add what a block of keys gives R2G, each column by its own maximum: its products once more, and the sums straight into memory."""
    rows = gl.arange(0, BLOCK_G, layout=gl.SliceLayout(1, tile))
    exact = ()
    for t in gl.static_range(TILES):
        scores = warpgroup_mma_wait(0, deps=[product(q0, q1, k0, k1, t, D1, BLOCK_G, BLOCK_R, tile)]) * scale + bias[None, :]
        exact = exact + (gl.where((norm[t] < float("inf"))[:, None], scores, float("-inf")),)  # so it is behind the last query
    highest = exact[0]
    for t in gl.static_range(1, TILES):
        highest = gl.maximum(highest, exact[t])
    highest = gl.maximum(gl.max(highest, 0), NOTHING)
    totals = gl.exp2(exact[0] - highest[None, :])
    for t in gl.static_range(1, TILES):
        totals += gl.exp2(exact[t] - highest[None, :])
    total = gl.sum(totals, 0)
    over = key_weight / gl.where(total > 0, total, 1.0)
    for t in gl.static_range(TILES):
        found = gl.sum(gl.exp2(exact[t] - highest[None, :]) * over[None, :], 1)
        add_rows(r2g, r2g_stride, t * BLOCK_G + rows, generated, found, False)


@gluon.jit
def add_rows(r2g, stride, rows, count, values, FRESH: gl.constexpr):
    """+= into a buffer whose rows this program alone writes, or = into fresh scratch."""
    there = rows < count
    target = r2g + rows.to(gl.int64) * stride
    if not FRESH:
        values += gl.load(target, mask=there, other=0.0)
    gl.store(target, values, mask=there)


@gluon.jit
def queries_on_chip(query, strides, first, count, BLOCK_G: gl.constexpr, START: gl.constexpr, SIZE: gl.constexpr, D: gl.constexpr,
                    cga: gl.constexpr):  # fmt: skip
    """The channels START onwards of a tile of queries, in shared memory; zeros behind `count` queries and D channels."""
    layout: gl.constexpr = in_rows(SIZE, cga)
    rows = first + gl.arange(0, BLOCK_G, layout=gl.SliceLayout(1, layout))
    channels = START + gl.arange(0, SIZE, layout=gl.SliceLayout(0, layout))
    pointers = query + rows.to(gl.int64)[:, None] * (strides[2] // 8 * 8) + channels[None, :]
    values = gl.load(pointers, mask=(rows[:, None] < count) & (channels[None, :] < D), other=0.0)
    return gl.allocate_shared_memory(query.dtype.element_ty, [BLOCK_G, SIZE], for_products(SIZE, cga), values)


@gluon.jit
def bring_keys(k0, k1, key, strides, first, count, BLOCK_R: gl.constexpr, D: gl.constexpr, D0: gl.constexpr, D1: gl.constexpr,
               cga: gl.constexpr):  # fmt: skip
    """Begins to bring both parts of a block of keys; behind the last key it comes again, zeros behind D channels."""
    keys_on_chip(k0, key, strides, first, count, BLOCK_R, 0, D0, D, cga)
    if D1 > 0:
        keys_on_chip(k1, key, strides, first, count, BLOCK_R, D0, D1, D, cga)
    commit_group()


@gluon.jit
def keys_on_chip(target, key, strides, first, count, BLOCK_R: gl.constexpr, START: gl.constexpr, SIZE: gl.constexpr, D: gl.constexpr,
                 cga: gl.constexpr):  # fmt: skip
    layout: gl.constexpr = in_rows(SIZE, cga)
    rows = gl.minimum(first + gl.arange(0, BLOCK_R, layout=gl.SliceLayout(1, layout)), count - 1)
    channels = START + gl.arange(0, SIZE, layout=gl.SliceLayout(0, layout))
    pointers = key + rows.to(gl.int64)[:, None] * (strides[2] // 8 * 8) + channels[None, :]
    if START + SIZE <= D:
        async_load(target, pointers)
    else:
        async_load(target, pointers, mask=channels[None, :] < D)


@gluon.jit
def wait_for_keys():
    """Until every thread's part of the block is there, and the matrix units see it."""
    wait_group(0)
    fence_async_shared()
    gl.barrier()


@gluon.jit
def product(q0, q1, k0, k1, t: gl.constexpr, D1: gl.constexpr, BLOCK_G: gl.constexpr, BLOCK_R: gl.constexpr, tile: gl.constexpr):
    """Q K^T of a tile of queries, on its way."""
    scores = gl.zeros([BLOCK_G, BLOCK_R], gl.float32, layout=tile)
    scores = warpgroup_mma(q0[t], k0.permute((1, 0)), scores, use_acc=False, is_async=True)
    if D1 > 0:
        scores = warpgroup_mma(q1[t], k1.permute((1, 0)), scores, is_async=True)
    return scores


@gluon.jit
def over_the_cluster(first, second, PROGRAMS: gl.constexpr, BLOCK_R: gl.constexpr, layout: gl.constexpr):
    """The sums over the rows of two tiles [BLOCK_G, BLOCK_R], in every program of the cluster. What a thread has of them lies together in
    shared memory, and a warp adds up its own columns: a quarter of the shuffles that a sum of each would take."""
    part: gl.constexpr = gl.BlockedLayout([1, 4, 4], [1, 8, 4], [1, 1, 4], [2, 1, 0], spread(PROGRAMS, 1, 0, 0))
    whole: gl.constexpr = gl.BlockedLayout([PROGRAMS, 4], [1, 32], [1, 4], [1, 0], spread(PROGRAMS, 0, 0))
    both = gl.sum(gl.reshape(gl.join(first, second), [PROGRAMS, 4, 2, 8, 2 * BLOCK_R]), 2)  # the two rows a thread has
    both = gl.sum(gl.convert_layout(gl.reshape(both, [PROGRAMS, 32, 2 * BLOCK_R]), part), 1)
    both = gl.sum(gl.convert_layout(both, whole), 0)
    first, second = gl.split(gl.reshape(both, [BLOCK_R, 2]))
    return gl.convert_layout(first, layout), gl.convert_layout(second, layout)


@gluon.jit
def by_lane(values, sums, BLOCK_G: gl.constexpr, BLOCK_R: gl.constexpr):
    """sums + the sums over the columns [BLOCK_G, BLOCK_R] that a thread has, [BLOCK_G, 4 threads]; a multiply-add each, and no shuffle."""
    if BLOCK_R > 32:
        left, right = gl.split(gl.permute(gl.reshape(values, [BLOCK_G, 2, BLOCK_R // 2]), (0, 2, 1)))
        return by_lane(right, by_lane(left, sums, BLOCK_G, BLOCK_R // 2), BLOCK_G, BLOCK_R // 2)
    else:
        a, b = gl.split(gl.reshape(values, [BLOCK_G, 2, 2, 4, 2]))  # of every eight columns a thread has two neighbours
        a, c = gl.split(gl.permute(a, (0, 3, 1, 2)))
        b, d = gl.split(gl.permute(b, (0, 3, 1, 2)))
        a, e = gl.split(a)
        b, f = gl.split(b)
        c, g = gl.split(c)
        d, h = gl.split(d)
        return sums + a + b + c + d + e + f + g + h


@gluon.jit
def bias_of(mask, stride, start, keys, inside, MASK_KIND: gl.constexpr):
    """What a mask adds to the scores of a block of keys, the same for every query: -inf hides. MASK_KIND as in sweeps.pieces."""
    pointers = mask + (start + keys).to(gl.int64) * stride
    if MASK_KIND == 1:
        return gl.where(gl.load(pointers, mask=inside, other=1) != 0, 0.0, float("-inf"))
    else:
        bias = gl.load(pointers, mask=inside, other=0.0).to(gl.float32)
        return gl.where(bias > HIDDEN, bias * LOG2E, float("-inf"))
