"""Attention that is broken on purpose, so that a score can be asked whether it notices."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from i2am.maps.tokens import Grid
from i2am.models.small import SmallTryOnPipeline
from i2am.models.small.positions import waves

SHARP = 6.0  # how strongly places count in attention that copies by place
Damage = Callable[[Tensor, int, int, Grid], Tensor]  # projected tokens, heads, layer, the grid behind the special tokens


def same(tokens: Tensor, heads: int, layer: int, grid: Grid) -> Tensor:
    return tokens


def shuffled(tokens: Tensor, heads: int, layer: int, grid: Grid) -> Tensor:
    """Every token of the grid answers for another one."""
    special = tokens.shape[1] - math.prod(grid)
    order = torch.randperm(math.prod(grid), generator=torch.Generator().manual_seed(layer)) + special
    return torch.cat([tokens[:, :special], tokens[:, order]], 1)


def swapped(tokens: Tensor, heads: int, layer: int, grid: Grid) -> Tensor:
    """Every head gets the next head's."""
    return tokens.roll(tokens.shape[2] // heads, 2)


def placed(tokens: Tensor, heads: int, layer: int, grid: Grid) -> Tensor:
    """Nothing but the place."""
    special, size = tokens.shape[1] - math.prod(grid), tokens.shape[2] // heads
    place = torch.nn.functional.pad(waves(grid, size // 4 * 4) * SHARP, (0, size % 4, special, 0))
    return place.to(tokens).repeat(1, heads).expand_as(tokens)


def blank(tokens: Tensor, heads: int, layer: int, grid: Grid) -> Tensor:
    """Everything alike."""
    return torch.zeros_like(tokens)


DAMAGES: dict[str, tuple[Damage, Damage]] = {  # of queries and of keys
    "shuffled keys": (same, shuffled),
    "swapped heads": (same, swapped),
    "copies by place": (placed, placed),
    "looks everywhere": (blank, same),
}


@contextmanager
def damaged(pipe: SmallTryOnPipeline, name: str) -> Iterator[None]:
    """The pipeline with every cross-attention broken in this way."""
    with ExitStack() as undo:
        blocks = [module.attn2 for module in pipe.unet.modules() if getattr(module, "attn2", None) is not None]
        for layer, attention in enumerate(blocks):
            for projection, how in zip((attention.to_q, attention.to_k), DAMAGES[name]):
                undo.callback(projection.register_forward_hook(hook(how, attention.heads, layer, projection.grid)).remove)
        yield


def hook(how: Damage, heads: int, layer: int, grid: Grid) -> Callable[..., Tensor]:
    return lambda module, inputs, output: how(output, heads, layer, grid)
