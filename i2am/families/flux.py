"""Flux and what is laid out like it: the text and the pictures are one sequence, and positions say which picture a token belongs to.

Flux, Chroma, Bria, Ovis    [text, generated, references]         the first coordinate of `img_ids` numbers the pictures, from 0
LongCat-Image               the same                              from 1
Flux 2                      the same                              it is a time: 0 of what is generated, then 10, 20...
Flux 2 with cached keys     keys [text, references, generated]    the references look at themselves alone, in a call of their own
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from i2am.common.checks import refuse
from i2am.families.family import (
    EXPLAIN,
    Block,
    Family,
    Found,
    class_names,
    end_of,
    filled_up,
    generated,
    length_of,
    reference,
    sequence,
    several,
    starts,
    text,
    total,
)
from i2am.families.unet import adapter
from i2am.maps.tokens import Grid, Seen

T5, REDUX = 512, (27, 27)  # the longest text that Flux takes, and an image's tokens behind it


def numbered(seen: Seen, made: int = 0) -> Found:
    """[text, the pictures as `img_ids` has them]; number `made` is what is generated."""
    pictures = pictures_of(seen, made)
    if pictures is None:
        return None
    if seen.index:
        return on_canvas(adapter(seen), seen, pictures)
    return sequence(seen, [text_of(seen, pictures), *pictures])


def flux(seen: Seen) -> Found:
    """Flux, whose text may have an image's tokens behind it (Redux): they are known by their number."""
    count = length_of(seen)
    behind, cells = count - T5, REDUX[0] * REDUX[1]
    if seen.index or behind <= 0:
        return numbered(seen)
    if behind != cells or not any(name.startswith("Flux") for name in class_names(seen.pipe)):
        refuse(f"the text of {seen.layer}", f"the {T5} tokens of T5 at most, or these and the {cells} of an image (Redux)", count,
               "Say what lies behind T5's: reference=lambda seen: i2am.Tokens(reference=(512, 600), words=(0, 512), ...).")  # fmt: skip
    pictures = pictures_of(seen)
    return None if pictures is None else sequence(seen, [text(T5), reference(REDUX, "redux"), *pictures])


def flux2(seen: Seen) -> Found:
    """Flux 2. With cached keys (Klein KV) the first step has the references in front of what is generated."""
    if seen.inputs.get("kv_cache") is not None:
        refuse(f"the first call of {seen.layer}", "with the references among its tokens", "a cache of their keys", "Open the trace around "
               "the whole call of the pipeline, whose first step reads the references.")  # fmt: skip
    if seen.inputs.get("kv_cache_mode") != "extract" or not seen.inputs.get("num_ref_tokens"):
        return numbered(seen)
    pictures = pictures_of(seen)
    if pictures is None or seen.index:  # the references among themselves
        return None
    before = text_of(seen, pictures)
    return sequence(seen, [before, *pictures], [before, *(picture for picture in pictures if picture.kind == "generated")])


def flux3(seen: Seen) -> Found:
    """[text, generated, references]: the references have positions of their own."""
    pictures = pictures_of(seen)
    if pictures is None or seen.index:
        return None
    references = [reference(grid) for _, grid in runs_of(seen, "image_cond_ids")]
    return sequence(seen, [text(length_of(seen)), *pictures, *references])


def on_canvas(found: Found, seen: Seen, pictures: list[Block]) -> Found:
    """An adapter's call has the pictures' queries, without the text's; the map is of those of what is generated."""
    if seen.queries != total(pictures):
        refuse(f"the queries of {seen.layer}", "the pictures' tokens", seen.queries, EXPLAIN)
    start, made = next((start, picture) for picture, start in starts(pictures) if picture.kind == "generated")
    where: dict[str, Any] = {"generated": (start, start + made.count), "generated_grid": made.grid}
    name = "reference" if len(pictures) == 1 else "adapter"  # beside the references of the sequence
    return [replace(one, source=one.source.replace("reference", name), **where) for one in several(found)]


def text_of(seen: Seen, pictures: list[Block]) -> Block:
    """The text of a call, which some layers leave out."""
    return text(length_of(seen) if seen.keys > total(pictures) else 0)


def pictures_of(seen: Seen, made: int = 0, name: str = "img_ids") -> list[Block] | None:
    """The pictures in their order; None where the model was not told any positions."""
    if not isinstance(seen.inputs.get(name), Tensor):
        return None
    runs = runs_of(seen, name)
    numbers = [number for number, _ in runs]
    if numbers.count(made) != 1:
        refuse(f"the pictures of {seen.layer}", f"one of number {made} in {name}, what is generated", numbers, EXPLAIN)
    return [generated(grid) if number == made else reference(grid) for number, grid in runs]


def runs_of(seen: Seen, name: str) -> list[tuple[float, Grid]]:
    """The number and the grid of each picture, from positions [tokens, (number, row, column, ...)]."""
    ids: Any = seen.inputs.get(name)
    if not isinstance(ids, Tensor):
        return []
    ids = ids[0] if ids.ndim == 3 else ids
    numbers, counts = torch.unique_consecutive(ids[:, 0], return_counts=True)
    return [(number, full_grid(seen, places)) for number, places in zip(numbers.tolist(), ids[:, 1:3].split(counts.tolist()))]


def full_grid(seen: Seen, places: Tensor) -> Grid:
    """The grid whose cells these places [n, 2] are, row by row."""
    rows, columns = (places[:, axis].unique() for axis in (0, 1))
    if not torch.equal(places, torch.cartesian_prod(rows, columns).reshape(-1, 2)):
        refuse(f"the image positions of {seen.layer}", "a full grid for each number, row by row",
               f"{len(places)} places in {len(rows)} rows and {len(columns)} columns", EXPLAIN)  # fmt: skip
    return len(rows), len(columns)


def between(pipe: Any, ids: Tensor, length: int) -> Tensor | None:
    """LongCat-Image: a template is cut off at both ends, of which the pipeline says the second."""
    behind = len(pipe.tokenizer(pipe.prompt_template_encode_suffix, add_special_tokens=False)["input_ids"])
    return end_of(pipe, ids[:, : ids.shape[1] - behind], length)


ORDER = "text, generated, references"
FLUX = Family("Flux", ("FluxTransformer2DModel",), flux, ORDER)
CHROMA = Family("Chroma", ("ChromaTransformer2DModel",), numbered, "text, generated; an adapter's image in a call of its own")
LONGCAT = Family("LongCat-Image", ("LongCatImageTransformer2DModel",), partial(numbered, made=1), ORDER, written=between)
BRIA = Family("Bria", ("BriaTransformer2DModel", "BriaFiboTransformer2DModel"), numbered, ORDER, written=filled_up)
OVIS = Family("Ovis-Image", ("OvisImageTransformer2DModel",), numbered, "text, generated", written=end_of)
FLUX2 = Family("Flux 2", ("Flux2Transformer2DModel",), flux2, "text, generated, references; with cached keys text, references, generated")
FLUX3 = Family("Flux 3", ("Flux3Transformer2DModel",), flux3, ORDER, lambda name, module: name.startswith("single_transformer_blocks"))
FAMILIES = (FLUX, CHROMA, LONGCAT, BRIA, OVIS, FLUX2, FLUX3)
