"""What a family of models is: the denoisers it knows by name, and a rule that says what one of their attention calls holds.

A rule looks at one attention call (`Seen`) and returns `Tokens`, several, or None. A family whose sequence is put together from blocks,
[text, generated, reference 1, reference 2], has its rule from `blocks`, which proves that the blocks fill the sequence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from i2am.common.checks import refuse
from i2am.maps.tokens import AnyGrid, Grid, Range, Seen, Tokens, grid_of

Found = Tokens | Sequence[Tokens] | None
Rule = Callable[[Seen], Found]
Written = Callable[[Any, Tensor, int], Tensor | None]  # which of the ids that an encoder read are the text's tokens
EXPLAIN = "Look with i2am.explain(pipe, ...) and write a rule: reference=lambda seen: i2am.Tokens(...)."


def several(found: Found) -> list[Tokens]:
    """What a rule found, as a list."""
    return [] if found is None else [found] if isinstance(found, Tokens) else list(found)


def unwritten(pipe: Any, ids: Tensor, length: int) -> Tensor | None:
    """Not known: the text tokens are all ids that an encoder read, or nobody can say."""
    return None


def end_of(pipe: Any, ids: Tensor, length: int) -> Tensor | None:
    """The text tokens are the last of the ids: a template's beginning is cut off."""
    return ids[:, -length:] if ids.shape[1] >= length else None


def filled_up(pipe: Any, ids: Tensor, length: int) -> Tensor | None:
    """The text tokens are the ids and, behind them, nothing."""
    pad, more = tokenizer_of(pipe, "text_encoder").pad_token_id, length - ids.shape[1]
    return None if pad is None or more < 0 else torch.nn.functional.pad(ids, (0, more), value=pad)


def tokenizer_of(pipe: Any, encoder: str) -> Any:
    """The tokenizer of a text encoder: the pipeline's, or that of a processor that also takes pictures."""
    for name in (encoder.replace("text_encoder", "tokenizer"), "processor" if encoder == "text_encoder" else None):
        found = None if name is None else getattr(pipe, name, None)
        if found is not None:
            return getattr(found, "tokenizer", found)
    return None


@dataclass(frozen=True)
class Family:
    """Models whose attention calls are laid out alike."""

    name: str
    denoisers: tuple[str, ...]  # class names; a class of one's own that derives from one of them counts as well
    rule: Rule
    order: str  # of the keys, for people: "text, generated, references"
    layers: Callable[[str, Any], bool] = lambda name, module: True  # whether a call of this module can hold text or a reference
    written: Written = unwritten
    pipelines: tuple[str, ...] = ()  # known by their pipeline, where the denoiser's class says nothing


@dataclass(frozen=True)
class Block:
    """A stretch of a joint sequence: what it holds, how many tokens, and on which grid they lie."""

    kind: str  # "text", "generated", "reference", or anything else that is no map's business
    count: int
    grid: AnyGrid | None = None
    special: int = 0
    source: str = ""  # names a reference, where there are several


def text(count: int) -> Block:
    """The prompt."""
    return Block("text", count)


def generated(grid: AnyGrid) -> Block:
    """The picture that is being made."""
    return Block("generated", cells(grid), grid)


def reference(grid: AnyGrid, source: str = "") -> Block:
    """A reference picture."""
    return Block("reference", cells(grid), grid, source=source)


def cells(grid: AnyGrid) -> int:
    """How many tokens a grid has."""
    return math.prod(grid)


def total(blocks: Iterable[Block]) -> int:
    """How many tokens these blocks have together."""
    return sum(block.count for block in blocks)


def sequence(seen: Seen, keys: Sequence[Block], queries: Sequence[Block] | None = None) -> Found:
    """The tokens of a call whose keys, and queries unless said, are these blocks: one `Tokens` a reference, the first with the words.

    Several blocks of text must lie side by side to be words. Blocks that do not fill the call are refused: a map of the wrong tokens is
    worse than none.
    """
    queries = keys if queries is None else queries
    for what, blocks, count in (("keys", keys, seen.keys), ("queries", queries, seen.queries)):
        if total(blocks) != count:
            described = " + ".join(f"{block.count} {block.kind}" for block in blocks)
            refuse(f"the {what} of {seen.layer}", f"{described} = {total(blocks)} tokens, as its family has them", count, EXPLAIN)
    made = [(block, start) for block, start in starts(queries) if block.kind == "generated"]
    if len(made) != 1:
        return None
    canvas, first = made[0]
    words = [(start, start + block.count) for block, start in starts(keys) if block.kind == "text" and block.count]
    prompt: Range | None = words[0] if len(words) == 1 else None
    where: dict[str, Any] = {"generated": (first, first + canvas.count), "generated_grid": canvas.grid}
    found = [(block, start) for block, start in starts(keys) if block.kind == "reference"]
    if not found:
        return Tokens(words=prompt, source="words", **where) if prompt else None
    return [
        Tokens(reference=(start, start + block.count), words=None if i else prompt, reference_grid=block.grid, special=block.special,
               source=block.source or ("reference" if len(found) == 1 else f"image {i + 1}"), **where)
        for i, (block, start) in enumerate(found)
    ]  # fmt: skip


def starts(blocks: Sequence[Block]) -> list[tuple[Block, int]]:
    """Each block with its first token's place."""
    out, place = [], 0
    for block in blocks:
        out.append((block, place))
        place += block.count
    return out


def length_of(seen: Seen, name: str = "encoder_hidden_states") -> int:
    """How many tokens one of the denoiser's inputs has; 0 where it was not given."""
    states = seen.inputs.get(name)
    return states.shape[1] if isinstance(states, Tensor) else 0


def latent(seen: Seen) -> Grid | None:
    """The latent's (height, width), if the model takes a picture-shaped one."""
    for name in ("sample", "hidden_states", "x"):
        value = seen.inputs.get(name)
        if isinstance(value, Tensor) and value.ndim == 4:
            return value.shape[-2], value.shape[-1]
    return None


def with_generated_grid(tokens: Tokens, seen: Seen) -> Tokens:
    """The generated grid from the latent's size, where the rule did not say."""
    size = latent(seen)
    if tokens.generated_grid is not None or size is None:
        return tokens
    start, stop = tokens.generated or (0, seen.queries)
    return replace(tokens, generated_grid=grid_of(stop - start, *size))


def class_names(thing: Any) -> list[str]:
    """The names of a thing's class and of those it derives from, nearest first."""
    return [cls.__name__ for cls in type(thing).__mro__ if cls not in (object, nn.Module)]
