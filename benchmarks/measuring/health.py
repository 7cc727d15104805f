"""Whether the device still answers: after an illegal address every later call of the process fails, whoever makes it."""

from __future__ import annotations

import torch


class DeviceLost(RuntimeError):
    """Nothing more can be run in this process."""


def alive(device: torch.device) -> None:
    """DeviceLost where the device no longer answers."""
    if device.type == "cuda":
        try:
            torch.cuda.synchronize(device)
            torch.ones(1, device=device).item()
        except RuntimeError as lost:
            raise DeviceLost(str(lost)[:500]) from lost


def told(broken: Exception, device: torch.device) -> str:
    """What went wrong, in words, of every error that is caught; DeviceLost where it took the device with it."""
    alive(device)
    return f"{type(broken).__name__}: {broken}"[:2000]
