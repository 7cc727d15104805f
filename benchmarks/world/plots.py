"""Matplotlib, without a screen."""

from __future__ import annotations

from typing import Any


def plots() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt
