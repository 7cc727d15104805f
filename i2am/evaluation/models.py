"""What an evaluation needs of a model, and where the models that it knows by name come from."""

from __future__ import annotations

import importlib
import inspect
import math
import os
import sys
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from i2am.door import is_size, is_whole, refuse
from i2am.imacs import Convention
from i2am.imacs import convention as by_name
from i2am.needed import need
from i2am.tokens import Grid
from i2am.vitonhd import PARTS

BUILDER = "a function of options, all of them text, that returns an i2am.evaluation.TryOn"
Batch = dict[str, Any]  # "name", "cloth": lists; "person", "garment", "agnostic", "densepose": [B, 3, H, W] in [0, 1]; masks [B, H, W]


class Paint(Protocol):
    """Images [B, 3, H, W] in [0, 1] of a batch of pairs, with one generator (of the CPU) per pair."""

    def __call__(self, batch: Batch, *, steps: int, guidance_scale: float, generators: list[torch.Generator]) -> Tensor: ...


@dataclass(frozen=True)
class TryOn:
    """A model to be evaluated.

    pipeline: what `i2am.trace` watches while `paint` runs; a diffusers pipeline, or another owner of a denoiser and a scheduler.
    size: (height, width) at which pictures are read, painted and scored. parts: what `paint` reads beside person, garment and masks.
    steps, guidance_scale, convention: defaults. trace: further options of i2am.trace. about: what a report should say of the model.
    """

    pipeline: Any
    paint: Paint
    size: Grid
    steps: int = 50
    guidance_scale: float = 5.0
    parts: Sequence[str] = ()
    convention: str | Convention = "method"
    trace: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not callable(self.paint):
            refuse("paint", "a function of a batch", repr(self.paint), "See the README for the ten lines of a model.")
        if not is_size(self.size):
            refuse("size", "(height, width)", repr(self.size), "VITON-HD models take (512, 384) or (1024, 768).")
        if not is_whole(self.steps, 1):
            refuse("steps", "a whole number of at least 1", repr(self.steps), "The paper takes 50.")
        if not 0 <= self.guidance_scale < math.inf:
            refuse("guidance_scale", "a number of at least 0", repr(self.guidance_scale), "Up to 1 the model paints without guidance.")
        if strange := [part for part in self.parts if part not in PARTS]:
            refuse("parts", f"some of {', '.join(PARTS)}", repr(strange), "They are read from the data, for paint.")
        by_name(self.convention)


def resolve(model: str | TryOn, **options: str) -> TryOn:
    """The model of a name: "small", "paint-by-example:PATH", "stableviton:PATH", "ip-adapter:PATH", or "package.module:function".

    options go to the function that builds it, as text.
    """
    from i2am.evaluation.built_in import BUILT_IN

    if isinstance(model, TryOn):
        if options:
            refuse("the model's options", "none for a model that is built already", options, "Pass them where it is built.")
        return model
    name, _, rest = model.partition(":")
    build: Callable[..., Any]
    if name in BUILT_IN:
        need(f"the model {name}", "diffusers", *(() if name == "small" else ("transformers",)))
        build, options = BUILT_IN[name], {**({"path": rest} if rest else {}), **options}
    elif rest.isidentifier():
        build = imported(model, name, rest)
    else:
        known = ", ".join(BUILT_IN)
        refuse("model", f"one of {known} (with :PATH where it takes one), or package.module:function", repr(model), "See i2am evaluate -h.")
    takes(model, build, options)
    found = build(**options)
    if not isinstance(found, TryOn):
        refuse(f"what {model} returns", "an i2am.evaluation.TryOn", type(found).__name__, "See the README for the ten lines of a model.")
    return found


def takes(model: str, build: Callable[..., Any], options: dict[str, str]) -> None:
    """Refuse what cannot build a model from these options, before it is called: it may be anything that somebody's module holds."""
    try:
        signature = inspect.signature(build)
        if inspect.isbuiltin(build) or (isinstance(build, type) and not issubclass(build, TryOn)):
            raise TypeError
    except (TypeError, ValueError):
        kind = "a class of something else" if isinstance(build, type) else "a function that is not Python's"
        refuse("model", BUILDER, f"{model}, {kind}", "See the README for the ten lines of a model.")
    promised = returned(build)
    if not (issubclass(promised, TryOn) or issubclass(TryOn, promised)):
        refuse("model", BUILDER, f"{model}, which returns {promised.__name__}", "See the README for the ten lines of a model.")
    try:
        signature.bind(**options)
    except TypeError as error:
        raise ValueError(
            f"i2am: {model} was not built with {options or 'no options'}: {error}. A model is {BUILDER}; this one takes "
            f"{', '.join(signature.parameters) or 'none'}. Give them as --model-option NAME=VALUE."
        ) from error


def returned(build: Callable[..., Any]) -> type:
    """What a function says that it returns; object where that is no class, or not said."""
    try:
        promised = typing.get_type_hints(build).get("return")
    except Exception:  # annotations need not be names that exist
        promised = None
    return promised if isinstance(promised, type) and promised is not Any else object


def imported(model: str, module: str, name: str) -> Callable[..., Any]:
    """A function of somebody's module, which may lie in the folder one works in."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    if not all(part.isidentifier() for part in module.split(".")):
        refuse("model", "package.module:function", repr(model), "Write a file's name as Python imports it: without folder and .py.")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        refuse("model", "package.module:function that can be imported from here", f"{model!r} ({error})", "Install it, or change folder.")
    if not callable(found):
        refuse("model", f"a function of {module}", f"{name!r}, which is not one", "Write package.module:function.")
    return found
