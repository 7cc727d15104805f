"""Texts and tables that users write: in UTF-8, with or without a mark at the beginning."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from i2am.common.checks import as_path, refuse

Rows = list[tuple[int, list[str]]]  # the line in which each ends, and its cells


def read_text(name: str, path: Any, remedy: str) -> tuple[Path, str]:
    """The path and what the file holds."""
    path = as_path(name, path, remedy)
    try:
        return path, path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        refuse(name, "a file that can be read", f"{path} ({error.strerror})", remedy)
    except UnicodeDecodeError as error:
        refuse(str(path), "text in UTF-8", f"other bytes at {error.start}", "Save it as UTF-8.")


def rows_of(text: str, path: Path, delimiter: str = ",") -> Rows:
    """The rows of a table that hold something, cells without spaces around them; the first names the columns."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        return [(reader.line_num, cells) for row in reader if any(cells := [cell.strip() for cell in row])]
    except csv.Error as error:
        refuse(f"line {reader.line_num} of {path}", "a row of a table", f"something else ({error})", "Look at its quotes.")
