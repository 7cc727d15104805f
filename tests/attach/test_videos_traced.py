"""A pipeline that makes videos, from the trace to the page: its maps have frames, and so have masks, spots, words, pictures and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import videos
from PIL import Image
from tolerance import alike

import i2am
from i2am import AttributionMaps

FRAMES, GRID = 3, (2, 2)  # of nine frames of 32 x 32 pixels
SPOT = (0.3, 0.8)
TERMS = 12 * 17  # tokens of both sides


@pytest.fixture(scope="module")
def case() -> videos.VideoCase:
    return videos.wan_image_to_video()


def traced(case: videos.VideoCase, batch: int = 1, guided: bool = True, **options: Any) -> tuple[AttributionMaps, Any]:
    with i2am.trace(case.pipe, **options) as run:
        frames = case.pipe(**case.kwargs(batch=batch, guided=guided) | {"output_type": "pil"}).frames
    return run.maps, frames


def test_a_spot_in_every_frame_is_the_sum_of_its_frames(case: videos.VideoCase) -> None:
    spots = [SPOT, *((frame, *SPOT) for frame in range(FRAMES))]
    maps, _ = traced(case, 2, specific=spots)
    assert maps.regions == ("point 0.3 0.8", *(f"frame {frame} point 0.3 0.8" for frame in range(FRAMES)))
    for layer in maps.layers:
        every, *each = maps.tokens("specific", layer).unbind(3)
        alike(every, torch.stack(each).sum(0), TERMS)
        assert not torch.equal(each[0], each[1])


def test_a_mask_of_frames_weighs_their_patches_alone(case: videos.VideoCase) -> None:
    """A mask of one patch in one frame gives G2R as the spot has it, over the number of patches; guided as unguided."""
    mask = torch.zeros(FRAMES, 32, 32, device="cpu")
    mask[1, :16, 16:] = 1
    for given in (mask.clamp(min=1e-9), mask[None], mask[None, :, ::16, ::16]):  # frames that are nothing but 0 need [1, frames, h, w]
        maps, _ = traced(case, generated_mask=given, specific=[(1, *SPOT)])
        for layer in maps.layers:
            alike(maps.tokens("g2r", layer) * 12, maps.tokens("specific", layer)[:, :, :, 0], TERMS)


def test_words_spots_pictures_and_files_have_frames(case: videos.VideoCase, tmp_path: Path) -> None:
    maps, frames = traced(case, 2, specific="grid", words=True)
    assert maps.frames() == FRAMES
    assert maps.regions == tuple(f"frame {f} box {i / 4:g} {j / 4:g} {(i + 1) / 4:g} {(j + 1) / 4:g}"
                                 for f in range(FRAMES) for i in range(4) for j in range(4))  # fmt: skip
    assert maps.unified("r2g", (16, 12)).shape == (2, FRAMES, 16, 12)
    assert maps.level("words", "time").shape[-3:] == (FRAMES, *GRID)
    assert [len(video) for video in frames] == [9, 9]
    with pytest.raises(ValueError, match=r"one for each of the 3 frames .* got a video of 9\. .* such as video\[::4\]"):
        maps.with_pictures(frames)
    maps = i2am.load(maps.with_pictures([video[::4] for video in frames]).save(tmp_path / "run.safetensors"))
    assert [one.height for one in maps.overlay()] == [maps.overlay()[0].height] * 2
    with Image.open(maps[0].animate(tmp_path / "run.gif")) as moving:
        assert moving.n_frames == FRAMES
    text = i2am.view(tmp_path / "run.safetensors").read_text("utf-8")
    assert f'"frames":{FRAMES}' in text


def test_field_is_refused_of_a_video(case: videos.VideoCase) -> None:
    with pytest.raises(ValueError, match=r"field must be left out for a video"):
        traced(case, field=True)
