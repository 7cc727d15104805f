"""Which pixels of a painted scene are a word's: by the colours that the prompt names, in the picture itself."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import label
from torch import Tensor
from torch.nn import functional as F

from i2am.data.scenes import COLOURS
from i2am.data.scenes.layout import Layout
from i2am.data.scenes.render import PALETTE

HATCHING = 4  # pixels after which a thing's hatching repeats
LEAST = 24  # pixels of a thing that is there


def painted_masks(picture: Tensor, layout: Layout) -> dict[str, Tensor]:
    """By word bool [H, W] of a picture [3, H, W] in [0, 1]: pixels nearer to the colour that is named than to the ground and to the other
    thing's, of them the largest patch that hangs together. Things whose colour is not named, or is not there, are left out."""
    smooth = F.avg_pool2d(F.pad(picture[None], (1, 2, 1, 2), mode="replicate"), HATCHING, 1)[0]
    edge = torch.cat([smooth[:, 0], smooth[:, -1], smooth[:, :, 0], smooth[:, :, -1]], 1)
    ground = edge.median(1).values
    colours = [PALETTE[COLOURS.index(thing.colour)] for thing in layout.things if thing.named]
    away = torch.stack([(smooth - colour[:, None, None]).square().sum(0) for colour in (ground, *colours)])
    nearest = away.argmin(0)
    masks: list[Tensor | None] = []
    for thing in layout.things:
        masks.append(patch(nearest == 1 + sum(mask is not None for mask in masks)) if thing.named else None)
    found = {}
    for word, things in layout.sentence.things().items():
        parts = [masks[thing] for thing in things]
        if all(part is not None and int(part.sum()) >= LEAST for part in parts):
            found[word] = torch.stack([part for part in parts if part is not None]).any(0)
    return found


def patch(mask: Tensor) -> Tensor:
    """The largest part of a mask that hangs together."""
    parts, count = label(mask.numpy())
    if not count:
        return mask
    sizes = np.bincount(parts.ravel())[1:]
    return torch.from_numpy(parts == 1 + int(sizes.argmax()))
