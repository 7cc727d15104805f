"""Word maps on disk: one safetensors file with their prompts, tokens and all, so that words are found without a tokenizer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from i2am.common import outputs
from i2am.maps.files import fitting, opened, versions
from i2am.maps.prompt import Prompt

FORMAT, SAVE = "i2am words 1", "words.save"


def write(prompts: Sequence[Prompt], columns: Sequence[int], maps: Tensor, path: str | Path) -> Path:
    """Write the maps as float32; the file appears whole or not at all."""
    from safetensors.torch import save_file

    path = outputs.file(path, "path", (".safetensors",))
    about = {"format": FORMAT, "axes": {"maps": "image token " + "frame " * (maps.ndim == 5) + "height width"}, "columns": list(columns),
             "prompts": [prompt.to_json() for prompt in prompts], "versions": versions()}  # fmt: skip
    tensors = {"maps": maps.detach().float().cpu().contiguous()}
    outputs.write_whole(path, lambda part: save_file(tensors, part, metadata={"i2am": json.dumps(about)}))
    return path


def read(path: str | Path) -> tuple[list[Prompt], list[int], Tensor]:
    """The prompts, columns and maps that `words.save` wrote."""
    about, tensors = opened(path, FORMAT, "word maps", SAVE)
    with fitting(path, SAVE):
        if list(tensors) != ["maps"] or tensors["maps"].dtype != torch.float32:
            raise ValueError(f"tensors {sorted(tensors)}")
        return [Prompt.from_json(prompt) for prompt in about["prompts"]], [int(column) for column in about["columns"]], tensors["maps"]
