"""From what a user writes to a model: a name, a name with a path, or a function of one's own."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Any

from i2am.common.checks import refuse
from i2am.common.extras import need
from i2am.evaluation.built_in import BUILT_IN
from i2am.evaluation.tryon import TryOn
from i2am.models.folder import imported

BUILDER = "a function of options, all of them text, that returns an i2am.evaluation.TryOn"


def resolve(model: str | TryOn, **options: str) -> TryOn:
    """The model of a name: "small", "paint-by-example:PATH", "stableviton:PATH", "ip-adapter:PATH", or "package.module:function".

    options go to the function that builds it, as text.
    """
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
        refuse(
            f"what {model} returns", "an i2am.evaluation.TryOn", type(found).__name__, "The documentation shows the ten lines of a model."
        )
    return found


def takes(model: str, build: Callable[..., Any], options: dict[str, str]) -> None:
    """Refuse what cannot build a model from these options, before it is called: it may be anything that somebody's module holds."""
    try:
        signature = inspect.signature(build)
        if inspect.isbuiltin(build) or (isinstance(build, type) and not issubclass(build, TryOn)):
            raise TypeError
    except (TypeError, ValueError):
        kind = "a class of something else" if isinstance(build, type) else "a function that is not Python's"
        refuse("model", BUILDER, f"{model}, {kind}", "The documentation shows the ten lines of a model.")
    promised = returned(build)
    if not (issubclass(promised, TryOn) or issubclass(TryOn, promised)):
        refuse("model", BUILDER, f"{model}, which returns {promised.__name__}", "The documentation shows the ten lines of a model.")
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
