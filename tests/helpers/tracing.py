"""One traced run of a case, and everything that a trace touches."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import i2am


def traced(case: Any, options: dict[str, Any] | None = None, **trace: Any) -> tuple[Tensor, i2am.AttributionMaps]:
    with i2am.trace(case.pipe, **{"groups": 2, **trace}) as run:
        out = case(**(options or {}))
    return out, run.maps


def footprint(pipe: Any) -> dict[str, Any]:
    """Everything a trace touches."""
    denoiser = pipe.unet if hasattr(pipe, "unet") else pipe.transformer
    modules = {name: module for name, module in denoiser.named_modules() if hasattr(module, "processor")}
    return {
        "symbol": torch.nn.functional.scaled_dot_product_attention,
        "classes": {name: type(module.processor) for name, module in modules.items()},
        "processors": {name: dict(vars(module.processor)) for name, module in modules.items()},
        "attributes": {name: set(vars(module)) for name, module in modules.items()},
        "scheduler": {name for name, value in vars(pipe.scheduler).items() if callable(value)},
        "denoiser": {name for name, value in vars(denoiser).items() if callable(value)},
        "hooks": (len(denoiser._forward_pre_hooks), len(denoiser._forward_hooks)),
        "encoder": len(pipe.text_encoder._forward_pre_hooks) if getattr(pipe, "text_encoder", None) is not None else 0,
        "state": set(denoiser.state_dict()),
    }
