"""The attention layers that the operator is measured on, each with its reason, and random inputs of that shape."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

Range = tuple[int, int]


class Shape(NamedTuple):
    generated: int  # query tokens
    reference: int  # key tokens
    size: int  # head size
    heads: int
    why: str
    canvas: Range | None = None  # the query tokens that are the generated canvas
    tokens: Range | None = None  # the key tokens that are the reference
    key_heads: int | None = None  # where query heads share them


SHAPES = {
    "warp_3072": Shape(3072, 3072, 40, 8, "StableVITON's warp blocks at 64x48: the most scores of any layer there"),
    "warp_768": Shape(768, 768, 80, 8, "StableVITON's warp blocks at 32x24: launches start to count"),
    "warp_192": Shape(192, 192, 160, 8, "StableVITON's warp blocks at 16x12: launches are all that counts; the widest heads"),
    "garment_1036": Shape(3072, 1036, 40, 8, "garment tokens beside a 64x48 latent: a length that no tile divides"),
    "ip_257": Shape(4096, 257, 64, 10, "IP-Adapter with all CLIP patches: one key more than one tile"),
    "ip_16": Shape(4096, 16, 64, 10, "IP-Adapter Plus: sixteen image tokens"),
    "one_token": Shape(4096, 1, 40, 8, "a single image token: P is 1, C is a softmax over the canvas"),
    "words_77": Shape(4096, 77, 64, 10, "a prompt: words, and a length that no tile divides"),
    "joint": Shape(
        4608, 8704, 128, 24, "joint attention: 512 text tokens, a 64x64 canvas and a 64x64 reference", (512, 4608), (4608, 8704)
    ),
}
TINY = Shape(33, 19, 40, 1, "one visit to each kernel under the interpreter")
SMALL = ("warp_768", "warp_192", "ip_16", "one_token", "words_77")  # where launches weigh most
GPU_BATCHES = (1, 8, 32)
CPU_BATCH = 2


def rows_of(which: str, batch: int) -> Range:
    """The batch rows that have maps: all of them, or the conditional half of a guided batch."""
    if which not in ("all", "half"):
        raise ValueError(f'rows must be "all" or "half", got {which!r}. "half" is the conditional half of a guided batch.')
    if which == "half" and batch < 2:
        raise ValueError(f"the conditional half needs a batch of 2 or more, got {batch}. Use rows=all.")
    return (0, batch) if which == "all" else (batch // 2, batch)


def tensor(batch: int, tokens: int, heads: int, size: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Random heads as a pipeline has them: a linear layer's [B, tokens, H * D], split and transposed."""
    return torch.randn(batch, tokens, heads, size, device=device, dtype=torch.float32).to(dtype).transpose(1, 2)


def arguments(shape: Shape, batch: int, dtype: torch.dtype, device: torch.device, rows: str = "all") -> dict[str, Any]:
    """The keyword arguments of one `bi_attention` call, buffers at zero; logits are about normal, the same every time."""
    torch.manual_seed(0)
    start, stop = rows_of(rows, batch)
    canvas, tokens = shape.canvas or (0, shape.generated), shape.tokens or (0, shape.reference)
    key_heads = shape.key_heads or shape.heads
    return {
        "query": tensor(batch, shape.generated, shape.heads, shape.size, dtype, device),
        "key": tensor(batch, shape.reference, key_heads, shape.size, dtype, device),
        "value": tensor(batch, shape.reference, key_heads, shape.size, dtype, device),
        "r2g": torch.zeros(stop - start, shape.heads, canvas[1] - canvas[0], device=device),
        "g2r": torch.zeros(stop - start, shape.heads, tokens[1] - tokens[0], device=device),
        "rows": (start, stop),
        "generated": canvas,
        "reference": tokens,
        **({} if key_heads == shape.heads else {"enable_gqa": True}),
    }
