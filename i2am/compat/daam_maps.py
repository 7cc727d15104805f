"""What DAAM's trace returns: the maps of a prompt, of a word, and an experiment on disk that loads without executing anything."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from i2am.common.checks import refuse
from i2am.maps.prompt import Prompt
from i2am.maps.words import show

if TYPE_CHECKING:
    from PIL.Image import Image

FORMAT = "i2am daam 1"


@dataclass(frozen=True, eq=False)
class GlobalHeatMap:
    """heat_maps [n, h, w]: the maps of the prompt's tokens at `places`, from the one before the text to the one behind it."""

    tokens: Prompt
    places: tuple[int, ...]
    heat_maps: Tensor

    @property
    def prompt(self) -> str:
        return self.tokens.text

    def compute_word_heat_map(self, word: str, word_idx: int | None = None, offset_idx: int = 0) -> WordHeatMap:
        """The mean over the word's pieces and occurrences; word_idx takes the token at this place of the text instead."""
        found = [[word_idx + 1 - offset_idx]] if word_idx is not None else self.tokens.positions(word)
        wanted = [place + offset_idx for occurrence in found for place in occurrence]
        if not set(wanted) <= set(self.places):
            refuse("word_idx and offset_idx", f"among the {len(self.places)} tokens", (word_idx, offset_idx), "They count from 0.")
        return WordHeatMap(self.heat_maps[[self.places.index(place) for place in wanted]].mean(0), word, word_idx)

    def save(self, path: str | Path) -> Path:
        """One safetensors file."""
        from safetensors.torch import save_file

        about = json.dumps({"format": FORMAT, "prompt": self.tokens.to_json(), "places": self.places})
        save_file({"heat_maps": self.heat_maps.contiguous()}, str(path), metadata={"i2am": about})
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> GlobalHeatMap:
        """What `save` wrote."""
        from safetensors import SafetensorError, safe_open

        if not Path(path).is_file():
            refuse("path", "a saved heat map", f"{path}, which is not there", "Write it with save().")
        try:
            with safe_open(str(path), framework="pt") as file:
                about = json.loads((file.metadata() or {}).get("i2am", "{}"))
                if about.get("format") != FORMAT:
                    refuse(str(path), f"a heat map ({FORMAT!r})", about.get("format"), "Maps of i2am.trace are read by i2am.load.")
                return cls(Prompt.from_json(about["prompt"]), tuple(about["places"]), file.get_tensor("heat_maps"))
        except SafetensorError as error:
            raise ValueError(f"i2am: {path} is damaged or no safetensors file ({error}). Write it again with save().") from error


@dataclass(frozen=True, eq=False)
class WordHeatMap:
    """The map [h, w] of one word."""

    heatmap: Tensor
    word: str | None = None
    word_idx: int | None = None

    @property
    def value(self) -> Tensor:
        return self.heatmap

    def expand_as(
        self, image: Any, absolute: bool = False, threshold: float | None = None, plot: bool = False, **plot_options: Any
    ) -> Tensor:
        """At the image's height and width: bicubic, min-max unless absolute, nothing below 0; with a threshold a mask of 0 and 1."""
        height, width = np.asarray(image).shape[:2]
        expanded = show(self.heatmap, size=(height, width), absolute=absolute, threshold=threshold or None)
        if plot:
            self.plot_overlay(image, absolute=absolute, threshold=threshold, **plot_options)
        return expanded

    def plot_overlay(self, image: Any, out_file: str | Path | None = None, color_normalize: bool = True, ax: Any = None,
                     **expand_options: Any) -> None:  # fmt: skip
        """The map in jet under the image, which is as transparent as the map is high; on pyplot's figure unless `ax` is given."""
        try:
            from matplotlib import pyplot
        except ImportError as error:
            raise ImportError("i2am: overlays need matplotlib. pip install 'i2am[pictures]'") from error
        heat = self.expand_as(image, **expand_options)
        if ax is None:
            pyplot.clf()
            ax = pyplot.gca()
        limits = {} if color_normalize else {"vmin": 0.0, "vmax": 1.0}
        ax.imshow(heat.numpy(), cmap="jet", **limits)
        pixels = np.asarray(image, dtype=np.float32)[..., :3] / 255
        ax.imshow(np.concatenate([pixels, 1 - heat.clamp(0, 1).numpy()[..., None]], -1))
        if self.word is not None:
            ax.set_title(self.word)
        if out_file is not None:
            ax.figure.savefig(out_file)

    def compute_ioa(self, other: WordHeatMap) -> float:
        """Intersection over area, soft: sum(a b) / sum(a); a map of another size is brought to the other's first and cut at 1."""
        a, b = self.heatmap, other.heatmap
        if a.shape != b.shape:
            a = (F.interpolate(a[None, None].float(), b.shape, mode="bicubic")[0, 0] >= 1).float()
        return ((a * b).sum() / (a.sum() + 1e-8)).item()


@dataclass(eq=False)
class GenerationExperiment:
    """A generated image with its maps and seed: `save` writes the folder path/id/subtype, `load` reads it."""

    image: Image
    heat: GlobalHeatMap
    seed: int | None = None
    id: str = "."
    subtype: str = "."
    path: Path | None = None

    @property
    def prompt(self) -> str:
        return self.heat.prompt

    @property
    def global_heat_map(self) -> Tensor:
        return self.heat.heat_maps

    def heat_map(self, tokenizer: object = None) -> GlobalHeatMap:
        """The maps; they carry the prompt's tokens, so no tokenizer is needed."""
        return self.heat

    def save(self, path: str | Path | None = None, heat_maps: bool = True) -> Path:
        """generation.safetensors and output.png; prompt.txt and seed.txt; <word>.heat_map.png for each word unless left out."""
        root = self.path if path is None else Path(path)
        if root is None:
            refuse("path", "given, here or to to_experiment", None, "exp.save('folder').")
        folder = root / self.id / self.subtype
        folder.mkdir(parents=True, exist_ok=True)
        self.heat.save(folder / "generation.safetensors")
        self.image.save(folder / "output.png")
        (root / self.id / "prompt.txt").write_text(self.prompt)
        (root / self.id / "seed.txt").write_text(str(self.seed))
        for word in self.heat.tokens.words if heat_maps else ():
            name = "".join(c if c.isalnum() else "_" for c in word)
            self.heat.compute_word_heat_map(word).plot_overlay(self.image, out_file=folder / f"{name}.heat_map.png")
        return folder

    @classmethod
    def load(cls, path: str | Path, subtype: str = ".") -> GenerationExperiment:
        """The experiment whose prompt.txt lies in this folder."""
        try:
            from PIL import Image
        except ImportError as error:
            raise ImportError("i2am: pictures need Pillow. pip install 'i2am[pictures]'") from error
        root = Path(path)
        heat = GlobalHeatMap.load(root / subtype / "generation.safetensors")
        with Image.open(root / subtype / "output.png") as image:
            image.load()
        seed = (root / "seed.txt").read_text().strip()
        return cls(image, heat, int(seed) if seed.lstrip("-").isdigit() else None, ".", subtype, root)


def normalized(heat_maps: Tensor) -> Tensor:
    """Every position's maps as shares of the text's tokens, the special ones at both ends left out of the sum."""
    return heat_maps / (heat_maps[1:-1].sum(0, keepdim=True) + 1e-6)


def gathered(maps: Tensor, columns: tuple[int, ...] | None, tokens: Prompt, normalize: bool) -> GlobalHeatMap:
    """The recorded maps [n, h, w] that belong to this prompt, up to the first token behind it."""
    at = {column: i for i, column in enumerate(range(len(maps)) if columns is None else columns)}
    ordinary = [place for place, special in enumerate(tokens.special) if not special]
    if not set(ordinary) <= set(at):
        refuse("prompt", f"one of the run's, of up to {len(at)} tokens", repr(tokens.text), "Leave it out: the run knows its prompt.")
    places = [place for place in range(max(ordinary, default=-1) + 2) if place in at]
    heat_maps = maps[[at[place] for place in places]]
    return GlobalHeatMap(tokens, tuple(places), normalized(heat_maps) if normalize else heat_maps)
