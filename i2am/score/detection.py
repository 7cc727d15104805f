"""Detection with attribution maps: where the reference acts is where its object is.

    R2G map -> bicubic to the image -> keep values above the 65th percentile -> open, close, dilate with a 5x5 square
    -> connected parts (8 neighbours) -> the bounding box that holds most kept pixels -> IoU with the true box

Boxes are (x0, y0, x1, y1) in pixels, half-open: x1 - x0 is the width. Nothing lies outside the image: erosion does not eat from its
border, dilation brings nothing in.

`RELEASE` holds the options of the authors' release for Paint-by-Example, `boxes(map, (512, 512), **RELEASE)`: it takes 1 - minmax(map)
of 64x64 cells, sets values up to 0.4 to 0, and thresholds a drawing of that with 369 pixels a side, in which a cell is a square of five
or six, so that opening and closing change nothing. What else it does is not done here: the drawing's values are read back from 256
colours, its boxes are held against boxes of the image at 512x512 without scaling, images without a box and random boxes that miss
are left out of the means.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from i2am.common.checks import is_size, is_whole, refuse
from i2am.common.extras import need
from i2am.maps.tokens import Grid
from i2am.score.intervals import bootstrap

need("a box", "scipy")
from scipy import ndimage  # noqa: E402

RELEASE: dict[str, Any] = {"at": (369, 369), "mode": "nearest-exact", "invert": True, "threshold": 0.4}
EPSILON = 1e-8  # as in imacs
ROUNDING = 1e-6  # of the largest value: bicubic's rounding is not above a percentile
AREA, ASPECT, HALF = (0.1, 0.3), (0.5, 2.0), 0.5  # of a random box: its share of the image, its width / height; an IoU above is a hit
MOST = 2**28  # pixels of an image
NEIGHBOURS = np.ones((3, 3))


def boxes(
    map: Tensor,
    size: Grid,
    *,
    percentile: float = 65.0,
    kernel: int = 5,
    at: Grid | None = None,
    mode: str = "bicubic",
    invert: bool = False,
    threshold: float | None = None,
) -> Tensor:
    """One box for each map [B, h, w], float32 [B, 4] in pixels of `size`, the image's (height, width); [4] for one map [h, w].

    at: the size at which maps are thresholded and cleaned, None for the image's; a 5x5 square means nothing without it. mode:
    F.interpolate's, undershoot below 0 cut. invert: 1 - minmax(map). threshold: minmax values up to it are 0.
    A map of which nothing is left, such as a constant one, has a box of NaN. Of boxes that hold equally many kept pixels, those of
    other parts counted too, the topmost part's is taken, then the leftmost.
    """
    x = _checked(map, percentile, kernel, mode, size, at or size)
    height, width = at or size
    if invert or threshold is not None:
        low, high = x.amin((-2, -1), keepdim=True), x.amax((-2, -1), keepdim=True)
        x = (x - low) / (high - low + EPSILON)
        x = 1 - x if invert else x
        x = x if threshold is None else torch.where(x <= threshold, 0.0, x)
    if x.shape[1:] != (height, width):
        smooth = {"align_corners": False} if mode == "bicubic" else {}
        x = F.interpolate(x[:, None], (height, width), mode=mode, **smooth)[:, 0].clamp(min=x.amin((-2, -1), keepdim=True).clamp(max=0))
    kept = _cleaned(torch.stack([_above(one, percentile) for one in x]), kernel)
    scale = np.array([size[1] / width, size[0] / height] * 2)
    found = [_best(one) for one in kept.cpu().numpy()]
    result = torch.as_tensor(np.stack([np.full(4, np.nan) if box is None else box * scale for box in found]))
    result = result.to(map.device, torch.float32)
    return result[0] if map.ndim == 2 else result


def _checked(map: Tensor, percentile: float, kernel: int, mode: str, size: Grid, at: Grid) -> Tensor:
    """Maps [B, h, w] float32; everything else as it should be."""
    if not isinstance(map, Tensor) or map.ndim not in (2, 3) or not map.is_floating_point() or 0 in map.shape:
        got = f"{str(map.dtype).removeprefix('torch.')} {list(map.shape)}" if isinstance(map, Tensor) else repr(map)
        refuse(
            "map",
            "a floating tensor [B, h, w] or [h, w]",
            got,
            'maps.unified("r2g") is one. Frames of a video are pictures: map.flatten(0, 1).',
        )
    if not map.isfinite().all():
        refuse("map", "finite", "NaN or infinity", "Look for overflow in the traced run's attention.")
    for name, one in (("size", size), ("at", at)):
        if not is_size(one) or one[0] * one[1] > MOST:
            refuse(name, f"(height, width), at most {MOST:,} pixels", repr(one), "The image's, in pixels.")
    if not 0 <= percentile < 100:
        refuse("percentile", "from 0 to below 100", percentile, "65 keeps the upper 35%.")
    if not is_whole(kernel, 1) or kernel % 2 == 0:
        refuse("kernel", "an odd number of pixels", repr(kernel), "1 leaves what is kept as it is.")
    if mode not in ("bicubic", "nearest-exact"):
        refuse("mode", '"bicubic" or "nearest-exact"', repr(mode), "Bicubic is the method's.")
    x = map.detach().float()
    return x[None] if x.ndim == 2 else x


def _above(x: Tensor, percentile: float) -> Tensor:
    """Which values of one map [H, W] are above its percentile, interpolated linearly, by more than rounding."""
    rank, beyond = divmod(percentile / 100 * (x.numel() - 1), 1)
    low, high = (x.flatten().kthvalue(min(int(rank) + i, x.numel())).values.item() for i in (1, 2))
    return x > low + (high - low) * beyond + ROUNDING * x.abs().amax().item()


def _cleaned(kept: Tensor, kernel: int) -> Tensor:
    """Opened, closed and dilated with a square, [B, H, W]."""

    def dilated(y: Tensor) -> Tensor:  # max_pool2d's border is -inf
        half = kernel // 2
        return F.max_pool2d(F.max_pool2d(y, (kernel, 1), 1, (half, 0)), (1, kernel), 1, (0, half))

    def eroded(y: Tensor) -> Tensor:
        return -dilated(-y)

    y = kept[:, None].float()
    return dilated(eroded(dilated(dilated(eroded(y)))))[:, 0] > 0


def _best(kept: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
    """The bounding box [4] of one part of kept [H, W] that holds most kept pixels; parts are numbered row by row, the first wins."""
    parts = ndimage.find_objects(ndimage.label(kept, NEIGHBOURS)[0])
    if not parts:
        return None
    y, x = max(parts, key=lambda part: kept[part].sum())
    return np.array([x.start, y.start, x.stop, y.stop])


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes [..., 4] and [..., 4], float64 [...]; a box of NaN, one that was not found, has 0 with any."""
    for box in (a, b):
        if box.ndim < 1 or box.shape[-1] != 4:
            refuse("boxes", "a tensor [..., 4]", tuple(box.shape), "A box is (x0, y0, x1, y1).")
        wrong = ~(box.isnan().all(-1) | (box.isfinite().all(-1) & (box[..., :2] < box[..., 2:]).all(-1)))
        if wrong.any():
            refuse("a box", "(x0, y0, x1, y1) with x0 < x1 and y0 < y1, or all NaN", box[wrong][0].tolist(),
                   "COCO's [x, y, width, height] becomes (x, y, x + width, y + height).")  # fmt: skip
    a, b = a.double(), b.double().to(a.device)
    sides = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    inside, *areas = (s.prod(-1) for s in (sides, a[..., 2:] - a[..., :2], b[..., 2:] - b[..., :2]))
    return (inside / (areas[0] + areas[1] - inside)).nan_to_num(0.0)


def whole_image(size: Grid, n: int = 1) -> Tensor:
    """The box of the whole image, n times, [n, 4]."""
    return torch.tensor([0.0, 0.0, size[1], size[0]], device="cpu").repeat(n, 1)


def random_boxes(n: int, size: Grid, seed: int, first: int = 0) -> Tensor:
    """Boxes of 10% to 30% of the area, half to twice as wide as high where that fits, anywhere inside the image, [n, 4].

    Box i depends on the seed and on first + i alone, so that any split of a data set has the same boxes.
    """
    if not is_size(size) or not all(map(is_whole, (n, seed, first))):
        refuse("n, size, seed and first", "whole numbers and (height, width)", f"{n}, {size}, {seed}, {first}", "None is below 0.")
    height, width = size
    found = []
    for place in range(first, first + n):
        share, aspect, x, y = np.random.default_rng([seed, place]).random(4)
        area = (AREA[0] + share * (AREA[1] - AREA[0])) * height * width
        aspect = np.clip(ASPECT[0] + aspect * (ASPECT[1] - ASPECT[0]), area / height**2, width**2 / area)  # no side beyond the image's
        w, h = (area * aspect) ** 0.5, (area / aspect) ** 0.5
        found.append([x * (width - w), y * (height - h), x * (width - w) + w, y * (height - h) + h])
    return torch.tensor(found, device="cpu").view(-1, 4)


def detect(
    found: Tensor,
    truth: Tensor,
    sizes: Sequence[Grid],
    *,
    seed: int = 0,
    places: Sequence[int] | None = None,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> dict[str, Any]:
    """How well found boxes [N, 4] fit the true ones, beside the whole image's box and a random one.

    sizes: each image's (height, width). places: numbers that the random boxes depend on beside the seed, one per image; None counts.
    "count" images, "missed" without a box, which have IoU 0; "map", "whole" and "random" each have "mean", the bootstrap's "low" and
    "high", and "above_half", the share of images with an IoU above 0.5; "iou" has every image's, float64 [N] of each.
    """
    if not len(found) or not len(found) == len(truth) == len(sizes) == len(sizes if places is None else places):
        got = f"{len(found)}, {len(truth)}, {len(sizes)}" + ("" if places is None else f", {len(places)}")
        refuse("found, truth, sizes and places", "of the same images, at least one", got, "An image without a box has NaN.")
    if truth.isnan().any():
        refuse("truth", "boxes", "NaN", "Leave out images without a true box, and say how many.")
    places = range(len(sizes)) if places is None else places
    rivals = {
        "map": found,
        "whole": torch.cat([whole_image(size) for size in sizes]),
        "random": torch.cat([random_boxes(1, size, seed, place) for size, place in zip(sizes, places)]),
    }
    each = {name: iou(box.cpu(), truth.cpu()) for name, box in rivals.items()}
    report: dict[str, Any] = {"count": len(found), "missed": int(found.isnan().all(-1).sum())}
    for name, one in each.items():
        low, high = bootstrap(one.sort().values, resamples, confidence, seed)
        hits = (one > HALF).double().mean()
        report[name] = {"mean": one.mean().item(), "low": low.item(), "high": high.item(), "above_half": hits.item()}
    return {**report, "iou": each}
