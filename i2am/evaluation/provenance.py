"""What a report says beside scores and options: versions, hardware, time."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from i2am.common.machine import processor
from i2am.maps.files import versions

COMBINED = (("images", sum), ("seconds", max), ("seconds", sum), ("scoring", sum))
PACKAGES = ("transformers", "accelerate", "torchmetrics", "numpy", "scipy", "pillow")


def summed(mine: dict[str, float], state: Any) -> dict[str, float]:
    """Images of all processes, seconds by the clock, and the share of all processes' time that scoring and writing took."""
    found = [mine]
    if state.num_processes > 1:
        from accelerate.utils import gather_object

        found = gather_object(found)
    images, seconds, busy, scoring = (combine(one[name] for one in found) for name, combine in COMBINED)
    return {"images": images, "seconds": seconds, "images_per_second": images / seconds, "share_scoring": scoring / busy}


def every_version() -> dict[str, str]:
    return {**versions(), **{p: v for p in PACKAGES if (v := installed(p))}, "python": platform.python_version()}


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def hardware(device: torch.device) -> dict[str, Any]:
    """The machine, as far as it says."""
    found: dict[str, Any] = {"device": str(device), "cores": os.cpu_count(), "threads": torch.get_num_threads(), "cpu": processor()}
    if device.type == "cuda":
        found |= {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    return found
