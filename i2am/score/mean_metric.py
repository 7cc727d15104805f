"""A score of single images over a data set, as a torchmetrics metric: scores in, their mean and a bootstrap interval out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from i2am.common.checks import number, whole_number
from i2am.common.extras import need
from i2am.score.intervals import bootstrap

need("a metric", "torchmetrics")
from torchmetrics import Metric  # noqa: E402


class MeanOfImages(Metric):
    """What metrics of single images share; `keep` takes the scores of some.

    `compute` gives {"mean", "low", "high", "count", "nan"}. low, high: the percentile bootstrap's interval, from `resamples` draws of
    images; the same scores in any order and from any number of processes give the same one. Images without a score are left out of the
    mean and counted in "nan". `scores` has the score of every image, NaN among them, in the order of the updates; after a merge by
    torchmetrics the incoming ones come first.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    kept: list[Tensor]

    def __init__(self, *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0, **torchmetrics: Any) -> None:
        super().__init__(**torchmetrics)
        whole_number("resamples", resamples, 1, "1000 is usual.")
        number("confidence", confidence, "between 0 and 1", lambda x: 0 < x < 1, "0.95 leaves 2.5% on either side.")
        whole_number("seed", seed, 0, "The same seed gives the same interval.")
        self.resamples, self.confidence, self.seed = resamples, confidence, seed
        self.add_state("kept", default=[], dist_reduce_fx="cat")

    def keep(self, scores: Tensor) -> None:
        """The scores [B] of some images."""
        self.kept.append(scores.detach().to(self.device))

    def compute(self) -> dict[str, Tensor]:
        """mean, low and high in float32, NaN if no image has a score; count images with a score, nan without."""
        found = self.scores
        there = found[~found.isnan()].double().cpu().sort().values  # sorted: their order shall not matter
        low, high = bootstrap(there, self.resamples, self.confidence, self.seed)
        mean = there.mean() if len(there) else torch.tensor(torch.nan, device="cpu")
        numbers = {"mean": mean, "low": low, "high": high}
        counts = {"count": len(there), "nan": len(found) - len(there)}
        return {name: x.float().to(found.device) for name, x in numbers.items()} | {
            name: torch.tensor(n, device=found.device) for name, n in counts.items()
        }

    @property
    def scores(self) -> Tensor:
        """[N] float32, one score per image so far."""
        kept = [self.kept] if isinstance(self.kept, Tensor) else self.kept  # a tensor while processes are in step
        return torch.cat(kept).float() if kept else torch.empty(0, device=self.device)
