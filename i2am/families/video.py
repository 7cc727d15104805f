"""Further video models: LTX, CogVideoX, Cosmos, Helios, Allegro, Sana-Video, Kandinsky 5."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from i2am.common.checks import refuse
from i2am.families.family import EXPLAIN, Block, Family, Found, cells, generated, length_of, sequence, text, total
from i2am.families.frames import asking, behind, given, held_back, history, leading, still, video_grid
from i2am.families.qwen import behind_template
from i2am.maps.tokens import Seen


def ltx(seen: Seen) -> Found:
    """attn1: [pictures of other moments, first frames that were given, generated]; attn2: the prompt."""
    grid: Any = tuple(seen.inputs.get(side) for side in ("num_frames", "height", "width"))
    times, count = seen.inputs["timestep"], seen.queries
    extra: list[Block] = []
    if None in grid:
        extra, grid = placed(seen, seen.inputs["video_coords"][-1])
    before = total(extra)
    first = 0
    if times.ndim == 2 and times.shape[1] == count:
        early = held_back(times, count)
        if not bool(early[:, :before].all()):
            refuse(f"the pictures in front of {seen.layer}", "given, at an earlier time than the video", "others", EXPLAIN)
        first = leading(seen, early[:, before:].unflatten(1, (grid[0], -1)).all(2))
    video = [*extra, *behind([still(first, grid[1:])] if first else [], grid)]
    return sequence(seen, video) if seen.layer.endswith("attn1") else sequence(seen, [text(length_of(seen))], asking(video))


def placed(seen: Seen, coordinates: Tensor) -> tuple[list[Block], Any]:
    """From tokens' coordinates [(time, row, column), tokens]: latent frames in front of the video, whose own first is at time 0."""
    height, width = (coordinates[axis].unique().numel() for axis in (1, 2))
    moments = coordinates[0].unflatten(0, (-1, height * width))
    zero = (moments == 0).all(1).nonzero()
    if not bool((moments == moments[:, :1]).all()) or len(zero) != 1:
        refuse(f"the video's coordinates of {seen.layer}", "whole frames, one of them at time 0", moments[:, 0].tolist(), EXPLAIN)
    start = int(zero[0])
    return [still(1, (height, width)) for _ in range(start)], (len(moments) - start, height, width)


def cogvideox(seen: Seen) -> Found:
    """[prompt, generated]; pictures enter through the channels."""
    return sequence(seen, [text(length_of(seen)), *behind([], video_grid(seen, axes=(1, 3, 4)))])


def cosmos(seen: Seen) -> Found:
    """attn1: [first frames that were given, generated]; attn2: the prompt."""
    grid, mask = video_grid(seen), seen.inputs.get("condition_mask")
    if isinstance(seen.inputs.get("encoder_hidden_states"), tuple):
        refuse(
            "reference", "a rule: this model attends to pictures' tokens in a call of its own, which nobody has described", "auto", EXPLAIN
        )
    count = leading(seen, (mask > 0).flatten(3).all(3).all(1)) if isinstance(mask, Tensor) else 0
    video = behind([still(count, grid[1:])] if count else [], grid)
    return sequence(seen, video) if seen.layer.endswith("attn1") else sequence(seen, [text(length_of(seen))], asking(video))


SHRUNK = {"latents_history_long": (4, 8, 8), "latents_history_mid": (2, 4, 4)}  # latent cells a token, farthest first


def helios(seen: Seen) -> Found:
    """attn1: [history, the picture, the frames before, generated]; attn2: the prompt."""
    grid = video_grid(seen)
    keys = history(seen, SHRUNK)
    if given(seen, "latents_history_short"):
        frames, height, width = video_grid(seen, "latents_history_short")
        size = (height, width)
        picture = bool(seen.inputs["latents_history_short"][:, :, 0].count_nonzero())  # zeros where there is none
        keys += [still(1, size) if picture else Block("nothing", cells(size)), Block("history", (frames - 1) * cells(size))]
    video = [*keys, *behind([], grid)]
    if seen.layer.endswith("attn1"):
        return sequence(seen, video)
    alone = seen.queries == cells(grid)  # the history does not ask
    return sequence(seen, [text(length_of(seen))], behind([], grid) if alone else asking(video))


def crossing(seen: Seen) -> Found:
    """attn2: the prompt. Sana's self-attention is linear and has no map; its first frame may have been given, at time 0."""
    grid, times = video_grid(seen), seen.inputs["timestep"]
    count = leading(seen, held_back(times, grid[0])) if times.ndim == 5 else 0
    video = behind([still(count, grid[1:])] if count else [], grid)
    prompt = seen.inputs["encoder_hidden_states"].shape[-2]  # Allegro's are of shape [rows, 1, tokens, width]
    return sequence(seen, [text(prompt)], asking(video))


def crosses(name: str, module: Any) -> bool:
    """Self-attention holds no text, and Sana's runs no scaled_dot_product_attention."""
    return name.endswith("attn2")


def kandinsky5(seen: Seen) -> Found:
    """self_attention: [the first frame where it was given, generated]; cross_attention: the prompt."""
    states, grid = seen.inputs["hidden_states"], video_grid(seen, axes=(1, 2, 3))
    if seen.inputs.get("sparse_params") is not None:
        refuse(f"the attention of {seen.layer}", "regular", "sparse: tokens in another order, and no scaled_dot_product_attention",
               "Trace a model with attention_type=\"regular\".")  # fmt: skip
    if grid[0] == 1:  # a picture; one that was given is stacked on its channels
        made = [generated(grid[1:])]
        return sequence(seen, *((made,) if seen.layer.endswith("self_attention") else ([text(length_of(seen))], made)))
    count = 0
    if seen.denoiser.config.visual_cond:  # the last channel says which frames were given
        count = leading(seen, (states[..., -1] == 1).flatten(2).all(2))
    video = behind([still(count, grid[1:])] if count else [], grid)
    if seen.layer.endswith("self_attention"):
        return sequence(seen, video)
    return sequence(seen, [text(length_of(seen))], asking(video))


def of_video(name: str, module: Any) -> bool:
    """The prompt has attention of its own first."""
    return name.startswith("visual_transformer_blocks")


LTX = Family("LTX", ("LTXVideoTransformer3DModel",), ltx, "attn1: given frames, generated; attn2: text")
COGVIDEOX = Family("CogVideoX", ("CogVideoXTransformer3DModel",), cogvideox, "text, generated")
COSMOS = Family("Cosmos", ("CosmosTransformer3DModel",), cosmos, "attn1: given frames, generated; attn2: text")
HELIOS = Family("Helios", ("HeliosTransformer3DModel",), helios, "attn1: history, the picture, history, generated; attn2: text")
ALLEGRO = Family("Allegro", ("AllegroTransformer3DModel",), crossing, "attn2: text", crosses)
SANA_VIDEO = Family("Sana-Video", ("SanaVideoTransformer3DModel",), crossing, "attn2: text", crosses)
KANDINSKY5 = Family(
    "Kandinsky 5",
    ("Kandinsky5Transformer3DModel",),
    kandinsky5,
    "self_attention: the first frame, generated; cross_attention: text",
    of_video,
    behind_template,
)
FAMILIES = (LTX, COGVIDEOX, COSMOS, HELIOS, ALLEGRO, SANA_VIDEO, KANDINSKY5)
