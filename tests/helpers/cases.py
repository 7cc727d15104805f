"""Cases, the routes that can take them, and how both are held against the definition.

What is right is `tolerance`'s rule, with the log-sum-exps of the case: P = 2^(S - L) is no finer than the last places of L.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
import torch.nn.functional as F
from gluon_on_cpu import OnCpu
from tolerance import FACTOR, LEAST, MOST, close, exponents, unit
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from i2am_kernels import bi_attention, bi_attention_reference, onchip, op, streaming, tiles, triton_backend
from i2am_kernels.call import Call, additive

LIBRARY_HALF = 1e-4  # torch's half-precision kernel on the CPU gives L with an error of up to 8e-5


class Route(NamedTuple):
    """A backend, and what is set so that it goes one way and no other."""

    backend: str
    settings: tuple[tuple[Any, str, Any], ...] = ()
    forward: str | None = None
    launch: Callable[[Call], Tensor] | None = None  # in the Triton backend's place


def cores(count):
    return (triton_backend, "cores", lambda device: count)


def onchip_where_it_can(call: Call) -> Tensor:
    """Both maps in one visit; what that does not take is no matter of the route, and goes the quickest way."""
    return triton_backend.launch(call, "onchip") if onchip.missing(call) is None else streaming.streaming(call)


def on_chip() -> tuple[tuple[Any, str, Any], ...]:
    """So that the sweep in one visit runs here, from its source, on float32 as well, which its products would round on a GPU."""
    kernel = OnCpu(onchip.onchip_sweep.jit)
    return (onchip, "onchip_sweep", kernel), (onchip, "runs_on", lambda device: True), (onchip, "DTYPES", (torch.float32, *onchip.DTYPES))


NO_TILE = (tiles, "ONE_TILE_KEYS", 0)
ROUTES = {
    "reference": Route("reference"),
    "streaming": Route("streaming"),
    "streaming blocks": Route("streaming", ((streaming, "TILE_BYTES", 0), (streaming, "BLOCK_BYTES", 9_000), (streaming, "BLOCK_R", 32))),
    "triton": Route("triton"),
    "triton own forward": Route("triton", (NO_TILE, cores(0)), forward="own"),
    "triton library forward split": Route("triton", (NO_TILE, cores(16)), forward="flash"),
    "triton onchip": Route("triton", (*on_chip(), cores(16)), launch=onchip_where_it_can),
}
STREAMING = ["streaming", "streaming blocks"]
TRITON = [name for name in ROUTES if name.startswith("triton")]
FUSED = STREAMING + TRITON


@contextmanager
def going(route: str):
    """The route's settings while it lasts; gives the backend's name."""
    backend, settings, forward, launch = ROUTES[route]
    with ExitStack() as stack:
        for module, name, value in settings:
            stack.enter_context(patch.object(module, name, value))
        if forward is not None or launch is not None:
            stack.enter_context(patch.dict(op.BACKENDS, triton=launch or partial(triton_backend.launch, route=forward)))
        yield backend


@dataclass(frozen=True, repr=False)
class Case:
    query: Tensor
    key: Tensor
    value: Tensor
    options: dict[str, Any] = field(default_factory=dict)  # all of bi_attention's but the buffers and the backend
    maps: tuple[str, ...] = ("r2g", "g2r")
    weightings: int | None = None  # None: g2r is [B', H, R']
    words: int = 0
    columns: int = 0

    def __repr__(self) -> str:
        options = {name: tuple(t.shape) if isinstance(t, Tensor) else t for name, t in self.options.items() if t is not None}
        shapes = " x ".join(str(tuple(t.shape)) for t in (self.query, self.key, self.value))
        return f"<{self.query.dtype} {shapes} -> {self.maps}, weightings {self.weightings}, columns {self.columns}, {options}>"

    def _repr_pretty_(self, printer, cycle) -> None:  # hypothesis would print the tensors
        printer.text(repr(self))

    def canvas(self) -> tuple[int, int, int, int]:
        """B', H, G', R'."""
        batch, heads, generated, _ = self.query.shape
        ranges = (("rows", batch), ("generated", generated), ("reference", self.key.shape[2]))
        sizes = [stop - start for start, stop in (self.options.get(name) or (0, size) for name, size in ranges)]
        return sizes[0], heads, sizes[1], sizes[2]

    def buffers(self, dtype=torch.float32) -> dict[str, Tensor]:
        batch, heads, generated, reference = self.canvas()
        weightings = () if self.weightings is None else (self.weightings,)
        shapes = {
            "r2g": (batch, heads, generated),
            "g2r": (batch, heads, *weightings, reference),
            "token_maps": (batch, heads, self.words, generated),
            "column_maps": (batch, heads, self.columns, reference),
        }
        return {name: torch.zeros(shapes[name], dtype=dtype) for name in self.maps}

    def to(self, dtype) -> Case:
        mask = self.options.get("attn_mask")
        options = self.options if mask is None or mask.dtype == torch.bool else {**self.options, "attn_mask": mask.to(dtype)}
        return replace(self, query=self.query.to(dtype), key=self.key.to(dtype), value=self.value.to(dtype), options=options)


class Result(NamedTuple):
    out: Tensor
    maps: dict[str, Tensor]


def make(
    batch=1, heads=2, tokens=(63, 40), size=16, dv=None, dtype=torch.float32, amplitude=1.0,
    maps=("r2g", "g2r"), weightings=None, words=0, columns=0, weighted=False, per_head=False, **options,
) -> Case:  # fmt: skip
    """A case of random tokens; `weighted` draws weights for every map, in all sizes and with zeros among them, `per_head` others for
    every head."""
    generated, reference = tokens
    query = (torch.randn(batch, heads, generated, size) * amplitude).to(dtype)
    key = torch.randn(batch, heads, reference, size).to(dtype)
    value = torch.randn(batch, heads, reference, dv or size).to(dtype)
    wanted = (*maps, *(["token_maps"] if words else []), *(["column_maps"] if columns else []))
    case = Case(query, key, value, dict(options), wanted, weightings, words, columns)
    rows, _, canvas, reference = case.canvas()
    leading = (rows, heads) if per_head else (rows,)
    if "g2r" in maps and (weighted or weightings is not None):
        case.options["generated_weight"] = torch.rand(*leading, *(() if weightings is None else (weightings,)), canvas).sub_(0.2).relu_()
    if "r2g" in maps and weighted:
        case.options["reference_weight"] = torch.rand(*leading, reference).sub_(0.2).relu_()
    if words:
        case.options["token_weight"] = torch.rand(*leading, reference, words).sub_(0.2).relu_()
    if columns:
        case.options["column_weight"] = torch.rand(*leading, columns, canvas).sub_(0.2).relu_()
    return case


def by_hand(case: Case) -> Case:
    """The same with every key head written out for each of the query heads that read it."""
    options = {name: option for name, option in case.options.items() if name != "enable_gqa"}
    group = case.query.shape[1] // case.key.shape[1]
    key, value = (t.repeat_interleave(group, 1) for t in (case.key, case.value))
    return replace(case, key=key, value=value, options=options)


def run(case: Case, route: str = "reference", buffers: dict[str, Tensor] | None = None) -> Result:
    buffers = case.buffers() if buffers is None else buffers
    with going(route) as backend:
        return Result(bi_attention(case.query, case.key, case.value, **buffers, **case.options, backend=backend), buffers)


def truth(case: Case, dtype=torch.float64) -> Result:
    """The definition on the same numbers in float64 (or, for the eager error, in float32)."""
    case, buffers = case.to(dtype), case.buffers(dtype)
    return Result(bi_attention_reference(case.query, case.key, case.value, **buffers, **case.options), buffers)


def check(case: Case, route: str) -> Result:
    """Run the case and hold it against the truth."""
    got = run(case, route)
    compare(case, got, route)
    return got


def compare(case: Case, got: Result, route: str, more: float = 0.0) -> None:
    right, eager = truth(case), truth(case, torch.float32)
    terms, logits = longest(case), largest(case)
    library = LIBRARY_HALF if half_library(case, route) else 0.0
    for name in case.maps:
        close(got.maps[name], right.maps[name], eager.maps[name], terms, f"{route}: {name}", logits, more + library)
    close_output(case, got.out, right.out, eager.out, unit(terms, logits), route)


def longest(case: Case) -> int:
    """The terms of the longest sum on the way: of a score, over the keys or over the queries."""
    return max(*case.query.shape[2:], case.key.shape[2])


def half_library(case: Case, route: str) -> bool:
    """Whether the route takes L from a library's half-precision kernel."""
    generated, reference = case.query.shape[2], case.key.shape[2]
    in_one_tile = {
        "streaming": 4 * generated * reference <= streaming.TILE_BYTES,
        "triton": reference <= 128 and case.weightings in (None, 1) and not case.columns,
    }
    return case.query.dtype != torch.float32 and route != "triton own forward" and not in_one_tile.get(route, False)


def largest(case: Case) -> float:
    """The largest exponent of its weights."""
    case = case.to(torch.float64)
    scale = case.options.get("scale")
    scores = case.query @ by_hand(case).key.mT * (case.query.shape[-1] ** -0.5 if scale is None else scale)
    mask = case.options.get("attn_mask")
    scores = scores if mask is None else scores + additive(mask, torch.float64)
    return exponents(scores, scores[slice(*case.options.get("rows") or (None,)), :, slice(*case.options.get("generated") or (None,))])


def close_output(case: Case, got: Tensor, right: Tensor, eager: Tensor, one: float, what: str) -> None:
    """By the same rule, of the size of the values, and with a rounding to their dtype; a row without keys is 0, as in the definition."""
    assert got.dtype == case.query.dtype, f"{what}: dtype of the output"
    assert got.shape == right.shape, f"{what}: shape of the output"
    assert got.isfinite().all(), f"{what}: output not finite"
    size = case.value.double().abs().amax((-1, -2))[..., None]
    error, own = (got - right).abs().amax(-1), (eager.to(got.dtype) - right).abs().amax(-1)
    rounding = torch.finfo(got.dtype).eps * size
    fine = error <= (FACTOR * own).clamp(LEAST * one * size, MOST * (one * size + rounding)) + rounding
    assert fine.all(), f"{what}: output off by {error[~fine].max().item():.2e} where a unit is {(one * size).max().item():.2e}"


def plain(case: Case) -> Tensor:
    """scaled_dot_product_attention on the case's tokens; under a mask the backend that computes it as it is written."""
    mask = case.options.get("attn_mask")
    mask = mask if mask is None or mask.dtype in (torch.bool, torch.float32) else mask.to(case.query.dtype)
    mask = mask if mask is None or mask.ndim > 1 else mask[None]  # torch does not take a mask of one dimension
    with nullcontext() if mask is None else sdpa_kernel(SDPBackend.MATH):
        return F.scaled_dot_product_attention(case.query, case.key, case.value, attn_mask=mask, scale=case.options.get("scale"))


def transposed(tensor: Tensor) -> Tensor:
    """The same numbers in memory order [B, tokens, H, D], as a projection leaves them."""
    return tensor.transpose(1, 2).contiguous().transpose(1, 2)
