"""Runs whose field is known, and a reading of the fields in a page that shares no code with the viewer's."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from viewed import Page

from i2am import AttributionMaps
from i2am.maps.layer_sums import LayerSums

HERE, THERE = (12, 8), (6, 10)  # patches of the generated image and of the reference
DEVIATION = (0.05, 0.1)  # of every patch, down and across
TILT = 0.6  # the correlation
Move = Callable[[Tensor], Tensor]  # places [..., 2] -> places


def mirrored(at: Tensor) -> Tensor:
    """From the generated image to the reference: mirrored, and a little smaller."""
    return at * torch.tensor([0.8, -0.5]) + torch.tensor([0.1, 0.8])


def unmirrored(at: Tensor) -> Tensor:
    return (at - torch.tensor([0.1, 0.8])) / torch.tensor([0.8, -0.5])


def same(at: Tensor) -> Tensor:
    return at


def centres(grid: tuple[int, int]) -> Tensor:
    y, x = ((torch.arange(n) + 0.5) / n for n in grid)
    return torch.stack(torch.meshgrid(y, x, indexing="ij"), -1)


def moments(at: Tensor, target: tuple[int, int], deviation: tuple[float, float]) -> Tensor:
    """[6, tokens]: sums of one unit of attention around places [h, w, 2], in patches of the target, as a recorder adds them up."""
    y, x = at.flatten(0, 1).unbind(-1)
    (sy, sx), (h, w) = deviation, target
    return torch.stack([torch.ones_like(y), h * y, w * x, h * h * (sy * sy + y * y), h * w * (TILT * sy * sx + y * x),
                        w * w * (sx * sx + x * x)])  # fmt: skip


def pointed(
    to: Move = mirrored, back: Move = unmirrored, images: int = 1, layers: int = 2, groups: int = 2,
    here: tuple[int, int] = HERE, there: tuple[int, int] = THERE, deviation: tuple[float, float] = DEVIATION,
) -> AttributionMaps:  # fmt: skip
    """All heads of all layers point alike."""

    def sums(move: Move, own: tuple[int, int], target: tuple[int, int]) -> Tensor:
        return moments(move(centres(own)), target, deviation).expand(images, groups, 2, -1, -1).clone()

    def one(name: str) -> LayerSums:
        r2g, g2r = (torch.ones(images, groups, 2, h * w) / (h * w) for h, w in (here, there))
        return LayerSums(name, "reference", here, there, 0, r2g, g2r, field_g2r=sums(to, here, there), field_r2g=sums(back, there, here))

    return AttributionMaps(tuple(one(f"layer.{i}") for i in range(layers)), steps=groups)


def read_fields(shown: Page, image: int) -> dict[tuple[str, int, str], Tensor]:
    """(level, place, direction) -> [h, w, 5]: y, x, deviation down and across, correlation; read as i2am/viewer/fields.py describes it."""
    found = {}
    for part in shown.run["fields"][0]["parts"]:
        data = np.frombuffer(shown.blobs[part["blobs"][image]], np.uint8).astype(float)
        for level in part["levels"]:
            for direction in ("g2r", "r2g"):
                h, w = level["grids"][direction]
                planes, data = data[: 7 * h * w].reshape(7, h, w), data[7 * h * w :]
                codes = [planes[0] * 256 + planes[1], planes[2] * 256 + planes[3]]
                places = [np.where(code == 65535, np.nan, code / 65534) for code in codes]
                values = [*places, (planes[4] / 255) ** 2 / 2, (planes[5] / 255) ** 2 / 2, planes[6] / 127 - 1]
                found[level["level"], level["place"], direction] = torch.tensor(np.stack(values, -1))
        assert data.size == 0
    return found
