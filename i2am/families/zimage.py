"""Z-Image: [generated, prompt] in the main layers; Omni has [prompt, references, generated, the references' SigLIP features].

Every picture and every text is filled up to a multiple of 32 with tokens that are attended to as well; a row that is shorter than the
others is filled up behind its end with tokens that are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from i2am.common.checks import refuse
from i2am.families.family import EXPLAIN, Block, Family, Found, generated, reference, sequence, starts, text, total
from i2am.maps.tokens import AnyGrid, Seen

MULTIPLE = 32


def zimage(seen: Seen) -> Found:
    """The blocks of a row, which all recorded rows must share: a range of tokens is one for all of them.

    In a guided call of a pipeline the first half of the rows is recorded, and only their prompts may differ in length, where no block is
    behind them.
    """
    pictures, prompts = seen.inputs.get("x"), seen.inputs.get("cap_feats")
    if seen.index or not pictures or not prompts:
        return None
    features = seen.inputs.get("siglip_feats") or [None] * len(pictures)
    rows = [row_of(seen, *row) for row in zip(pictures, prompts, features)]
    if seen.keys != max(map(total, rows)):
        described = [" + ".join(f"{block.count} {block.kind}" for block in row) for row in rows]
        refuse(f"the keys of {seen.layer}", f"as many as its longest row has ({'; '.join(described)})", seen.keys, EXPLAIN)
    if guided(seen):
        rows = rows[: len(rows) // 2]
    longest = max(rows, key=total)
    for row in rows:
        if places(row) != places(longest):
            refuse(f"the rows of {seen.layer}", "laid out alike, picture for picture", f"{places(row)} and {places(longest)}",
                   "Their prompts are of unequal lengths. Trace one prompt at a time.")  # fmt: skip
    return sequence(seen, [*longest, Block("filled", seen.keys - total(longest))])


def row_of(seen: Seen, pictures: Any, prompts: Any, features: Any) -> list[Block]:
    """One row's blocks in this layer: the noise refiner sees its pictures alone."""
    alone = seen.layer.startswith("noise_refiner")
    if not isinstance(pictures, list):
        return [*filled(generated(grid_of_picture(seen, pictures))), *([] if alone else filled(text(len(prompts)), True))]
    *others, made = [grid_of_picture(seen, picture) for picture in pictures]
    names = [f"image {place + 1}" for place in range(len(others))]
    out = [block for name, grid in zip(names, others) for block in filled(reference(grid, name))]
    out += filled(generated(made))
    if alone:
        return out
    count = total(block for prompt in prompts for block in filled(text(len(prompt)), True))
    for name, feature in zip([*names, ""], features or []):
        if feature is None:
            out.append(Block("filled", MULTIPLE))
        else:
            out += filled(replace(reference((feature.shape[0], feature.shape[1])), source=f"{name} SigLIP"))
    return [text(count), *out]


def filled(block: Block, joined: bool = False) -> list[Block]:
    """A block and what fills it up; a text's filling is read as text."""
    more = -block.count % MULTIPLE
    return [replace(block, count=block.count + more)] if joined else [block, Block("filled", more)]


def grid_of_picture(seen: Seen, picture: Tensor) -> AnyGrid:
    """Of a latent [C, frames, height, width]."""
    frames, height, width = picture.shape[1:]
    patch, patch_frames = seen.inputs.get("patch_size", 2), seen.inputs.get("f_patch_size", 1)
    grid = (height // patch, width // patch)
    return grid if frames == patch_frames else (frames // patch_frames, *grid)


def guided(seen: Seen) -> bool:
    """Whether the first half of the rows is conditional: the pipelines put the other half behind it, unless guidance is cut off."""
    cut = getattr(seen.pipe, "_cfg_truncation", None)
    return bool(getattr(seen.pipe, "do_classifier_free_guidance", False)) and len(seen.inputs["x"]) % 2 == 0 and (cut is None or cut > 0)


def places(row: Sequence[Block]) -> list[tuple[str, int, AnyGrid | None]]:
    """What a row holds, and where each block begins."""
    return [(block.kind, start, block.grid) for block, start in starts(row)]


def written(pipe: Any, ids: Tensor, length: int) -> Tensor | None:
    """The encoder's tokens without padding, each text filled up to a multiple of 32. Omni encodes the texts between its pictures by
    themselves: a prompt's first begins as all prompts do, and its others do not."""
    pad = pipe.tokenizer.pad_token_id
    texts = [row[row != pad] for row in ids]
    rows: list[list[Tensor]] = []
    for part in texts:
        if part[0] == texts[0][0]:
            rows.append([])
        elif rows[-1]:
            rows[-1][-1] = full(rows[-1][-1], int(rows[-1][-1][-1]))  # as the pipeline does, whose texts end in a mark before a picture
        rows[-1].append(part)
    made = [full(torch.cat(row), pad) for row in rows]
    if max(map(len, made)) != length:
        return None
    return torch.stack([torch.cat([row, row.new_full((length - len(row),), pad)]) for row in made])


def full(ids: Tensor, fill: int) -> Tensor:
    """Filled up to a multiple of 32."""
    return torch.cat([ids, ids.new_full((-len(ids) % MULTIPLE,), fill)])


def meets(name: str, module: Any) -> bool:
    """The refiners of the prompt and of features look at themselves alone."""
    return not name.startswith(("context_refiner", "siglip_refiner"))


ZIMAGE = Family("Z-Image", ("ZImageTransformer2DModel",), zimage, "generated, text; text, references, generated, features", meets, written)
FAMILIES = (ZIMAGE,)
