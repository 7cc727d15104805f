"""What this machine says of itself, and which version of the package runs on it."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import Any

LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of a container


def version() -> str:
    """Of this package; unknown where it is a folder on the path, not installed."""
    from importlib import metadata

    try:
        return metadata.version("i2am")
    except metadata.PackageNotFoundError:
        return "unknown"


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def free_memory(device: Any = "cpu") -> int | None:
    """Bytes that can still be taken on a device, at most: what the system says, None where it does not."""
    if str(device).startswith("cuda"):
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if not str(device).startswith("cpu"):
        return None
    found = [limit for path in LIMITS if (limit := number_in(path)) is not None]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        found.append(1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")))
    except (OSError, StopIteration, ValueError):
        with suppress(AttributeError, ValueError, OSError):  # Windows says it in another way
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(found, default=None)


def number_in(path: str) -> int | None:
    """The number in a file, if there is one."""
    try:
        return int(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def out_of_memory(error: BaseException) -> bool:
    """Of a GPU or of the machine: CPU tensors say so in a plain RuntimeError."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"  # torch's own, without importing it
    return named or any(word in str(error).lower() for word in words)
