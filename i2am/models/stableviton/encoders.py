"""The garment, read twice: as features on the UNet's grids, and by CLIP as one token."""

from __future__ import annotations

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.unets.unet_2d_blocks import CrossAttnDownBlock2D
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel


class SpatialEncoder(ModelMixin, ConfigMixin):
    """The UNet's downward path once more, with weights of its own and the garment's latent added to its first convolution.

    The release also computes a fourth level and a middle block, and its UNet drops what they say: they are left out here.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 13,
        garment_channels: int = 4,
        block_out_channels: tuple[int, ...] = (320, 640, 1280),
        layers_per_block: int = 2,
        heads: int = 8,
        tokens: int = 768,
    ) -> None:
        super().__init__()
        first, embedding = block_out_channels[0], 4 * block_out_channels[0]
        self.conv_in = nn.Conv2d(in_channels, first, 3, padding=1)
        self.conv_garment = nn.Conv2d(garment_channels, first, 3, padding=1)
        self.time_proj = Timesteps(first, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(first, embedding)
        self.down_blocks = nn.ModuleList(
            CrossAttnDownBlock2D(
                in_channels=before,
                out_channels=width,
                temb_channels=embedding,
                num_layers=layers_per_block,
                resnet_eps=1e-5,
                num_attention_heads=heads,
                cross_attention_dim=tokens,
                add_downsample=level + 1 < len(block_out_channels),
            )
            for level, (before, width) in enumerate(zip((first, *block_out_channels), block_out_channels))
        )

    def forward(self, sample: Tensor, garment: Tensor, timestep: Tensor | float | int, encoder_hidden_states: Tensor) -> list[Tensor]:
        """sample [B, 13, h, w] as the UNet's, garment latents [B, 4, h, w] -> the features after every step of the way, finest first."""
        timesteps = torch.as_tensor(timestep, device=sample.device).expand(len(sample))
        time = self.time_embedding(self.time_proj(timesteps).to(sample.dtype))
        sample = self.conv_in(sample) + self.conv_garment(garment)
        features = [sample]
        for block in self.down_blocks:
            sample, more = block(sample, time, encoder_hidden_states=encoder_hidden_states)
            features += more
        return features


class ImageEncoder(ModelMixin, ConfigMixin):
    """Paint-by-Example's: CLIP's summary of a picture through a mapper, as the one token that every cross-attention reads."""

    @register_to_config
    def __init__(
        self,
        hidden_size: int = 1024,
        intermediate_size: int = 4096,
        num_hidden_layers: int = 24,
        num_attention_heads: int = 16,
        image_size: int = 224,
        patch_size: int = 14,
        mapper_layers: int = 5,
        tokens: int = 768,
    ) -> None:
        super().__init__()
        clip = CLIPVisionModel(
            CLIPVisionConfig(
                hidden_size=hidden_size,
                intermediate_size=intermediate_size,
                num_hidden_layers=num_hidden_layers,
                num_attention_heads=num_attention_heads,
                image_size=image_size,
                patch_size=patch_size,
            )
        )
        self.clip = getattr(clip, "vision_model", clip)  # transformers 5 has no model inside the model: one set of names for both
        self.mapper = nn.ModuleList(
            BasicTransformerBlock(hidden_size, 1, hidden_size, activation_fn="gelu", attention_bias=True) for _ in range(mapper_layers)
        )
        self.final_layer_norm = nn.LayerNorm(hidden_size)
        self.proj_out = nn.Linear(hidden_size, tokens)
        self.uncond_vector = nn.Parameter(torch.randn(1, 1, tokens))  # in the token's place, where there is no garment

    def forward(self, pixel_values: Tensor, guided: bool = False) -> Tensor:
        """[B, 3, H, W], normalised as for CLIP -> [B, 1, tokens]; guided: [2 B, 1, tokens], the first half without a garment."""
        token = self.clip(pixel_values=pixel_values).pooler_output[:, None]
        for block in self.mapper:
            token = block(token)
        token = self.proj_out(self.final_layer_norm(token))
        return torch.cat([self.uncond_vector.expand_as(token), token]) if guided else token
