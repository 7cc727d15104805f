"""Triton's interpreter without what it does again and again, which spares it half of its time and changes nothing that it computes.

At every call of a function inside a kernel it looks through all of Triton's language for what it has to replace, where the launch has
replaced it already, and at every conversion it writes down anew which type of numpy's stands for which of Triton's.
"""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

OWN: dict[str, Any] = {}  # what stands in Triton's module of its own


def without_repeats() -> None:
    """For the rest of this process."""
    from triton.language.core import is_builtin
    from triton.runtime import interpreter

    @cache
    def builtins(package: Any) -> list[str]:
        return [name for name, member in inspect.getmembers(package) if is_builtin(member)]

    def replace(package: Any, builder: Any, scope: Any) -> None:
        for name in builtins(package):
            member = getattr(package, name)
            if is_builtin(member):  # and not replaced yet
                interpreter._patch_attr(package, name, member, builder, scope)

    replaced: set[int] = set()  # by the launch under way: the language as a module's globals name it
    replace_all, look_up, types = interpreter._patch_lang, interpreter._get_np_dtype, dict[str, Any]()

    class Scope(interpreter._LangPatchScope):
        def restore(self) -> None:  # at a launch's end, and nowhere else
            replaced.clear()
            super().restore()

    def replace_once(function: Any) -> Any:
        place = id(function.__globals__)
        if place in replaced:
            return Scope()
        replaced.add(place)
        return replace_all(function)

    def numpy_type(of: Any) -> Any:
        name = of.scalar.name  # a block's is that of its elements
        if name not in types:
            types[name] = look_up(of)
        return types[name]

    others = {"_LangPatchScope": Scope, "_patch_lang": replace_once, "_patch_builtin": replace, "_get_np_dtype": numpy_type}
    for name, other in others.items():
        OWN[name] = getattr(interpreter, name)
        setattr(interpreter, name, other)
