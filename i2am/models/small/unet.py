"""The denoiser: diffusers' UNet2DConditionModel, with places in the cross-attentions and no self-attention on the fine grid."""

from __future__ import annotations

import functools
from typing import Any

import torch
from diffusers import ModelMixin, UNet2DConditionModel
from torch import Tensor, nn

from i2am.maps.tokens import Grid
from i2am.models.small.positions import PlacedLinear, tie

__all__ = ["ModelMixin", "SmallUNet", "small_unet"]  # diffusers looks for its own base class in the module of a component


class NoAttention(nn.Module):
    """In the place of a self-attention that would cost more than it gives."""

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return torch.zeros_like(hidden_states)


def cross_attentions(unet: UNet2DConditionModel) -> list[tuple[list[str], Any, int]]:
    """Every block with a cross-attention: its name in parts, the block, and how often its grid was halved."""
    last, found = len(unet.config.block_out_channels) - 1, []
    for name, block in unet.named_modules():
        if getattr(block, "attn2", None) is not None:
            part, index = (parts := name.split("."))[:2]
            found.append((parts, block, last if part == "mid_block" else int(index) if part == "down_blocks" else last - int(index)))
    return found


class SmallUNet(UNet2DConditionModel):
    """Takes the noisy picture, the person without the mask, the mask and the body as channels, garment tokens as context.

    The context is one special token and a grid of `sample_size`. It predicts the clean picture.
    """

    @functools.wraps(UNet2DConditionModel.__init__)  # type: ignore[misc]  # for its configuration
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        fine: Grid = tuple(self.config.sample_size)
        for _, block, level in cross_attentions(self):
            query, key = block.attn2.to_q, block.attn2.to_k
            grid = (fine[0] >> level, fine[1] >> level)
            block.attn2.to_q = PlacedLinear(query.in_features, query.out_features, grid)
            block.attn2.to_k = PlacedLinear(key.in_features, key.out_features, fine)
            tie(block.attn2.to_q, block.attn2.to_k)
            if level == 0:
                block.attn1, block.norm1 = NoAttention(), nn.Identity()


def small_unet(channels: tuple[int, int] = (96, 128), heads: int = 4, tokens: int = 128, grid: Grid = (32, 24)) -> SmallUNet:
    """The shape of the shipped model, with random weights."""
    return SmallUNet(
        sample_size=grid,
        in_channels=48 * 3 + 1,
        out_channels=48,
        block_out_channels=channels,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2D",
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=tokens,
        attention_head_dim=heads,  # diffusers' name for the number of heads
        norm_num_groups=16,
    )
