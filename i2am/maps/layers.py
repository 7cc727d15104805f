"""Choosing layers by name, pattern or function; one way for the tracer and for the maps."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Sequence

from i2am.common.checks import refuse, said

Layers = str | Iterable[str] | Callable[[str], bool] | None


def chosen(names: Sequence[str], layers: Layers) -> list[str]:
    """The names that `layers` means, in their own order; a pattern that means none is an error, not an empty choice."""
    if layers is None:
        return list(names)
    if callable(layers):
        found = [name for name in names if layers(name)]
        if not found:
            refuse("layers", "a function that is true for at least one layer", "one that is false for all", listed(names))
        return found
    patterns = [layers] if isinstance(layers, str) or not isinstance(layers, Iterable) else list(layers)
    if not patterns:
        refuse("layers", "names, patterns or a function", "[]", listed(names))
    wanted: set[str] = set()
    for pattern in patterns:
        if not isinstance(pattern, str):
            refuse("layers", "names, patterns or a function", said(pattern), listed(names))
        matching = {name for name in names if name == pattern or fnmatch.fnmatchcase(name, pattern)}
        if not matching:
            refuse("layers", "names or patterns of layers with a reference", said(pattern), listed(names))
        wanted |= matching
    return [name for name in names if name in wanted]


def listed(names: Sequence[str], most: int = 12) -> str:
    """The layers there are, for a message."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"There are: {', '.join(names[:most])}{more}." if names else "There are none."
