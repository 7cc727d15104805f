"""See which part of a reference image made which part of a generated image.

`i2am_kernels` holds the operator that adds the maps up; this package attaches it to models and reads the maps.

Imports: viewer, score, losses, data, attach, maps, common; a name when it is asked for, so that the command line answers at once.
Begin with: `attach/trace.py`, which watches a run, and `maps/levels.py`, which reads it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from i2am.common import notebook as _notebook

if TYPE_CHECKING:
    from i2am import losses as losses
    from i2am.attach.encoding import encode as encode
    from i2am.attach.explain import explain as explain
    from i2am.attach.held import hold as hold
    from i2am.attach.steering import steer as steer
    from i2am.attach.trace import trace as trace
    from i2am.data.vitonhd import VitonHD as VitonHD
    from i2am.maps.levels import AttributionMaps as AttributionMaps
    from i2am.maps.levels import load as load
    from i2am.maps.logged import log as log
    from i2am.maps.recorder import Recorder as Recorder
    from i2am.maps.regions import cells as cells
    from i2am.maps.tokens import Seen as Seen
    from i2am.maps.tokens import Tokens as Tokens
    from i2am.score.imacs import imacs as imacs
    from i2am.score.imacs_metric import Imacs as Imacs
    from i2am.viewer.html import view as view

    __version__: str

PLACES = {
    "AttributionMaps": "maps.levels", "Imacs": "score.imacs_metric", "Recorder": "maps.recorder", "Seen": "maps.tokens",
    "Tokens": "maps.tokens", "VitonHD": "data.vitonhd", "cells": "maps.regions", "encode": "attach.encoding", "explain": "attach.explain",
    "hold": "attach.held", "imacs": "score.imacs", "load": "maps.levels", "log": "maps.logged", "losses": "losses",
    "steer": "attach.steering", "trace": "attach.trace", "view": "viewer.html",
}  # fmt: skip
__all__ = [
    "AttributionMaps",
    "Recorder",
    "Seen",
    "Tokens",
    "cells",
    "encode",
    "explain",
    "hold",
    "imacs",
    "load",
    "log",
    "steer",
    "trace",
    "view",
]


def _viewer(maps: Any) -> str:
    """Maps in a notebook; nothing is imported until one is shown."""
    from i2am.viewer.notebook import framed

    return framed(maps)


_notebook.pages["maps"] = _viewer


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from i2am.common.machine import version

        return version()
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    place = import_module(f"i2am.{PLACES[name]}")
    found = place if PLACES[name] == name else getattr(place, name)  # a room, or a name in one
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *PLACES, "__version__"})
