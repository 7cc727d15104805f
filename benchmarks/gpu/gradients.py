"""Gradients through attention and its maps: beside the definition's in float64, and timed forward and back beside attention alone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.gpu.cases import FAMILIES, Case, arguments
from benchmarks.gpu.checks import PATIENCE, guarded, what_of
from benchmarks.gpu.items import Begin, Item
from benchmarks.measuring.rows import Row
from benchmarks.operator import judge
from benchmarks.operator.gradients import OPERANDS, Given, double, gradients, results
from benchmarks.operator.one_call import DTYPES, Runner, measure
from benchmarks.operator.shapes import SHAPES, TINY

CHECKED = {"triton_backward": "triton", "streaming_backward": "streaming"}  # runner: backend
CASES = (
    "plain",
    "bool mask",
    "field",
    "everything",
    "3 weightings",
    "20 words",
    "general logit +200",
    "general columns -100",
    "wide values",
)
WIDE = (Case("size 160", 130, 300, 160), Case("size 256", 130, 300, 256), Case("one query", 1, 77), Case("one key", reference=1))
TIMED = ("warp_3072", "warp_768")
SAME = tuple(Case(name, *SHAPES[name][:3], batch=1, heads=SHAPES[name].heads) for name in TIMED)  # what is timed is compiled by its check
QUICK = (Case("everything", 33, 19, 40, 24, 2, 1, mask="bool", weightings=1, words=3, ranges=True, strided=True),)
FLOOR = {torch.float32: 2.0**-13, torch.float16: 2.0**-9, torch.bfloat16: 2.0**-6}  # two roundings of dS


def family(dtype: str, device: torch.device, quick: bool) -> list[Item]:
    cases = QUICK if quick else (*SAME, *(case for case in FAMILIES["general"] if case.name in CASES), *WIDE)
    return [Item(case.name, PATIENCE, partial(checked, case, DTYPES[dtype], device)) for case in cases]


def checked(case: Case, dtype: torch.dtype, device: torch.device, begin: Begin) -> Iterator[Row]:
    """One row per backend: four times the error of the definition in the operands' own precision, and a floor."""
    given = arguments(case, dtype, device)
    with torch.no_grad():
        found = results(given, "reference")
    up = {name: torch.randn_like(one) * (1 if name == "output" else one.shape[-1]) for name, one in found.items()}
    true = gradients(double(given), "reference", up)
    allowed = {name: 4 * error + FLOOR[dtype] for name, error in judge.errors(gradients(given, "reference", up), true).items()}
    for runner, backend in CHECKED.items():
        what = {**what_of(given, runner), "case": f"gradient of {case.name}"}
        if not begin(runner, **what):
            continue

        def check(row: Row, backend: str = backend) -> None:
            found = judge.errors(gradients(given, backend, up), true)
            row |= {"error_of": found, "allowed": allowed, "red": judge.red(found, allowed)}

        yield guarded(what, check, device)


@torch.enable_grad()
def forward_and_back(backend: str, given: Given) -> Tensor:
    """A call, its maps into the buffers as those of every runner are, and the gradients where each result asks for itself."""
    leaves = {name: given[name].detach().requires_grad_() for name in OPERANDS}
    alone = backend == "sdpa"
    found = {"output": scaled_dot_product_attention(**leaves)} if alone else results({**given, **leaves}, backend)
    for name in set(found) - {"output"}:
        given[name] += found[name].detach()
    torch.autograd.grad(list(found.values()), list(leaves.values()), [one.detach() for one in found.values()])
    return found["output"].detach()


RUNNERS: dict[str, Runner] = {runner: partial(forward_and_back, backend) for runner, backend in {"sdpa": "sdpa", **CHECKED}.items()}


def timed(name: str, device: torch.device, quick: bool, begin: Begin) -> Iterator[Row]:
    shape, batch, dtype = (TINY, 2, torch.float32) if quick else (SHAPES[name], 8, torch.bfloat16)
    what = {"shape": f"{name}_backward", "size": shape.size, "dtype": str(dtype).removeprefix("torch."), "masked": False}
    on_gpu = device.type == "cuda"
    yield from measure(f"{name}_backward", shape, batch, dtype, "all", device, ("sdpa", "triton_backward"), 31 if on_gpu else 1, 2.0,
                       on_gpu, lambda runner: begin(runner, runner=runner, **what), RUNNERS)  # fmt: skip


def both_ways(device: torch.device, quick: bool) -> list[Item]:
    """Forward with both maps and back, beside scaled_dot_product_attention forward and back."""
    return [Item(f"{name} both ways", PATIENCE, partial(timed, name, device, quick)) for name in (TIMED[:1] if quick else TIMED)]
