"""What every page of this project is made of: the document around it, and facts in lines. No scripts, nothing from a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any


def document(title: str, body: str, footer: str, more: str = "") -> str:
    """One HTML file; body ends the element <main> that it begins. more: rules of style beside the shared ones."""
    style = files("i2am.evaluation").joinpath("report.css").read_text("utf-8")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{escape(title)} &middot; i2am</title>
<style>
{style}{more}</style>
</head>
<body>
{body}
<footer>{footer}</footer>
</body>
</html>
"""


def heading(heads: Sequence[str]) -> str:
    return "".join(f'<th scope="col">{one}</th>' for one in heads)


def facts_table(lines: Sequence[tuple[str, Any]]) -> str:
    rows = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(str(value))}</td></tr>' for name, value in lines)
    return f'<table class="facts"><tbody>{rows}</tbody></table>'


def flat(found: Any, name: str = "") -> list[tuple[str, Any]]:
    """Nested facts as lines, their names joined by dots."""
    if isinstance(found, list) and any(isinstance(one, Mapping) for one in found):
        found = dict(enumerate(found))
    if isinstance(found, Mapping) and found:
        return [line for key, one in found.items() for line in flat(one, f"{name}.{key}" if name else str(key))]
    shown = ", ".join(map(str, found)) if isinstance(found, list) else ("no", "yes")[found] if isinstance(found, bool) else found
    return [(name, "none" if shown in (None, "", {}) else shown)]
