"""Video models: the maps equal an oracle that stores the whole attention of the same run in float64; the canvas has frames."""

from __future__ import annotations

from functools import partial
from typing import Any

import oracle
import pytest
import videos
from families import Cut, Family, hold, hold_words


def of_queries(start: int, stop: int, frames: int) -> Cut:
    """Some frames of the queries."""

    def cut(call: oracle.Call) -> tuple[int, int]:
        each = call.query.shape[2] // frames
        return start * each, stop * each

    return cut


def keys(start: int, stop: int | None = None) -> Cut:
    """Some keys."""
    return lambda call: (start, call.key.shape[2] if stop is None else stop)


def frames_of(given: int, frames: int, **more: Any) -> dict[str, Any]:
    """Self-attention whose first frames were given."""
    return {"generated": of_queries(given, frames, frames), "reference": of_queries(0, given, frames), **more}


I2V = videos.wan_image_to_video
TWO = {"layers": ".*attn2", "two_calls": True}
OWN = {"layers": ".*attn1", "two_calls": True}
FAMILIES: dict[str, Any] = {
    "wan-image-to-video": Family(I2V, **TWO),
    "wan-first-and-last": Family(partial(I2V, last=True), **TWO, parts={"image 1": keys(0, 17), "image 2": keys(17)}),
    "wan-first-frame": Family(videos.wan_first_frame, **OWN, **frames_of(1, 3)),
    "wan-animate-frame": Family(videos.wan_animate, **OWN, **frames_of(1, 4, source="reference frame")),
    "wan-animate-features": Family(videos.wan_animate, **TWO, generated=of_queries(1, 4, 4), source="image features"),
    "chrono-edit": Family(partial(I2V, "ChronoEditPipeline", "ChronoEditTransformer3DModel"), **TWO),
    "skyreels": Family(partial(I2V, "SkyReelsV2ImageToVideoPipeline", "SkyReelsV2Transformer3DModel"), **TWO),
}
ONE_ROW = {  # pipelines that make one video a call
    "wan-vace": Family(
        videos.wan_vace,
        layers=r"(vace_blocks\.\d|blocks\.[12])\.attn1",
        two_calls=True,
        generated=of_queries(2, 5, 5),
        parts={"image 1": of_queries(0, 1, 5), "image 2": of_queries(1, 2, 5)},
    ),
}
WORDS: dict[str, Any] = {
    "wan": Family(videos.wan, **TWO, words=keys(0)),
    "wan-image-to-video": Family(I2V, **TWO, number=1, words=keys(0)),
    "wan-first-frame": Family(videos.wan_first_frame, **TWO, generated=of_queries(1, 3, 3), words=keys(0)),
}
RUNS = [(name, *run) for name in FAMILIES for run in ((2, 1, True), (1, 0, False))]


@pytest.mark.parametrize(("name", "batch", "size", "guided"), [*RUNS, *((name, 1, 1, True) for name in ONE_ROW)])
def test_maps_equal_the_stored_attention(name: str, batch: int, size: int, guided: bool) -> None:
    hold({**FAMILIES, **ONE_ROW}[name], batch, size, guided)


@pytest.mark.parametrize("name", WORDS)
def test_words_equal_the_stored_attention(name: str) -> None:
    hold_words(WORDS[name], 2, 1, True)
