"""Words: a list of prompts painted, a map for each word, a look at each picture; and with true masks how well the maps segment."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from i2am.common.checks import refuse
from i2am.data.prompts import Asked
from i2am.evaluation.options import FILE
from i2am.score.segmentation import Protocol
from i2am.studies.joint import joint
from i2am.studies.looks import write_looks
from i2am.studies.options import Options
from i2am.studies.refused import Words, wanted
from i2am.studies.run import as_asked, is_first, left_out, paint
from i2am.studies.segment import Truth, segment

Predictions = Mapping[str, tuple[str | Path, bool]]  # by prefix: a folder, and whether each picture has one composite of labels


def study(
    prompts: str | Path | Sequence[Asked] | Sequence[str],
    model: Any,
    *,
    out: str | Path,
    options: Options = Options(),
    words: Words = None,
    truth: str | Path | None = None,
    protocol: Protocol = Protocol(),
    predictions: Predictions | None = None,
    **more: Any,
) -> Path:
    """Paint the list with word maps, look at each picture; returns where to look. more: further options of `paint`.

    OUT/images/ID.png, OUT/words/ID.safetensors (`WordMaps.load`), OUT/looks/ID.jpg; where the model also has a reference in its attention
    OUT/reference/ID.safetensors (`i2am.load`), OUT/joint.csv and OUT/joint/ID.jpg.

    truth: a folder or a file of masks, which `i2am.data.word_masks` reads, for OUT/report.html, OUT/report.json and OUT/segmentation.csv.
    Masks are checked before anything is painted, and prompts must have the words that have a mask, as far as the protocol needs them.
    """
    asked, out = as_asked(prompts), Path(out)
    if truth is None and predictions:
        refuse("truth", "a folder or a file of masks", "none", "Predictions are scored against it.")
    masks = None if truth is None else Truth.read(truth, asked, size=options.size, protocol=protocol, predictions=predictions)
    if masks is not None and not any(one.id in masks.masks for one in asked[: options.limit]):
        refuse(
            f"the masks of {masks.masks.path}", f"of one of the first {options.limit} prompts at least", "none", "Ask for more of the list."
        )
    needed, both = {} if masks is None else masks.words(), words
    if needed:
        both = {one.id: [*wanted(words, one), *needed.get(one.id, ())] for one in asked}
    painted = paint(asked, model, out=out, options=options, words=both, seen=None if masks is None else masks.fits(asked), **more)
    if is_first():
        write_looks(out, painted)
        if any(one.reference is not None for one in painted):
            joint(painted, words=words, out=out)
        if masks is not None:
            segment(painted, masks, out=out, about=facts(out))
    return out / ("looks" if masks is None else "report.html")


def facts(out: Path) -> dict[str, Any]:
    """How the pictures were painted, and which were not."""
    lost = left_out(out)
    made = json.loads((out / FILE).read_text(encoding="utf-8"))["options"]
    return {"Pictures": made, **({"Not painted": lost} if lost else {})}
