"""The report of an evaluation: report.json (all numbers and facts), scores.csv (a line for every pair) and report.html.

A score counts as the float32 that scores.csv holds, so the means can be had again from that file alone. The same rows give the same
scores.csv and the same numbers to the last bit, whatever happened on the way to them.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from i2am.common.outputs import write_whole
from i2am.evaluation.report_page import page
from i2am.score import correspondence
from i2am.score.intervals import bootstrap

FILES = ("scores.csv", "report.json", "report.html")
Rows = Sequence[Mapping[str, Any]]
RESAMPLES, CONFIDENCE, SEED = 1000, 0.95, 0
BETTER = dict.fromkeys(("imacs_g", "imacs_r", *correspondence.NAMES, "ssim"), "higher") | dict.fromkeys(("lpips", "fid", "kid"), "lower")


def write(out: Path, rows: Rows, facts: Mapping[str, Any]) -> Path:
    """Write the three files into the folder `out`, each whole or not at all, and return the page, out/report.html.

    rows, by index: {"index", "name", "cloth", "seed", "scores": {name: number, or None where there is none}}, with the same names in
    every row. facts: {"title", "options", "convention", "versions", "hardware", "time", "sets", "settings", "pairs", "failed",
    "notes"}. The page says what was measured from the options "model", "data" and "paired", wherever they are nested, and shows a
    pair's picture where there is out/looks/<stem of the name>.jpg.
    """
    columns = scores(rows)
    found = summary(columns, facts)
    texts = (table(rows, columns), json.dumps(found, indent=2, allow_nan=False) + "\n", page(found, rows, columns, out / "looks"))
    for name, text in zip(FILES, texts):
        data = text.encode("utf-8", "backslashreplace")  # a file's name need not be Unicode
        write_whole(out / name, partial(Path.write_bytes, data=data))
    return out / "report.html"


def scores(rows: Rows) -> dict[str, list[float | None]]:
    """Every metric's scores in the order of the rows, rounded to float32; None is a score that does not exist."""
    names = list(rows[0]["scores"]) if rows else []
    assert all(list(row["scores"]) == names for row in rows), "rows with different scores"
    return {name: [rounded(row["scores"][name]) for row in rows] for name in names}


def rounded(score: float | None) -> float | None:
    found = math.nan if score is None else float(np.float32(score))
    return found if math.isfinite(found) else None


def table(rows: Rows, columns: Mapping[str, Sequence[float | None]]) -> str:
    """scores.csv: the shortest digits that give the float32 back, nothing where there is no score."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["index", "name", "cloth", "seed", *columns])
    for i, row in enumerate(rows):
        numbers = [column[i] for column in columns.values()]
        writer.writerow([row["index"], row["name"], row["cloth"], row["seed"], *("" if x is None else str(np.float32(x)) for x in numbers)])
    return file.getvalue()


def summary(columns: Mapping[str, Sequence[float | None]], facts: Mapping[str, Any]) -> dict[str, Any]:
    """What report.json holds: the metrics' statistics and correlations, then every fact."""
    from i2am.score.correlation import correlations

    found = {
        "title": facts["title"],
        "metrics": {name: statistics(column) for name, column in columns.items()},
        "bootstrap": {"resamples": RESAMPLES, "confidence": CONFIDENCE, "seed": SEED},
        "sets": facts["sets"],
        "better": {name: BETTER[name] for name in (*columns, *facts["sets"]) if name in BETTER},
        "correlations": correlations(columns),
    }
    return plain(found | {name: fact for name, fact in facts.items() if name not in found})


def statistics(column: Sequence[float | None]) -> dict[str, float | None]:
    """Mean, its bootstrap interval, and spread, of float64 in ascending order so that the order of pairs does not matter."""
    there = torch.tensor(sorted(x for x in column if x is not None), dtype=torch.float64, device="cpu")
    names = ("mean", "low", "high", "min", "median", "max")
    found: dict[str, float | None] = dict.fromkeys(names)
    if len(there):
        values, interval = there.numpy(), bootstrap(there, RESAMPLES, CONFIDENCE, SEED)
        found = dict(zip(names, map(float, (values.mean(), *interval, values[0], np.median(values), values[-1]))))
    return found | {"count": len(there), "nan": len(column) - len(there)}


def plain(value: Any) -> Any:
    """The same as strict JSON can hold it: no NaN or infinity (null instead), no tuples, paths or numpy's numbers."""
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return plain(value.item()) if hasattr(value, "item") else str(value)
