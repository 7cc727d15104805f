"""See which part of a reference image made which part of a generated image.

`i2am_kernels` holds the operator that adds the maps up; this package attaches it to models and reads the maps. A name is imported when
it is asked for, so that the command line answers at once.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from i2am.files import load as load
    from i2am.imacs import imacs as imacs
    from i2am.maps import AttributionMaps as AttributionMaps
    from i2am.metric import Imacs as Imacs
    from i2am.recorder import Recorder as Recorder
    from i2am.regions import cells as cells
    from i2am.tokens import Seen as Seen
    from i2am.tokens import Tokens as Tokens
    from i2am.trace import trace as trace
    from i2am.viewer import view as view
    from i2am.vitonhd import VitonHD as VitonHD

    __version__: str

PLACES = {
    "AttributionMaps": "maps", "Imacs": "metric", "Recorder": "recorder", "Seen": "tokens", "Tokens": "tokens", "VitonHD": "vitonhd",
    "cells": "regions", "imacs": "imacs", "load": "files", "trace": "trace", "view": "viewer",
}  # fmt: skip
__all__ = ["AttributionMaps", "Recorder", "Seen", "Tokens", "cells", "imacs", "load", "trace", "view"]


class Package(ModuleType):
    """`imacs` and `trace` are functions and the modules they live in; the package shows the functions, whoever imports the modules."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in PLACES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = Package


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("i2am")
        except PackageNotFoundError:
            return "unknown"  # a folder on the path, not installed
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"i2am.{PLACES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *PLACES, "__version__"})
