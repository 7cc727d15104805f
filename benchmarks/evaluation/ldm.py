"""A network of StableVITON's shape in LDM's names, for measuring: random weights, the garment's features are given, not computed.

15 cross-attentions to one token and one in the middle; nine warp blocks read a garment's features on their own grid.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """LDM's names; its own forward is replaced by the drop-in's while that listens."""

    def __init__(self, width: int, context: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.to_q, self.to_k, self.to_v = (nn.Linear(n, width, bias=False) for n in (width, context, context))
        self.to_out = nn.Sequential(nn.Linear(width, width), nn.Dropout(0.0))

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        seen = x if context is None else context
        query, key, value = (
            to(s).unflatten(-1, (self.heads, -1)).transpose(1, 2) for to, s in ((self.to_q, x), (self.to_k, seen), (self.to_v, seen))
        )
        return self.to_out(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, width: int, context: int, heads: int) -> None:
        super().__init__()
        self.attn1, self.attn2 = Attention(width, width, heads), Attention(width, context, heads)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.ff = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        x = self.attn1(self.norm1(x)) + x
        x = self.attn2(self.norm2(x), context=context) + x
        return self.ff(self.norm3(x)) + x


class Transformer(nn.Module):
    use_linear_projection = False  # what the eager hook asks

    def __init__(self, width: int, context: int, heads: int) -> None:
        super().__init__()
        self.norm, self.proj_in, self.proj_out = nn.GroupNorm(8, width), nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList([Block(width, context, heads)])

    def forward(self, x: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        tokens = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)
        for block in self.transformer_blocks:
            tokens = block(tokens, encoder_hidden_states)
        return x + self.proj_out(tokens.transpose(1, 2).unflatten(2, x.shape[-2:]))


class Residual(nn.Module):
    def __init__(self, into: int, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, into), nn.GroupNorm(8, width)
        self.conv1, self.conv2 = nn.Conv2d(into, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.skip = nn.Conv2d(into, width, 1) if into != width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))


class Network(nn.Module):
    """input_blocks, middle_block, output_blocks and warp_flow_blks, in LDM's order; the timestep shifts the input alone."""

    CONTEXT = 768

    def __init__(self, widths: tuple[int, int, int, int], heads: int) -> None:
        super().__init__()
        stack, into, blocks = [widths[0]], widths[0], [nn.ModuleList([nn.Conv2d(13, widths[0], 3, padding=1)])]
        for level, width in enumerate(widths):
            for _ in range(2):
                blocks.append(nn.ModuleList([Residual(into, width), *self.attention(level, width, heads)]))
                into = width
                stack.append(width)
            if level < 3:
                blocks.append(nn.ModuleList([nn.Conv2d(width, width, 3, stride=2, padding=1)]))
                stack.append(width)
        self.input_blocks = nn.ModuleList(blocks)
        self.middle_block = nn.ModuleList([Residual(into, into), Transformer(into, self.CONTEXT, heads), Residual(into, into)])
        outs, warps = [], []
        for level, width in reversed(list(enumerate(widths))):
            for i in range(3):
                if level < 3:
                    warps.append(Transformer(into, into, heads))
                up = [nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1)] if i == 2 and level else []
                outs.append(nn.ModuleList([Residual(into + stack.pop(), width), *self.attention(level, width, heads), *up]))
                into = width
        self.output_blocks, self.warp_flow_blks, self.out = nn.ModuleList(outs), nn.ModuleList(warps), nn.Conv2d(into, 4, 3, padding=1)

    def attention(self, level: int, width: int, heads: int) -> list[nn.Module]:
        return [Transformer(width, self.CONTEXT, heads)] if level < 3 else []

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor, garment: dict[tuple[int, ...], Tensor]) -> Tensor:
        x, hidden = x + 1e-3 * timesteps[:, None, None, None], []
        for block in self.input_blocks:
            x = run(block, x, context)
            hidden.append(x)
        x = run(self.middle_block, x, context)
        for number, block in enumerate(self.output_blocks):
            if number >= 3:
                x = self.warp_flow_blks[number - 3](x, encoder_hidden_states=garment[tuple(x.shape[1:])])
            x = run(block, torch.cat([x, hidden.pop()], 1), context)
        return self.out(x)


def run(parts: Any, x: Tensor, context: Tensor) -> Tensor:
    for part in parts:
        x = part(x, encoder_hidden_states=context) if isinstance(part, Transformer) else part(x)
    return x
