"""Words as segmentation: the word maps of a study's pictures against true masks, by DAAM's protocol; a table, its page, and every IoU.

`i2am.score.segmentation` says what is measured; `i2am.data.word_masks` reads the masks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from i2am.common.checks import refuse
from i2am.studies.painted import Painted
from i2am.studies.results import write
from i2am.studies.segment_page import page_of
from i2am.studies.segment_scores import score, summary, table
from i2am.studies.segment_truth import Truth, check_sizes

__all__ = ["Truth", "segment"]


def segment(painted: Sequence[Painted], truth: Truth, *, out: str | Path, about: Mapping[str, Any] | None = None) -> Path:
    """Score the pictures that have masks; writes segmentation.csv, report.json and report.html into `out`, returns the page.

    about: further facts for the report, each a mapping under its title.
    """
    out, masked = Path(out), [one for one in painted if one.asked.id in truth.masks]
    if not masked:
        refuse("the pictures", "at least one with a mask", f"{len(painted)} without", f"Masks are those of {truth.masks.path}.")
    check_sizes(masked, truth)
    scores = score(masked, truth)
    report = summary(scores, painted, truth, about or {})
    page = page_of(report, scores, {one.asked.id: one for one in masked}, truth)
    return write(out, {"segmentation": table(scores, truth.protocol)}, report, page)
