"""What every picture is made of: images and maps as they come, levels, colours and text.

A value's level is (value - low) / (high - low), cut to [0, 1], where the scale gives low and high; its colour is that place of the
colour map; over an image the pixel is (1 - alpha) * image + alpha * colour. A map that is constant, up to rounding, has level 0.
Nothing here uses pyplot or changes rcParams, so it works without a display and in several threads.
"""

from __future__ import annotations

import difflib
import functools
import math
from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from i2am.common.checks import afford, number, refuse, said

try:
    from PIL import Image, ImageFont
except ImportError as error:
    raise ImportError("i2am: pictures need Pillow and matplotlib. pip install 'i2am[pictures]'") from error

Scale = str | tuple[float, float]
Picture = Image.Image
COLOURS = "inferno"
BLANK = (237, 237, 237)
FLAT = 1e-5  # a range below this part of the largest value is rounding, not a map


def checked_labels(what: str, labels: Sequence[Any], count: int, thing: str) -> list[str]:
    listed = isinstance(labels, Sequence) and not isinstance(labels, str)
    if not listed or len(labels) != count:
        refuse(what, f"{count} texts, one for each {thing}", len(labels) if listed else said(labels), "Name each.")
    return [str(label) for label in labels]


def per_map(images: Any, count: int) -> list[Picture]:
    """As many pictures as maps, from as many or from one."""
    pictures = as_images(images)
    if len(pictures) not in (1, count):
        refuse("images", f"one, or as many as there are maps ({count})", len(pictures), "Pass the batch that the maps were traced on.")
    return pictures * count if len(pictures) == 1 else pictures


def as_images(images: Any) -> list[Picture]:
    """RGB pictures of anything that diffusers returns: pictures, arrays [(B,) H, W, C], tensors [(B,) C, H, W], lists of these."""
    if isinstance(images, Picture):
        if images.mode[0] in "IF":
            refuse("images", "RGB or grey bytes", f"a picture of mode {images.mode}", "Scale it to bytes first.")
        return [images.convert("RGB")]
    if isinstance(images, (list, tuple)) and images:
        return [one for image in images for one in as_images(image)]
    if not is_array(images):
        got = "an empty list" if isinstance(images, (list, tuple)) else said(images)
        refuse("images", "PIL images, arrays [H, W, C] or tensors [C, H, W]", got, "Open a file with PIL.Image.open.")
    array: Any = images
    if isinstance(images, Tensor):
        tensor = images.detach().cpu()
        tensor = tensor.float() if tensor.is_floating_point() else tensor  # numpy has no bfloat16
        array = (tensor.movedim(-3, -1) if tensor.ndim > 2 else tensor).numpy()
    array = array[..., None] if array.ndim == 2 else array
    array = array[None] if array.ndim == 3 else array
    if array.ndim != 4 or array.shape[-1] not in (1, 3, 4) or 0 in array.shape:
        refuse("images", "arrays [H, W, C] or tensors [C, H, W] of 1, 3 or 4 channels", tuple(images.shape), "Move the channels' axis.")
    if array.dtype != np.uint8:
        array = array.astype(np.float32)
        if not (array.min() >= 0 and array.max() <= 1):
            refuse("images", "bytes, or numbers from 0 to 1", f"{images.dtype} from {array.min():g} to {array.max():g}",
                    "Images in [-1, 1] become (x + 1) / 2, numbers up to 255 become bytes with uint8.")  # fmt: skip
        array = (array * 255).round().astype(np.uint8)
    return [Image.fromarray(one[..., 0] if one.shape[-1] == 1 else np.ascontiguousarray(one)).convert("RGB") for one in array]


def is_array(value: object) -> bool:
    """A tensor or an array of real numbers."""
    return not value.is_complex() if isinstance(value, Tensor) else isinstance(value, np.ndarray) and value.dtype.kind in "biuf"


def as_tensor(maps: Any, what: str, shape: str) -> Tensor:
    if not is_array(maps):
        refuse(what, f"a tensor {shape}", said(maps), "Stack a list with torch.stack.")
    return maps.detach().float().cpu() if isinstance(maps, Tensor) else torch.from_numpy(np.array(maps, dtype=np.float32))


def as_maps(maps: Any, what: str, shape: str) -> Tensor:
    """The maps as finite float32 on the CPU, of as many dimensions as the shape has."""
    tensor = as_tensor(maps, what, shape)
    if tensor.ndim != len(shape.split(",")) or 0 in tensor.shape:
        refuse(what, f"{shape} without empty dimensions", tuple(tensor.shape), "Pick or add dimensions: maps[0], maps[None].")
    bad = int((~tensor.isfinite()).sum())
    if bad:
        refuse(what, "finite", f"{bad} NaN or infinite values of {tensor.numel()}", "Look for overflow in the traced run's attention.")
    return tensor


def resized(maps: Tensor, size: tuple[int, int], antialias: bool = False) -> Tensor:
    """[..., h, w] -> the size, bicubic; undershoot below 0 is cut unless the map itself has values there."""
    if tuple(maps.shape[-2:]) == size:
        return maps
    afford(f"maps of {size[0]} x {size[1]}", 8 * maps[..., 0, 0].numel() * size[0] * size[1], "Draw them smaller.")
    big = F.interpolate(maps.reshape(-1, 1, *maps.shape[-2:]), size, mode="bicubic", align_corners=False, antialias=antialias)
    return big.view(*maps.shape[:-2], *size).clamp(min=min(0.0, float(maps.min())))


def ranges(maps: Sequence[Tensor], scale: Scale) -> list[tuple[float, float]]:
    """(low, high) of each map."""
    if isinstance(scale, (tuple, list)) and len(scale) == 2 and all(is_finite(x) for x in scale) and scale[0] < scale[1]:
        return [(float(scale[0]), float(scale[1]))] * len(maps)
    if not isinstance(scale, str) or scale not in ("each", "shared"):
        refuse("scale", '"each", "shared" or (low, high) with low < high', said(scale), "Take (0, maps.max()) to start at 0.")
    each = [(float(m.min()), float(m.max())) for m in maps]
    return each if scale == "each" else [(min(low for low, _ in each), max(high for _, high in each))] * len(each)


def is_finite(value: Any) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def is_flat(span: tuple[float, float]) -> bool:
    return span[1] - span[0] <= FLAT * max(abs(span[0]), abs(span[1]))


def colour_map(name: str) -> Any:
    """matplotlib's colour map of this name."""
    try:
        from matplotlib import colormaps
    except ImportError as error:
        raise ImportError("pictures: drawing needs matplotlib. pip install 'i2am[pictures]'") from error
    if name not in list(colormaps):
        near = difflib.get_close_matches(str(name), list(colormaps)) or ["inferno", "viridis", "jet"]
        refuse("colours", "the name of a matplotlib colour map", said(name), f"Perhaps {' or '.join(near)}?")
    return colormaps[name]


def blend(picture: Picture | None, map: Tensor, span: tuple[float, float], colours: str, alpha: float, threshold: float | None) -> Picture:
    """One map [H, W] in colours, over a picture of its size."""
    number("alpha", alpha, "from 0 (only the image) to 1 (only the map)", lambda x: 0 <= x <= 1, "0.6 shows both.")
    if threshold is not None:
        number("threshold", threshold, "a level, from 0 to below 1", lambda x: 0 <= x < 1,
               "It is a part of the scale's range, not a value of the map.")  # fmt: skip
    level = torch.zeros_like(map) if is_flat(span) else ((map - span[0]) / (span[1] - span[0])).clamp(0, 1)
    colour = colour_map(colours)(level.numpy(), bytes=True)[..., :3]
    if picture is None:
        return Image.fromarray(np.ascontiguousarray(colour))
    weight = np.where(level.numpy() > threshold, alpha, 0.0)[..., None] if threshold is not None else alpha
    return Image.fromarray(((1 - weight) * np.asarray(picture) + weight * colour).round().astype(np.uint8))


@functools.lru_cache(maxsize=64)
def font(size: int) -> Any:
    """matplotlib's own font, there wherever matplotlib is."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def text_width(text: str, size: float) -> float:
    """Pixels that a text takes at this font size."""
    return max(font(100).getlength(line) for line in text.split("\n")) * size / 100
