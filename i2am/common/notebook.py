"""How a notebook shows things that are drawn in a room above them: the drawing is named from above, as imports run down.

A notebook asks a value for `_repr_html_` and shows its text where the answer is None. Drawing must never end somebody's cell, so what goes
wrong there is said under the text.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

pages: dict[str, Callable[[Any], str]] = {}  # what is shown -> what makes its page; `i2am/__init__.py` names the viewer


def html(what: str, value: Any) -> str | None:
    """The page of a value for a notebook; None where nobody draws it."""
    if what not in pages:
        return None
    try:
        return pages[what](value)
    except Exception as error:  # a notebook prints it as a failure of the cell
        text = str(error).removeprefix("i2am: ") or type(error).__name__
        return f"<pre>{escape(repr(value))}</pre><p><small>No picture: {escape(text)}</small></p>"


def html_of(part: str) -> Callable[[Any], str | None]:
    """A `_repr_html_` that shows what the value holds under this name, or its text as long as that is None."""

    def shown(self: Any) -> str | None:
        found = getattr(self, part)
        return None if found is None else found._repr_html_()

    return shown


def png(draw: Callable[[], bytes]) -> bytes | None:
    """A picture for a notebook; None where it cannot be drawn, so that the text stands alone."""
    try:
        return draw()
    except Exception:
        return None
