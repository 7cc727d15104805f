"""Boxes to find, from annotations in COCO's format: {"images": [...], "annotations": [...], "categories": [...]}.

Boxes there are [x, y, width, height]; here (x0, y0, x1, y1), half-open. What reaches up to a pixel beyond the image, as rounded boxes
do, is cut off. An annotation with "iscrowd": 1 is not one object and is never chosen.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

from i2am.common.checks import as_path, is_whole, refuse, said
from i2am.maps.tokens import Grid

SLACK = 1.0  # pixels
CHOICES = ("only", "largest", "first")


class Object(NamedTuple):
    """One annotation."""

    category: str
    box: tuple[float, float, float, float]  # (x0, y0, x1, y1)
    crowd: bool

    @property
    def area(self) -> float:
        x0, y0, x1, y1 = self.box
        return (x1 - x0) * (y1 - y0)


@dataclass(frozen=True)
class Annotated:
    """One image and its objects, in the file's order."""

    id: int
    file: str
    size: Grid
    objects: tuple[Object, ...]

    @property
    def stem(self) -> str:
        """The file's name without folder and suffix."""
        return Path(self.file).stem

    def object(self, category: str | None = None, area: tuple[float, float] = (0.0, 1.0), choose: str = "only") -> Object | None:
        """The one to find, None where none fits: of this category, its box a share of the image between area's two ends.

        choose: which, where several fit. "only" refuses, and lists them. The authors' release takes the "first" of area (0.1, 0.3).
        """
        if choose not in CHOICES:
            refuse("choose", f"one of {', '.join(CHOICES)}", said(choose), "It says which of several objects is the one to find.")
        if not isinstance(area, (list, tuple)) or len(area) != 2 or not 0 <= area[0] < area[1] <= 1:
            refuse("area", "(least, most) with 0 <= least < most <= 1", area, "They are shares of the image.")
        pixels = self.size[0] * self.size[1]
        fit = [one for one in self.objects if not one.crowd and category in (None, one.category)]
        fit = [one for one in fit if area[0] * pixels <= one.area <= area[1] * pixels]
        if choose == "only" and len(fit) > 1:
            counts = Counter(one.category for one in fit)
            listing = ", ".join(f"{count} of {name}" if count > 1 else name for name, count in counts.items())
            refuse(f"the object to find in {self.file}", "one", f"{len(fit)}: {listing}",
                   'Say which: by category, by area, or with choose "largest" or "first".')  # fmt: skip
        return max(fit, key=lambda one: one.area if choose == "largest" else 0) if fit else None


class Entries:
    """The lists of a file of annotations, each entry read with a check that names it."""

    def __init__(self, path: str | Path) -> None:
        self.path = path
        try:
            content = json.loads(as_path("path", path, "It is one JSON file in COCO's format.").read_bytes())
        except OSError as error:
            refuse("path", "a file of annotations", f"{path} ({error.strerror})", "It is one JSON file in COCO's format.")
        except (ValueError, RecursionError) as error:
            refuse(str(path), "JSON", f"something else ({error})", "Annotations are one JSON file in COCO's format.")
        self.parts: dict[str, list[Any]] = {}
        for part in ("images", "annotations", "categories"):
            found = content.get(part) if isinstance(content, dict) else None
            self.parts[part] = found if isinstance(found, list) else []
            if not isinstance(found, list):
                there = ", ".join(content) if isinstance(content, dict) else type(content).__name__
                refuse(str(path), f'COCO\'s format, with a list "{part}"', there or "nothing", "Captions and results are other files.")

    def read(self, part: str, place: int, key: str, good: Callable[[Any], bool], expected: str) -> Any:
        entry = self.parts[part][place]
        if not isinstance(entry, dict) or key not in entry:
            refuse(f"{part}[{place}] of {self.path}", f'an object with "{key}"', json.dumps(entry)[:200], "Complete the annotations.")
        if not good(entry[key]):
            refuse(f'"{key}" of {part}[{place}] of {self.path}', expected, json.dumps(entry[key])[:200], "Correct the annotations.")
        return entry[key]

    def categories(self) -> dict[int, str]:
        """Names by number."""
        found: dict[int, str] = {}
        for i in range(len(self.parts["categories"])):
            number = self.read("categories", i, "id", lambda x: is_whole(x) and x not in found, "a whole number that no other category has")
            found[number] = self.read("categories", i, "name", is_text, "a name")
        return found

    def images(self) -> dict[int, tuple[str, Grid]]:
        """Files and sizes by number."""
        found: dict[int, tuple[str, Grid]] = {}
        for i in range(len(self.parts["images"])):
            number = self.read("images", i, "id", lambda x: is_whole(x) and x not in found, "a whole number that no other image has")
            height, width = (self.read("images", i, key, lambda x: is_whole(x, 1), "a number of pixels") for key in ("height", "width"))
            found[number] = (self.read("images", i, "file_name", is_text, "a file's name"), (height, width))
        return found

    def belongs(self, place: int, images: Mapping[int, Any], categories: Mapping[int, str]) -> tuple[int, str]:
        """An annotation's image and category."""
        number = self.read("annotations", place, "image_id", lambda x: is_whole(x) and x in images, "the id of one of the images")
        kind = self.read("annotations", place, "category_id", lambda x: is_whole(x) and x in categories, "the id of one of the categories")
        return number, categories[kind]


def read_coco(path: str | Path) -> list[Annotated]:
    """Every image of the file, those without objects too."""
    entries = Entries(path)
    categories, images = entries.categories(), entries.images()
    objects: dict[int, list[Object]] = {number: [] for number in images}
    for i, entry in enumerate(entries.parts["annotations"]):
        number, category = entries.belongs(i, images, categories)
        x, y, w, h = entries.read("annotations", i, "bbox", is_box, "[x, y, width, height], the last two above 0")
        height, width = images[number][1]
        box = (float(max(x, 0)), float(max(y, 0)), float(min(x + w, width)), float(min(y + h, height)))
        beyond = max(-x, -y, x + w - width, y + h - height)
        if beyond > SLACK or box[0] >= box[2] or box[1] >= box[3]:
            refuse(f'"bbox" of annotations[{i}] of {path}', f"inside its image of {width} x {height} pixels", [x, y, w, h],
                   "[x, y, width, height], in pixels of the size that the file gives.")  # fmt: skip
        objects[number].append(Object(category, box, bool(entry.get("iscrowd", 0))))
    return [Annotated(number, file, size, tuple(objects[number])) for number, (file, size) in images.items()]


def is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def is_box(value: object) -> bool:
    numbers = isinstance(value, list) and len(value) == 4 and all(isinstance(x, Real) and math.isfinite(x) for x in value)
    return numbers and value[2] > 0 and value[3] > 0  # type: ignore[index]
