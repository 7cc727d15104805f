"""A transformer that no family knows, for the page about adding one: [garment, text, generated] in every layer's one call."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from parts import each, sharpen
from torch import Tensor, nn

HEADS, WIDTH = 2, 32


class Processor:
    def __call__(self, attn: Attention, states: Tensor) -> Tensor:
        query, key, value = (
            part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (attn.to_q(states), attn.to_k(states), attn.to_v(states))
        )
        out = torch.nn.functional.scaled_dot_product_attention(query, key, value)
        return attn.to_out(out.transpose(1, 2).flatten(2))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v, self.to_out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.processor = Processor()

    def forward(self, states: Tensor) -> Tensor:
        return self.processor(self, states)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = Attention()

    def forward(self, states: Tensor) -> Tensor:
        return states + self.attn(states)


class TailorTransformer(nn.Module):
    """Tokens of a garment, of a text and of what is generated, one behind the other."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block(), Block()])

    def forward(
        self, hidden_states: Tensor, garment: Tensor, encoder_hidden_states: Tensor, size: tuple[int, int], garment_size: tuple[int, int],
        timestep: Any = None,
    ) -> Tensor:  # fmt: skip
        states = torch.cat([garment, encoder_hidden_states, hidden_states], 1)
        for block in self.blocks:
            states = block(states)
        return states[:, -hidden_states.shape[1] :]


class TailorPipeline:
    """Somebody's own pipeline."""

    def __init__(self) -> None:
        from diffusers import FlowMatchEulerDiscreteScheduler

        torch.manual_seed(0)
        self.transformer = sharpen(TailorTransformer()).eval()
        self.scheduler = FlowMatchEulerDiscreteScheduler()

    @torch.no_grad()
    def __call__(self, garment: Tensor, text: Tensor, num_inference_steps: int = 20) -> Any:
        size = (8, 6)
        latents = each(garment.shape[0], size[0] * size[1], WIDTH, seed=3)
        self.scheduler.set_timesteps(num_inference_steps)
        for timestep in self.scheduler.timesteps:
            out = self.transformer(latents, garment.flatten(2).mT, text, size, tuple(garment.shape[2:]), timestep=timestep)
            latents = self.scheduler.step(out, timestep, latents, return_dict=False)[0]
        return SimpleNamespace(images=latents)


def tailor() -> dict[str, Any]:
    """The pipeline, and two garments of 5 by 7 tokens."""
    return {"pipe": TailorPipeline(), "inputs": {"garment": each(2, WIDTH, 5, 7, seed=1), "text": each(2, 9, WIDTH, seed=2)}}
