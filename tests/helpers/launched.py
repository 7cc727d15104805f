"""Launches the kernels on the driver that does nothing, in Triton's own way and remembered, and says what reached the driver each time.

Run by test_launcher.py in a process of its own: Triton's driver is the process's.
"""

import json
from unittest.mock import patch

import torch
import triton

from benchmarks.operator import judge
from benchmarks.operator.host import driven
from i2am_kernels import launcher, triton_backend

driver = driven()
triton_backend.capability = lambda device: None  # the interpreter's tiles are small, and compile in no time
CASES = {
    "plain": {},
    "half": {"dtype": torch.float16},
    "one query": {"generated": 1},
    "shifted": {"shift": 1},  # pointers that are no multiple of 16
    "one tile": {"reference": 77},
    "scaled": {"scale": 0.25},
    "apart": {"gap": 8},  # strides that are no multiples of 16
}


def call_of(generated=300, reference=333, size=64, dtype=torch.bfloat16, shift=0, gap=0, scale=None):
    def heads(tokens):
        memory = torch.randn(2 * tokens * (2 * size + gap) + shift, device="cpu").to(dtype)[shift:]
        return memory.view(2, tokens, 2 * size + gap)[..., : 2 * size].unflatten(2, (2, size)).transpose(1, 2)

    return judge.call_of({"query": heads(generated), "key": heads(reference), "value": heads(reference), "scale": scale,
                          "r2g": torch.zeros(2, 2, generated), "g2r": torch.zeros(2, 2, reference)})  # fmt: skip


def said(word):
    return ["tensor", list(word.shape), list(word.stride())] if isinstance(word, torch.Tensor) else word


def reached(call):
    """Grid, stream, kernel and arguments of every launch."""
    driver.launched.clear()
    triton_backend.launch(call, "own")
    return [[words[:5], *map(said, words[9:])] for words in driver.launched]


found = {}
for _ in range(2):  # in the second round every way is known
    for name, options in CASES.items():
        torch.manual_seed(0)
        call = call_of(**options)
        with patch.object(launcher, "REMEMBERS", False):
            triton_way = reached(call)
        found.setdefault(name, []).append({"triton": triton_way, "ours": reached(call)})
kernels = {name: len(getattr(triton_backend, name).known) for name in ("forward_sweep", "keys_sweep", "one_tile_sweep", "queries_sweep")}
print(json.dumps({"version": triton.__version__, "found": found, "kernels": kernels}, default=str))
