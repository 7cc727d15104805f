"""The rest of what DAAM exports: small helpers, the sums by layer and head, and the names that make no sense here."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from i2am.common.checks import refuse
from i2am.maps.prompt import Prompt


def set_seed(seed: int) -> torch.Generator:
    """Seeds Python, numpy and torch; the generator is on the GPU where there is one."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
    return torch.Generator("cuda" if torch.cuda.is_available() else "cpu").manual_seed(seed)


def auto_device(obj: Any = torch.device("cpu")) -> Any:
    """A model or tensor on the GPU where there is one; without, or for a device, which device that is."""
    if isinstance(obj, torch.device):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return obj.to("cuda") if torch.cuda.is_available() else obj


def auto_autocast(*args: Any, **options: Any) -> torch.autocast:
    """torch.autocast on the GPU; nothing without one."""
    return torch.autocast("cuda", *args, **(options if torch.cuda.is_available() else {**options, "enabled": False}))


def compute_token_merge_indices(
    tokenizer: Any, prompt: str, word: str, word_idx: int | None = None, offset_idx: int = 0
) -> tuple[list[int], int | None]:
    """The positions of a word's tokens, counted with the start token; whole words alone. word_idx: the token at this place of the text."""
    if word_idx is not None:
        return [word_idx + 1], word_idx
    return [place + offset_idx for found in Prompt.of(prompt, tokenizer).positions(word) for place in found], None


class RawHeatMapCollection:
    """The sums over steps of each head: maps [tokens, h, w] by (factor, layer, head), layers counted as in the trace's `layer_names`."""

    def __init__(self) -> None:
        self.ids_to_heatmaps: dict[tuple[int, int, int], Tensor] = {}

    def update(self, factor: int, layer_idx: int, head_idx: int, heatmap: Tensor) -> None:
        """Adds a step's map."""
        key = (factor, layer_idx, head_idx)
        self.ids_to_heatmaps[key] = self.ids_to_heatmaps.get(key, 0.0) + heatmap.float()

    def factors(self) -> set[int]:
        return {key[0] for key in self.ids_to_heatmaps}

    def layers(self) -> set[int]:
        return {key[1] for key in self.ids_to_heatmaps}

    def heads(self) -> set[int]:
        return {key[2] for key in self.ids_to_heatmaps}

    def __iter__(self) -> Iterator[tuple[tuple[int, int, int], Tensor]]:
        return iter(self.ids_to_heatmaps.items())

    def clear(self) -> None:
        self.ids_to_heatmaps.clear()


class Absent:
    """A name that a script may import; whoever uses it is told what to do instead."""

    remedy = ""

    def __init__(self, *args: Any, **options: Any) -> None:
        refuse(type(self).__name__, "left out", "a call of it", self.remedy)

    def __class_getitem__(cls, item: Any) -> Any:
        return cls


class ObjectHooker(Absent):
    remedy = "Nothing is patched here: i2am.trace(pipe) puts every processor back; torch's own forward hooks wrap a module."


class AggregateHooker(ObjectHooker):
    """As ObjectHooker."""


class ModuleLocator(Absent):
    remedy = "The trace finds the layers of every family: tc.layer_names, or i2am.trace(pipe).explain() before a run."


class UNetCrossAttentionLocator(ModuleLocator):
    """As ModuleLocator."""


def cache_dir() -> NoReturn:
    """DAAM's folder of saved heads, which are not saved here."""
    refuse("cache_dir", "left out", "a call of it", "No attention is stored: i2am.hold holds it fixed without a folder.")
