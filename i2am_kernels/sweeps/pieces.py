"""What the sweeps share: a tile of tokens, a tile of scores, and where a program stands.

A tensor's strides come as one tuple, those of tokens as (batch row, head, token, channel); the compiler knows of each what it would
know of it alone. Base pointers are moved in 64 bits, offsets inside a tile stay in 32. A head size that is no power of two is cut in two
(80 = 64 + 16, 160 = 128 + 32), because tile sides are; D1 = 0 where one part is enough.
"""

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
HIDDEN = tl.constexpr(-16777216.0)  # i2am_kernels.call.HIDDEN
UNDERFLOW = tl.constexpr(8.271806125530277e-25)  # 2^-80: a column sum under this has lost digits
NOTHING = tl.constexpr(-1.0e30)  # a running maximum that has seen nothing, finite so that differences stay numbers

# Two numbers as bfloat16 pairs: the upper halves of their bits, and what is left. The nearest number instead would cost a conversion as
# slow as an exponential, and the compiler keeps fewer registers where both pairs are made at once.
SPLIT = tl.constexpr("""{
    .reg .b32 a, b;
    .reg .f32 c, d;
    and.b32 a, $2, 0xffff0000;
    and.b32 b, $3, 0xffff0000;
    sub.f32 c, $2, a;
    sub.f32 d, $3, b;
    prmt.b32 $0, $2, $3, 0x7632;
    cvt.rn.bf16x2.f32 $1, d, c;
}""")


@triton.jit
def log2_or(total, high, otherwise):
    """high + log2 total, or `otherwise` where nothing was summed."""
    something = total > 0
    return tl.where(something, high + tl.log2(tl.where(something, total, 1.0)), otherwise)


@triton.jit
def inverse(total):
    """1 / total, or 0 where nothing was summed."""
    return tl.where(total > 0, 1.0 / tl.where(total > 0, total, 1.0), 0.0)


@triton.jit
def start_of(pointer, strides, b, h, token, UNIT: tl.constexpr):
    """Where a token of a row and head begins. UNIT = 8 tells the compiler what the launcher knows: every stride is a
    multiple of 8, so tokens can be read 16 bytes at a time (the runtime's own check only knows 16: not heads of 40 or 72)."""
    return token_of(pointer + b * (strides[0] // UNIT * UNIT) + h * (strides[1] // UNIT * UNIT), strides, token, UNIT)


@triton.jit
def token_of(pointer, strides, token, UNIT: tl.constexpr):
    """Where a token begins, counted from another."""
    return pointer + token * (strides[2] // UNIT * UNIT)


@triton.jit
def place(program, blocks, heads):
    """(block, row and head, row, head) of a program; the last two in 64 bits for offsets."""
    row_head = program // blocks
    return program % blocks, row_head, (row_head // heads).to(tl.int64), (row_head % heads).to(tl.int64)


@triton.jit
def load_part(base, strides, count,
              BLOCK: tl.constexpr, START: tl.constexpr, SIZE: tl.constexpr, D: tl.constexpr,
              EVEN: tl.constexpr, UNIT: tl.constexpr, UPCAST: tl.constexpr):  # fmt: skip
    """Tokens [BLOCK, SIZE] from `base`, head columns START onwards; zeros behind `count` tokens and D columns."""
    rows = tl.arange(0, BLOCK)
    columns = START + tl.arange(0, SIZE)
    pointers = base + rows[:, None] * (strides[2] // UNIT * UNIT) + columns[None, :] * strides[3]
    if EVEN and START + SIZE <= D:
        tile = tl.load(pointers)
    elif START + SIZE <= D:
        tile = tl.load(pointers, mask=rows[:, None] < count, other=0.0)
    elif EVEN:
        tile = tl.load(pointers, mask=columns[None, :] < D, other=0.0)
    else:
        tile = tl.load(pointers, mask=(rows[:, None] < count) & (columns[None, :] < D), other=0.0)
    if UPCAST:
        tile = tile.to(tl.float32)
    return tile


@triton.jit
def load_tokens(base, strides, count,
                BLOCK: tl.constexpr, D: tl.constexpr, D0: tl.constexpr, D1: tl.constexpr,
                EVEN: tl.constexpr, UNIT: tl.constexpr, UPCAST: tl.constexpr):  # fmt: skip
    """Both parts of a tile of tokens; the second repeats the first where D1 = 0 and is not used."""
    first = load_part(base, strides, count, BLOCK, 0, D0, D, EVEN, UNIT, UPCAST)
    second = first
    if D1 > 0:
        second = load_part(base, strides, count, BLOCK, D0, D1, D, EVEN, UNIT, UPCAST)
    return first, second


@triton.jit
def products(a0, a1, b0, b1, D1: tl.constexpr, PRECISION: tl.constexpr):
    """A B^T."""
    tile = tl.dot(a0, tl.trans(b0), input_precision=PRECISION)
    if D1 > 0:
        tile = tl.dot(a1, tl.trans(b1), tile, input_precision=PRECISION)
    return tile


@triton.jit
def load_weights(base, rows, columns, row_count, row_stride, part_stride, PRECISION: tl.constexpr):
    """Both parts of a tile of weightings [rows, columns], as `weighed` wants them; zeros behind `row_count`. A token's weights lie
    side by side, zeros behind the last, so that they come on chip like tokens."""
    pointers = base + rows[:, None] * row_stride + columns[None, :]
    inside = rows[:, None] < row_count
    high = tl.load(pointers, mask=inside, other=0.0)
    low = high
    if PRECISION != "ieee":
        low = tl.load(pointers + part_stride, mask=inside, other=0.0)
    return high, low


@triton.jit
def weighed(tile, high, low, sums, PRECISION: tl.constexpr):
    """sums + tile (high + low), for float32 probabilities and several weightings at once.

    On NVIDIA a weight is two bfloat16 numbers, a probability too, and the smallest of the four products is left out: 16 bits
    hold. Elsewhere `high` is the whole weight in float32.
    """
    if PRECISION == "ieee":
        sums = tl.dot(tile, high, sums, input_precision=PRECISION)
    else:
        tile_high, tile_low = tl.inline_asm_elementwise(SPLIT, "=r,=r,r,r", [tile], dtype=(tl.bfloat16, tl.bfloat16), is_pure=True, pack=2)
        sums = tl.dot(tile_low, high, sums)
        sums = tl.dot(tile_high, low, sums)
        sums = tl.dot(tile_high, high, sums)
    return sums


@triton.jit
def biased(tile, mask, rows, columns, row_count, column_count, row_stride, column_stride, MASK_KIND: tl.constexpr):
    """The scores with the mask applied, hidden outside the counts; MASK_KIND 0: no mask, 1: true = attend, 2: added."""
    if MASK_KIND > 0:
        pointers = mask + rows[:, None] * row_stride + columns[None, :] * column_stride
        inside = (rows[:, None] < row_count) & (columns[None, :] < column_count)
        if MASK_KIND == 1:
            tile = tl.where(tl.load(pointers, mask=inside, other=0) != 0, tile, float("-inf"))
        else:
            bias = tl.load(pointers, mask=inside, other=float("-inf")).to(tl.float32)
            tile = tl.where(bias > HIDDEN, tile + bias * LOG2E, float("-inf"))
    return tile
