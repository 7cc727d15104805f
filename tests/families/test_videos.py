"""Video models: the maps equal an oracle that stores the whole attention of the same run in float64; the canvas has frames."""

from __future__ import annotations

from functools import partial
from typing import Any

import oracle
import pytest
import videos
import videos_joined as joined
from families import Cut, Family, hold, hold_words

import i2am


def of_queries(start: int, stop: int, frames: int) -> Cut:
    """Some frames of the queries."""

    def cut(call: oracle.Call) -> tuple[int, int]:
        each = call.query.shape[2] // frames
        return start * each, stop * each

    return cut


def keys(start: int, stop: int | None = None) -> Cut:
    """Some keys."""
    return lambda call: (start, call.key.shape[2] if stop is None else stop)


FRAME = 4 * 3  # tokens of a latent frame of 64 by 48


def first(start: int, stop: int) -> Cut:
    """Frames of a video of three that stands in front of everything else."""

    def cut(call: oracle.Call) -> tuple[int, int]:
        each = FRAME if call.query.shape[2] > 3 * FRAME else FRAME // 3  # of 32 by 32
        return start * each, stop * each

    return cut


def behind_video(count: int) -> Cut:
    """Keys right behind a video of three frames."""
    return lambda call: (first(0, 3)(call)[1], first(0, 3)(call)[1] + count)


def all_but(count: int) -> Cut:
    """Everything but the last tokens."""
    return lambda call: (0, call.key.shape[2] - count)


def video_of_framepack(call: oracle.Call) -> int:
    """Where its video of three frames begins: behind it are 16 tokens of the picture and 7 of the prompt."""
    return call.key.shape[2] - 7 - 16 - 3 * FRAME


def frames_of(given: int, frames: int, **more: Any) -> dict[str, Any]:
    """Self-attention whose first frames were given."""
    return {"generated": of_queries(given, frames, frames), "reference": of_queries(0, given, frames), **more}


I2V = videos.wan_image_to_video
TWO = {"layers": ".*attn2", "two_calls": True}
BLOCKS = {"layers": r"(single_)?transformer_blocks\..*attn"}
OWN = {"layers": ".*attn1", "two_calls": True}
FAMILIES: dict[str, Any] = {
    "wan-image-to-video": Family(I2V, **TWO),
    "wan-first-and-last": Family(partial(I2V, last=True), **TWO, parts={"image 1": keys(0, 17), "image 2": keys(17)}),
    "wan-first-frame": Family(videos.wan_first_frame, **OWN, **frames_of(1, 3)),
    "wan-animate-frame": Family(videos.wan_animate, **OWN, **frames_of(1, 4, source="reference frame")),
    "wan-animate-features": Family(videos.wan_animate, **TWO, generated=of_queries(1, 4, 4), source="image features"),
    "chrono-edit": Family(partial(I2V, "ChronoEditPipeline", "ChronoEditTransformer3DModel"), **TWO),
    "skyreels": Family(partial(I2V, "SkyReelsV2ImageToVideoPipeline", "SkyReelsV2Transformer3DModel"), **TWO),
    "hunyuan-video": Family(
        partial(joined.hunyuan_video, "token_replace"), **BLOCKS, two_calls=True, generated=first(1, 3), reference=first(0, 1)
    ),
    "hunyuan-video-1.5": Family(
        joined.hunyuan_video15,
        **BLOCKS,
        two_calls=True,
        generated=all_but(16 + 5 + 9),
        reference=lambda call: (call.key.shape[2] - 16 - 5 - 9, call.key.shape[2] - 5 - 9),
    ),
    "ltx": Family(joined.ltx, layers=".*attn1", **frames_of(1, 3)),
    "cosmos2": Family(joined.cosmos2, **OWN, **frames_of(1, 3)),
    "anyflow": Family(joined.anyflow, layers=".*attn1", **frames_of(1, 3)),
    "kandinsky5": Family(joined.kandinsky5, layers="visual.*self_attention", two_calls=True, **frames_of(1, 3)),
}
ONE_ROW = {  # pipelines that make one video a call
    "wan-vace": Family(
        videos.wan_vace,
        layers=r"(vace_blocks\.\d|blocks\.[12])\.attn1",
        two_calls=True,
        generated=of_queries(2, 5, 5),
        parts={"image 1": of_queries(0, 1, 5), "image 2": of_queries(1, 2, 5)},
    ),
    "ltx-condition": Family(
        partial(joined.ltx, "LTXConditionPipeline"),
        layers=".*attn1",
        generated=of_queries(2, 4, 4),
        parts={"image 1": of_queries(0, 1, 4), "image 2": of_queries(1, 2, 4)},
    ),
    "cosmos2.5": Family(joined.cosmos25, **OWN, **frames_of(2, 3)),
    "framepack": Family(
        joined.framepack,
        **BLOCKS,
        two_calls=True,
        generated=lambda call: (video_of_framepack(call), video_of_framepack(call) + 3 * FRAME),
        parts={
            "picture": lambda call: (video_of_framepack(call) - 2 * FRAME, video_of_framepack(call) - FRAME),
            "picture's features": lambda call: (call.key.shape[2] - 7 - 16, call.key.shape[2] - 7),
        },
    ),
    "helios": Family(
        joined.helios,
        **OWN,
        generated=lambda call: (call.query.shape[2] - 3 * FRAME, call.query.shape[2]),
        reference=lambda call: (call.query.shape[2] - 5 * FRAME, call.query.shape[2] - 4 * FRAME),
    ),
}
WORDS: dict[str, Any] = {
    "wan": Family(videos.wan, **TWO, words=keys(0)),
    "wan-image-to-video": Family(I2V, **TWO, number=1, words=keys(0)),
    "wan-first-frame": Family(videos.wan_first_frame, **TWO, generated=of_queries(1, 3, 3), words=keys(0)),
}
WORDS |= {
    "hunyuan-video": Family(joined.hunyuan_video, **BLOCKS, two_calls=True, generated=first(0, 3), words=behind_video(9)),
    "hunyuan-video-1.5": Family(
        joined.hunyuan_video15,
        **BLOCKS,
        two_calls=True,
        generated=all_but(16 + 5 + 9),
        words=lambda call: (call.key.shape[2] - 3 - 7 - 2 - 2 + 3, call.key.shape[2] - 2 - 2),
    ),
    "hunyuan-video-1.5-prompt": Family(
        partial(joined.hunyuan_video15, False),
        **BLOCKS,
        two_calls=True,
        generated=all_but(16 + 5 + 9),
        words=lambda call: (call.key.shape[2] - 16 - 5 - 9 + 3, call.key.shape[2] - 16 - 5 - 9 + 3 + 7),
    ),
    "wan-vace": Family(videos.wan_vace, layers="(vace_)?blocks.*attn2", two_calls=True, generated=of_queries(2, 5, 5), words=keys(0)),
    "helios": Family(joined.helios, **TWO, words=keys(0)),
    "cogvideox": Family(joined.cogvideox, layers=".*attn1", generated=keys(16), words=keys(0, 16)),
    "ltx": Family(partial(joined.ltx, "LTXPipeline"), layers=".*attn2", words=keys(0)),
    "sana-video": Family(joined.sana_video, layers=".*attn2", generated=of_queries(1, 3, 3), words=keys(0)),
    "allegro": Family(joined.allegro, layers=".*attn2", words=keys(0)),
    "anyflow": Family(joined.anyflow, layers=".*attn2", generated=of_queries(1, 3, 3), words=keys(0)),
    "kandinsky5": Family(joined.kandinsky5, layers="visual.*cross_attention", two_calls=True, generated=of_queries(1, 3, 3), words=keys(0)),
    "cosmos2": Family(joined.cosmos2, **TWO, generated=of_queries(1, 3, 3), words=keys(0)),
}
RUNS = [(name, 2, 1, True) for name in FAMILIES]
RUNS += [(name, 1, 0, False) for name in ("wan-image-to-video", "wan-first-frame", "hunyuan-video", "hunyuan-video-1.5", "ltx", "cosmos2")]
RUNS += [(name, 1, 1, True) for name in ONE_ROW]
SEVERAL = ("wan", "cogvideox", "ltx", "allegro")


@pytest.mark.parametrize(("name", "batch", "size", "guided"), RUNS)
def test_maps_equal_the_stored_attention(name: str, batch: int, size: int, guided: bool) -> None:
    hold({**FAMILIES, **ONE_ROW}[name], batch, size, guided)


@pytest.mark.parametrize("name", WORDS)
def test_words_equal_the_stored_attention(name: str) -> None:
    hold_words(WORDS[name], 2 if name in SEVERAL else 1, 1, True)


SEPARATE = ("chrono-edit", "hunyuan-video", "cosmos2", "framepack", "kandinsky5")  # calls that nothing tells apart but their order
NAMED = ("wan-image-to-video", "hunyuan-video-1.5", "ltx", "anyflow")


@pytest.mark.parametrize("name", [*SEPARATE, *NAMED])
def test_the_conditional_call_is_the_one(name: str) -> None:
    """One step: the maps of a guided run are the unguided run's, and not those of its other call."""
    family: Any = {**FAMILIES, **ONE_ROW}[name]
    case = family.build()

    def maps(guided: bool, **options: Any) -> Any:
        with i2am.trace(case.pipe, groups=1, **options) as run:
            case(steps=1, guided=guided)
        return run.maps.unified("r2g", reference=0)

    guided, plain = maps(True), maps(False)
    wrong = maps(True, guidance="uncond|cond" if family.two_calls else "cond-uncond")
    assert guided.ndim == 4
    assert (guided - plain).abs().max() <= 1e-5 * plain.max()
    assert (wrong - plain).abs().max() > 1e-3 * plain.max()
