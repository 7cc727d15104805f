"""Wan and what is built like it: self-attention over the video, cross-attention to the prompt and, in a call of its own, to a picture."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from i2am.common.checks import refuse
from i2am.families.family import Block, Family, Found, length_of, sequence, text
from i2am.families.frames import asking, behind, features, held_back, leading, still, video_grid
from i2am.maps.tokens import Seen

PROMPT = 512  # tokens: where Wan's own code parts the picture's tokens from the prompt's


def wan(seen: Seen) -> Found:
    """attn1: [given frames, generated frames]. attn2: the picture's tokens in a first call, the prompt in a second."""
    video = tokens_of_video(seen)
    if seen.layer.endswith("attn1"):
        return sequence(seen, video) if seen.index == 0 and carries(seen) else None
    prompt = length_of(seen)
    pictures = encoded(seen)
    if getattr(seen.module, "add_k_proj", None) is None:
        keys = [*pictures, text(prompt)]
    else:
        if pictures and prompt != PROMPT:
            refuse("the prompt", f"{PROMPT} tokens: {type(seen.denoiser).__name__} takes its last {PROMPT} for the prompt's, all before "
                   "for the picture's", prompt, f"Pass max_sequence_length={PROMPT}, or embeddings of that length.")  # fmt: skip
        keys = pictures if seen.index == 0 else [text(prompt)]
    return sequence(seen, keys, asking(video)) if keys and seen.keys else None


def tokens_of_video(seen: Seen) -> list[Block]:
    """What the video's tokens are: pictures in frames of their own (VACE, Animate), first frames that are given (Wan 2.2 with one
    transformer of 5B, AnyFlow), and what is generated."""
    grid = video_grid(seen, axes=(1, 3, 4) if "r_timestep" in seen.inputs else (2, 3, 4))  # AnyFlow's has frames before channels
    frames, *size = grid
    control, times = seen.inputs.get("control_hidden_states"), seen.inputs.get("timestep")
    given: list[Block] = []
    if isinstance(control, Tensor):
        given = [still(1, size) for _ in range(pictures_of_vace(seen, control))]
    elif isinstance(seen.inputs.get("pose_hidden_states"), Tensor):
        given = [still(1, size, "reference frame")]
    elif isinstance(times, Tensor) and times.ndim == 2:
        count = leading(seen, held_back(times, frames))
        given = [still(count, size)] if count else []
    return behind(given, grid)


def pictures_of_vace(seen: Seen, control: Tensor) -> int:
    """How many reference pictures stand in front of the video: nothing of them is to be made, so their second latent is all zeros."""
    channels = seen.denoiser.config.in_channels
    return leading(seen, (control[:, channels : 2 * channels] == 0).all(1).flatten(2).all(2))


def carries(seen: Seen) -> bool:
    """Whether the tokens of given frames hold them yet: VACE's come in with the hint behind its first layer."""
    place, number, *_ = seen.layer.split(".")
    layers = getattr(seen.denoiser.config, "vace_layers", None)
    return place != "blocks" or not layers or int(number) > min(layers)


def encoded(seen: Seen) -> list[Block]:
    """The image encoder's tokens; a model that knows their positions has two pictures, the first and the last frame."""
    states = seen.inputs.get("encoder_hidden_states_image")
    if not isinstance(states, Tensor):
        return []
    source = "image features" if isinstance(seen.inputs.get("pose_hidden_states"), Tensor) else ""
    pair = getattr(seen.denoiser.config, "pos_embed_seq_len", None) is not None
    return [features(states.shape[1], source)] * (2 if pair else 1)


def in_blocks(name: str, module: Any) -> bool:
    """Animate's face adapter looks at each frame's face by itself, frames folded into the batch."""
    return name.startswith(("blocks.", "vace_blocks."))


WAN = Family(
    "Wan",
    (
        "WanTransformer3DModel",
        "WanVACETransformer3DModel",
        "WanAnimateTransformer3DModel",
        "ChronoEditTransformer3DModel",
        "SkyReelsV2Transformer3DModel",
        "AnyFlowTransformer3DModel",
    ),
    wan,
    "attn1: given frames, generated; attn2: the picture's tokens in a call of their own, then the prompt",
    in_blocks,
)
FAMILIES = (WAN,)
