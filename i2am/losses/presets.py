"""The named choices of the refinement losses, and their checks.

"release" is what the authors' release computes, "earlier" an earlier version of its code, "stableviton" the total variation of StableVITON.
What nobody states of an earlier version is as in the release.
"""

from __future__ import annotations

import math
from typing import Any

from i2am.common.checks import number, refuse, said

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "release": {
        "dcml": {"weight": 0.01, "mean": "all", "renormalise": True},
        "tv": {"weight": 0.0001, "distance": "square", "mean": "all", "renormalise": True},
        "cwg": {"weight": 2.0, "sigma": 1.0, "distance": "absolute", "mean": "all", "renormalise": True, "detach_centre": False},
    },
    "earlier": {
        "dcml": {"weight": 0.01, "mean": "all", "renormalise": False},
        "tv": {"weight": 0.0001, "distance": "absolute", "mean": "all", "renormalise": False},
        "cwg": {"weight": 0.0003, "sigma": 0.5, "distance": "absolute", "mean": "mask", "renormalise": False, "detach_centre": False},
    },
    "stableviton": {
        "tv": {"weight": 0.001, "distance": "absolute", "mean": "mask", "renormalise": True},
    },
}
DISTANCES = ("absolute", "square")
MEANS = ("all", "mask")


def preset_of(loss: str, preset: str, changed: dict[str, Any]) -> dict[str, Any]:
    """A loss's options: the preset's, but for those that are stated."""
    losses = preset_named(preset)
    if loss not in losses:
        there = " or ".join(f'"{name}"' for name, found in PRESETS.items() if loss in found)
        refuse("preset", f"{there} for {loss}", said(preset), f"It has {', '.join(losses)} alone.")
    return {**losses[loss], **{name: value for name, value in changed.items() if value is not None}}


def preset_named(preset: str) -> dict[str, dict[str, Any]]:
    """The losses of a preset."""
    if not isinstance(preset, str) or preset not in PRESETS:
        refuse("preset", "one of " + ", ".join(f'"{name}"' for name in PRESETS), said(preset), 'The default is "release".')
    return PRESETS[preset]


def one_of(name: str, value: Any, choices: tuple[str, ...], remedy: str) -> None:
    """A choice by its name."""
    if not isinstance(value, str) or value not in choices:
        refuse(name, " or ".join(f'"{choice}"' for choice in choices), said(value), remedy)


def truth_value(name: str, value: Any, remedy: str) -> None:
    """Yes or no."""
    if not isinstance(value, bool):
        refuse(name, "True or False", said(value), remedy)


def check_distance(distance: str) -> None:
    one_of("distance", distance, DISTANCES, 'With "square" what lies far counts more.')


def check_mean(mean: str) -> None:
    one_of("mean", mean, MEANS, '"all" divides by every element, "mask" by what lies in the mask.')


def positive(name: str, value: Any) -> float:
    """A number above 0."""
    return number(name, value, "above 0 and finite", lambda x: 0 < x < math.inf, "The sign of each loss is its own.")


def part_weight(name: str, value: Any) -> float:
    """As `positive`, or 0, which leaves a loss out."""
    return number(name, value, "0 or more, and finite", lambda x: 0 <= x < math.inf, "0 leaves the loss out.")
