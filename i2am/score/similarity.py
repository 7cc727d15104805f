"""How alike two pictures are: the structural similarity, over a mask."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from i2am.common.checks import is_floating, refuse
from i2am.maps.regions import as_mask, per_image


def ssim(a: Tensor, b: Tensor, mask: Any = None) -> Tensor:
    """[B], the structural similarity of pictures [B, C, H, W] in [0, 1], its mean over the mask; NaN where the mask is empty.

    Each value looks at a Gaussian window of 11 x 11 pixels, so at the border of a mask also at what is outside.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    if not is_floating(a, 4) or not is_floating(b, 4) or a.shape != b.shape or min(a.shape[-2:]) < 6:
        refuse("the pictures", "floating [B, C, H, W] of one shape, at least 6 x 6", (a, b), "Resize one of them first.")
    for one in (a, b):
        if not ((one >= 0) & (one <= 1)).all():
            refuse("the pictures", "in [0, 1]", f"{one.min():g} to {one.max():g}", "(x + 1) / 2 for [-1, 1], then clamp(0, 1).")
    whole = structural_similarity_index_measure(a.float(), b.float(), reduction="none", data_range=1.0, return_full_image=True)[1].mean(1)
    m = torch.ones_like(whole) if mask is None else per_image(as_mask(mask, "mask"), len(a), "mask").to(whole.device)
    if m.shape != whole.shape:
        refuse("mask", f"of the pictures' size {tuple(whole.shape[1:])}", tuple(m.shape[1:]), "Resize it first.")
    return (whole * m).sum((-2, -1)) / m.sum((-2, -1))
