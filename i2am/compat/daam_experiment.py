"""DAAM's experiment: a generated image, its maps, seed, masks and notes in a folder that loads without executing anything.

- path/id: prompt.txt, seed.txt, annotations.json, <word>.gt.png, masks of the truth
- path/id/subtype: generation.safetensors, output.png, <word>.heat_map.png, <word>.<name>.pred.png, masks that something predicted, and
  composite.<name>.pred.png, all of them in one picture of labels
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from i2am.common.checks import refuse, said
from i2am.common.extras import need
from i2am.compat.daam_classes import COCO80_TO_27, UNUSED_LABELS
from i2am.compat.daam_evaluate import load_mask
from i2am.compat.daam_maps import GlobalHeatMap, loaded

MAPS = "generation.safetensors"
PICKLE = "generation.pt"
FORBIDDEN = set('/\\:*?"<>|')  # by some file system


@dataclass(eq=False)
class GenerationExperiment:
    """A generated image with its maps and seed: `save` writes the folder path/id/subtype, `load` reads it."""

    image: Any
    global_heat_map: Tensor
    prompt: str
    seed: int | None = None
    id: str = "."
    path: Path | None = None  # once made, the experiment's own folder, path/id
    truth_masks: dict[str, Tensor] | None = None
    prediction_masks: dict[str, Tensor] | None = None
    annotations: dict[str, Any] | None = None
    subtype: str = "."
    tokenizer: Any = None
    heat: GlobalHeatMap | None = field(default=None, repr=False)  # with the prompt's tokens, so that no tokenizer is needed

    def __post_init__(self) -> None:
        self.path = None if self.path is None else Path(self.path) / self.id

    def nsfw(self) -> bool:
        """Whether a safety checker made the image black."""
        return not np.asarray(self.image).any()

    def heat_map(self, tokenizer: Any = None) -> GlobalHeatMap:
        """The maps; traced and loaded ones carry the prompt's tokens and need no tokenizer."""
        if tokenizer is None and self.heat is not None:
            return GlobalHeatMap.of(self.heat.tokens, self.heat.places, self.global_heat_map)
        found = self.tokenizer if tokenizer is None else tokenizer
        if found is None:
            refuse("tokenizer", "given", None, "Pass the pipeline's: experiment.heat_map(pipe.tokenizer).")
        return GlobalHeatMap(found, self.prompt, self.global_heat_map)

    def root(self, path: str | Path | None = None) -> Path:
        """The experiment's folder, here or in another one."""
        if path is not None:
            return Path(path) / self.id
        if self.path is None:
            refuse("path", "given, here or to to_experiment", None, "exp.save('folder').")
        return self.path

    def save(self, path: str | Path | None = None, heat_maps: bool = True, tokenizer: Any = None) -> Path:
        """The folder above; the words' pictures are left out with heat_maps=False. Returns path/id/subtype."""
        heat = self.heat_map(tokenizer)
        root = self.root(path)
        folder = root / self.subtype
        folder.mkdir(parents=True, exist_ok=True)
        heat.save(folder / MAPS, id=self.id)
        self.image.save(folder / "output.png")
        (root / "prompt.txt").write_text(self.prompt, encoding="utf-8")
        (root / "seed.txt").write_text(str(self.seed), encoding="utf-8")
        for word, mask in (self.truth_masks or {}).items():
            write_mask(mask, root / f"{filename(word)}.gt.png")
        self.path = root if self.path is None else self.path
        if heat_maps:
            self.draw(heat, folder, self.prompt.split())
        self.save_annotations(root)
        return folder

    def draw(self, heat: GlobalHeatMap, folder: Path, words: Sequence[str], prefix: str = "", crop: int | None = None,
             absolute: bool = False) -> dict[str, Path]:  # fmt: skip
        """A picture of each of these words that the prompt has."""
        made = dict[str, Path]()
        for word in dict.fromkeys(words):
            if word in heat.tokens:
                made[word] = folder / f"{prefix}{filename(word)}.heat_map.png"
                heat.compute_word_heat_map(word).plot_overlay(self.image, made[word], color_normalize=not absolute, crop=crop)
        return made

    def save_heat_map(self, word: str, tokenizer: Any = None, crop: int | None = None, output_prefix: str = "",
                      absolute: bool = False) -> Path:  # fmt: skip
        """A word's map over the image. crop: pixels cut off every side; absolute: colours from 0 to 1 of the min-max map."""
        heat = self.heat_map(tokenizer)
        heat.compute_word_heat_map(word)  # says which words there are
        return self.draw(heat, self.root() / self.subtype, [word], output_prefix, crop, absolute)[word]

    def save_all_heat_maps(self, tokenizer: Any = None, crop: int | None = None) -> dict[str, Path]:
        """A picture of every word between spaces, by word."""
        return self.draw(self.heat_map(tokenizer), self.root() / self.subtype, self.prompt.split(), crop=crop)

    def save_annotations(self, path: str | Path | None = None) -> None:
        """annotations.json, if there are notes; path: another folder."""
        if self.annotations is not None:
            folder = self.root() if path is None else Path(path)
            (folder / "annotations.json").write_text(json.dumps(self.annotations), encoding="utf-8")

    def annotate(self, key: str, value: Any) -> GenerationExperiment:
        """Adds a note, which annotations.json can hold."""
        self.annotations = {**(self.annotations or {}), key: value}
        return self

    def save_prediction_mask(self, mask: Tensor, word: str, name: str) -> None:
        """A word's mask [h, w] of 0 and 1 as `name` predicts it."""
        write_mask(mask, self.root() / self.subtype / f"{filename(word)}.{name}.pred.png")

    def clear_prediction_masks(self, name: str) -> None:
        """Deletes the masks that `name` predicted."""
        for _, path in ending(self.root() / self.subtype, f".{name}.pred.png"):
            path.unlink()

    def clear_checkpoint(self) -> None:
        """Deletes the maps."""
        (self.root() / self.subtype / MAPS).unlink(missing_ok=True)

    @staticmethod
    def contains_truth_mask(path: str | Path, prompt_id: str | None = None) -> bool:
        return any(ending(Path(path) / (prompt_id or "."), ".gt.png"))

    @staticmethod
    def has_annotations(path: str | Path) -> bool:
        return (Path(path) / "annotations.json").exists()

    @staticmethod
    def has_experiment(path: str | Path, prompt_id: str) -> bool:
        return (Path(path) / prompt_id / MAPS).exists()

    @staticmethod
    def read_prompt(path: str | Path, prompt_id: str | None = None) -> str:
        return (Path(path) / (prompt_id or ".") / "prompt.txt").read_text(encoding="utf-8").strip()

    @staticmethod
    def read_seed(path: str | Path, prompt_id: str | None = None) -> int:
        file = Path(path) / (prompt_id or ".") / "seed.txt"
        text = file.read_text(encoding="utf-8").strip()
        if not text.lstrip("-").isdecimal():
            refuse(str(file), "a whole number", said(text), "The experiment was saved without a seed.")
        return int(text)

    @classmethod
    def load(cls, path: str | Path, pred_prefix: str = "daam", composite: bool = False, simplify80: bool = False,
             vocab: Sequence[str] | None = None, subtype: str = ".", all_subtypes: bool = False) -> Any:  # fmt: skip
        """The experiment whose prompt.txt lies in this folder, with its masks; all_subtypes: a list of all that lie in folders there.

        pred_prefix: who predicted the masks; composite: they are one picture of labels, which count in vocab; simplify80: COCO's 80 classes
        as the 27 kinds of COCO-Stuff.
        """
        root = Path(path)
        options: dict[str, Any] = {"pred_prefix": pred_prefix, "composite": composite, "simplify80": simplify80, "vocab": vocab}
        if all_subtypes:
            there = sorted(found.parent.name for found in root.glob(f"*/{MAPS}"))
            return [cls.load(root, **options, subtype=name) for name in there]
        need("pictures", "PIL")
        from PIL import Image

        folder = root / subtype
        if not (folder / MAPS).is_file() and (folder / PICKLE).is_file():
            refuse(str(folder), f"an experiment with {MAPS}", f"DAAM's {PICKLE}, a pickle, which runs code",
                   "Open it with DAAM, make one of ours from its image, maps, prompt, seed and tokenizer, and save it.")  # fmt: skip
        heat, about = loaded(folder / MAPS)
        with Image.open(folder / "output.png") as image:
            image.load()
        seed = (root / "seed.txt").read_text(encoding="utf-8").strip()
        made = cls(image, heat.heat_maps, heat.prompt, int(seed) if seed.lstrip("-").isdecimal() else None, subtype=subtype, heat=heat)
        made.path, made.id = root, about.get("id", ".")
        made.truth_masks = united(((word, load_mask(file)) for word, file in ending(root, ".gt.png")), simplify80)
        made.prediction_masks = united(predicted(folder, pred_prefix, composite, vocab), simplify80)
        if cls.has_annotations(root):
            made.annotations = json.loads((root / "annotations.json").read_text(encoding="utf-8"))
        return made


def filename(word: str) -> str:
    """A word as the beginning of a file's name."""
    return "".join("_" if letter in FORBIDDEN else letter for letter in word.lower())


def ending(folder: Path, end: str) -> Iterator[tuple[str, Path]]:
    """The files of a folder whose names end so, with what comes before it, lower-cased, in the order of their names."""
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return ((path.name.removesuffix(end).lower(), path) for path in found if path.name.endswith(end))


def write_mask(mask: Tensor, path: Path) -> None:
    """A mask [h, w] of 0 and 1 as a picture that is white where it is 1, and transparent elsewhere."""
    need("pictures", "PIL")
    from PIL import Image

    if not isinstance(mask, Tensor) or mask.ndim != 2:
        refuse(f"the mask of {path.name}", "a tensor [h, w] of 0 and 1", said(mask), "load_mask reads one from a picture.")
    Image.fromarray((mask.detach().cpu() * 255).byte()[..., None].expand(-1, -1, 4).numpy()).save(path)


def predicted(folder: Path, name: str, composite: bool, vocab: Sequence[str] | None) -> Iterator[tuple[str, Tensor]]:
    """The masks that `name` predicted, by word; of a picture of labels one for each label in it."""
    if not composite:
        yield from ((word, load_mask(path)) for word, path in ending(folder, f".{name}.pred.png"))
        return
    from PIL import Image

    path, words = folder / f"composite.{name}.pred.png", UNUSED_LABELS if vocab is None else vocab
    if path.is_file():
        with Image.open(path) as picture:
            labels = np.array(picture)
        if labels.ndim != 2 or labels.max() >= len(words):
            got = f"one of {picture.mode} up to {labels.max()}"
            refuse(str(path), f"a picture of labels, one number a pixel, below {len(words)}", got, "vocab names the labels in their order.")
        yield from ((words[int(label)], torch.from_numpy((labels == label).astype(np.float32))) for label in np.unique(labels))


def united(masks: Iterator[tuple[str, Tensor]], simplify80: bool) -> dict[str, Tensor]:
    """Masks by word, those of one word as one."""
    found = dict[str, Tensor]()
    for name, mask in masks:
        word = COCO80_TO_27.get(name, name) if simplify80 else name
        if word in found and found[word].shape != mask.shape:
            refuse(f"the masks of {word!r}", "of one size", f"{said(found[word])} and {said(mask)}", "Give every mask the picture's size.")
        found[word] = (found[word] + mask).clamp(0, 1) if word in found else mask
    return found
