"""Scenes as files: a list of prompts, pictures, their parses, and a mask for each word, laid out as DAAM's own annotations are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from i2am.common import outputs
from i2am.common.checks import is_size, is_whole, refuse, said
from i2am.data.scenes.render import SIZE, draw_scenes
from i2am.data.synthetic.numbers import numbers
from i2am.language.conllu import write_conllu
from i2am.maps.tokens import Grid

BATCH = 32
ABOUT = "world.json"


def write_scenes(root: str | Path, count: int, seed: int = 0, size: Grid = SIZE, *, bound: bool = False) -> Path:
    """Write scenes 0 ... count - 1 of a seed under root; returns root.

    `prompts.csv` lists id, prompt and picture; `images/<id>.png` are the pictures; `<id>/<word>.gt.png` has 1 in its alpha channel where
    the pixels of the word's things are, for every noun, adjective and verb; `scenes.conllu` holds the parses, by id. Other scenes are
    not written over.
    """
    if not is_whole(count, 1):
        refuse("count", "a whole number of at least 1", repr(count), "Scenes are counted from 0.")
    if not is_size(size):
        refuse("size", "(height, width)", said(size), f"The small model paints {SIZE}.")
    numbers(1, seed)  # which refuses a seed that is none, before anything is written
    root = outputs.folder(root, "root")
    about = {"made by": "i2am.data.scenes", "seed": int(seed), "size": [int(side) for side in size], "bound": bool(bound)}
    strange = sorted(path.name for path in root.iterdir()) if root.is_dir() else []
    was = (root / ABOUT).read_text() if ABOUT in strange else ""
    if strange and was != json.dumps(about) + "\n":
        refuse("root", f"new, or scenes of {about}", was.strip() or f"a folder with {', '.join(strange[:5])}", "Choose another root.")
    (root / "images").mkdir(parents=True, exist_ok=True)
    (root / ABOUT).write_text(json.dumps(about) + "\n")
    listed, parsed = ["id,prompt,image"], []
    with tqdm(total=count, unit="scene", desc="drawing scenes") as bar:
        for first in range(0, count, BATCH):
            scenes = draw_scenes(min(BATCH, count - first), seed=seed, first=first, size=size, bound=bound)
            for at, sentence in enumerate(scenes.sentences):
                name = f"{first + at:05d}"
                listed.append(f"{name},{sentence.text},images/{name}.png")
                parsed.append(sentence.parsed(name))
                picture = ((scenes.pictures[at] + 1) * 127.5).round().byte().permute(1, 2, 0)
                Image.fromarray(picture.numpy()).save(root / "images" / f"{name}.png")
                write_masks(root / name, scenes.masks(at))
                bar.update()
    (root / "prompts.csv").write_text("\n".join(listed) + "\n")
    write_conllu(root / "scenes.conllu", parsed)
    return root


def write_masks(folder: Path, masks: dict[str, Tensor]) -> None:
    """`<word>.gt.png` of each word: white, and 255 in the alpha channel inside."""
    folder.mkdir(exist_ok=True)
    for word, mask in masks.items():
        alpha = mask.numpy().astype(np.uint8) * 255
        white = np.full_like(alpha, 255)
        Image.fromarray(np.stack([white, white, white, alpha], -1), "RGBA").save(folder / f"{word}.gt.png")
