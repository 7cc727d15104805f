"""What maps, runs and recorders say of themselves in a few lines."""

from __future__ import annotations

from collections.abc import Sequence


def cited(names: Sequence[str], most: int = 3) -> str:
    """A few names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more or "none"
