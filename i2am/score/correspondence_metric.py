"""The scores of the field over a data set, as torchmetrics metrics.

metric = Correspondence()
metric.update(maps.field("g2r"), maps.field("r2g"), mask)
metric.compute()      # {"mean", "low", "high", "count", "nan"}
"""

from __future__ import annotations

from typing import Any

from i2am.maps.field import Field
from i2am.score.correspondence import correspondence, inside, returning, sharpness, smoothness
from i2am.score.mean_metric import MeanOfImages


class Correspondence(MeanOfImages):
    """The mean of `correspondence`; within: in patches."""

    def __init__(self, *, within: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.within = within

    def update(self, there: Field, back: Field, mask: Any) -> None:
        self.keep(correspondence(there, back, mask, within=self.within))


class Returning(MeanOfImages):
    """The mean of `returning`; within: in patches."""

    def __init__(self, *, within: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.within = within

    def update(self, there: Field, back: Field, mask: Any = None) -> None:
        self.keep(returning(there, back, mask, within=self.within))


class Inside(MeanOfImages):
    """The mean of `inside`."""

    def update(self, field: Field, mask: Any, garment_mask: Any) -> None:
        self.keep(inside(field, mask, garment_mask))


class Sharpness(MeanOfImages):
    """The mean of `sharpness`."""

    def update(self, field: Field, mask: Any = None) -> None:
        self.keep(sharpness(field, mask))


class Smoothness(MeanOfImages):
    """The mean of `smoothness`; within: in patches."""

    def __init__(self, *, within: float = 2.0, **options: Any) -> None:
        super().__init__(**options)
        self.within = within

    def update(self, field: Field, mask: Any = None) -> None:
        self.keep(smoothness(field, mask, within=self.within))
