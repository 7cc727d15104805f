"""How DAAM scores masks: overlaps of two, the mean of labelled ones, and the best assignment of unlabelled ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from i2am.common.checks import refuse, said
from i2am.common.extras import need

Masks = Tensor | Sequence[Tensor]


def alike(a: Tensor, b: Tensor) -> Tensor:
    """The first at the second's size: bicubic, cut at 1, as DAAM brings a mask to another's; unchanged if they have one size."""
    if not all(isinstance(mask, Tensor) and mask.ndim >= 2 for mask in (a, b)) or (a.shape != b.shape and not a.ndim == b.ndim == 2):
        refuse("the masks", "tensors [h, w]", f"{said(a)} and {said(b)}", "load_mask reads one from a picture.")
    if a.shape == b.shape:
        return a
    return (F.interpolate(a[None, None].float(), b.shape, mode="bicubic")[0, 0] >= 1).float()


def compute_iou(a: Tensor, b: Tensor) -> float:
    """Intersection over union of masks or maps: sum(a b) / (sum(a) + sum(b) - sum(a b)); of two that are empty 0."""
    a = alike(a, b)
    both = (a * b).sum()
    return (both / (a.sum() + b.sum() - both + 1e-8)).item()


def compute_ioa(a: Tensor, b: Tensor) -> float:
    """Intersection over the first's area: sum(a b) / sum(a); 0 if it is empty."""
    a = alike(a, b)
    return ((a * b).sum() / (a.sum() + 1e-8)).item()


def load_mask(path: str | Path) -> Tensor:
    """The mask [h, w] of a picture with an alpha channel: 1 where it is not transparent."""
    need("masks", "PIL")
    from PIL import Image

    with Image.open(path) as picture:
        if "A" not in picture.getbands():
            refuse(str(path), "a picture with an alpha channel, which is the mask", f"one of {picture.mode}", "Save it as RGBA.")
        return torch.from_numpy(np.array(picture.getchannel("A")) > 0).float()


def best(preds: Masks, truth: Tensor) -> float:
    """The IoU of the prediction that fits best."""
    several = [preds] if isinstance(preds, Tensor) else list(preds)
    if not several:
        refuse("preds", "at least one mask", "none", "A word without a prediction is left out, or scored with an empty mask.")
    return max(compute_iou(pred, truth) for pred in several)


class MeanEvaluator:
    """The mean IoU of predictions against their own masks, its 95% interval, and the predictions' mean."""

    def __init__(self, name: str = "MeanEvaluator") -> None:
        self.ious: list[float] = []
        self.intensities: list[float] = []
        self.name = name

    def log_iou(self, preds: Masks, truth: Tensor) -> MeanEvaluator:
        """Of several predictions the best counts."""
        self.ious.append(best(preds, truth))
        return self

    def log_intensity(self, pred: Tensor) -> MeanEvaluator:
        self.intensities.append(pred.mean().item())
        return self

    @property
    def mean_iou(self) -> float:
        """NaN before anything is logged, as mean_intensity."""
        return float(np.mean(self.ious)) if self.ious else float("nan")

    @property
    def mean_intensity(self) -> float:
        return float(np.mean(self.intensities)) if self.intensities else float("nan")

    @property
    def ci95_miou(self) -> float:
        """1.96 sigma / sqrt(n), with n under sigma's root as well."""
        return float(1.96 * np.std(self.ious) / np.sqrt(len(self.ious))) if self.ious else float("nan")

    def __len__(self) -> int:
        return max(len(self.ious), len(self.intensities))

    def __str__(self) -> str:
        return f"{self.name}<{self.mean_iou:.4f} (±{self.ci95_miou:.3f} mIoU) {self.mean_intensity:.4f} (mInt) {len(self)} samples>"


class UnsupervisedEvaluator:
    """The mean IoU under the one assignment of predicted labels to true ones that fits best over all pictures."""

    def __init__(self, name: str = "UnsupervisedEvaluator") -> None:
        self.name = name
        self.ious: dict[int, list[tuple[int, float]]] = defaultdict(list)
        self.num_samples = 0

    def log_iou(self, preds: Masks, truth: Tensor, gt_idx: int = 0, pred_idx: int = 0) -> None:
        """A picture's IoU of the label pred_idx with the true label gt_idx."""
        self.ious[gt_idx].append((pred_idx, best(preds, truth)))

    @property
    def mean_iou(self) -> float:
        """The IoUs' sum over the assigned pairs of labels by their number; the assignment has the largest sum."""
        need("an assignment", "scipy")
        from scipy.optimize import linear_sum_assignment

        if not self.ious:
            refuse("what was logged", "at least one IoU", "none", "evaluator.log_iou(pred, truth, gt_idx, pred_idx).")
        count = 1 + max(label for gt_idx, found in self.ious.items() for label in (gt_idx, *(pred_idx for pred_idx, _ in found)))
        sums: Any = np.zeros((2, count, count))
        for gt_idx, found in self.ious.items():
            for pred_idx, iou in found:
                sums[:, gt_idx, pred_idx] += iou, 1
        pairs = linear_sum_assignment(sums[0], maximize=True)
        total, times = (float(part[pairs].sum()) for part in sums)
        return total / times if times else float("nan")

    def increment(self) -> None:
        self.num_samples += 1

    def __len__(self) -> int:
        return self.num_samples

    def __str__(self) -> str:
        return f"{self.name}<{self.mean_iou:.4f} (mIoU) {len(self)} samples>"
