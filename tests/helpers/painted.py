"""What the tests of pictures share: fake maps, single hot cells, colours of levels and pixels."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("matplotlib")
from matplotlib import colormaps

LAYERS = [
    f"{block}.attentions.{i}.transformer_blocks.0.attn2" for block in ("down_blocks.0", "down_blocks.1", "up_blocks.2") for i in (0, 1)
]
DEEP = [
    f"unet.{block}.attentions.{i}.transformer_blocks.{k}.attn2"
    for block in ("down_blocks.1", "up_blocks.0")
    for i in (0, 1)
    for k in range(8)
]


@pytest.fixture(autouse=True)
def without_pyplot(on_the_cpu, monkeypatch):
    """Whoever asks for pyplot does not get it."""
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)


def noise(height, width, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def hot(height, width, row, column, value=1.0):
    """A map of one hot cell."""
    map = torch.zeros(height, width)
    map[row, column] = value
    return map


def colour(name, level):
    return tuple(colormaps[name](float(level), bytes=True)[:3])


def at(picture, row, column):
    return picture.getpixel((column, row))


def close(a, b, by=2):
    return np.abs(np.asarray(a, dtype=int) - np.asarray(b, dtype=int)).max() <= by


class Maps:
    """What `levels` needs of AttributionMaps: B = 2 images, and levels of very different size."""

    def __init__(self, groups=5, heads=3, layers=LAYERS, grid=(16, 12)):
        self.groups, self.heads, self.layers, self.grid, self.asked = groups, heads, layers, grid, []

    def _maps(self, count, size, by):
        self.asked.append(size)
        return by * torch.rand(2, count, *(size or self.grid)) * torch.tensor([0.5, 1.0]).view(2, 1, 1, 1)

    def unified(self, direction, size=None):
        return self._maps(1, size, 1.0)[:, 0]

    def time(self, direction, size=None):
        return self._maps(self.groups, size, 0.2)

    def head(self, direction, size=None):
        if self.heads is None:
            raise ValueError("i2am: the head level needs layers with the same number of heads. " + ", ".join(DEEP))
        return self._maps(self.heads, size, 3.0)

    def layer(self, direction, size=None):
        return self._maps(len(self.layers), size, 40.0)


# Overlay
