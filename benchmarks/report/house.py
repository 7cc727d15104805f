"""The house as its imports make it: which room leans on which, and a drawing of it: `python -m benchmarks.report.house`.

A room is a package: `i2am.maps`, `benchmarks.gpu`; `i2am_kernels` is one, and `i2am` the hall with the public names. FLOORS says from top
to bottom who may import whom: only what stands further down. Imports inside functions count, those for type checkers as well.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter
from html import escape
from importlib.util import find_spec
from pathlib import Path

import grimp

from benchmarks.report.tables import ROOT

HOUSES = ("benchmarks", "i2am", "i2am_kernels")
FLOORS = (
    ("benchmarks.gpu",),
    ("benchmarks.report",),
    ("benchmarks.world", "benchmarks.evaluation", "benchmarks.peers"),
    ("benchmarks.pipeline",),
    ("benchmarks.parity", "benchmarks.operator"),
    ("benchmarks.measuring", "benchmarks"),
    ("i2am.__main__",),
    ("i2am.cli", "i2am"),
    ("i2am.studies",),
    ("i2am.evaluation", "i2am.viewer", "i2am.compat"),
    ("i2am.models", "i2am.score"),
    ("i2am.data", "i2am.attach", "i2am.losses"),
    ("i2am.families",),
    ("i2am.maps",),
    ("i2am.show", "i2am.language"),
    ("i2am.common", "i2am_kernels"),
)
DRAWN = [tuple(room for room in floor if room.startswith("i2am") and room != "i2am.__main__") for floor in FLOORS if "i2am" in str(floor)]
PICTURE = ROOT / "docs" / "house.svg"
Arrow = tuple[str, str]  # importer, imported: modules by their dotted names


def arrows() -> list[Arrow]:
    """Every import of one module of ours by another."""
    graph = grimp.build_graph(*HOUSES, cache_dir=None)
    return sorted((one, other) for one in graph.modules for other in graph.find_modules_directly_imported_by(one))


def room_of(module: str) -> str:
    """The room that a module stands in."""
    parts = module.split(".")
    return parts[0] if parts[0] == "i2am_kernels" else ".".join(parts[:2])


def between(found: Iterable[Arrow]) -> dict[str, set[str]]:
    """The rooms that each room leans on."""
    rooms: dict[str, set[str]] = {}
    for one, other in found:
        here, there = room_of(one), room_of(other)
        if here != there:
            rooms.setdefault(here, set()).add(there)
    return rooms


def upward(found: Iterable[Arrow]) -> list[str]:
    """Arrows that do not run down, in words."""
    level = {room: i for i, floor in enumerate(FLOORS) for room in floor}
    said = []
    for one, other in found:
        here, there = room_of(one), room_of(other)
        if here not in level or there not in level:
            said.append(f"{one} -> {other}: {here if here not in level else there} has no floor in {__name__}")
        elif here != there and level[here] >= level[there]:
            said.append(f"{one} -> {other}: {here} is not above {there}")
    return said


def circle(found: Iterable[Arrow]) -> list[str]:
    """Modules that import each other in a circle; none, if all is well."""
    below: dict[str, set[str]] = {}
    for one, other in found:
        below.setdefault(one, set()).add(other)
    try:
        TopologicalSorter(below).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def place_of(room: str) -> Path:
    """The file that says what a room is for."""
    spec = find_spec(room)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin)


def about(room: str) -> tuple[str, list[str], list[str]]:
    """What a room says of itself: its purpose, the rooms it imports, and the names others may use."""
    tree = ast.parse(place_of(room).read_text(encoding="utf-8"))
    lines = (ast.get_docstring(tree) or "").split("\n")
    stated = next((line.removeprefix("Imports: ").split(";")[0].rstrip(".") for line in lines if line.startswith("Imports: ")), "")
    house = room.split(".")[0]
    whole = [name if name in HOUSES else f"{house}.{name}" for name in stated.split(", ") if name and name != "nothing of this project"]
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return lines[0], whole, list(ast.literal_eval(node.value))
    return lines[0], whole, []


def reduced(rooms: dict[str, set[str]]) -> list[Arrow]:
    """The arrows that say something: those that no way over another room says already."""

    def reaches(start: str, end: str) -> bool:
        return any(step == end or reaches(step, end) for step in rooms.get(start, ()))

    return [(one, other) for one, below in sorted(rooms.items()) for other in sorted(below)
            if not any(step != other and reaches(step, other) for step in below)]  # fmt: skip


WIDE, TALL, GAP, EDGE = 250, 84, 46, 30  # pixels: a room, the air between floors, the margin
STYLE = """text { font: 14px ui-sans-serif, system-ui, sans-serif; fill: #222 }
.name { font-weight: 600; font-size: 15px }
rect { fill: #f7f4ee; stroke: #8a7f6d; rx: 6 }
.hall { fill: #fff }
.ground { fill: #e8efe9 }
path { fill: none; stroke: #8a7f6d; stroke-width: 1.4 }
@media (prefers-color-scheme: dark) {
  text { fill: #ddd }
  rect { fill: #2b2d31; stroke: #8f97a3 }
  .hall { fill: #222428 }
  .ground { fill: #26332c }
  path { stroke: #8f97a3 }
}"""
TIP = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M1 1 7 4 1 7"/></marker></defs>'
)


def drawing(found: Iterable[Arrow]) -> str:
    """The packages that are installed, floor by floor, and what each leans on."""
    width = max(len(floor) for floor in DRAWN) * (WIDE + GAP) - GAP + 2 * EDGE
    height = len(DRAWN) * (TALL + GAP) - GAP + 2 * EDGE
    at: dict[str, tuple[float, float]] = {}
    for i, floor in enumerate(DRAWN):
        start = (width - len(floor) * (WIDE + GAP) + GAP) / 2
        at |= {room: (start + j * (WIDE + GAP), EDGE + i * (TALL + GAP)) for j, room in enumerate(floor)}
    title = 'role="img" aria-label="The packages, and what each imports"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" {title}>', f"<style>{STYLE}</style>", TIP]
    rooms = {room: below & set(at) for room, below in between(found).items() if room in at}
    for one, other in reduced(rooms):
        (x, y), (u, v) = at[one], at[other]
        begin, end = (x + WIDE / 2, y + TALL), (u + WIDE / 2 + (x - u) / 12, v - 2)
        middle = (end[1] - begin[1]) / 2
        parts.append(f'<path marker-end="url(#tip)" d="M{begin[0]:g} {begin[1]:g} C{begin[0]:g} {begin[1] + middle:g} '
                     f'{end[0]:g} {end[1] - middle:g} {end[0]:g} {end[1]:g}"/>')  # fmt: skip
    for room, (x, y) in at.items():
        kind = {"i2am": "hall", "i2am_kernels": "ground"}.get(room, "room")
        lines = wrapped(about(room)[0])
        parts.append(f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{WIDE}" height="{TALL}"/>')
        parts.append(f'<text class="name" x="{x + 12:g}" y="{y + 22:g}">{escape(room)}</text>')
        parts += [f'<text x="{x + 12:g}" y="{y + 41 + 17 * i:g}">{escape(line)}</text>' for i, line in enumerate(lines)]
    return "\n".join([*parts, "</svg>\n"])


def wrapped(text: str, most: int = 31, lines: int = 3) -> list[str]:
    """A room's purpose in lines that fit: all of it, or as far as its colon."""
    for part in (text, text.split(": ")[0]):
        found = textwrap.wrap(part.rstrip("."), most)
        if len(found) <= lines:
            break
    return found[:lines]


def main() -> None:
    PICTURE.write_text(drawing(arrows()), encoding="utf-8")


if __name__ == "__main__":
    main()
