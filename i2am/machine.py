"""What this machine says of itself."""

from __future__ import annotations

import platform
from pathlib import Path


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def out_of_memory(error: BaseException) -> bool:
    """Of a GPU or of the machine: CPU tensors say so in a plain RuntimeError."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"  # torch's own, without importing it
    return named or any(word in str(error).lower() for word in words)
