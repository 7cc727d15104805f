"""Launches the kernels on the driver that does nothing, in Triton's own way, remembered and planned, and says what reached the driver
each time.

Run by test_launcher.py in a process of its own: Triton's driver is the process's.
"""

import json
from unittest.mock import patch

import torch
import triton

from benchmarks.operator import judge
from benchmarks.operator.host import driven
from i2am_kernels import launcher, onchip, plans, triton_backend

driver = driven()
triton_backend.capability = lambda device: None  # the interpreter's tiles are small, and compile in no time
onchip.runs_on = lambda device: True
CASES = {
    "plain": {},
    "half": {"dtype": torch.float16},
    "one query": {"generated": 1},
    "shifted": {"shift": 1},  # pointers that are no multiple of 16
    "one tile": {"reference": 77},
    "scaled": {"scale": 0.25},
    "apart": {"gap": 8},  # strides that are no multiples of 16
    "weighted": {"weighted": True},
    "a library's L": {"route": "flash"},
    "half of the rows": {"rows": (1, 2), "generated_range": (3, 290)},
    **({"onchip": {"route": "onchip"}} if onchip.onchip_sweep else {}),
}


def call_of(generated=300, reference=333, size=64, dtype=torch.bfloat16, shift=0, gap=0, scale=None, weighted=False, rows=(0, 2),
            generated_range=None):  # fmt: skip
    """Tokens lie between each other in memory, as one projection leaves them, and so do the maps; each time elsewhere."""

    def heads(tokens):
        memory = torch.randn(2 * tokens * (4 * size + gap) + shift, device="cpu").to(dtype)[shift:]
        both = memory.view(2, tokens, 4 * size + gap)[..., : 4 * size].unflatten(2, (2, 2, size))
        return both[:, :, 0].transpose(1, 2), both[:, :, 1].transpose(1, 2)

    (first, last), inside = rows, generated_range or (0, generated)
    (query, _), (key, value) = heads(generated), heads(reference)
    buffer = torch.zeros(2, last - first, 2, inside[1] - inside[0] + reference)
    weights = {"generated_weight": torch.rand(last - first, inside[1] - inside[0]), "reference_weight": torch.rand(last - first, reference)}
    return judge.call_of({"query": query, "key": key, "value": value, "scale": scale, "rows": rows, "generated": inside,
                          "r2g": buffer[1, ..., : inside[1] - inside[0]], "g2r": buffer[1, ..., inside[1] - inside[0] :],
                          **(weights if weighted else {})})  # fmt: skip


def address(place, call):
    """Where an address lies: in which of the call's tensors, so many bytes behind its first; or in memory taken for it."""
    for name in plans.FIELDS:
        tensor = getattr(call, name)
        span = 0 if tensor is None else sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride())) * tensor.itemsize
        if tensor is not None and 0 <= place - tensor.data_ptr() <= span:
            return [name, place - tensor.data_ptr()]
    return ["memory"]


def said(word, call):
    """An argument; a tensor, or a number that is an address, by where it lies."""
    if isinstance(word, torch.Tensor):
        return address(word.data_ptr(), call)
    return address(word, call) if isinstance(word, int) and word >= 2**32 else word


def reached(call, route):
    """Grid, stream, kernel and arguments of every launch."""
    driver.launched.clear()
    output = triton_backend.launch(call, route)
    assert (output.shape, output.dtype) == ((*call.query.shape[:3], call.value.shape[3]), call.query.dtype)
    return [[words[:5], *(said(word, call) for word in words[9:])] for words in driver.launched]


found = {}
for _ in range(2):  # in the second round every way is known
    for name, options in CASES.items():
        torch.manual_seed(0)
        options = dict(options)
        route = options.pop("route", "own")
        call = call_of(**options)
        with patch.object(launcher, "REMEMBERS", False):
            triton_way = reached(call, route)
        with patch.object(plans, "ENABLED", False):
            remembered = reached(call, route)
        found.setdefault(name, []).append({"triton": triton_way, "remembered": remembered, "planned": reached(call, route)})
call = call_of()
with patch("i2am_kernels.forward.has_forward", return_value=False):  # as where a user switches a library off: L comes in other units
    with patch.object(plans, "ENABLED", False):
        step_by_step = reached(call, "flash")
    found["switched off"] = [{"triton": step_by_step, "remembered": step_by_step, "planned": reached(call, "flash")}]
kernels = {name: len(getattr(triton_backend, name).known) for name in ("forward_sweep", "keys_sweep", "one_tile_sweep", "queries_sweep")}
planned = [plan is not None for plan in plans.PLANS.values()]
print(json.dumps({"version": triton.__version__, "found": found, "kernels": kernels, "planned": planned}, default=str))
