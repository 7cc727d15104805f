"""One call of the operator, after the door: every backend receives this and nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

LOG2E = math.log2(math.e)

# An additive mask at or below this hides its key: float32 no longer resolves a logit beside such a number (one unit in
# the last place is 2), so `finfo.min` and -inf mean the same thing and a row that holds nothing else has no maps.
HIDDEN = -(2.0**24)

ALIGNMENT = 64  # bytes; what torch allocates on a CPU begins at a multiple


@dataclass(frozen=True)
class Call:
    """Shapes are checked, ranges are resolved, weights are float32. B' rows have maps, G' and R' tokens lie on the canvases."""

    query: Tensor  # [B, H, G, D]
    key: Tensor  # [B, Hk, R, D]: query head h reads key head h // (H // Hk)
    value: Tensor  # [B, Hk, R, Dv]
    mask: Tensor | None  # bool or additive, four dimensions, each the call's own size or 1
    scale: float
    r2g: Tensor | None  # [B', H, G']
    g2r: Tensor | None  # [B', H, n, R']
    token_maps: Tensor | None  # [B', H, n, G']
    column_maps: Tensor | None  # [B', H, n, R']
    generated_weight: Tensor | None  # [B', 1 or H, n, G']: 1 where all heads share the weights
    reference_weight: Tensor | None  # [B', 1 or H, R']
    token_weight: Tensor | None  # [B', 1 or H, R', n]
    column_weight: Tensor | None  # [B', 1 or H, n, G']
    rows: tuple[int, int]
    generated: tuple[int, int]
    reference: tuple[int, int]
    lse: Tensor | None = None  # [B', H, G'], to be written for a backward: L in log2 units, +inf where every key is hidden
    output: Tensor | None = None  # [B, H, G, Dv], where the output goes: part of a larger one

    @property
    def canvas(self) -> tuple[int, int, int, int]:
        """B', H, G', R'."""
        return (
            self.rows[1] - self.rows[0],
            self.query.shape[1],
            self.generated[1] - self.generated[0],
            self.reference[1] - self.reference[0],
        )

    @property
    def group(self) -> int:
        """Query heads that read the same key head."""
        return self.query.shape[1] // self.key.shape[1]

    @property
    def wants_columns(self) -> bool:
        """Whether some map is made from C, and so from the column log-sum-exp."""
        return self.r2g is not None or self.column_maps is not None

    @property
    def wants_maps(self) -> bool:
        return self.wants_columns or self.g2r is not None or self.token_maps is not None

    def g2r_weight(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """[B', 1 or H, n, G']: the weights of the generated rows, the default 1/G' written out without memory."""
        if self.generated_weight is not None:
            return self.generated_weight.to(dtype)
        batch, _, generated, _ = self.canvas
        return self.query.new_full((), 1.0 / generated, dtype=dtype).expand(batch, 1, 1, generated)

    def r2g_weight(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """[B', 1 or H, R']: the weights of the reference columns, the default 1/R' written out without memory."""
        if self.reference_weight is not None:
            return self.reference_weight.to(dtype)
        batch, _, _, reference = self.canvas
        return self.query.new_full((), 1.0 / reference, dtype=dtype).expand(batch, 1, reference)

    def upright(self) -> Call:
        """The same scores with a scale above 0: Triton's forward sweeps take a row's maximum before they scale."""
        if self.scale > 0:
            return self
        return replace(self, query=self.query * math.copysign(self.scale != 0, self.scale), scale=abs(self.scale) or 1.0)

    def empty_output(self) -> Tensor:
        """[B, H, G, Dv] in memory order [B, G, H, Dv], so that merging the heads afterwards costs nothing."""
        if self.output is not None:
            return self.output
        batch, heads, generated, _ = self.query.shape
        size = self.value.shape[-1]
        return self.query.new_empty_strided((batch, heads, generated, size), (generated * heads * size, size, heads * size, 1))


def clip(mask: Tensor, *ranges: slice) -> Tensor:
    """The part of a broadcast mask that belongs to these ranges of [B, H, G, R]; a dimension of size 1 serves any range."""
    return mask[tuple(part if size > 1 else slice(None) for part, size in zip(ranges, mask.shape))]


def additive(mask: Tensor, dtype: torch.dtype, factor: float = 1.0) -> Tensor:
    """The mask as numbers to add to scores that carry the same factor; hidden keys are -inf."""
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, -math.inf)
    return (mask.to(dtype) * factor).masked_fill_(mask <= HIDDEN, -math.inf)


def aligned(tensor: Tensor) -> Tensor:
    """The tensor, or a copy of it with the same strides where it begins at an address that torch would not have given it.

    Products of a matrix and a vector begin at the first aligned number in some libraries (MKL on some processors): their sums have other
    last digits at other addresses. Weights that are mapped from a file lie at any multiple of 8, a caller's view at any of 4.
    """
    if tensor.data_ptr() % ALIGNMENT == 0:
        return tensor
    span = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride()))  # from the first element to the last
    return tensor.as_strided((span,), (1,)).clone().as_strided(tensor.shape, tensor.stride())
