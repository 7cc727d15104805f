"""The garment as tokens: one special token of the whole, then a grid with one token for every 4 x 4 pixels."""

from __future__ import annotations

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.resnet import Downsample2D, ResnetBlock2D, Upsample2D
from torch import Tensor, nn

from i2am.maps.tokens import Grid
from i2am.models.pixels import PATCH, patches
from i2am.models.small.positions import WAVES, waves


def known(kept: Tensor, inside: Tensor, body: Tensor) -> Tensor:
    """What the UNet sees beside the noisy picture, in this order: the person without the mask, each patch's share of it, the body."""
    return torch.cat([patches(kept), inside, patches(body)], 1)


class GarmentEncoder(ModelMixin, ConfigMixin):
    """Convolutions on the fine grid, self-attention on the one of half its size, and both put together."""

    @register_to_config
    def __init__(self, grid: Grid = (32, 24), channels: int = 96, tokens: int = 128, heads: int = 4, layers: int = 1) -> None:
        super().__init__()
        height, width = grid
        self.conv_in = nn.Conv2d(3 * PATCH**2 + WAVES, channels, 3, padding=1)
        self.fine = nn.ModuleList(residual(channels, channels) for _ in range(2))
        self.down = Downsample2D(channels, use_conv=True, out_channels=tokens, name="op")
        self.coarse_place = nn.Linear(WAVES, tokens)
        self.coarse = nn.ModuleList(
            nn.TransformerEncoderLayer(tokens, heads, 2 * tokens, 0.0, "gelu", batch_first=True, norm_first=True) for _ in range(layers)
        )
        self.up = Upsample2D(tokens, use_conv=True)
        self.join = residual(channels + tokens, tokens)
        self.norm = nn.LayerNorm(tokens)
        self.whole = nn.Linear(tokens, tokens)
        self.nothing = nn.Parameter(torch.randn(tokens) * 0.02)  # every token, where there is no garment
        self.register_buffer("waves", waves((height, width)).T.reshape(1, WAVES, height, width), persistent=False)
        self.register_buffer("coarse_waves", waves((height // 2, width // 2)), persistent=False)

    def forward(self, garments: Tensor, guided: bool = False) -> Tensor:
        """[B, 3, H, W] in [-1, 1] -> [B, 1 + grid, tokens]; guided: [2 B, ...], the first half those of no garment."""
        patched = patches(garments)
        x = self.conv_in(torch.cat([patched, self.waves.to(patched.dtype).expand(len(patched), -1, -1, -1)], 1))
        for block in self.fine:
            x = block(x, None)
        half = self.down(x)
        height, width = half.shape[-2:]
        coarse = half.flatten(2).transpose(1, 2) + self.coarse_place(self.coarse_waves.to(half.dtype))
        for layer in self.coarse:
            coarse = layer(coarse)
        half = coarse.transpose(1, 2).unflatten(2, (height, width))
        x = self.join(torch.cat([x, self.up(half)], 1), None)
        grid = self.norm(x.flatten(2).transpose(1, 2))
        tokens = torch.cat([self.whole(coarse.mean(1, keepdim=True)), grid], 1)
        return torch.cat([self.empty(tokens), tokens]) if guided else tokens  # here, as the weights may be elsewhere between two calls

    def empty(self, like: Tensor) -> Tensor:
        """The tokens of no garment, in the shape of `like`."""
        return self.nothing.to(like.dtype).expand_as(like)


def residual(inside: int, outside: int) -> ResnetBlock2D:
    return ResnetBlock2D(in_channels=inside, out_channels=outside, temb_channels=None, groups=16)
