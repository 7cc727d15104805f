"""IMACS over a data set, as a torchmetrics metric."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from i2am.score.imacs import check_options, scored
from i2am.score.mean_metric import MeanOfImages


class Imacs(MeanOfImages):
    """The mean IMACS of a data set, [B] maps and masks at a time.

        metric = i2am.Imacs(**convention("stableviton").options("r2g"))
        metric.update(maps.unified("r2g"), mask)
        metric.compute()      # {"mean", "low", "high", "count", "nan"}

    Images whose masks are empty or full have no score; maps that are not finite are refused, as by `imacs`. The rest, the interval and
    its options among them, is as in `MeanOfImages`.
    """

    def __init__(
        self, *, threshold: float = 0.4, penalty: float = 3.0, invert: bool = False, force_mask: bool = False, **options: Any
    ) -> None:
        super().__init__(**options)
        check_options(threshold, penalty)
        self.options: dict[str, Any] = {"threshold": threshold, "penalty": penalty, "invert": invert, "force_mask": force_mask}

    def update(self, map: Tensor, mask: Any) -> None:
        """Score some images."""
        self.keep(scored(map, mask, **self.options))
