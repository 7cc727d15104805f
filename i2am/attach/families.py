"""Where the reference tokens sit, family by family. A rule looks at one attention call (`Seen`) and returns `Tokens`, several, or None."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from i2am.common.checks import refuse
from i2am.maps.tokens import Grid, Range, Seen, Tokens, grid_of, halvings

Found = Tokens | Sequence[Tokens] | None
Rule = Callable[[Seen], Found]


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


def context(seen: Seen) -> Found:
    """Cross-attention whose keys are the reference (Paint-by-Example, an image encoder's tokens)."""
    if seen.index:
        return None
    size = latent(seen)  # as many keys as queries: features of the same level (StableVITON's warp blocks)
    grid = grid_of(seen.keys, *size) if size and seen.keys == seen.queries > 1 else None
    return Tokens(reference=(0, seen.keys), reference_grid=grid)


def text(seen: Seen) -> Found:
    """Cross-attention whose keys are the prompt."""
    return Tokens(words=(0, seen.keys), source="words") if seen.index == 0 else None


def adapter(seen: Seen) -> Found:
    """IP-Adapter: a call of its own for each adapter (and masked image), or its images side by side in one call."""
    if seen.index == 0:
        return None
    processor = seen.module.processor
    number = int(seen.image.split()[1]) - 1 if seen.image else 0
    own = processor.num_tokens if hasattr(processor, "num_tokens") else [seen.keys]
    each = int(own[min(number, len(own) - 1)])
    start = 0
    if type(processor).__name__.startswith("SD3"):  # keys: [image, adapter]
        start = seen.queries
    several = seen.keys - start > each and (seen.keys - start) % each == 0
    if not several:
        each = seen.keys - start
    grid, special = adapter_grid(seen, number, each)
    source = seen.image or "reference"
    return [
        Tokens(reference=(first, first + each), reference_grid=grid, special=special,
               source=f"{source} image {i + 1}" if several else source)
        for i, first in enumerate(range(start, seen.keys, each))
    ]  # fmt: skip


def adapter_grid(seen: Seen, number: int, count: int) -> tuple[Grid | None, int]:
    """Full image projections keep CLIP's square grid behind its CLS token; resamplers and linear projections keep none."""
    layers = getattr(seen.inputs.get("encoder_hid_proj"), "image_projection_layers", None)
    if layers is None or number >= len(layers) or type(layers[number]).__name__ != "IPAdapterFullImageProjection":
        return None, 0
    side = round((count - 1) ** 0.5)
    return ((side, side), 1) if side * side == count - 1 else (None, 0)


def adapter_order(processor: Any, masks: Any) -> tuple[list[int], dict[int, str]]:
    """The places of this forward's attention calls, in order, and their images' names: adapters of scale 0 make no call."""
    scales = processor.scale if isinstance(processor.scale, list) else [processor.scale]
    order, images, place = [0], {}, 0
    for number, scale in enumerate(scales):
        mask = masks[number] if masks is not None else None
        many = mask.shape[1] if isinstance(mask, Tensor) and mask.ndim == 4 else 1
        name = f"adapter {number + 1}" if len(scales) > 1 or many > 1 else ""
        silent = all(s == 0 for s in scale) if isinstance(scale, list) else scale == 0
        silent = silent and "Flux" not in type(processor).__name__  # whose adapters attend at any scale
        for image in range(many):
            place += 1
            images[place] = f"{name} image {image + 1}" if many > 1 else name
            if not silent:
                order.append(place)
    return order, images


def reference_self_attention(seen: Seen) -> Found:
    """Self-attention that also sees the reference: stacked on the latent's height (CatVTON), joined to the sequence on both sides
    (IDM-VTON, OOTDiffusion), or to the keys alone (FitDiT)."""
    size = latent(seen)
    if seen.index or "attn2" in seen.layer:
        return None
    if seen.keys > seen.queries:  # keys: [generated, reference]
        grid = grid_of(seen.keys - seen.queries, *size) if size else None
        return Tokens(reference=(seen.queries, seen.keys), generated=(0, seen.queries), reference_grid=grid)
    half = seen.queries // 2
    if seen.keys != seen.queries or seen.queries % 2:
        return None
    grid = None
    if size is not None:
        whole = next((g for g in halvings(*size) if g[0] * g[1] == seen.queries), None)
        if whole is not None and whole[0] % 2:
            refuse(f"the stacked latent of {seen.layer}", "of even height on every level", whole, "Pad the latent, or write a rule.")
        grid = (whole[0] // 2, whole[1]) if whole else grid_of(half, *size)
    return Tokens(reference=(half, 2 * half), generated=(0, half), generated_grid=grid, reference_grid=grid)


def added_keys(seen: Seen) -> Found:
    """Kandinsky: the keys are the image's embedding in front of the layer's own pixels."""
    return Tokens(reference=(0, seen.keys - seen.queries)) if seen.keys > seen.queries else None


def pixel_attention(seen: Seen) -> Found:
    """PASD-like super-resolution: the keys are the low-resolution picture's features on the same level."""
    size = latent(seen)
    return Tokens(reference=(0, seen.keys), reference_grid=grid_of(seen.keys, *size) if size else None)


def joint(seen: Seen) -> Found:
    """Joint attention over [text, target, references] (Flux Kontext, Flux 2, Qwen-Image-Edit) or [image, text] (SD3)."""
    if seen.index:
        return None
    blocks = image_blocks(seen)
    states = seen.inputs.get("encoder_hidden_states")
    length = states.shape[1] if isinstance(states, Tensor) else 0
    if blocks is None:  # SD3: the text is behind the image
        ours = "Joint" in type(seen.module.processor).__name__ and getattr(seen.module, "add_k_proj", None) is not None
        if not ours or not 0 < length < seen.keys:  # another model's order is not known
            return None
        return Tokens(words=(seen.keys - length, seen.keys), generated=(0, seen.keys - length), source="words")
    start, target = seen.keys - sum(h * w for h, w in blocks), blocks[0]
    if start < 0:
        return None
    ends = [start]
    for h, w in blocks:
        ends.append(ends[-1] + h * w)
    generated: Range = (ends[0], ends[1])
    words: Range | None = (0, start) if start else None
    if len(blocks) == 1:
        return Tokens(words=words, generated=generated, generated_grid=target, source="words") if words else None
    return [
        Tokens(reference=(ends[i], ends[i + 1]), words=words if i == 1 else None, generated=generated, generated_grid=target,
               reference_grid=blocks[i], source="reference" if len(blocks) == 2 else f"image {i}")
        for i in range(1, len(blocks))
    ]  # fmt: skip


def image_blocks(seen: Seen) -> list[Grid] | None:
    """The grids of the target and the references, from what the model was told about positions."""
    shapes, ids = seen.inputs.get("img_shapes"), seen.inputs.get("img_ids")
    if shapes:
        first = shapes[0] if isinstance(shapes[0], (list, tuple)) and isinstance(shapes[0][0], (list, tuple)) else shapes
        return [(int(h), int(w)) for _, h, w in first]
    if not isinstance(ids, Tensor):
        return None
    ids = ids[0] if ids.ndim == 3 else ids  # [tokens, 3 or 4]: which image, row, column
    blocks = []
    for which in dict.fromkeys(ids[:, 0].tolist()):
        rows, columns = (ids[ids[:, 0] == which][:, axis].unique().numel() for axis in (1, 2))
        if rows * columns != int((ids[:, 0] == which).sum()):
            refuse(f"the image positions of {seen.layer}", "a full grid per image", f"{rows} x {columns} for image {which:g}",
                   "Write a rule: reference=lambda seen: i2am.Tokens(...).")  # fmt: skip
        blocks.append((rows, columns))
    return blocks
