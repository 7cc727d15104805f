"""The matrix behind a layer's heads: what its output projection makes of them, adapters and quantised numbers included."""

from __future__ import annotations

import torch
from torch import Tensor, nn

OUTPUTS = ("to_out", "out_layer", "img_attn_proj")  # most models', Kandinsky 5's, JoyImageEdit's


def output_weight(module: nn.Module, width: int, like: Tensor) -> Tensor | None:
    """[C, width] for `width` channels of all heads together; None where the module has no projection of its own.

    diffusers keeps [Linear, Dropout] in `to_out`, LDM a Sequential of both. Only the stream of the generated image counts, whatever a
    joint layer has for the others (`to_add_out`). Flux 2's single blocks project the heads and, behind them, their MLP with one matrix.
    What is no plain Linear at hand, as under a LoRA, is asked for its unit vectors.
    """
    out = next((found for found in (getattr(module, name, None) for name in OUTPUTS) if found is not None), None)
    if isinstance(out, (nn.ModuleList, nn.Sequential)):
        out = out[0] if len(out) else None
    if not isinstance(out, nn.Module) or isinstance(out, nn.Identity):
        return None
    behind = int(getattr(module, "mlp_hidden_dim", 0)) if hasattr(module, "to_qkv_mlp_proj") else 0
    if type(out) is nn.Linear and not out.weight.is_meta:
        return out.weight if behind == 0 else out.weight[:, :width]
    units = torch.eye(width, width + behind, dtype=like.dtype, device=like.device)
    with torch.no_grad():
        made = out(nn.functional.pad(units, (0, 0, 0, 1)))  # and nothing, last
    return (made[:-1] - made[-1]).mT  # without the bias
