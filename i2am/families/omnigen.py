"""OmniGen: pictures stand inside the prompt, where it names them; then a token of the time, then what is generated.

The rows of a batch are padded in front to one length, so a picture's place hangs on its row's prompt.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from i2am.common.checks import refuse
from i2am.families.crossing import patched
from i2am.families.family import EXPLAIN, Block, Family, Found, generated, reference, sequence, text
from i2am.maps.tokens import Grid, Range, Seen, Tokens

ALONE = "Generate prompts whose pictures stand at other places, or have other sizes, one by one."


def omnigen(seen: Seen) -> Found:
    """[prompt and pictures, time, generated]; pictures are told apart in the order of the prompt, and words are all of it but pictures."""
    ids = seen.inputs.get("input_ids")
    if seen.index or not isinstance(ids, Tensor):
        return None
    length, made = ids.shape[1], generated(patched(seen))
    pictures = pictures_of(seen, len(ids))
    if not pictures:
        return sequence(seen, [text(length), Block("time", 1), made])
    blocks, at = [], 0
    for (start, stop), grid in pictures:
        blocks += [text(start - at), reference(grid)]
        at = stop
    found = sequence(seen, [*blocks, text(length - at), Block("time", 1), made])
    assert isinstance(found, list)
    return words_together(found, length, seen.keys)


def words_together(found: list[Tokens], length: int, keys: int) -> Found:
    """The keys counted so that the words lie side by side, in front of the pictures."""
    inside = {place for tokens in found if tokens.reference for place in range(*tokens.reference)}
    words = [place for place in range(length) if place not in inside]
    order = (*words, *sorted(inside), *range(length, keys))
    out, start = [], len(words)
    for i, tokens in enumerate(found):
        assert tokens.reference is not None
        stop = start + tokens.reference[1] - tokens.reference[0]
        out.append(replace(tokens, reference=(start, stop), words=(0, len(words)) if i == 0 else None, key_order=order))
        start = stop
    return out


def pictures_of(seen: Seen, total: int) -> list[tuple[Range, Grid]]:
    """Where the pictures of the conditional rows are, and their grids: rows [both, neither, pictures], or all of them."""
    places: dict[int, Any] = seen.inputs.get("input_image_sizes") or {}
    latents: list[Tensor] = seen.inputs.get("input_img_latents") or []
    if not places:
        return []
    rows = total if len(places) == total else total // 3
    patch, grids, at = seen.denoiser.config.patch_size, {}, 0
    for row in sorted(places):  # the latents come row by row
        these = latents[at : at + len(places[row])]
        grids[row] = [(states.shape[-2] // patch, states.shape[-1] // patch) for states in these]
        at += len(these)
    found = [[(tuple(place), grid) for place, grid in zip(places.get(row, ()), grids.get(row, ()))] for row in range(rows)]
    if any(other != found[0] for other in found):
        refuse(f"the pictures in the prompts of {seen.layer}", "at the same places in every row, with the same grids",
               "; ".join(str([place for place, _ in row]) for row in found), ALONE)  # fmt: skip
    for (start, stop), grid in found[0]:
        if grid[0] * grid[1] != stop - start:
            refuse(f"a picture in the prompt of {seen.layer}", f"{grid[0]} x {grid[1]} tokens", stop - start, EXPLAIN)
    return found[0]


FAMILIES = (Family("OmniGen", ("OmniGenTransformer2DModel",), omnigen, "prompt with pictures inside, time, generated"),)
