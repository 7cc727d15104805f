"""What people or a detector saw in pictures: a table `id,both`, or `id,first,second`, of 0 and 1."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from i2am.common.checks import cited, refuse, said
from i2am.common.tables import read_text, rows_of

NAMES = (["id", "both"], ["id", "first", "second"])


def read_labels(path: str | Path, ids: Collection[str]) -> dict[str, bool]:
    """Whether both things of a prompt are in its picture, by the prompt's id. Ids that have no prompt are refused; prompts without a label
    have none."""
    path, text = read_text("labels", path, "It is a table: id,both or id,first,second.")
    rows = rows_of(text, path)
    names = rows[0][1] if rows else []
    if names not in NAMES:
        refuse(str(path), "a table whose first line is id,both or id,first,second", said(",".join(names)), "Write 1 where a thing is "
               "there, 0 where it is not; of several people write what most of them say.")  # fmt: skip
    found: dict[str, bool] = {}
    wrong = []
    for place, row in rows[1:]:
        if len(row) != len(names) or not set(row[1:]) <= {"0", "1"} or row[0] in found:
            wrong.append(f"line {place}: {','.join(row)}" + (" (again)" if row and row[0] in found else ""))
        else:
            found[row[0]] = set(row[1:]) == {"1"}
    if wrong:
        refuse(str(path), f"lines of {','.join(names)} with 0 or 1, each id once", f"{len(wrong)} others: {'; '.join(wrong[:5])}",
               "Correct them, or leave the lines out.")  # fmt: skip
    if unknown := [name for name in found if name not in ids]:
        refuse(str(path), "labels of prompts that are in the list", f"{len(unknown)} others: {cited(unknown, 5)}", "Are they of another "
               "list, or another seed?")  # fmt: skip
    if not found:
        refuse(str(path), "at least one label", "none", "Leave --labels out to score the maps alone.")
    return found
