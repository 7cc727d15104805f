"""What a study leaves beside its pictures: a table of every number, report.json of all that was found, and the page."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, TypeVar

from tqdm.auto import tqdm

from i2am.common.outputs import write_whole
from i2am.evaluation.provenance import every_version
from i2am.evaluation.report import plain
from i2am.score.intervals import CONFIDENCE, RESAMPLES, SEED

One = TypeVar("One")


def told(things: Sequence[One], doing: str, unit: str = "picture") -> Iterator[One]:
    """One after another, with a bar once it takes a while."""
    return iter(tqdm(things, desc=doing, unit=unit, delay=2))


def table(rows: Sequence[Mapping[str, Any]], names: Sequence[str] = ()) -> str:
    """Rows as CSV, numbers with all their digits, nothing where there is none, yes and no as 1 and 0. names: by default the first row's."""
    text = io.StringIO()
    writer = csv.DictWriter(text, names or list(rows[0] if rows else ["id"]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return int(value) if isinstance(value, bool) else value


def write(out: Path, tables: Mapping[str, str], report: Mapping[str, Any], page: str) -> Path:
    """NAME.csv for each table, report.json and report.html, each whole or not at all; the page, which is returned, is written last."""
    texts = {f"{name}.csv": text for name, text in tables.items()}
    texts["report.json"] = json.dumps(plain(report), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    for name, text in {**texts, "report.html": page}.items():
        write_whole(out / name, partial(Path.write_bytes, data=text.encode("utf-8", "backslashreplace")))  # a name need not be Unicode
    return out / "report.html"


def facts_of(out: Path) -> dict[str, Any]:
    """The options that the pictures were painted with, the versions of what scored them, and how intervals were drawn."""
    options = json.loads((out / "run.json").read_text(encoding="utf-8"))["options"]
    return {"options": options, "versions": every_version(), "bootstrap": {"resamples": RESAMPLES, "confidence": CONFIDENCE, "seed": SEED}}


def named(model: Any) -> str:
    """What a user called a model."""
    return str(model) if isinstance(model, (str, Path)) else type(model).__name__


def lost(left: Mapping[str, str]) -> str:
    """A note of the prompts that were not painted."""
    if not left:
        return ""
    some = "; ".join(f"{escape(name)}: {escape(why)}" for name, why in list(left.items())[:5])
    return f"{len(left):,} prompts were not painted: {some}{' ...' if len(left) > 5 else ''}."
