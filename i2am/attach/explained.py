"""What `i2am.explain` found, and how it reads: each attention call of the denoiser, what it holds, and why."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from i2am.common.checks import counted, said
from i2am.maps.tokens import AnyGrid, Range, Tokens

WIDTH = 110  # of the lines that tell of a whole pipeline


@dataclass(frozen=True)
class AttentionCall:
    """One call of scaled_dot_product_attention in the denoiser."""

    layer: str  # the module's dotted name
    index: int  # n-th attention call of this layer in a forward of the denoiser, as a rule sees it
    heads: int
    key_heads: int
    queries: int
    keys: int
    rows: int  # of the batch
    masked: bool
    call: int  # which of the step's calls of the denoiser, from 0; -1 before the first step
    active: bool = True  # whether a trace records this call of the denoiser
    conditional: Range | None = None  # rows that a trace records; None: not known, or none of this call
    tokens: tuple[Tokens, ...] = ()  # what the rule finds in it
    why: str = ""  # who says so, or why nothing is known

    @property
    def layout(self) -> AttentionCall:
        """The same, whatever the layer: calls that are alike in it are told once."""
        return replace(self, layer="")


@dataclass
class Explanation:
    """What a small call of the pipeline showed. `print(...)` it, or read `rows`."""

    model: str
    denoiser: str
    known: str  # the family and its order, or that there is none
    verdict: str  # of the pipeline
    rows: list[AttentionCall]  # in the order they ran
    inputs: dict[str, Any]  # what the denoiser was called with in the first step, by parameter name: shapes and small values
    calls: int = 0  # of the denoiser a step
    images: int | None = None  # rows of the sample at the scheduler's step
    guidance: str = ""  # which rows and calls are conditional, or why that is not known
    silent: tuple[str, ...] = ()  # layers that ran without calling scaled_dot_product_attention
    error: BaseException | None = None  # what the pipeline's call failed with

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        images = "" if self.images is None else f" for {counted(self.images, 'image')}"
        calls = f"{counted(self.calls, 'call')} of the denoiser a step{images}; {self.guidance}"
        lines = []
        for text in (f"{self.model}: {self.verdict}", f"{self.denoiser}: {self.known}", calls):
            lines += textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
        if self.inputs:
            lines += ["", "the denoiser's inputs"]
            width = max(map(len, self.inputs))
            lines += [f"  {name:{width}}  {value}" for name, value in self.inputs.items()]
        for call in sorted({row.call for row in self.rows}):
            here = [row for row in self.rows if row.call == call]
            recorded = "" if here[0].active else ", which a trace does not record"
            lines += ["", "before the first step" if call < 0 else f"call {call + 1} of the denoiser{recorded}"]
            for alike in folded(here):
                lines += [f"  {text}" for text in told(alike)]
        if self.silent:
            lines += ["", f"ran without calling scaled_dot_product_attention: {named(self.silent)}"]
        if not self.rows:
            lines += ["", "no attention was seen in the denoiser"]
        if self.error is not None:
            lines += ["", f"then the call failed: {type(self.error).__name__}: {self.error}"]
        return lines


def folded(rows: Sequence[AttentionCall]) -> list[list[AttentionCall]]:
    """Rows of one layout side by side, where the first of them ran."""
    found: dict[str, list[AttentionCall]] = {}
    for row in rows:
        found.setdefault(repr(row.layout), []).append(row)
    return list(found.values())


def named(layers: Sequence[str]) -> str:
    """How many layers, the first and the last."""
    names = list(dict.fromkeys(layers))
    inner = ", ".join(names) if len(names) < 3 else f"{names[0]} ... {names[-1]}"
    return f"{counted(len(names), 'layer')}: {inner}"


def told(alike: Sequence[AttentionCall]) -> list[str]:
    """A layout in a few lines."""
    row = alike[0]
    heads = counted(row.heads, "head") + (f" ({row.key_heads} of keys)" if row.key_heads != row.heads else "")
    place = f"attention call {row.index} of the layer: " if row.index else ""
    rows = counted(row.rows, "row")
    if row.conditional is not None and row.conditional != (0, row.rows):
        rows += f", conditional {spread(row.conditional)}"
    lines = [named([one.layer for one in alike]),
             f"    {place}{heads}, {row.queries} queries, {row.keys} keys, {rows}{', masked' if row.masked else ''}"]  # fmt: skip
    for tokens in row.tokens:
        lines.append(f"    {'; '.join(parts_of(tokens, row))}")
    return [*lines, f"    {row.why}"]


def parts_of(tokens: Tokens, row: AttentionCall) -> list[str]:
    """Which tokens are what."""
    parts = []
    if tokens.reference is not None:
        special = f", {tokens.special} without a place" if tokens.special else ""
        parts.append(f"{tokens.source}: keys {spread(tokens.reference)}{on(tokens.reference_grid)}{special}")
    if tokens.words is not None:
        parts.append(f"words: keys {spread(tokens.words)}")
    order = "" if tokens.query_order is None and tokens.key_order is None else "; counted in the rule's own order, not the call's"
    return [*parts, f"generated: queries {spread(tokens.generated or (0, row.queries))}{on(tokens.generated_grid)}{order}"]


def spread(part: Range) -> str:
    """(start, stop) as Python writes it."""
    return f"{part[0]}:{part[1]}"


def on(grid: AnyGrid | None) -> str:
    return ", no grid known" if grid is None else f" on {' x '.join(map(str, grid))}"


def shown(value: Any) -> str:
    """An input of the denoiser in a line: tensors by dtype and shape, lists of few items by theirs."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    if isinstance(value, (list, tuple)) and any(isinstance(item, Tensor) for item in value):
        return f"{type(value).__name__} of {', '.join(shown(item) for item in value[:4])}{' ...' if len(value) > 4 else ''}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {shown(item)}" for key, item in value.items()) + "}"
    return said(value)
