"""Text-to-image transformers that read the prompt by cross-attention: its keys are the prompt's tokens, and no picture is among them."""

from __future__ import annotations

from typing import Any

from i2am.common.checks import refuse
from i2am.families.family import EXPLAIN, Family, Found, generated, latent, length_of, sequence, text
from i2am.maps.tokens import Grid, Seen, Tokens


def patched(seen: Seen) -> Grid:
    """The grid of what is generated: the latent's, cut into patches."""
    size, patch = latent(seen), seen.denoiser.config.patch_size
    rows, columns = tuple(patch)[-2:] if isinstance(patch, (list, tuple)) else (patch, patch)
    if size is None:
        refuse(f"the latent of {type(seen.denoiser).__name__}", "[batch, channels, height, width]", "another input", EXPLAIN)
    return size[0] // rows, size[1] // columns


def crossing(seen: Seen) -> Found:
    """Keys [text], queries [generated]; Hunyuan-DiT has the tokens of two encoders side by side."""
    if seen.index:
        return None
    length = length_of(seen) + length_of(seen, "encoder_hidden_states_t5")
    return sequence(seen, [text(length)], [generated(patched(seen))])


def level(seen: Seen) -> Found:
    """Keys [text], queries [generated] on one of a UNet's grids."""
    if seen.index:
        return None
    if seen.keys != length_of(seen):
        refuse(f"the keys of {seen.layer}", f"the prompt's {length_of(seen)}", seen.keys, EXPLAIN)
    return Tokens(words=(0, seen.keys), source="words")


def behind_self_attention(name: str, module: Any) -> bool:
    """Kandinsky 3's blocks look at themselves in attentions.0; `add_time_condition` pools the prompt."""
    return ".attentions." in name and ".attentions.0." not in name


def crosses(name: str, module: Any) -> bool:
    """Self-attention holds no text, and Sana's runs no scaled_dot_product_attention."""
    return name.endswith("attn2")


ORDER = "the prompt in attn2"
SANA = Family("Sana", ("SanaTransformer2DModel",), crossing, ORDER, crosses)
PIXART = Family("PixArt", ("PixArtTransformer2DModel",), crossing, ORDER, crosses)
LUMINA = Family("Lumina-Next", ("LuminaNextDiT2DModel",), crossing, ORDER, crosses)
HUNYUAN_DIT = Family("Hunyuan-DiT", ("HunyuanDiT2DModel",), crossing, "two encoders' prompt in attn2", crosses)
KANDINSKY_3 = Family("Kandinsky 3", ("Kandinsky3UNet",), level, "the prompt in attentions.1 and on", behind_self_attention)
FAMILIES = (SANA, PIXART, LUMINA, HUNYUAN_DIT, KANDINSKY_3)
