"""Which reference a patch took from, as one picture: a colour for each reference, mixed by their shares over the grey image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageOps
from torch import Tensor

from i2am.common.checks import number, refuse
from i2am.show.drawing import Picture, as_maps, checked_labels, font, per_map, resized, text_width
from i2am.show.videos import row, small, videos_of

__all__ = ["SHADES", "shares"]

SHADES = ((230, 159, 0), (0, 114, 178), (0, 158, 115), (204, 121, 167), (213, 94, 0), (86, 180, 233), (240, 228, 66), (120, 120, 120))


def shares(images: Any, maps: Any, names: Sequence[str], *, alpha: float = 0.65) -> list[Picture]:
    """Shares [B, references, h, w] over B images, or over one, with the references' names in their colours below; shares [B, references,
    frames, h, w] over the frames of videos, in a row.

    A pixel is (1 - alpha) * grey image + alpha * (sum of share * colour, and white for what the shares leave of 1).
    """
    video = getattr(maps, "ndim", 0) == 5
    tensor = as_maps(maps, "maps", "[B, references, frames, h, w]" if video else "[B, references, h, w]")
    if tensor.shape[1] > len(SHADES):
        refuse("maps", f"of at most {len(SHADES)} references", tensor.shape[1], "Draw some of them: shares[:, :8].")
    if float(tensor.min()) < 0 or float(tensor.sum(1).max()) > 1 + 1e-3:
        refuse("maps", "shares, whose sum over the references is at most 1", f"a sum of {float(tensor.sum(1).max()):g}",
               "They are maps.shares(size), or shares of all attention: of=\"attention\".")  # fmt: skip
    number("alpha", alpha, "from 0 (only the image) to 1 (only the shares)", lambda x: 0 <= x <= 1, "0.65 shows both.")
    labels = checked_labels("names", names, tensor.shape[1], "reference")
    colours = torch.tensor(SHADES[: len(labels)], dtype=torch.float32)
    if not video:
        return [with_names(mixed(picture, one, colours, alpha), labels) for picture, one in zip(per_map(images, len(tensor)), tensor)]
    frames, out = range(tensor.shape[2]), []
    for pictures, one in zip(videos_of(images, len(frames), len(tensor)), tensor):
        shown = [mixed(small(pictures[i if len(pictures) > 1 else 0], len(frames)), one[:, i], colours, alpha) for i in frames]
        out.append(with_names(row(shown, frames), labels, shown[0].width))
    return out


def mixed(picture: Picture, shares: Tensor, colours: Tensor, alpha: float) -> Picture:
    """One picture under its shares [references, h, w]."""
    big = resized(shares, picture.size[::-1]).clamp(0, 1)  # [references, H, W]
    big = big / big.sum(0, keepdim=True).clamp(min=1)
    mix = torch.einsum("rhw,rc->hwc", big, colours) + 255 * (1 - big.sum(0))[..., None]
    grey = torch.from_numpy(np.asarray(ImageOps.grayscale(picture).convert("RGB"), dtype=np.float32).copy())
    return Image.fromarray(((1 - alpha) * grey + alpha * mix).round().clamp(0, 255).byte().numpy())


def with_names(picture: Picture, labels: Sequence[str], wide: int | None = None) -> Picture:
    """The picture above a line a reference: a square of its colour, and its name, as large as for a picture this wide."""
    size = max(11, round((wide or picture.width) / 24))
    widest = max(text_width(label, size) for label in labels) + 2 * size
    if widest > picture.width:
        size = max(8, int(size * picture.width / widest))
    line = round(1.5 * size)
    page = Image.new("RGB", (picture.width, picture.height + line * len(labels) + size // 2), "white")
    page.paste(picture, (0, 0))
    draw = ImageDraw.Draw(page)
    for i, label in enumerate(labels):
        middle = picture.height + size // 4 + line * (i + 0.5)
        draw.rectangle((size // 2, middle - size // 2, size // 2 + size, middle + size // 2), SHADES[i])
        draw.text((2 * size, middle), label, "black", font=font(size), anchor="lm")
    return page
