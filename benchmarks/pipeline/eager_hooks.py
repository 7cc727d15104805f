"""The paper's release's way to its maps, restated in our own code for diffusers' UNets, to be measured beside ours.

What is restated (the authors' public code, StableVITON's and Paint-by-Example's flavours):

- a forward hook on every spatial transformer (norm, projection, transformer block) but the middle block's, after it has run;
- of a guided batch [uncond, cond] the hook takes row 1: one image at a time, and of it batch 1;
- it computes the block's beginning once more: norm, input projection, the whole self-attention, then query, key and value of
  the cross-attention (the value is never used);
- the score matrix [heads, G, R] in float32, stored; one softmax over the generated axis (R2G) or the reference axis (G2R): one
  direction a run. Per layer, and for the time level per step, the maps of every head and every token of the other side are
  kept whole and added up: [heads, R, h, w], or [heads, G, h, w] on the reference's grid;
- at the end every one of those maps is resized to the latent's grid, bicubic, clamped at 0, all layers are joined in one
  tensor, and the mean over heads and layers, then over tokens, is the map. (One level a run: this is the unified one.)

What differs, in the release's favour: its own LDM attention stores the G x G scores of the self-attention where xFormers is
missing; here it is the host's, scaled_dot_product_attention. Its nine warp blocks of StableVITON are no part of this UNet.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Grid = tuple[int, int]


class EagerHooks:
    """`with EagerHooks(unet) as hooks: denoise(...)`, then hooks.unified(size)."""

    def __init__(self, unet: nn.Module, direction: str = "r2g", reference_grid: Grid | None = None, special: int = 0) -> None:
        self.unet, self.direction, self.reference_grid, self.special = unet, direction, reference_grid, special
        self.sums: dict[str, Tensor] = {}  # layer -> [heads, tokens of the other side, h, w]
        self.handles: list[Any] = []

    def __enter__(self) -> EagerHooks:
        for name, module in self.unet.named_modules():
            if hasattr(module, "transformer_blocks") and "mid_block" not in name:
                self.handles.append(module.register_forward_hook(self.hook(name), with_kwargs=True))
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self.handles:
            handle.remove()

    def hook(self, name: str) -> Any:
        def after(module: Any, args: Any, kwargs: dict[str, Any], output: object) -> None:
            hidden = args[0] if args else kwargs["hidden_states"]
            context = kwargs["encoder_hidden_states"]
            if hidden.shape[0] != 1:
                hidden, context = hidden[1:2], context[1:2]
            maps = self.scores(module, hidden, context)
            if name in self.sums:
                self.sums[name] += maps
            else:
                self.sums[name] = maps

        return after

    def scores(self, module: Any, hidden: Tensor, context: Tensor) -> Tensor:
        """The transformer's beginning over again, and the attention matrix by the axis of this direction."""
        height, width = hidden.shape[-2:]
        (block,) = module.transformer_blocks
        if module.use_linear_projection:
            tokens = module.proj_in(module.norm(hidden).flatten(2).transpose(1, 2))
        else:
            tokens = module.proj_in(module.norm(hidden)).flatten(2).transpose(1, 2)
        tokens = block.attn1(block.norm1(tokens)) + tokens
        attention = block.attn2
        query, key, _ = (
            project(x).unflatten(-1, (attention.heads, -1))[0].transpose(0, 1).float()
            for project, x in ((attention.to_q, block.norm2(tokens)), (attention.to_k, context), (attention.to_v, context))
        )
        scores = torch.einsum("hgd,hrd->hgr", query, key) * attention.scale  # [heads, G, R]
        if self.direction == "r2g":
            return scores.softmax(1).transpose(1, 2).unflatten(2, (height, width))
        if self.reference_grid is None:
            raise ValueError("G2R needs reference_grid=(height, width) to lay the reference out, got None. Pass it, or use r2g.")
        return scores.softmax(2)[..., self.special :].unflatten(2, self.reference_grid)

    def unified(self, size: Grid) -> Tensor:
        """[h, w]: every head's and token's map resized and clamped, then the means."""
        resized = [F.interpolate(maps, size=size, mode="bicubic").clamp_(min=0) for maps in self.sums.values()]
        if self.direction == "r2g":  # the same number of tokens in every layer
            return torch.cat(resized).mean(0).mean(0)
        return torch.cat([maps.mean(1) for maps in resized]).mean(0)
