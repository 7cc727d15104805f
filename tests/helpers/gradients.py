"""The gradients of a case's operands and weights, and how far they may be from the definition's in float64.

By the rule of `tolerance`, of the size of a head's gradient: a row's own may be all cancellation. In half precision dS and P are rounded
before their products, as the eager definition rounds them, so that a unit is a rounding more. What a row of word maps must sum to
is taken from the maps themselves, which are LEAST units off as maps may be.
"""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

import torch
from cases import Case, cores, largest, longest
from tolerance import FACTOR, LEAST, MOST, NOTHING, unit
from torch import Tensor

from i2am_kernels import bi_attention_maps

WEIGHTS = ("generated_weight", "reference_weight", "token_weight", "column_weight")


def results(case: Case, backend: str, output: bool) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What asks for a gradient, and what gives one."""
    leaves = {name: getattr(case, name).detach().requires_grad_() for name in ("query", "key", "value")}
    leaves |= {name: case.options[name].detach().requires_grad_() for name in WEIGHTS if case.options.get(name) is not None}
    given = {**case.options, **leaves}
    found = bi_attention_maps(**given, r2g="r2g" in case.maps, g2r="g2r" in case.maps, backend=backend)
    return leaves, {name: getattr(found, name) for name in (*(["output"] if output else []), *case.maps)}


def asked(case: Case, output: bool = True, size: float = 1.0) -> dict[str, Tensor]:
    """Random gradients of the results; those of the maps as large as sums over tokens make them."""
    with torch.no_grad():
        found = results(case, "reference", output)[1]
    return {
        name: (torch.randn(one.shape) * (1.0 if name == "output" else size * one.shape[-1])).to(one.dtype) for name, one in found.items()
    }


def gradients(case: Case, up: dict[str, Tensor], backend: str = "triton", programs: int | None = None) -> dict[str, Tensor]:
    """Of what depends on the results; on a device with so many cores."""
    leaves, found = results(case, backend, "output" in up)
    holder, name, count = cores(programs)
    with patch.object(holder, name, count) if programs is not None else torch.enable_grad():
        torch.autograd.backward([found[name] for name in up], [up[name].to(found[name].dtype) for name in up])
    return {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}


def check(case: Case, up: dict[str, Tensor], programs: int | None = None, backend: str = "triton") -> dict[str, Tensor]:
    """The gradients of a backend against the definition's."""
    got = gradients(case, up, backend, programs)
    right, eager = gradients(case.to(torch.float64), up, "reference"), gradients(case, up, "reference")
    half = case.query.dtype != torch.float32
    one = unit(longest(case), largest(case)) + (torch.finfo(case.query.dtype).eps if half else 0.0)
    for name, true in right.items():
        close(got[name], true, eager[name], one * (LEAST if "token_maps" in up and name in ("query", "key") else 1), name)
    assert set(got) - set(right) <= {"value"}, "only the values may have a gradient of zeros"
    return got


def close(got: Tensor, right: Tensor, eager: Tensor, one: float, what: str) -> None:
    size = right.double().abs().amax((-2, -1), keepdim=True)
    error, own = (got.double() - right).abs(), (eager.double() - right).abs().amax((-2, -1), keepdim=True)
    assert got.isfinite().all(), f"{what}: not finite"
    most = (FACTOR * own).clamp(LEAST * one * size, MOST * one * size) + NOTHING
    assert (error <= most).all(), (
        f"{what}: off by {(error / size).max().item():.2e} of the head, eager {(own / size).max().item():.2e}, a unit {one:.1e}"
    )


def strided(case: Case) -> Case:
    """The same numbers, every second of a longer head, heads inside tokens."""

    def spread(tensor: Tensor) -> Tensor:
        wide = tensor.transpose(1, 2).repeat_interleave(2, -1).contiguous()
        return wide[..., ::2].transpose(1, 2)

    return replace(case, query=spread(case.query), key=spread(case.key), value=spread(case.value))
