"""Words: a list of prompts painted, a map for each word, and a look at each picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from i2am.data.prompts import Asked
from i2am.studies.joint import joint
from i2am.studies.looks import write_looks
from i2am.studies.run import is_first, paint


def study(prompts: str | Path | Sequence[Asked] | Sequence[str], model: Any, *, out: str | Path, **options: Any) -> Path:
    """Paint the list with word maps, look at each picture; returns where to look. options: those of `paint`.

    OUT/images/ID.png, OUT/words/ID.safetensors (`WordMaps.load`), OUT/looks/ID.jpg; where the model also has a reference in its attention
    OUT/reference/ID.safetensors (`i2am.load`), OUT/joint.csv and OUT/joint/ID.jpg.
    """
    painted = paint(prompts, model, out=out, **options)
    if is_first():
        write_looks(Path(out), painted)
        if any(one.reference is not None for one in painted):
            joint(painted, words=options.get("words"), out=out)
    return Path(out) / "looks"
