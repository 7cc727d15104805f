"""The denoiser: diffusers' UNet2DConditionModel, whose patches know their place and whose words bring their own meaning."""

from __future__ import annotations

import functools
from typing import Any

from diffusers import ModelMixin, UNet2DConditionModel
from torch import Tensor, nn

from i2am.maps.tokens import Grid
from i2am.models.small.positions import PlacedLinear
from i2am.models.small.unet import NoAttention, cross_attentions

__all__ = ["ModelMixin", "SceneUNet", "scene_unet"]  # diffusers looks for its own base class in the module of a component


class SecondHalf(nn.Linear):
    """A projection of what a token's word means by itself; see `text.py`."""

    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens[..., -self.in_features :])


class SceneUNet(UNet2DConditionModel):
    """Takes the noisy picture, folded into channels, and the prompt's tokens as context. It predicts the clean picture."""

    @functools.wraps(UNet2DConditionModel.__init__)  # type: ignore[misc]  # for its configuration
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        fine: Grid = tuple(self.config.sample_size)
        for name, block, level in cross_attentions(self):
            query, value = block.attn2.to_q, block.attn2.to_v
            if level and name[3] == "0":  # where a thing goes is decided early; later layers look for what is there
                block.attn2.to_q = PlacedLinear(query.in_features, query.out_features, (fine[0] >> level, fine[1] >> level))
                nn.init.normal_(block.attn2.to_q.place, std=0.1)
            block.attn2.to_v = SecondHalf(value.in_features // 2, value.out_features, bias=False)
            if level == 0:
                block.attn1, block.norm1 = NoAttention(), nn.Identity()


def scene_unet(channels: tuple[int, int] = (64, 80), heads: int = 2, tokens: int = 128, grid: Grid = (16, 24)) -> SceneUNet:
    """The shape of the shipped model, with random weights."""
    return SceneUNet(
        sample_size=grid,
        in_channels=48,
        out_channels=48,
        block_out_channels=channels,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        mid_block_type=None,
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=tokens,
        attention_head_dim=heads,  # diffusers' name for the number of heads
        norm_num_groups=16,
    )
