"""The calls that the pack checks: each option, each head size, hard logits; whole tiles and tiles that are cut."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.operator import judge
from i2am_kernels import moments
from i2am_kernels.fields import MOMENTS


@dataclass(frozen=True)
class Case:
    name: str
    generated: int = 300
    reference: int = 333  # more than one tile
    size: int = 64
    value_size: int | None = None
    batch: int = 2
    heads: int = 2
    logits: str = ""  # what `twist` does to them
    nats: float = 0.0
    mask: str = ""  # bool, additive
    weightings: int = 0  # n of generated_weight; 0 leaves the weights out
    words: int = 0  # n of token_maps
    columns: int = 0  # n of column_maps
    grids: tuple[tuple[int, int], ...] = ()  # of both canvases: the field, six words and six columns
    ranges: bool = False
    strided: bool = False
    alone: bool = False  # the output and no map

    def larger(self) -> Case:
        """Another shape of the same kind."""
        return replace(self, generated=self.generated + 57, reference=self.reference + 13)


def adversarial(name: str, **sizes: Any) -> list[Case]:
    """The cases that compute the same kernels on hard logits."""
    hard = [("logit", 100.0), ("logit", 200.0), ("columns", -100.0), ("row_offsets", 150.0), ("column_offsets", 150.0)]
    return [Case(f"{name} {logits} {nats:+.0f}", logits=logits, nats=nats, **sizes) for logits, nats in hard]


SIZES = (8, 16, 32, 40, 80, 96, 112, 128, 160, 192, 256)
FAMILIES = {
    "general": [
        Case("plain"), *adversarial("general"), Case("bool mask", mask="bool"),
        Case("output alone, bool mask", mask="bool", alone=True), Case("additive mask", mask="additive"),
        Case("one weighting", weightings=1), Case("3 weightings", weightings=3), Case("17 weightings", weightings=17),
        Case("20 words", words=20), Case("6 words, 6 columns", words=6, columns=6), Case("20 columns", columns=20, weightings=3),
        Case("field", 300, 330, grids=((15, 20), (11, 30))), Case("field, bool mask", 300, 330, mask="bool", grids=((15, 20), (11, 30))),
        *adversarial("field", generated=300, reference=330, grids=((15, 20), (11, 30))),
        Case("whole tiles", 256, 512, 128), Case("long", 3072, 3072, 40, batch=1, heads=1), Case("wide values", value_size=96),
        Case("everything", 211, 390, 40, 72, 3, mask="bool", weightings=3, words=5, columns=4, ranges=True, strided=True),
    ],
    "one_tile": [
        Case("77", reference=77), *adversarial("77", reference=77), Case("77 bool mask", reference=77, mask="bool"),
        Case("77 additive mask", reference=77, mask="additive"), Case("77 weighting", reference=77, weightings=1),
        Case("77 words", reference=77, words=77), Case("one key", reference=1), Case("256 keys", 1500, 256, batch=1, heads=1),
        Case("one query", 1, 77), Case("77 columns", reference=77, columns=6),
        Case("field of 64 keys", reference=64, grids=((15, 20), (8, 8))),
        Case("77 everything", 211, 77, 40, 72, 3, mask="additive", weightings=1, words=5, ranges=True, strided=True),
    ],
    "sizes": [Case(f"size {size}, {keys} keys", 130, keys, size) for size in SIZES for keys in (300, 33)],
}  # fmt: skip
QUICK = {
    "general": [
        Case("plain", 33, 270, 40, batch=1),
        Case("logit +200", 33, 270, 40, batch=1, heads=1, logits="logit", nats=200.0),
    ],
    "one_tile": [
        Case("everything", 33, 19, 40, 24, 2, 1, mask="bool", weightings=1, words=3, ranges=True, strided=True),
        Case("field of 21 keys", 33, 21, 40, batch=1, heads=1, grids=((3, 11), (3, 7))),
    ],
    "sizes": [Case("size 24, 33 keys", 19, 33, 24, batch=1, heads=1)],
}
SAME = (
    Case("plain"),
    Case("77", reference=77),
    Case("everything", 211, 390, 40, 72, 3, mask="bool", weightings=3, words=5, columns=4, ranges=True),
)
QUICK_SAME = (Case("77", 33, 19, 40, batch=1, heads=1),)


def heads_of(case: Case, tokens: int, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    stretch = 2 if case.strided else 1
    return torch.randn(case.batch, tokens, case.heads, size * stretch, device=device).to(dtype)[..., ::stretch].transpose(1, 2)


def twist(case: Case, query: Tensor, key: Tensor) -> None:
    """Hard logits from one head dimension, so that every runner meets them without a mask."""
    height = case.nats * query.shape[-1] ** 0.5
    if not case.logits:
        return
    query[..., 0], key[..., 0] = 1, 1
    steps = torch.linspace(-height, height, query.shape[2] if case.logits == "row_offsets" else key.shape[2]).to(query)
    if case.logits == "logit":  # one score of so many nats
        query[..., 0], key[..., 0] = 0, 0
        query[:, :, query.shape[2] // 2, 0] = key[:, :, key.shape[2] // 2, 0] = height**0.5
    elif case.logits == "columns":  # every seventh key far under the rest, for every query
        key[..., 0] = 0
        key[:, :, ::7, 0] = height
    elif case.logits == "row_offsets":
        query[..., 0] = steps
    else:
        key[..., 0] = steps


def arguments(case: Case, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    torch.manual_seed(0)
    query = heads_of(case, case.generated, case.size, dtype, device)
    key = heads_of(case, case.reference, case.size, dtype, device)
    twist(case, query, key)
    given: dict[str, Any] = {
        "query": query,
        "key": key,
        "value": heads_of(case, case.reference, case.value_size or case.size, dtype, device),
    }
    rows, canvas, tokens = (0, case.batch), (0, case.generated), (0, case.reference)
    if case.ranges:
        rows, canvas, tokens = (case.batch // 2, case.batch), (5, case.generated - 2), (3, case.reference - 1)
    given |= {"rows": rows, "generated": canvas, "reference": tokens}
    batch, here, there = rows[1] - rows[0], canvas[1] - canvas[0], tokens[1] - tokens[0]

    def buffer(*shape: int) -> Tensor:
        """A view into a larger tensor that already holds numbers of a map's size."""
        return (torch.rand(*shape, 2, device=device) / shape[-1])[..., 1]

    weightings = (case.weightings,) if case.weightings > 1 else ()
    if not case.alone:
        given["r2g"], given["g2r"] = buffer(batch, case.heads, here), buffer(batch, case.heads, *weightings, there)
    if case.weightings:
        given["generated_weight"] = torch.rand(batch, *weightings, here, device=device)
        given["reference_weight"] = torch.rand(batch, there, device=device)
    if case.words:
        given["token_maps"] = buffer(batch, case.heads, case.words, here)
        given["token_weight"] = torch.rand(batch, there, case.words, device=device)
    if case.columns:
        given["column_maps"] = buffer(batch, case.heads, case.columns, there)
        given["column_weight"] = torch.rand(batch, case.columns, here, device=device)
    if case.grids:
        on_canvas, on_reference = (moments(grid, device=device).expand(batch, -1, -1) for grid in case.grids)
        given["token_maps"], given["token_weight"] = buffer(batch, case.heads, MOMENTS, here), on_reference.mT
        given["column_maps"], given["column_weight"] = buffer(batch, case.heads, MOMENTS, there), on_canvas
    if case.mask:
        seen = torch.rand(case.batch, 1, case.generated, case.reference, device=device) > 0.3
        seen[..., case.generated // 2, :] = False  # a row and a column that see nothing
        seen[..., case.reference // 2] = False
        bias = torch.randn(seen.shape, device=device).masked_fill(~seen, -torch.inf).to(dtype)
        given["attn_mask"] = seen if case.mask == "bool" else bias
    return given


def fresh(given: dict[str, Any]) -> dict[str, Any]:
    """The same call with buffers of its own, strides kept."""
    copies = {}
    for name in judge.BUFFERS:
        if given.get(name) is not None:
            copies[name] = torch.empty_strided(given[name].shape, given[name].stride(), device=given[name].device).copy_(given[name])
    return {**given, **copies}
