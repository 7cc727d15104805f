"""Words onto the image (DAAM): the mean of a word's maps, how it is shown, how two words overlap.

map(word) = mean over all occurrences and all their word pieces of P's column, on the output grid
IoU = |H n D| / |H u D|    IoD = |H n D| / |D|    IoH = |H n D| / |H|    (H head, D dependent)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from i2am.common.checks import index_of, is_floating, is_size, said
from i2am.maps import word_files
from i2am.maps.files import fitting
from i2am.maps.prompt import Prompt, WordError, columns

__all__ = ["MeanIou", "Prompt", "WordError", "WordMaps", "columns", "iod", "ioh", "iou", "mean_iou", "overlap", "show"]


class WordMaps(Mapping[str, Tensor]):
    """The maps of the words of a batch: words["shirt"] is [B, h, w], the mean of the word's pieces over all its occurrences.

    `maps` [B, n, h, w] belong to the token positions `columns`; image i was made from prompts[i // (B // P)]. Iterating gives
    the single words that every prompt has and whose positions were traced; phrases and special tokens can be asked for by name.
    A word that a prompt lacks is an error, not a blank; `partial` gives NaN there, `image(i)` one image and its own prompt.
    """

    def __init__(self, prompts: Sequence[Prompt], columns: Sequence[int], maps: Tensor) -> None:
        self.prompts, self.columns, self.maps = tuple(prompts), tuple(columns), maps
        if not is_floating(maps, 4, 5) or maps.shape[1] != len(self.columns) or not self.columns:
            raise ValueError(f"words: maps must be [B, {len(self.columns)} columns, (frames,) h, w] and floating, got {said(maps)}.")
        if not self.prompts or not len(maps) or len(maps) % len(self.prompts):
            raise ValueError(
                f"words: prompts must divide the batch, got {len(self.prompts)} for {len(maps)} images. Pass one per image, or each once."
            )
        longest = max(len(prompt.tokens) for prompt in self.prompts)
        if len(set(self.columns)) != len(self.columns) or not all(0 <= column < longest for column in self.columns):
            raise ValueError(f"words: columns must be distinct token positions below {longest}, got {list(self.columns)}.")
        self._at = {column: at for at, column in enumerate(self.columns)}

    def _pieces(self, prompt: Prompt, word: str) -> list[int]:
        """The word's places among the maps, once per occurrence; empty if the prompt lacks it."""
        positions = [position for occurrence in prompt.find(word) for position in occurrence]
        if not set(positions) <= self._at.keys():
            traced = [w for p in self.prompts for w in p.words if all(at in self._at for found in p.find(w) for at in found)]
            raise WordError(
                f"words: {word!r} was not traced, only {', '.join(dict.fromkeys(traced)) or 'no whole word'}. Trace it with words=True."
            )
        return [self._at[position] for position in positions]

    def partial(self, word: str) -> Tensor:
        """As words[word], with NaN for the images whose prompts lack the word; at least one must have it."""
        pieces = [self._pieces(prompt, word) for prompt in self.prompts]
        if not any(pieces):
            self.prompts[0].positions(word)  # says which words there are
        images = self.maps.split(len(self.maps) // len(self.prompts))
        blank = torch.full_like(images[0][:, 0], torch.nan)
        return torch.cat([part[:, at].mean(1) if at else blank for part, at in zip(images, pieces)])

    def __getitem__(self, word: str) -> Tensor:
        maps = self.partial(word)
        if lacking := [f"{i} ({p.text!r})" for i, p in enumerate(self.prompts) if word not in p]:
            raise WordError(
                f"words: {word!r} must be in every prompt, got none in {', '.join(lacking)}. Use partial({word!r}) or image(i)."
            )
        return maps

    def __contains__(self, word: object) -> bool:
        try:
            return isinstance(word, str) and all(self._pieces(prompt, word) for prompt in self.prompts)
        except WordError:
            return False

    def __repr__(self) -> str:
        images, _, *size = self.maps.shape
        return f"WordMaps of {images} image{'s' * (images > 1)}, {' x '.join(map(str, size))}: {said(list(self))[1:-1]}"

    def __iter__(self) -> Iterator[str]:
        return (word for word in dict.fromkeys(w for prompt in self.prompts for w in prompt.words) if word in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def image(self, i: int) -> WordMaps:
        """The words of image i alone."""
        i = index_of("the image", i, len(self.maps), "images", "words.image(0).")
        return WordMaps([self.prompts[i * len(self.prompts) // len(self.maps)]], self.columns, self.maps[i : i + 1])

    def own(self) -> WordMaps:
        """The same without the tokens that none of its prompts has in its text: of one image of a batch, those of others' words."""
        wanted = set(columns(self.prompts))
        kept = [at for at, column in enumerate(self.columns) if column in wanted]
        return WordMaps(self.prompts, [self.columns[at] for at in kept], self.maps[:, kept]) if kept else self

    def save(self, path: str | Path) -> Path:
        """Write the maps, their prompts and columns to one safetensors file, float32."""
        return word_files.write(self.prompts, self.columns, self.maps, path)

    @classmethod
    def load(cls, path: str | Path) -> WordMaps:
        """Read what `save` wrote."""
        parts = word_files.read(path)
        with fitting(path, word_files.SAVE):
            return cls(*parts)


def _map(what: str, x: Tensor) -> Tensor:
    """A floating map, or several."""
    if not is_floating(x, *range(2, 9)):
        raise ValueError(f"{what}: map must be [..., h, w] and floating, got {said(x)}.")
    return x


def show(map: Tensor, *, size: tuple[int, int] | None = None, absolute: bool = False, threshold: float | None = None) -> Tensor:
    """DAAM's display of maps [..., h, w]: bicubic to (height, width), min-max per map unless absolute, clamp at 0, `> threshold`.

    A threshold gives a mask of 0 and 1; a map with a NaN (a prompt without the word) stays all NaN, it is not an empty mask.
    """
    x = _map("show", map).float()
    if size is not None and not is_size(size):
        raise ValueError(f"show: size must be (height, width), got {said(size)}.")
    if not (threshold is None or (isinstance(threshold, Real) and threshold == threshold)):
        raise ValueError(f"show: threshold must be a number, got {said(threshold)}. DAAM's is 0.4.")
    if size is not None and tuple(size) != tuple(x.shape[-2:]):
        x = F.interpolate(x.reshape(-1, 1, *x.shape[-2:]), size=tuple(size), mode="bicubic", antialias=False).reshape(*x.shape[:-2], *size)
    low, high = x.amin((-2, -1), keepdim=True), x.amax((-2, -1), keepdim=True)  # NaN if any value is
    x = (x if absolute else (x - low) / (high - low + 1e-8)).clamp(min=0)
    return torch.where(high.isnan(), high, x if threshold is None else (x > threshold).float())


def _areas(one: Tensor, two: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The areas of the intersection (NaN if a mask has a NaN, so that every share of it is), of one and of two, in float64."""
    for mask in (one, two):
        alike = isinstance(one, Tensor) and isinstance(mask, Tensor) and mask.ndim > 1 and mask.shape[-2:] == one.shape[-2:]
        if not alike or not ((mask == 0) | (mask == 1) | (mask != mask)).all():
            raise ValueError(f"overlap: masks must be [..., h, w] of one size and hold 0 and 1, got {said(one)} and {said(two)}.")
    one, two = one.float(), two.float()
    both, first, second = (mask.sum((-2, -1), dtype=torch.float64) for mask in (one * two, one, two))
    return both, first, second


def iou(head: Tensor, dependent: Tensor) -> Tensor:
    """Intersection over union of masks [..., h, w], as float64 [...]; NaN if both are empty or one has a NaN."""
    both, first, second = _areas(head, dependent)
    return both / (first + second - both)


def iod(head: Tensor, dependent: Tensor) -> Tensor:
    """The share of the dependent that lies in the head; NaN if the dependent is empty or a mask has a NaN."""
    both, _, area = _areas(head, dependent)
    return both / area


def ioh(head: Tensor, dependent: Tensor) -> Tensor:
    """The share of the head that lies in the dependent; NaN if the head is empty or a mask has a NaN."""
    return iod(dependent, head)


def overlap(
    words: Mapping[str, Tensor],
    head: str,
    dependent: str,
    *,
    size: tuple[int, int] | None = None,
    threshold: float = 0.4,
    absolute: bool = False,
) -> dict[str, Tensor]:
    """How the masks of two words overlap in each image: iou, iod and ioh, [B] each. 0.4 is DAAM's threshold."""
    if not isinstance(words, Mapping):
        raise ValueError(f"overlap: words must be maps by word, got {said(words)}. maps.words() is one.")
    masks = [show(words[word], size=size, absolute=absolute, threshold=threshold) for word in (head, dependent)]
    return {"iou": iou(*masks), "iod": iod(*masks), "ioh": ioh(*masks)}


@dataclass(frozen=True, eq=False)
class MeanIou:
    """`mean` over the `counted` images; `left_out` had no IoU (no word, or neither mask nor word covers anything), NaN in `each`."""

    mean: float
    counted: int
    left_out: int
    each: Tensor


def mean_iou(maps: Tensor, masks: Tensor | Sequence[Tensor], threshold: float = 0.4, *, absolute: bool = False) -> MeanIou:
    """Mean IoU of the thresholded maps [N, h, w] against N masks [H, W] of 0 and 1; each map is resized to its mask."""
    tensors = isinstance(masks, (Tensor, list, tuple)) and all(isinstance(mask, Tensor) and mask.ndim == 2 for mask in masks)
    if not tensors or _map("mean_iou", maps).ndim != 3 or len(maps) != len(masks):
        raise ValueError(f"mean_iou: maps must be [N, h, w] and masks as many tensors [H, W], got {said(maps)} and {said(masks)}.")
    pairs = [(show(m, size=(mask.shape[-2], mask.shape[-1]), absolute=absolute, threshold=threshold), mask) for m, mask in zip(maps, masks)]
    each = torch.stack([iou(*pair) for pair in pairs]) if pairs else torch.empty(0, dtype=torch.float64)
    scored = each[~each.isnan()]
    return MeanIou(float(scored.mean()), len(scored), len(each) - len(scored), each)
