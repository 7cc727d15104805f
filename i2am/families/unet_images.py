"""UNets whose pictures are tokens among others: beside the prompt's, inside it, behind a layer's own, or one for each box.

Such a UNet is diffusers' usual class, so these families are known by their pipelines.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from i2am.common.checks import refuse
from i2am.families.family import EXPLAIN, Family, Found, latent, length_of
from i2am.maps.tokens import Grid, Seen, Tokens, grid_of


def kandinsky(seen: Seen) -> Found:
    """Kandinsky 2.1: keys [image, text, the layer's own]; how many are the image's, the UNet's projection says."""
    own = seen.keys - seen.queries
    image = int(seen.denoiser.encoder_hid_proj.num_image_text_embeds)
    if seen.index or own <= 0:
        return None
    if own != image + length_of(seen):
        refuse(f"the keys of {seen.layer}", f"{image} of the image, {length_of(seen)} of the text and its own {seen.queries}", seen.keys,
               EXPLAIN)  # fmt: skip
    return Tokens(reference=(0, image), words=(image, own))


def blip(seen: Seen) -> Found:
    """BLIP-Diffusion: the subject's tokens stand inside the prompt's, and words are the others."""
    if seen.index:
        return None
    first, count = int(seen.pipe.config.ctx_begin_pos), int(seen.pipe.qformer.config.num_query_tokens)
    if seen.keys != length_of(seen) or first + count > seen.keys:
        refuse(f"the keys of {seen.layer}", f"the prompt's, the subject's {count} from the {first}th on among them", seen.keys, EXPLAIN)
    order = (*range(first), *range(first + count, seen.keys), *range(first, first + count))
    return Tokens(reference=(seen.keys - count, seen.keys), words=(0, seen.keys - count), key_order=order)


def gligen(seen: Seen) -> Found:
    """GLIGEN with pictures: self-attention over [the layer's own, a text for each box, a picture for each box]; attn2 reads the prompt."""
    if seen.index:
        return None
    if not seen.layer.endswith("fuser.attn"):
        return Tokens(words=(0, seen.keys), source="words")
    boxes = (seen.inputs.get("cross_attention_kwargs") or {}).get("gligen", {})
    shown = boxes.get("image_masks")
    if not isinstance(shown, Tensor):
        return None
    own, most = seen.queries - 2 * shown.shape[1], shown.shape[1]
    size = latent(seen)
    grid = None if size is None else grid_of(own, *size)
    if own <= 0 or grid is None:
        refuse(f"the tokens of {seen.layer}", f"the latent's on some level and two for each of {most} boxes", seen.queries, EXPLAIN)
    found = [number for number, there in enumerate(shown[-1].tolist()) if there]  # the last row is a conditional one
    return [
        Tokens(reference=(own + most + number, own + most + number + 1), generated=(0, own), generated_grid=grid,
               source="reference" if len(found) == 1 else f"image {number + 1}")
        for number in found
    ]  # fmt: skip


def cascade(seen: Seen) -> Found:
    """Stable Cascade's prior: keys [the layer's own, text, pooled text, images], a few tokens for each image."""
    config, images, texts = seen.denoiser.config, seen.inputs.get("clip_img"), seen.inputs.get("clip_text")
    if seen.index or not isinstance(images, Tensor) or not isinstance(texts, Tensor):
        return None
    count = (images.shape[1] if images.ndim == 3 else 1) * config.clip_seq
    length, own = texts.shape[1], seen.queries if seen.keys > seen.queries else 0
    if seen.keys != own + length + config.clip_seq + count:
        refuse(f"the keys of {seen.layer}", f"{own} own, {length} of text, {config.clip_seq} of pooled text, {count} of images", seen.keys,
               EXPLAIN)  # fmt: skip
    words = own, own + length
    grid = cascade_grid(seen)
    if not images[0].any():  # no image was given: zeros stand in its place, in conditional rows as well, which come first
        return Tokens(words=words, source="words", generated_grid=grid)
    many = count // config.clip_seq
    return [
        Tokens(reference=(start, start + config.clip_seq), words=words if number == 0 else None, generated_grid=grid,
               source="reference" if many == 1 else f"image {number + 1}")
        for number, start in enumerate(range(seen.keys - count, seen.keys, config.clip_seq))
    ]  # fmt: skip


def cascade_grid(seen: Seen) -> Grid | None:
    """The grid of a level: the latent's, cut into patches, halved or not."""
    size, patch = latent(seen), seen.denoiser.config.patch_size
    return None if size is None else grid_of(seen.queries, size[0] // patch, size[1] // patch)


def joins(name: str, module: Any) -> bool:
    """GLIGEN's layers that hold a picture or the prompt."""
    return name.endswith(("attn2", "fuser.attn"))


def crosses(name: str, module: Any) -> bool:
    return name.endswith("attn2")


KANDINSKY = ("KandinskyPipeline", "KandinskyImg2ImgPipeline", "KandinskyInpaintPipeline")
FAMILIES = (
    Family("Kandinsky 2.1", (), kandinsky, "image, text, the layer's own", pipelines=KANDINSKY),
    Family("BLIP-Diffusion", (), blip, "the subject inside the prompt", crosses, pipelines=("BlipDiffusionPipeline",)),
    Family("GLIGEN with pictures", (), gligen, "the layer's own, texts of boxes, pictures of boxes; the prompt in attn2", joins,
           pipelines=("StableDiffusionGLIGENTextImagePipeline",)),
    Family("Stable Cascade's prior", ("StableCascadeUNet",), cascade, "the layer's own, text, pooled text, images"),
)  # fmt: skip
