"""Where the rows go: each at once to a file named after its device, and into memory, from which the verdict is read."""

from __future__ import annotations

import json
import os
from pathlib import Path

from benchmarks.measuring.rows import RESULTS, Row, read, slug

CHECKS = ("correctness", "determinism", "compile", "graph")


class Home:
    """A folder of rows. One that cannot be written keeps them in memory and is tried again with every row."""

    def __init__(self, out: Path):
        self.out = out
        self.rows = [row for path in sorted(out.glob("*.jsonl")) if path.is_file() for row in read(path)]
        self.unsaved: list[tuple[str, Row]] = []
        self.trouble = ""

    def write(self, row: Row, kind: str = "") -> None:
        self.rows.append(row)
        self.unsaved.append((f"{slug(row['environment']['device'])}{kind}.jsonl", row))
        self.save()

    def save(self) -> None:
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            while self.unsaved:
                name, row = self.unsaved[0]
                append(self.out / name, json.dumps(row))
                del self.unsaved[0]
            self.trouble = ""
        except OSError as full:
            self.trouble = f"{type(full).__name__}: {full}"

    def done(self, call: str, group: str | None = None) -> set[str]:
        """What an earlier run of the call finished in this folder: whole groups, or the items of one."""
        rows = [row for row in self.rows if row.get("section") == "done" and row["call"] == call]
        if group is None:
            return {row["group"] for row in rows if "item" not in row}
        return {row["item"] for row in rows if row["group"] == group and "item" in row}


def append(path: Path, line: str) -> None:
    """A whole line or none of it that a reader would take for one: what an earlier try left half is ended first."""
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = f"\n{line}"
        file.write(f"{line}\n".encode())
        file.flush()
        os.fsync(file.fileno())


def silenced(row: Row) -> tuple[object, ...]:
    """What a red check speaks of."""
    return row["environment"]["device"], row.get("runner"), row.get("size"), bool(row.get("masked")), row.get("dtype")


def gated(rows: list[Row]) -> list[Row]:
    """The rows with no speed where a check is red: of that runner, head size and dtype, with or without a mask. It stays as red_ms."""
    wrong = {silenced(row): row for row in rows if row.get("red") and row.get("section") in CHECKS and "runner" in row}
    found = []
    for row in rows:
        check = wrong.get(silenced(row)) if row.get("section") in ("timings", "route") and "ms" in row else None
        if check is not None:
            row = {k: v for k, v in row.items() if k not in ("ms", "ratio", "ratio_best", "best")} | {"red_ms": row["ms"], "red": True}
            row["why"] = f"{check['section']} of {check.get('case')} is red"
        found.append(row)
    return found


def land(folder: Path, results: Path = RESULTS) -> list[Path]:
    """Add what the folder's rows measured to the recorded ones, gated, each once; the files that grew."""
    files = [(path.name, row) for path in sorted(folder.glob("*.jsonl")) for row in read(path) if row.get("section") != "done"]
    if not files:
        raise ValueError(f"land needs a folder with rows of the pack, <device>.jsonl and so on, got {folder}. Name the --out of a call.")
    if results == RESULTS and any(row.get("quick") for _, row in files):
        raise ValueError(f"land records measurements, got {folder}, where a miniature (--quick) measured nothing. Name another folder.")
    results.mkdir(parents=True, exist_ok=True)
    grown: dict[Path, None] = {}
    known: dict[Path, set[str]] = {}
    for (name, _), row in zip(files, gated([row for _, row in files])):
        path, line = results / name, json.dumps(row)
        if path not in known:
            known[path] = {json.dumps(old) for old in read(path)} if path.exists() else set()
        if line not in known[path]:
            append(path, line)
            known[path].add(line)
            grown[path] = None
    return list(grown)
