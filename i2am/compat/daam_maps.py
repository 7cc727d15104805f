"""The maps of a prompt, as DAAM's trace returns them, and the file that they are saved in, which loads without executing anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from i2am.common.checks import is_floating, refuse, said
from i2am.compat import daam_syntax
from i2am.compat.daam_words import WordHeatMap
from i2am.maps.prompt import Prompt

FORMAT = "i2am daam 1"


class GlobalHeatMap:
    """heat_maps [n, h, w]: the maps of the prompt's tokens at `places`, from the one before the text to the one behind it."""

    def __init__(self, tokenizer: Any, prompt: str, heat_maps: Tensor) -> None:
        """Of the tokenizer's first n tokens of the prompt."""
        tokens = Prompt.of(prompt, tokenizer)
        if not is_floating(heat_maps, 3) or len(heat_maps) > len(tokens.tokens):
            refuse("heat_maps", f"[n, h, w] of at most {len(tokens.tokens)} tokens", said(heat_maps), "See compute_global_heat_map().")
        self.tokenizer, self.tokens, self.places, self.heat_maps = tokenizer, tokens, tuple(range(len(heat_maps))), heat_maps

    @classmethod
    def of(cls, tokens: Prompt, places: tuple[int, ...], heat_maps: Tensor) -> GlobalHeatMap:
        """Of tokens that are known, which needs no tokenizer."""
        made = cls.__new__(cls)
        made.tokenizer, made.tokens, made.places, made.heat_maps = None, tokens, places, heat_maps
        return made

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

    def parsed_heat_maps(self) -> Iterator[daam_syntax.ParsedHeatMap]:
        """Every token of the parser that is a whole word of the prompt; those with letters that are none are named in a warning."""
        return daam_syntax.parsed_heat_maps(self.prompt, self.compute_word_heat_map)

    def dependency_relations(self) -> Iterator[daam_syntax.SyntacticHeatMapPair]:
        """Every dependency but the root's, of two words of the prompt, with their maps."""
        return daam_syntax.dependency_relations(self.prompt, self.compute_word_heat_map)

    def save(self, path: str | Path, **about: Any) -> Path:
        """One safetensors file. about: what else it says of itself."""
        from safetensors.torch import save_file

        words = json.dumps({"format": FORMAT, "prompt": self.tokens.to_json(), "places": self.places, **about})
        save_file({"heat_maps": self.heat_maps.contiguous()}, str(path), metadata={"i2am": words})
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> GlobalHeatMap:
        """What `save` wrote."""
        return loaded(path)[0]


def loaded(path: str | Path) -> tuple[GlobalHeatMap, dict[str, Any]]:
    """A saved prompt's maps, and what the file says of itself."""
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        refuse("path", "a saved heat map", f"{path}, which is not there", "Write it with save().")
    try:
        with safe_open(str(path), framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("i2am", "{}"))
            if about.get("format") != FORMAT:
                refuse(str(path), f"a heat map ({FORMAT!r})", about.get("format"), "Maps of i2am.trace are read by i2am.load.")
            return GlobalHeatMap.of(Prompt.from_json(about["prompt"]), tuple(about["places"]), file.get_tensor("heat_maps")), about
    except SafetensorError as error:
        raise ValueError(f"i2am: {path} is damaged or no safetensors file ({error}). Write it again with save().") from error


def normalized(heat_maps: Tensor) -> Tensor:
    """Every position's maps as shares of the text's tokens, the special ones at both ends left out of the sum."""
    return heat_maps / (heat_maps[1:-1].sum(0, keepdim=True) + 1e-6)


def gathered(maps: Tensor, columns: tuple[int, ...] | None, tokens: Prompt, normalize: bool) -> GlobalHeatMap:
    """The recorded maps [n, h, w] that belong to this prompt, up to the first token behind it."""
    places, at = placed(len(maps), columns, tokens)
    heat_maps = maps[at]
    return GlobalHeatMap.of(tokens, places, normalized(heat_maps) if normalize else heat_maps)


def placed(count: int, columns: tuple[int, ...] | None, tokens: Prompt) -> tuple[tuple[int, ...], list[int]]:
    """The prompt's places, up to the first token behind it, and where each stands among the `count` recorded."""
    at = {column: i for i, column in enumerate(range(count) if columns is None else columns)}
    ordinary = [place for place, special in enumerate(tokens.special) if not special]
    if not set(ordinary) <= set(at):
        refuse("prompt", f"one of the run's, of up to {len(at)} tokens", repr(tokens.text), "Leave it out: the run knows its prompt.")
    places = tuple(place for place in range(max(ordinary, default=-1) + 2) if place in at)
    return places, [at[place] for place in places]
