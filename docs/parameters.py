"""How the reference shows our docstrings: lines such as `groups: time groups ...` become a list, and stars stay stars."""

from __future__ import annotations

import re
from typing import Any

import griffe

NAMED = re.compile(r"^((?:[a-z]\w*)(?:, [a-z]\w*)*): ")


class Parameters(griffe.Extension):
    """Turns the paragraphs of a docstring that speak of parameters or fields into lists."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        rewrite(func, {parameter.name for parameter in func.parameters})

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        names = set(cls.members)
        if "__init__" in cls.members and isinstance(cls["__init__"], griffe.Function):
            names |= {parameter.name for parameter in cls["__init__"].parameters}
        rewrite(cls, names)


def rewrite(thing: griffe.Object, names: set[str]) -> None:
    if thing.docstring is not None:
        thing.docstring.value = "\n\n".join(listed(part, names) for part in thing.docstring.value.split("\n\n"))


def listed(paragraph: str, names: set[str]) -> str:
    """A paragraph as it is, or a list of the parameters it names: an item begins at `name: `, at a line's or a sentence's start."""
    if paragraph.startswith((" ", "-")) or not any(speaks(line, names) for line in paragraph.splitlines()):
        return paragraph
    items: list[str] = []
    for line in paragraph.replace("*", r"\*").splitlines():
        for sentence in re.split(r"(?<=\.) (?=[a-z]\w*(?:, [a-z]\w*)*: )", line.strip()):
            if speaks(sentence, names) or not items:
                items.append(sentence)
            else:
                items[-1] += f" {sentence}"
    return "\n".join(f"- {NAMED.sub(marked, item)}" if speaks(item, names) else f"{item}\n" for item in items)


def speaks(line: str, names: set[str]) -> bool:
    found = NAMED.match(line.strip())
    return found is not None and not names.isdisjoint(found[1].split(", "))


def marked(found: re.Match[str]) -> str:
    return ", ".join(f"`{name}`" for name in found[1].split(", ")) + ": "
