"""Scores on disk: one JSON-lines file per process, synced after every batch; a torn last line is cut off when the file is opened again.

A pair is done when its line is whole. Everything else of a pair (its image, maps and look) is written before its line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from i2am.common.checks import refuse

Row = dict[str, Any]
SCORED = {"scores": dict}


class Shard:
    """The file of one process, which no other process may write to while this one lives."""

    def __init__(self, folder: Path, process: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{process:04d}.jsonl"
        self.file = open(self.path, "ab", buffering=0)  # noqa: SIM115  it stays open
        try:
            lock(self.file, self.path)
            self.end = whole_length(self.path.read_bytes())
            os.ftruncate(self.file.fileno(), self.end)
        except BaseException:
            self.file.close()
            raise

    def append(self, rows: Sequence[Row]) -> None:
        """All of these lines, or none: what a full disk has torn is taken back."""
        text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode()
        try:
            left = memoryview(text)
            while left:
                left = left[self.file.write(left) :]
            os.fsync(self.file.fileno())
        except OSError:
            os.ftruncate(self.file.fileno(), self.end)
            raise
        self.end += len(text)

    def close(self) -> None:
        self.file.close()


def lock(file: Any, path: Path) -> None:
    """Held until the process ends, however it ends."""
    try:
        import fcntl
    except ImportError:  # Windows: nothing is locked
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        refuse("out", "a folder that no other process is writing to", f"{path}, which is in use", "Wait for it, or choose another.")


def whole_length(text: bytes) -> int:
    """The length of a file's whole lines."""
    return text.rfind(b"\n") + 1


def count(folder: Path) -> int:
    """How many lines there are so far, of all processes."""
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("*.jsonl"))


def read(folder: Path, holds: Mapping[str, type] = SCORED, again: str = "its pair is scored again") -> dict[int, Row]:
    """Every pair's line by its index, of all processes there ever were; a later success replaces a failure.

    holds: what a line has that is no failure. again: what becomes of one that is deleted.
    """
    found: dict[int, Row] = {}
    for path in sorted(folder.glob("*.jsonl")):
        text = path.read_bytes()
        for place, line in enumerate(text[: whole_length(text)].splitlines(), 1):
            try:
                row = json.loads(line)
                index = int(row["index"])
                if index < 0 or ("failed" not in row and not all(isinstance(row[name], kind) for name, kind in holds.items())):
                    raise ValueError("no pair's line")
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"i2am: line {place} of {path} is damaged ({error}). Delete that line; {again}.") from error
            if index not in found or "failed" in found[index]:
                found[index] = row
    return found


def check_metrics(rows: Iterable[Row], folder: Path) -> None:
    """Lines of one evaluation have the same scores; others were put there by hand."""
    names = {tuple(row["scores"]): row["index"] for row in rows if "failed" not in row}
    if len(names) > 1:
        told = " and ".join(f"{', '.join(scores) or 'none'} of pair {index}" for scores, index in list(names.items())[:2])
        refuse("the lines in " + str(folder), "of the same scores", told, "Delete the line that is wrong; its pair is scored again.")


def todo(chunks: Iterable[Sequence[int]], done: dict[int, Row]) -> list[Sequence[int]]:
    """The chunks that are not finished. A chunk is painted whole, so that its images are those of an uninterrupted run."""
    return [chunk for chunk in chunks if any(i not in done or "failed" in done[i] for i in chunk)]
