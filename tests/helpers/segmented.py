"""Pictures with masks and levels at random, the same everywhere."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from masked import write_alpha
from PIL import Image
from torch import Tensor

from i2am.data.prompts import Asked
from i2am.maps.words import Prompt, WordMaps
from i2am.studies.painted import Painted, files

NOUNS = ("cat", "dog", "traffic light", "person", "ring")


class Picture(NamedTuple):
    id: str
    found: dict[str, Tensor]  # levels [H, W]
    masks: dict[str, Tensor]


def drawn(count: int = 8, size: tuple[int, int] = (12, 12), seed: int = 19) -> list[Picture]:
    """Masks of some nouns; levels of some of these and of others, higher where the noun's mask is."""
    rng, pictures = np.random.default_rng(seed), []
    for i in range(count):
        masks, found = {}, {}
        for noun in NOUNS:
            mask, level = rng.random(size) < 0.3, rng.random(size).astype(np.float32)
            if rng.random() < 0.7:
                masks[noun] = torch.from_numpy(mask)
            if rng.random() < 0.7:
                found[noun] = torch.from_numpy((level + mask) / 2)
        pictures.append(Picture(f"{i:04d}", found, masks))
    return pictures


WORDS = ("circle", "square", "ring", "traffic light")
COLOURS = ((200, 60, 60), (70, 90, 200), (230, 200, 60), (60, 160, 90))


def painted(
    folder: Path, count: int = 6, size: tuple[int, int] = (64, 96), grid: tuple[int, int] = (16, 24), seed: int = 5
) -> list[Painted]:
    """A study that was never painted: pictures of two things on a ground, word maps that point at them, more or less, and their masks in
    folder/truth."""
    rng, found = np.random.default_rng(seed), []
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    for i in range(count):
        some = rng.permutation(len(WORDS))[:2]
        text = f"a {WORDS[some[0]]} and a {WORDS[some[1]]}"
        pixels = np.full((*size, 3), rng.integers(90, 240), np.float64) + rng.normal(0, 6, (*size, 3))
        masks, maps = {}, {}
        for place, word in zip((0.28, 0.72), some):
            centre = size[0] * rng.uniform(0.35, 0.65), size[1] * (place + rng.uniform(-0.08, 0.08))
            masks[WORDS[word]] = np.hypot(y - centre[0], x - centre[1]) < size[0] * rng.uniform(0.15, 0.3)
            pixels[masks[WORDS[word]]] = COLOURS[word]
            cells = masks[WORDS[word]].reshape(grid[0], size[0] // grid[0], grid[1], size[1] // grid[1]).mean((1, 3))
            maps[WORDS[word]] = cells + rng.uniform(0.1, 0.9) * rng.random(grid)
        tokens = ["<|startoftext|>", *(f"{word}</w>" for word in text.split()), "<|endoftext|>"]
        of = {piece: WORDS[word] for word in some for piece in WORDS[word].split()}
        there = [torch.from_numpy(maps[of[token[:-4]]] if token[:-4] in of else rng.random(grid)).float() for token in tokens[1:-1]]
        prompt = Prompt(text, tuple(tokens), (True, *[False] * len(there), True))
        asked = Asked(f"{i:04d}", text)
        where = files(folder / "out", asked)
        for path in where.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(where["image"])
        WordMaps([prompt], range(1, len(tokens) - 1), torch.stack(there)[None]).save(where["maps"])
        for word, mask in masks.items():
            write_alpha(folder / "truth" / asked.id / f"{word}.gt.png", mask)
        found.append(Painted(asked, where["image"], where["maps"]))
    return found
