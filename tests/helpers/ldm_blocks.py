"""The blocks of tests/helpers/ldm.py: attention with `to_q, to_k, to_v, to_out, heads, scale`, no processor and an eager softmax."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class CrossAttention(nn.Module):
    """Eager attention by einsum; `mask` [B, ...] is true where a key may be seen."""

    def __init__(self, width: int, context: int | None = None, heads: int = 2) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context or width, width, bias=False)
        self.to_v = nn.Linear(context or width, width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(width, width), nn.Dropout(0.0))

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None, **hints: Any) -> Tensor:
        context = x if context is None else context
        query, key, value = (
            states.unflatten(-1, (self.heads, -1)).transpose(1, 2) for states in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        scores = torch.einsum("bhid,bhjd->bhij", query, key) * self.scale
        if mask is not None:
            scores = scores.masked_fill(~mask.flatten(1)[:, None, None], -torch.finfo(scores.dtype).max)
        out = torch.einsum("bhij,bhjd->bhid", scores.softmax(-1), value)
        return self.to_out(out.transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """`hint` travels with the self-attention, which makes nothing of it, as in StableVITON."""

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.attn1, self.attn2 = CrossAttention(width), CrossAttention(width, context)
        self.ff = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor, context: Tensor | None = None, hint: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        x = self.attn1(self.norm1(x), context=None, hint=hint) + x
        x = self.attn2(self.norm2(x), context=context, **({} if mask is None else {"mask": mask})) + x
        return self.ff(self.norm3(x)) + x


class SpatialTransformer(nn.Module):
    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.norm, self.proj_in, self.proj_out = nn.GroupNorm(2, width), nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(width, context)])

    def forward(self, x: Tensor, context: Tensor, hint: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        tokens = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)  # [B, h * w, C]
        for block in self.transformer_blocks:
            tokens = block(tokens, context=context, hint=hint, mask=mask)
        return x + self.proj_out(tokens.transpose(1, 2).unflatten(2, x.shape[-2:]))


class Residual(nn.Module):
    def __init__(self, into: int, width: int) -> None:
        super().__init__()
        self.norm, self.conv, self.emb = nn.GroupNorm(2, into), nn.Conv2d(into, width, 3, padding=1), nn.Linear(16, width)
        self.skip = nn.Conv2d(into, width, 1) if into != width else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return self.skip(x) + self.conv(nn.functional.silu(self.norm(x))) + self.emb(emb)[..., None, None]


class Blocks(nn.Sequential):
    """Gives each part what it takes."""

    def forward(self, x: Tensor, emb: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        for part in self:
            if isinstance(part, Residual):
                x = part(x, emb)
            elif isinstance(part, SpatialTransformer):
                x = part(x, context, mask=mask)
            else:
                x = part(x)
        return x
