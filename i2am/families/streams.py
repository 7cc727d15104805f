"""Models of one stream, which number no pictures: what its tokens are follows from the sizes and positions that they were called with.

Krea 2         [text, generated]                        the grid is in `position_ids`
Ernie-Image    [generated, text]
Ideogram 4     [text, generated]                        a text is padded in front
Fibo 2         [gist, generated, references], and       the gist, behind them where the texts of a batch have gists of unequal length,
               cross-attention to the text              is what a resampler makes of the text: no words
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from i2am.common.checks import refuse
from i2am.families.family import EXPLAIN, Block, Family, Found, end_of, filled_up, generated, length_of, reference, sequence, text, total
from i2am.families.flux import full_grid
from i2am.maps.tokens import Grid, Seen

FAR = 65536  # where the positions of Ideogram 4's pictures begin


def patched(seen: Seen, latents: Any) -> Grid:
    """The grid that latents [B, C, height, width] are cut into."""
    patch = int(getattr(seen.denoiser.config, "patch_size", 1))
    return latents.shape[-2] // patch, latents.shape[-1] // patch


def krea2(seen: Seen) -> Found:
    """[text, generated]."""
    count, places = length_of(seen), seen.inputs["position_ids"]
    return sequence(seen, [text(count), generated(full_grid(seen, places[count:, 1:3]))])


def ernie(seen: Seen) -> Found:
    """[generated, text]; texts of a batch are padded behind, and the padding is masked."""
    return sequence(seen, [generated(patched(seen, seen.inputs["hidden_states"])), text(length_of(seen, "text_bth"))])


def ideogram4(seen: Seen) -> Found:
    """[text, generated], or what is generated alone."""
    places: Tensor = seen.inputs["position_ids"]
    far = (places >= FAR).all(-1)
    count = int((~far[0]).sum())
    if far[:, :count].any() or not far[:, count:].all():
        refuse(f"the positions of {seen.layer}", "a text and then a picture, in every row alike", "others", EXPLAIN)
    return sequence(seen, [text(count), generated(full_grid(seen, places[0, count:, 1:3]))])


def fibo2(seen: Seen) -> Found:
    """The refiner has the pictures alone, the layers the gist too; a layer that reads the text has a second attention for it."""
    made = generated(patched(seen, seen.inputs["hidden_states"]))
    pictures = [made, *(reference(patched(seen, latents)) for latents in seen.inputs.get("context_latents") or [])]
    if seen.layer.startswith("noise_refiner"):
        return sequence(seen, pictures)
    gist = Block("gist", seen.queries - total(pictures))
    queries = [*pictures, gist] if unequal(seen) else [gist, *pictures]
    if seen.layer.endswith("cross_attention"):
        return sequence(seen, [text(seen.inputs["encoder_hidden_states"].shape[2])], queries)
    return sequence(seen, queries)


def unequal(seen: Seen) -> bool:
    """Whether the texts of a batch have gists of unequal length, by Fibo 2's own rule: the longer a text, the more tokens, in steps."""
    mask, config = seen.inputs.get("encoder_attention_mask"), seen.denoiser.config
    if mask is None:
        return False
    least, most, step = config.min_num_gist_tokens, config.max_num_gist_tokens, config.gist_step
    short, long = config.gist_min_text_len, config.gist_max_text_len
    shares = ((mask.sum(1).double() - short) / (long - short)).clamp(0, 1)
    steps = ((least + shares * (most - least)) / step).ceil() * step
    return steps.clamp(least, most).unique().numel() > 1


KREA2 = Family(
    "Krea 2", ("Krea2Transformer2DModel",), krea2, "text, generated", lambda name, module: not name.startswith("text_fusion"), end_of
)
ERNIE = Family("Ernie-Image", ("ErnieImageTransformer2DModel",), ernie, "generated, text", written=filled_up)
IDEOGRAM4 = Family("Ideogram 4", ("Ideogram4Transformer2DModel",), ideogram4, "text, generated")
FIBO2 = Family("Fibo 2", ("BriaFibo2Transformer2DModel",), fibo2, "gist, generated, references; the text in a cross-attention of its own",
               lambda name, module: not name.startswith("perceiver"))  # fmt: skip
FAMILIES = (KREA2, ERNIE, IDEOGRAM4, FIBO2)
