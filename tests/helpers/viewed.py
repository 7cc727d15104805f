"""Runs with a known structure for the viewer's tests, and a reading of its pages that shares no code with them."""

import base64
import gzip
import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import i2am
from i2am import AttributionMaps
from i2am.maps.layer_sums import LayerSums
from i2am.maps.prompt import Prompt
from i2am.maps.recorder import describe

GENERATED, REFERENCE, CELLS = (12, 8), (8, 6), (6, 4)
LAYERS = ("down_blocks.0.attn2", "up_blocks.0.attn2", "up_blocks.1.attn2")


def target(row: int, column: int, image: int = 0) -> tuple[int, int]:
    """Where in the reference a generated cell looks: turned upside down; in every other image mirrored too."""
    down, right = REFERENCE[0] - 1 - row * REFERENCE[0] // CELLS[0], column * REFERENCE[1] // CELLS[1]
    return down, REFERENCE[1] - 1 - right if image % 2 else right


def known(images: int = 2, *, steps: int = 4, groups: int = 2, specific: Any = None, pictures: bool = True, source: str = "reference",
          cells: bool = True) -> AttributionMaps:  # fmt: skip
    """Every generated cell attends to `target`, more sharply in later steps and heads; layers differ in how sharp they are."""
    regions = [*(i2am.cells(*CELLS) if cells else []), *(specific or [])]
    recorder = i2am.Recorder(groups=groups, steps=steps, specific=regions or None)
    size = REFERENCE[0] * REFERENCE[1]
    key = torch.eye(size + 1)[None, None].expand(images, 3, -1, -1)
    for step in range(steps):
        for place, layer in enumerate(LAYERS):
            grid = GENERATED if place else CELLS
            query = torch.zeros(images, 3, grid[0] * grid[1], size + 1)
            for image in range(images):
                for i in range(grid[0] * grid[1]):
                    row, column = (x * n // m for x, n, m in zip(divmod(i, grid[1]), CELLS, grid))
                    down, right = target(row, column, image)
                    query[image, :, i, 1 + down * REFERENCE[1] + right] = 3 + row / 2 + column / 3 + step + place
            query = query * (torch.arange(3.0) / 4 + 0.75)[None, :, None, None]
            recorder.attend(layer, query, key, key, generated_grid=grid, reference_grid=REFERENCE, special=1, scale=1.0, source=source)
        recorder.step()
    recorder.about = {"model": "KnownPipeline"}
    shown = [flat(i) for i in range(images)], [flat(i + 4) for i in range(images)]
    return recorder.maps.with_pictures(*shown) if pictures else recorder.maps


def flat(i: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """One colour, so that what lies over it can be told."""
    return Image.new("RGB", (size[1], size[0]), ((40 * i) % 256, (90 + 50 * i) % 256, 200 - 20 * i))


def drawn(*shape: int) -> Tensor:
    return torch.rand(*shape, device="cpu").pow(3)


def words_of(images: int = 2, heads: tuple[int, ...] = (2, 4)) -> AttributionMaps:
    """Words alone, of two prompts, in layers whose heads differ in number."""
    texts = (("<s>", "a</w>", "red</w>", "sh", "irt</w>", "</s>"), ("<s>", "one</w>", "hat</w>", "on</w>", "sand</w>", "</s>"))
    said = "a red shirt", "one hat on sand"
    prompts = tuple(Prompt(text, tokens, tuple(t[0] == "<" for t in tokens)) for text, tokens in zip(said, texts))
    sums = tuple(LayerSums(f"layer.{i}", "reference", (4 * i, 6 * i), None, 0, words=drawn(images, 2, n, 6, 24 * i * i))
                 for i, n in enumerate(heads, 1))  # fmt: skip
    return AttributionMaps(sums, steps=6, prompts=prompts[:images])


def several(images: int = 1) -> AttributionMaps:
    """Two references of one run: one with regions of every kind, one of a single token."""
    regions = tuple(describe(region) for region in [(0.25, 0.75), (0.1, 0.2, 0.5, 0.6), torch.ones(1, 4, 4, device="cpu")])
    garment = [LayerSums(name, "garment", (6, 6), (5, 3), 0, drawn(images, 2, 2, 36), drawn(images, 2, 2, 15), drawn(images, 2, 2, 3, 15))
               for name in ("one", "two")]  # fmt: skip
    token = LayerSums("one", "adapter <b>&2", (6, 6), None, 0, drawn(images, 2, 2, 36))
    return AttributionMaps((*garment, token), steps=5, regions=regions)


@dataclass
class Page:
    """What a page holds."""

    run: dict[str, Any]
    blobs: dict[int, bytes]

    def set(self, kind: str, reference: str | None = "reference") -> dict[str, Any]:
        return next(one for one in self.run["sets"] if one["kind"] == kind and one["reference"] in (reference, None))

    def maps(self, kind: str, image: int, reference: str | None = "reference") -> dict[tuple[str, int], tuple[Tensor, Tensor]]:
        """(level, place) -> maps [n, h, w] and how far each value may be off; read as i2am/viewer/encoding.py describes it."""
        found = {}
        held = self.set(kind, reference)
        for part in held["parts"]:
            data = self.blobs[part["blobs"][image]]
            count = len(held["names"][image if len(held["names"]) > 1 else 0])
            if held["cells"]:
                sides = (len(held["cells"][axis]) - 1 for axis in ("rows", "columns"))
                count = int(np.prod([-(-side // part["merged"]) for side in sides]))
            total = count * len(part["levels"])
            codes = np.frombuffer(data[: 4 * total], "<u2").astype(float)
            high = np.where(codes[:total] > 0, part["tops"][image] * 2 ** ((codes[:total] - 65535) / 2048), 0)
            low = high * codes[total:] / 65535
            start = 4 * total
            for i, level in enumerate(part["levels"]):
                height, width = level["grid"]
                size = count * height * width
                value = np.frombuffer(data[start : start + size], np.uint8).reshape(count, height, width) / part["steps"]
                start += size
                least, span = low[i * count : (i + 1) * count, None, None], (high - low)[i * count : (i + 1) * count, None, None]
                half = 0.5 / part["steps"]
                slack = span * ((value + half) ** 2 - value**2) + 1e-4 * (least + span)
                found[level["level"], level["place"]] = (torch.tensor(least + span * value**2), torch.tensor(slack))
            assert start == len(data)
        return found


def parsed(html: str) -> Page:
    run = json.loads(re.search(r'<script type="application/json" id="run">(.*?)</script>', html, re.S)[1])  # type: ignore[index]
    blobs = re.findall(r'<script type="text/plain" id="blob(\d+)">(.*?)</script>', html)
    return Page(run, {int(i): gzip.decompress(base64.b64decode(text)) for i, text in blobs})
