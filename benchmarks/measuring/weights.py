"""Weights for models of which only the shapes matter."""

from __future__ import annotations

from typing import Any

import torch


def filled(model: Any, device: torch.device) -> Any:
    """Random weights that keep the variance, so that logits are about normal."""
    seeded = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, parameter[0].numel() ** -0.5, generator=seeded)
            else:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
    return model.eval()
