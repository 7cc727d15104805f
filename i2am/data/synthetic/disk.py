"""Pairs as a VITON-HD tree, with the truth beside the pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm.auto import tqdm

from i2am.common import outputs
from i2am.common.checks import is_whole, refuse
from i2am.data.synthetic.numbers import numbers
from i2am.data.synthetic.pairs import RICH, Pairs, check, draw, one_core
from i2am.data.truth import Truth
from i2am.maps.tokens import Grid

FOLDERS = ("image", "cloth", "cloth-mask", "agnostic-v3.2", "agnostic-mask", "image-densepose", "truth")
BATCH = 8
GREY = 128  # what 0 between -1 and 1 rounds to


def write_vitonhd(root: str | Path, count: int, seed: int = 0, size: Grid = (256, 192), *, split: str = "test", rich: float = RICH) -> Path:
    """Write pairs 0 ... count - 1 of a seed under root, as VITON-HD lays them out; returns root.

    `<split>_pairs.txt` names each person with another pair's garment, as VITON-HD's does; the paired garment has the person's name.
    `<split>/truth/<name>.safetensors` holds `source` [2, H, W], the reference position (y, x) of every pixel as fractions of height and
    width, `worn` [H, W], the pixels where it holds, and `shade`, the light on them. A tree of other pairs is not written over.
    """
    numbers(1, seed)  # which refuses a seed that is none, before anything is written
    check(size, rich)
    if not is_whole(count, 1):
        refuse("count", "a whole number of at least 1", repr(count), "VITON-HD's test split has 2032.")
    size = (int(size[0]), int(size[1]))
    root, about = outputs.folder(root, "root"), {"made by": "i2am.synthetic", "seed": int(seed), "size": list(size), "rich": float(rich)}
    folder, listed = root / split, root / f"{split}_pairs.txt"
    was = account_of(folder)
    if (folder.exists() or listed.exists()) and {name: was.get(name) for name in about} != about:
        refuse(str(folder), f"new, or pairs of {about}", was or "another data set", "Choose another root.")
    for name in FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "world.json").write_text(json.dumps(about) + "\n")
    with one_core(), ThreadPoolExecutor(os.cpu_count()) as pool, tqdm(total=count, unit="pair", desc=f"drawing {split}") as bar:
        waiting: list = []
        for first in range(0, count, BATCH):
            pairs = draw(min(BATCH, count - first), seed=seed, first=first, size=size, rich=rich)
            while len(waiting) > 4 * BATCH:
                waiting.pop(0).result()
            waiting += [pool.submit(write, folder, stem(first + i), pairs[i : i + 1]) for i in range(len(pairs))]
            bar.update(len(pairs))
        for one in waiting:
            one.result()
    turn = 1 + seed % max(1, count - 1)
    lines = [f"{stem(i)}.jpg {stem((i + turn) % count)}.jpg\n" for i in range(count)]
    listed.write_text("".join(lines))
    return root


def account_of(folder: Path) -> dict:
    """What an earlier call wrote about itself; empty where it was none."""
    try:
        found = json.loads((folder / "world.json").read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def stem(index: int) -> str:
    return f"{index:05d}_00"


def write(folder: Path, name: str, pair: Pairs) -> None:
    """One pair's files."""
    person = to_255(pair.person)
    pictures = {"image": person, "cloth": to_255(pair.garment), "image-densepose": to_255(pair.densepose)}
    pictures["agnostic-v3.2"] = person.masked_fill(pair.mask, GREY)
    for where, picture in pictures.items():
        channels = [Image.fromarray(channel.numpy()) for channel in picture]
        Image.merge("RGB", channels).save(folder / where / f"{name}.jpg", quality=95, subsampling=0)
    Image.fromarray(white(pair.garment_mask)).save(folder / "cloth-mask" / f"{name}.jpg", quality=95)
    Image.fromarray(white(pair.mask)).save(folder / "agnostic-mask" / f"{name}_mask.png", compress_level=1)
    truth = {"source": pair.source[0].contiguous(), "worn": pair.worn[0].to(torch.uint8), "shade": pair.shade[0].half()}
    save_file(truth, folder / "truth" / f"{name}.safetensors")


def to_255(picture: Tensor) -> Tensor:
    """[3, H, W] in 0 ... 255 from [1, 3, H, W] in -1 ... 1."""
    return ((picture[0] + 1) * 127.5).round().byte()


def white(mask: Tensor) -> np.ndarray:
    return mask[0].numpy().astype(np.uint8) * 255


def read_truth(root: str | Path, names: str | Sequence[str], *, split: str = "test") -> Truth:
    """The truth of these persons, file names or stems, as one batch."""
    names = [names] if isinstance(names, str) else names
    read = []
    for name in names:
        path = Path(root) / split / "truth" / f"{Path(name).stem}.safetensors"
        if not path.is_file():
            refuse("truth", f"in {path}", "no such file", "Only data that i2am.data.synthetic.write_vitonhd wrote has a truth.")
        read.append(load_file(path))
    if not read:
        refuse("names", "at least one", "none", "Names are those of the persons' pictures.")
    return Truth(torch.stack([one["source"] for one in read]), torch.stack([one["worn"].bool() for one in read]))
