"""Qwen-Image: [text, generated, references] in one call a layer, and Qwen-Image 2.1, whose text runs around the references."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from i2am.common.checks import refuse
from i2am.families.family import EXPLAIN, Block, Family, Found, cells, generated, length_of, reference, sequence, text, tokenizer_of, total
from i2am.maps.tokens import Grid, Seen


def qwen(seen: Seen) -> Found:
    """[text, generated, references]: `img_shapes` has the (frames, height, width) of each picture, what is generated first.

    Qwen-Image-Layered generates several pictures of one size, the whole and its layers, which are frames; its reference is the last.
    """
    grids = pictures(seen)
    if seen.index or not grids:
        return None
    made, others = grids[:1], grids[1:]
    if getattr(getattr(seen.denoiser, "config", None), "use_layer3d_rope", False):
        made, others = grids[:-1], grids[-1:]
        if len(set(made)) > 1:
            refuse(f"the layers of {seen.layer}", "of one size", made, EXPLAIN)
    canvas: Any = made[0] if len(made) == 1 else (len(made), *made[0])
    return sequence(seen, [text(length_of(seen)), generated(canvas), *(reference(grid) for grid in others)])


def pictures(seen: Seen) -> list[Grid]:
    """The grids in `img_shapes`: a list of pictures for each row, all alike, or one picture for each row."""
    shapes = seen.inputs.get("img_shapes")
    if not shapes:
        return []
    rows = [row if isinstance(row[0], (list, tuple)) else [row] for row in shapes]
    if any(row != rows[0] for row in rows[1:]):
        refuse(f"the pictures of {seen.layer}", "as many and as large in every row", rows, "Trace one row at a time.")
    if any(frames != 1 for frames, _, _ in rows[0]):
        refuse(f"the pictures of {seen.layer}", "of one frame", rows[0], EXPLAIN)
    return [(int(height), int(width)) for _, height, width in rows[0]]


def qwen21(seen: Seen) -> Found:
    """[text, reference, text, reference, text, generated]: the prompt is the last run of text. Every block before what is generated
    attends by itself, to what is before it; in the last call of a layer the generated tokens attend to all of them.

    `img_shapes` has what is generated last, `img_mask` where pictures stand among the encoder's tokens: one for 2 x 2 of theirs.
    """
    grids, places = pictures(seen), seen.inputs.get("img_mask")
    if not grids or not isinstance(places, Tensor):
        return None
    if seen.inputs.get("kv_cache") is not None:
        refuse(f"the calls of {seen.layer}", "the same in every step", "a cache of keys, which leaves some out after the first step",
               "Pass use_kv_cache=False: the pictures are the same.")  # fmt: skip
    waiting = [*(reference(grid) for grid in grids[:-1]), generated(grids[-1])]
    blocks = list[Block]()
    for picture, count in runs(places[0]):
        if not picture:
            blocks.append(Block("template", count))
        count = SLOT * count if picture else 0
        while count:
            if not waiting or waiting[0].count > count:
                refuse(f"the pictures of {seen.layer}", f"of {[cells(grid) for grid in grids]} tokens, one after the other",
                       f"{count} tokens of pictures in a row", EXPLAIN)  # fmt: skip
            blocks.append(waiting.pop(0))
            count -= blocks[-1].count
    if seen.queries != cells(grids[-1]) or seen.keys < total(blocks):
        return None
    prompt = max((place for place, block in enumerate(blocks) if block.kind == "template"), default=0)
    return sequence(seen, [*blocks[:prompt], text(blocks[prompt].count), *blocks[prompt + 1 :]], blocks[-1:])


def runs(places: Tensor) -> list[tuple[bool, int]]:
    """Runs of equal values, with their lengths."""
    values, counts = torch.unique_consecutive(places.bool(), return_counts=True)
    return list(zip(values.tolist(), counts.tolist()))


def written(pipe: Any, ids: Tensor, length: int) -> Tensor | None:
    """The encoder's tokens, without padding and the template in front of the prompt, whose tokens the pipeline drops."""
    return without(ids, getattr(pipe, "prompt_template_encode_start_idx", None), pipe.tokenizer.pad_token_id, length)


def written21(pipe: Any, ids: Tensor, length: int) -> Tensor | None:
    """As `written`, and behind the last picture alone."""
    drop, pad = getattr(pipe, "_drop_idx", None), pipe.processor.tokenizer.pad_token_id
    longest = max(int((row != pad).sum()) for row in ids) - (drop or 0)
    made = without(ids, drop, pad, longest)
    return None if made is None or length > longest else made[:, longest - length :]


def without(ids: Tensor, drop: Any, pad: int, length: int) -> Tensor | None:
    """Rows of ids without padding, and without so many in front, filled up to a length; None if that is not the longest one's."""
    if not isinstance(drop, int):
        return None
    rows = [row[row != pad][drop:] for row in ids]
    if max(map(len, rows)) != length:
        return None
    return torch.stack([torch.cat([row, row.new_full((length - len(row),), pad)]) for row in rows])


def behind_template(pipe: Any, ids: Tensor, length: int) -> Tensor | None:
    """The encoder's tokens behind the template in front of the prompt, as many columns of every row, padding and all (Kandinsky 5,
    JoyImageEdit); what is longer in the batch fills them up behind."""
    drop = getattr(pipe, "prompt_template_encode_start_idx", None)
    drop = drop.get("multiple_images") if isinstance(drop, dict) else drop
    pad = tokenizer_of(pipe, "text_encoder").pad_token_id
    kept = ids[:, drop if isinstance(drop, int) else ids.shape[1] :]
    more = length - kept.shape[1]
    return torch.cat([kept, kept.new_full((len(kept), more), pad)], 1) if kept.numel() and more >= 0 else None


SLOT = 4  # tokens of a picture for each of its places in `img_mask`
QWEN = Family("Qwen-Image", ("QwenImageTransformer2DModel",), qwen, "text, generated, references", written=written)
QWEN21 = Family("Qwen-Image 2.1", ("QwenImage21Transformer2DModel",), qwen21, "text and references in turn, generated", written=written21)
FAMILIES = (QWEN, QWEN21)
