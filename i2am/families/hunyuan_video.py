"""HunyuanVideo: video and prompt are one sequence; pictures are clean frames in front of the video, or tokens in front of the prompt."""

from __future__ import annotations

from typing import Any

from i2am.common.checks import refuse
from i2am.families.family import EXPLAIN, Block, Family, Found, cells, length_of, sequence, text, total
from i2am.families.frames import behind, features, given, history, still, video_grid
from i2am.maps.tokens import Seen

SHRUNK = {"latents_history_4x": (4, 8, 8), "latents_history_2x": (2, 4, 4)}  # latent cells a token of FramePack's history, farthest first


def hunyuan(seen: Seen) -> Found:
    """[first frame where it was given, generated, prompt]. A picture that LLaVA reads is a part of the prompt."""
    grid = video_grid(seen)
    kind = getattr(seen.denoiser.config, "image_condition_type", None)
    if kind == "latent_concat":
        count = cells(grid)
        refuse("reference", "a rule: this model's picture enters through the channels, and as tokens of LLaVA in front of the prompt, and "
               "nothing in the call tells how many there are", "auto",
               f"They come behind the video's {count}, 24 rows of 24 / image_embed_interleave: reference=lambda seen: "
               f"i2am.Tokens(reference=({count}, {count + 288}), reference_grid=(24, 12), generated=(0, {count}), "
               f"generated_grid={grid}).")  # fmt: skip
    if kind == "token_replace":
        return sequence(seen, [*behind([still(1, grid[1:])], grid), Block("prompt", length_of(seen))])
    return sequence(seen, [*behind([], grid), text(length_of(seen))])


def framepack(seen: Seen) -> Found:
    """[history, the picture, the frame before, generated, SigLIP's tokens of the picture, prompt]."""
    grid = video_grid(seen)
    keys = history(seen, SHRUNK)
    if not given(seen, "latents_clean"):
        refuse(f"the sequence of {seen.layer}", "FramePack's, with latents_clean", "none", EXPLAIN)
    before = video_grid(seen, "latents_clean")
    keys += [still(1, before[1:], "picture"), Block("history", cells(before) - cells(before[1:]))]
    keys += [*behind([], grid), features(length_of(seen, "image_embeds"), "picture's features")]
    rest = seen.keys - total(keys)  # one video alone: its padding is left out
    return sequence(seen, [*keys, text(rest)])


def hunyuan15(seen: Seen) -> Found:
    """[generated, SigLIP's tokens, ByT5's, the prompt's, padding]: where the prompt lies depends on how long ByT5's text is."""
    pictures, masks = seen.inputs["image_embeds"], [seen.inputs[f"encoder_attention_mask{which}"].bool() for which in ("_2", "")]
    keys = behind([], video_grid(seen))
    if pictures.count_nonzero():
        keys.append(features(pictures.shape[1]))
    lengths = [mask.sum(1) for mask in masks]
    if all(bool((length == length[0]).all()) for length in lengths):  # else the rows' prompts lie in different places
        keys += [Block("glyphs", int(lengths[0][0])), text(int(lengths[1][0]))]
    return sequence(seen, [*keys, Block("padding", seen.keys - total(keys))])


def in_blocks(name: str, module: Any) -> bool:
    """The prompt is refined by attention of its own first."""
    return not name.startswith("context_embedder")


HUNYUAN = Family("HunyuanVideo", ("HunyuanVideoTransformer3DModel",), hunyuan, "the first frame, generated, text", in_blocks)
HUNYUAN15 = Family("HunyuanVideo 1.5", ("HunyuanVideo15Transformer3DModel",), hunyuan15, "generated, the picture's tokens, text", in_blocks)
FRAMEPACK = Family(
    "FramePack", ("HunyuanVideoFramepackTransformer3DModel",), framepack, "history, the picture, generated, its features, text", in_blocks
)
FAMILIES = (HUNYUAN, HUNYUAN15, FRAMEPACK)
