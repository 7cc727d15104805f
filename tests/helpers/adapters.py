"""IP-Adapter weights in memory, in the layout of the published files: an image projection, and two matrices per `attn2`."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

WIDTH = 32  # of the image encoder and of the UNet's cross-attention
GRID = (16, 16)  # the image encoder's patches; diffusers takes 257 tokens of a full projection for granted
TOKENS = {"plain": 4, "plus": 5, "full": 1 + GRID[0] * GRID[1]}  # of one reference image


def vision() -> nn.Module:
    """A CLIP image encoder: a class token and GRID patches of a 32 by 32 image."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        projection_dim=WIDTH,
        image_size=32,
        patch_size=32 // GRID[0],
        num_hidden_layers=2,
        num_attention_heads=2,
    )
    return CLIPVisionModelWithProjection(config).eval()


def adapter(variant: str, unet: nn.Module) -> dict[str, dict[str, Tensor]]:
    """One adapter's state dict; the numbers 1, 3, ... are those of the cross-attentions among all processors."""
    matrices = {}
    names = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    for place, name in enumerate(names):
        width = unet.get_submodule(name.removesuffix(".processor")).to_k.out_features
        for what in ("to_k_ip", "to_v_ip"):
            matrices[f"{2 * place + 1}.{what}.weight"] = weight(width, WIDTH)
    return {"image_proj": {"plain": plain, "plus": plus, "full": full}[variant](), "ip_adapter": matrices}


def weight(*shape: int) -> Tensor:
    return torch.randn(shape) / math.sqrt(shape[-1])


def plain() -> dict[str, Tensor]:
    """4 tokens from the pooled embedding."""
    tokens = TOKENS["plain"]
    return {
        "proj.weight": weight(tokens * WIDTH, WIDTH),
        "proj.bias": torch.zeros(tokens * WIDTH),
        "norm.weight": torch.ones(WIDTH),
        "norm.bias": torch.zeros(WIDTH),
    }


def full() -> dict[str, Tensor]:
    """Every token of the image encoder, projected one by one: the class token first, then the patches."""
    return {
        "proj.0.weight": weight(WIDTH, WIDTH),
        "proj.0.bias": torch.zeros(WIDTH),
        "proj.2.weight": weight(WIDTH, WIDTH),
        "proj.2.bias": torch.zeros(WIDTH),
        "proj.3.weight": torch.ones(WIDTH),
        "proj.3.bias": torch.zeros(WIDTH),
    }


def plus(hidden: int = 64, depth: int = 4) -> dict[str, Tensor]:
    """A resampler: 5 learnt queries read all tokens, so its tokens have no place on the image."""
    out = {"latents": torch.randn(1, TOKENS["plus"], hidden)}
    for name, rows, columns in (("proj_in", hidden, WIDTH), ("proj_out", WIDTH, hidden)):
        out |= {f"{name}.weight": weight(rows, columns), f"{name}.bias": torch.zeros(rows)}
    out |= {"norm_out.weight": torch.ones(WIDTH), "norm_out.bias": torch.zeros(WIDTH)}
    for layer in range(depth):
        for norm in ("0.norm1", "0.norm2", "1.0"):
            out |= {f"layers.{layer}.{norm}.weight": torch.ones(hidden), f"layers.{layer}.{norm}.bias": torch.zeros(hidden)}
        for name, rows, columns in (
            ("0.to_q", 64, hidden),  # one head of 64, the only size the loader knows
            ("0.to_kv", 128, hidden),
            ("0.to_out", hidden, 64),
            ("1.1", 4 * hidden, hidden),
            ("1.3", hidden, 4 * hidden),
        ):
            out[f"layers.{layer}.{name}.weight"] = weight(rows, columns)
    return out
