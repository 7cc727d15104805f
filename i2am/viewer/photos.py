"""Pictures as data URLs, small enough to travel in a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

from torch import Tensor

SMALL = 192 * 192  # pixels up to which a picture is kept as it is


def urls(pictures: Sequence[Tensor], form: tuple[int, int]) -> list[str | list[str]]:
    """uint8 [3, h, w] each, as WebP of at most so many pixels along the longer side; a list of them for each video [frames, 3, h, w]."""
    return [url(picture, form) if picture.ndim == 3 else [url(frame, form) for frame in picture] for picture in pictures]


def url(tensor: Tensor, form: tuple[int, int]) -> str:
    """One picture."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("i2am: pictures need Pillow. pip install 'i2am[pictures]'") from error
    side, quality = form
    picture = Image.fromarray(tensor.permute(1, 2, 0).contiguous().numpy())
    factor = side / max(picture.size)
    if factor < 1:
        size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small = picture.width * picture.height <= SMALL and quality >= 90
    picture.save(file, "WEBP", lossless=small, quality=quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
