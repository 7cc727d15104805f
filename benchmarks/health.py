"""Whether the device still answers: after an illegal address every later call of the process fails, whoever makes it."""

from __future__ import annotations

import torch


class DeviceLost(RuntimeError):
    """Nothing more can be run in this process."""


def alive(device: torch.device) -> None:
    """DeviceLost where the device no longer answers; to be asked after every error that is caught."""
    if device.type == "cuda":
        try:
            torch.cuda.synchronize(device)
            torch.ones(1, device=device).item()
        except RuntimeError as lost:
            raise DeviceLost(str(lost)[:500]) from lost
