"""The denoiser: diffusers' UNet2DConditionModel, with a warp block before each part of its upward path that attends to one token.

A warp block is a transformer whose cross-attention reads the garment's features of the same level, so that both of its canvases are
that level's grid:

    h <- h + zero_conv(transformer(h, garment features));   h <- attention(residual([h, skip]))
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import ModelMixin, Transformer2DModel, UNet2DConditionModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from torch import Tensor, nn

from i2am.common.checks import refuse
from i2am.maps.tokens import Grid

__all__ = ["ModelMixin", "StableVITONUNet", "stableviton_unet"]  # diffusers looks for its own base class in the module of a component


class StableVITONUNet(UNet2DConditionModel):
    """Takes 13 channels (noisy latent, agnostic latent, mask, densepose latent), one token of the garment, and its features.

    The deepest level has neither attention nor warp blocks. `warp_flow_blks` are numbered from the coarsest grid to the finest, three
    a grid, so that number 4 lies on half the latent's grid: 32x24 at 512x384 pixels.
    """

    @functools.wraps(UNet2DConditionModel.__init__)  # type: ignore[misc]  # for its configuration
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        widths, layers = self.config.block_out_channels, self.config.layers_per_block
        queries = [widths[-1], *(width for width in reversed(widths[:-1]) for _ in range(layers + 1))][:-1]
        garment = [widths[0], *(width for width in widths[:-1] for _ in range(layers + 1))][:-1]
        heads = self.config.attention_head_dim  # diffusers' name for the number of heads
        self.warp_flow_blks = nn.ModuleList(
            Transformer2DModel(
                num_attention_heads=heads,
                attention_head_dim=query // heads,
                in_channels=query,
                cross_attention_dim=key,
                norm_num_groups=self.config.norm_num_groups,
            )
            for query, key in zip(queries, reversed(garment))
        )
        self.warp_zero_convs = nn.ModuleList(zero_conv(query) for query in queries)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float | int,
        encoder_hidden_states: Tensor,
        garment: Sequence[Tensor],
        return_dict: bool = True,
    ) -> Any:
        """sample [B, 13, h, w]; encoder_hidden_states [B, 1, tokens]; garment: the spatial encoder's features, finest first."""
        if len(garment) != len(self.warp_flow_blks):
            refuse("garment", f"{len(self.warp_flow_blks)} feature maps", len(garment), "The spatial encoder makes them.")
        time = self.time_embedding(self.get_time_embed(sample=sample, timestep=timestep))
        sample = self.conv_in(sample)
        skips = [sample]
        for block in self.down_blocks:
            sample, more = block(sample, time, **reading(block, encoder_hidden_states))
            skips += more
        sample = self.mid_block(sample, time, encoder_hidden_states=encoder_hidden_states)
        warps = zip(self.warp_flow_blks, self.warp_zero_convs, reversed(garment))
        for block in self.up_blocks:
            context = reading(block, encoder_hidden_states)
            for i, residual in enumerate(block.resnets):
                if context:
                    transformer, conv, features = next(warps)
                    tokens = features.flatten(2).transpose(1, 2)  # [B, h w, channels]
                    sample = sample + conv(transformer(sample, encoder_hidden_states=tokens, return_dict=False)[0])
                sample = residual(torch.cat([sample, skips.pop()], 1), time)
                if context:
                    sample = block.attentions[i](sample, **context, return_dict=False)[0]
            for upsampler in block.upsamplers or ():
                sample = upsampler(sample)
        sample = self.conv_out(self.conv_act(self.conv_norm_out(sample)))
        return UNet2DConditionOutput(sample=sample) if return_dict else (sample,)


def zero_conv(channels: int) -> nn.Conv2d:
    """Through which an untrained warp block changes nothing."""
    conv = nn.Conv2d(channels, channels, 1)
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)
    return conv


def reading(block: Any, tokens: Tensor) -> dict[str, Tensor]:
    """What a block is given beside its features: the garment's token, if it has cross-attention."""
    return {"encoder_hidden_states": tokens} if getattr(block, "has_cross_attention", False) else {}


def stableviton_unet(
    channels: tuple[int, int, int, int] = (320, 640, 1280, 1280), heads: int = 8, tokens: int = 768, grid: Grid = (64, 48)
) -> StableVITONUNet:
    """The shape of the release, with random weights."""
    return StableVITONUNet(
        sample_size=grid,
        in_channels=13,
        out_channels=4,
        block_out_channels=channels,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        layers_per_block=2,
        cross_attention_dim=tokens,
        attention_head_dim=heads,
        norm_num_groups=32,
    )
