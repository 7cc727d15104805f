"""UNets: the reference is the keys of the cross-attention, an adapter's call of its own, or joined to the self-attention."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from i2am.common.checks import refuse
from i2am.families.family import EXPLAIN, Found, class_names, latent, length_of
from i2am.maps.orders import columns_apart
from i2am.maps.tokens import Grid, Seen, Tokens, grid_of


def context(seen: Seen) -> Found:
    """Cross-attention whose keys are the reference (Paint-by-Example, an image encoder's tokens)."""
    if seen.index:
        return None
    size = latent(seen)  # as many keys as queries: features of the same level (StableVITON's warp blocks)
    grid = grid_of(seen.keys, *size) if size and seen.keys == seen.queries > 1 else None
    return Tokens(reference=(0, seen.keys), reference_grid=grid)


def text(seen: Seen) -> Found:
    """Cross-attention whose keys are the prompt; keys that are not as many as its tokens are something else."""
    length = length_of(seen)
    if seen.index or (length and seen.keys not in (length, length - own_tokens(seen))):
        return None
    return Tokens(words=(0, seen.keys), source="words")


def own_tokens(seen: Seen) -> int:
    """How many tokens of an adapter stand behind the prompt's in one sequence, which its processor cuts apart."""
    own = getattr(getattr(seen.module, "processor", None), "num_tokens", 0)
    return int(own[0]) if isinstance(own, (list, tuple)) else int(own)


def adapter(seen: Seen) -> Found:
    """IP-Adapter: a call of its own for each adapter (and masked image), or its images side by side in one call."""
    if seen.index == 0:
        return None
    processor = seen.module.processor
    if not hasattr(processor, "to_k_ip"):
        refuse(f"call {seen.index + 1} of {seen.layer}", "an adapter's, with to_k_ip in its processor", type(processor).__name__, EXPLAIN)
    number = int(seen.image.split()[1]) - 1 if seen.image else 0
    own = getattr(processor, "num_tokens", seen.keys)
    own = list(own) if isinstance(own, (list, tuple)) else [own]  # the original IP-Adapter's processor has a number
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


STACKED = {"CatVTONPix2PixPipeline": "beside", "CatVTONPipeline": "below"}  # where the reference lies: its `concat_dim`


def reference_self_attention(seen: Seen) -> Found:
    """Self-attention that also sees the reference: joined to the sequence on both sides (IDM-VTON, OOTDiffusion, Leffa), to the keys
    alone (FitDiT), or stacked with what is generated in one latent, whose axis is known by the pipeline's name (CatVTON) or stated."""
    size = latent(seen)
    if seen.index or "attn2" in seen.layer:
        return None
    if seen.keys > seen.queries:  # keys: [generated, reference]
        grid = grid_of(seen.keys - seen.queries, *size) if size else None
        return Tokens(reference=(seen.queries, seen.keys), generated=(0, seen.queries), reference_grid=grid)
    if seen.keys != seen.queries:
        return None
    if size is None:  # halves of a packed sequence may be anything
        refuse(f"the self-attention of {seen.layer}", "of a model that takes a picture-shaped latent, or with more keys than queries",
               f"{seen.queries} tokens in no known order", EXPLAIN)  # fmt: skip
    if grid_of(seen.queries, *size) is not None:
        axis = next((STACKED[name] for name in class_names(seen.pipe) if name in STACKED), None)
        if axis == "below":
            return stacked_below(seen)
        if axis == "beside":
            return stacked_beside(seen)
        refuse(f"the self-attention of {seen.layer}", "over more tokens than the latent has", f"{seen.queries}, the latent's own",
               'If the reference lies in the latent below what is generated, say so: reference="self-below". If it lies to the right of '
               'it: reference="self-beside". If it lies elsewhere, write a rule: reference=lambda seen: i2am.Tokens(...).')  # fmt: skip
    half = seen.queries // 2
    grid = grid_of(half, *size)
    if seen.queries % 2 or grid is None:
        return None
    return Tokens(reference=(half, 2 * half), generated=(0, half), generated_grid=grid, reference_grid=grid)


def halves(side: int, of_latent: int) -> bool:
    """Whether the middle of a latent's side is the middle of this level's: no level on the way has rounded up."""
    ratio = of_latent // side
    return side % 2 == 0 and of_latent % side == 0 and ratio & (ratio - 1) == 0


def stacked_below(seen: Seen) -> Found:
    """Self-attention over a latent whose upper half is generated and whose lower half is the reference."""
    size = latent(seen)
    whole = None if size is None else grid_of(seen.queries, *size)
    if seen.index or "attn2" in seen.layer or seen.keys != seen.queries or whole is None:
        return None
    if not halves(whole[0], size[0] if size else 0):
        refuse(f"the stacked latent of {seen.layer}", "of even height on every level", whole, "Pad the latent, or write a rule.")
    half, grid = seen.queries // 2, (whole[0] // 2, whole[1])
    return Tokens(reference=(half, 2 * half), generated=(0, half), generated_grid=grid, reference_grid=grid)


def stacked_beside(seen: Seen) -> Found:
    """Self-attention over a latent whose left half is generated and whose right half is the reference."""
    whole = sides_grid(seen)
    if seen.index or "attn2" in seen.layer or seen.keys != seen.queries or whole is None:
        return None
    half, order = seen.queries // 2, columns_apart(whole)
    grid = whole[0], whole[1] // 2
    return Tokens(reference=(half, 2 * half), generated=(0, half), generated_grid=grid, reference_grid=grid,
                  query_order=order, key_order=order)  # fmt: skip


def sides_grid(seen: Seen) -> Grid | None:
    """The grid of two pictures side by side, whose width must fall into halves on every level."""
    size = latent(seen)
    whole = None if size is None else grid_of(seen.queries, *size)
    if size is not None and whole is not None and not halves(whole[1], size[1]):
        refuse(f"the pictures side by side in {seen.layer}", "of even width on every level", whole, "Pad the latent, or write a rule.")
    return whole


def added_keys(seen: Seen) -> Found:
    """Kandinsky: the keys are the image's embedding in front of the layer's own pixels."""
    return Tokens(reference=(0, seen.keys - seen.queries)) if seen.keys > seen.queries else None


def reads_pixels(layer: str) -> bool:
    """PASD's cross-attention to the low-resolution picture; in its light version it is a third attention of the text's blocks."""
    return layer.endswith("attn2_plus") or ("pixel_attentions" in layer and layer.endswith("attn2"))


def pixel_attention(seen: Seen) -> Found:
    """PASD-like super-resolution: the keys are the low-resolution picture's features on the same level."""
    size = latent(seen)
    return Tokens(reference=(0, seen.keys), reference_grid=grid_of(seen.keys, *size) if size else None)
