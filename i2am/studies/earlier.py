"""What an earlier run painted, read again without its model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from i2am.common.checks import as_path, cited, counted, refuse
from i2am.data.prompts import Asked
from i2am.evaluation import shards
from i2am.evaluation.options import FILE
from i2am.studies.painted import Painted
from i2am.studies.run import AGAIN, LEFT_OUT, LINE, done_already, left_out, painted


def earlier(folder: str | Path, asked: Sequence[Asked]) -> list[Painted]:
    """The pictures of a list's prompts; all must be there but those that the run left out."""
    folder = as_path("the painted pictures", folder, "It is the --out of i2am words.")
    if not (folder / "shards").is_dir():
        refuse("the painted pictures", "the --out of an earlier study", f"{folder}, without a folder shards", "Paint with i2am words.")
    rows = {i: row for i, row in done_already(shards.read(folder / "shards", LINE, AGAIN), asked, folder).items() if "failed" not in row}
    lost = omitted(folder)
    if missing := [one.id for i, one in enumerate(asked) if i not in rows and one.id not in lost]:
        refuse(str(folder), "pictures of all prompts", f"none of {counted(len(missing), 'prompt')} ({cited(missing, 5)})",
               "Go on painting with the command that began it, or shorten the list.")  # fmt: skip
    return [painted(one, folder, rows[i]) for i, one in enumerate(asked) if i in rows]


def omitted(folder: str | Path) -> dict[str, str]:
    """The prompts that a run left out, by id, and why; a run that ended early has said nothing yet."""
    return left_out(folder) if (Path(folder) / LEFT_OUT).is_file() else {}


def options_of(folder: str | Path) -> dict[str, Any]:
    """What a folder's pictures were painted with."""
    return json.loads((Path(folder) / FILE).read_text("utf-8"))["options"]
