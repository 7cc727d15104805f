"""Lists of prompts: a text file with one a line, a table with a column `prompt`, or COCO's captions.

A table (.csv, .tsv) may also have the columns `id`, which names each prompt's files, `seed`, `image`, a picture to begin from, relative to
the table, and `group`. Without ids prompts are numbered; COCO's captions have their own.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from i2am.common.checks import as_path, is_whole, refuse, said
from i2am.common.outputs import write_whole
from i2am.common.tables import read_text, rows_of

COLUMNS = ("id", "prompt", "seed", "image", "group")
TABLES = {".csv": ",", ".tsv": "\t"}
NAME = re.compile(r"[\w][\w.+-]*")
LONGEST = 200  # bytes of an id: most file systems take names of 255


@dataclass(frozen=True)
class Asked:
    """One prompt. id: names its files; seed: its own, or made of the study's and the id; image: a picture to begin from."""

    id: str
    prompt: str
    seed: int | None = None
    image: Path | None = None
    group: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not NAME.fullmatch(self.id):
            refuse("id", "letters, digits, - _ + and dots, as it names files", said(self.id), "Leave the column out to have them numbered.")
        if len(self.id.encode()) > LONGEST:
            refuse("id", f"at most {LONGEST} bytes, as it names files", said(self.id), "Shorten it.")
        if not isinstance(self.prompt, str) or not self.prompt.strip():
            refuse(f"prompt {self.id}", "some words", said(self.prompt), "Delete the line, or write a prompt.")
        if self.seed is not None and not is_whole(self.seed):
            refuse(f"the seed of {self.id}", "a whole number of at least 0", said(self.seed), "Leave it empty for one made of the id.")


def read_prompts(path: str | Path) -> list[Asked]:
    """The prompts of a list, in its order; each id once."""
    path, text = read_text("prompts", path, "It is a file: .txt, .csv, .tsv or COCO's captions as .json.")
    found = captions(text, path) if path.suffix.lower() == ".json" else table(text, path) if path.suffix.lower() in TABLES else lines(text)
    if not found:
        refuse(str(path), "at least one prompt", "none", "Write one prompt a line.")
    check(found, str(path))
    return found


def check(prompts: Sequence[Asked], what: str = "the prompts") -> None:
    """No id and no prompt twice."""
    ids = Counter(one.id.casefold() for one in prompts)  # some file systems do not tell letters' case
    if twice := [name for name, times in ids.items() if times > 1]:
        refuse(what, "a list that has each id once", f"{', '.join(twice[:5])} twice or more", "Files are named after ids: rename them.")
    seeded = Counter((one.prompt, one.seed, one.image, one.group) for one in prompts if one.seed is not None)
    if again := [prompt for (prompt, *_), times in seeded.items() if times > 1]:
        refuse(what, "a list without repeats", f"{again[0]!r} twice with one seed", "Leave one of them out.")


def lines(text: str) -> list[Asked]:
    """One prompt a line; empty lines are left out."""
    found = [line.strip() for line in text.splitlines() if line.strip()]
    if twice := [line for line, times in Counter(found).items() if times > 1]:
        refuse(
            "the prompts",
            "a list without repeats",
            f"{twice[0]!r} twice or more",
            "Write a table with ids and seeds to paint one more than once.",
        )
    return numbered(found)


def numbered(prompts: Sequence[str]) -> list[Asked]:
    """Prompts with their places as ids."""
    wide = max(4, len(str(len(prompts))))
    return [Asked(f"{place:0{wide}d}", prompt) for place, prompt in enumerate(prompts)]


def table(text: str, path: Path) -> list[Asked]:
    """The rows of a table with a line of names."""
    rows = rows_of(text, path, TABLES[path.suffix.lower()])
    names = rows[0][1] if rows else []
    if "prompt" not in names or len(set(names)) != len(names) or not set(names) <= set(COLUMNS):
        refuse(
            str(path), f'a first line of names: "prompt", and any of {", ".join(COLUMNS)}', said(names), "A file of prompts alone is .txt."
        )
    found = list[Asked]()
    for place, row in rows[1:]:
        if len(row) != len(names):
            refuse(f"line {place} of {path}", f"{len(names)} columns", said(len(row)), "Put a prompt that holds the separator in quotes.")
        one: dict[str, Any] = {name: value for name, value in zip(names, row) if value}
        one.setdefault("id", f"{len(found):04d}")
        if "seed" in one:
            if not one["seed"].isdecimal():
                refuse(
                    f"the seed in line {place} of {path}",
                    "a whole number of at least 0",
                    repr(one["seed"]),
                    "Leave it empty, or correct it.",
                )
            one["seed"] = int(one["seed"])
        if "image" in one:
            one["image"] = path.parent / one["image"]
            if not one["image"].is_file():
                refuse(
                    f"the image in line {place} of {path}",
                    "a picture that is there",
                    said(one["image"]),
                    "Names are relative to the table.",
                )
        found.append(Asked(**{"prompt": "", **one}))
    return found


def captions(text: str, path: Path) -> list[Asked]:
    """COCO's captions: {"annotations": [{"id": 7, "caption": "..."}, ...]}; a caption is its own id."""
    try:
        listed = json.loads(text)["annotations"]
        return [Asked(str(one["id"]), " ".join(one["caption"].split())) for one in listed]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if str(error).startswith("i2am:"):
            raise
        refuse(
            str(path),
            'COCO\'s captions, {"annotations": [{"id": 7, "caption": "..."}]}',
            f"something else ({error!r})",
            "Write a .txt or a .csv.",
        )


def write_prompts(path: str | Path, prompts: Sequence[Asked]) -> Path:
    """A table that `read_prompts` reads, with the columns that say something."""
    path = as_path("path", path, "Its name ends in .csv or .tsv.")
    if path.suffix.lower() not in TABLES:
        refuse("path", "a .csv or .tsv file", said(path), "Prompts alone would lose their ids.")
    check(prompts)
    used = [name for name in COLUMNS if name in ("id", "prompt") or any(getattr(one, name) not in (None, "") for one in prompts)]
    text = io.StringIO()
    writer = csv.writer(text, delimiter=TABLES[path.suffix.lower()], lineterminator="\n")
    writer.writerow(used)
    for one in prompts:
        image = None if one.image is None else os.path.relpath(one.image, path.parent)  # as they are read
        values = {"id": one.id, "prompt": one.prompt, "seed": one.seed, "image": image, "group": one.group}
        writer.writerow(["" if values[name] is None else values[name] for name in used])
    write_whole(path, lambda part: part.write_text(text.getvalue(), encoding="utf-8"))
    return path
