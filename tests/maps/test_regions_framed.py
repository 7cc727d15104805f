"""Masks, points and boxes of a video, against the attention matrix weighed by loops over frames, rows and columns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tolerance import close
from torch import Tensor

from i2am import Recorder, cells
from i2am.maps.layer_sums import LayerSums
from i2am.maps.recorder import describe
from i2am.maps.regions import as_mask, as_region, as_regions, as_weight, by_frame, default_cells, on_grid, regions_on_grid

GRID = FRAMES, HEIGHT, WIDTH = 3, 4, 2
REFERENCE = 2, 2, 3  # a video too, behind one special token
FLAT = (torch.arange(48, device="cpu") % 5 < 2).float().view(8, 6)  # [h, w]
FRAMED = torch.stack([FLAT, FLAT.flip(0), 1 - FLAT])  # [frames, h, w]


def sums_of(images: int, dtype: torch.dtype = torch.float64, **options: Any) -> tuple[LayerSums, Tensor, Tensor]:
    """What a recorder makes of one call, and both softmaxes [B, heads, G, R] of it."""
    query, key = torch.randn(images, 2, 24, 8) * 2, torch.randn(images, 2, 13, 8)
    recorder = Recorder(**options)
    recorder.attend("a", query, key, key, generated_grid=GRID, reference_grid=REFERENCE, special=1)
    scores = (query.to(dtype) @ key.to(dtype).mT * 8**-0.5).cpu()
    return recorder.maps.sums[0], scores.softmax(-1), scores.softmax(-2)


def weight(region: Any, image: int, grid: tuple[int, int, int] = GRID) -> Tensor:
    """[frames, h, w] of one image: a mask [frames, H, W], or a place as it was declared."""
    inside = torch.zeros(grid, dtype=torch.float64, device="cpu")
    frames, height, width = grid
    for frame in range(frames):
        for i in range(height):
            for j in range(width):
                if isinstance(region, Tensor):
                    inside[frame, i, j] = region[frame, i * region.shape[1] // height, j * region.shape[2] // width]
                    continue
                place = region[len(region) % 2 :]
                at = (i + 0.5) / height, (j + 0.5) / width
                held = (all(place[k] <= at[k] < place[k + 2] for k in (0, 1)) if len(place) == 4
                        else (i, j) == (int(place[0] * height), int(place[1] * width)))  # fmt: skip
                inside[frame, i, j] = held and (len(region) % 2 == 0 or region[0] == frame)
    return inside.flatten()


VIDEOS = torch.stack([FRAMED, FRAMED.flip(0)])  # [m, frames, h, w]
MASKS = {  # how it is said, for how many videos, and what it means for each of them
    "one picture": (FLAT, 2, lambda i: FLAT.expand(3, -1, -1)),
    "a frame each": (FRAMED, 1, lambda i: FRAMED),
    "a frame each, of every video": (FRAMED, 2, lambda i: FRAMED),
    "a picture each": (FRAMED[:2], 2, lambda i: FRAMED[i].expand(3, -1, -1)),
    "a video": (FRAMED[None], 3, lambda i: FRAMED),
    "a video each": (VIDEOS, 2, lambda i: VIDEOS[i]),
    "a video for each prompt": (VIDEOS, 4, lambda i: VIDEOS[i // 2]),
    "a list of pictures": (list(FRAMED.numpy()), 1, lambda i: FRAMED),
}


@pytest.mark.parametrize("name", MASKS)
def test_masks_of_the_generated_video(name: str) -> None:
    given, images, meant = MASKS[name]
    sums, forward, _ = sums_of(images, generated_mask=given, specific=[given])
    weights = torch.stack([weight(meant(image), image) for image in range(images)])
    right = torch.einsum("bg,bhgr->bhr", weights, forward)
    for got, of in ((sums.g2r[:, 0], right / 24), (sums.specific[:, 0, :, 0], right)):
        close(got, of, of.float(), 24, name)


def test_a_mask_of_the_reference_video() -> None:
    framed = FRAMED[:2]
    sums, _, backward = sums_of(1, reference_mask=framed)
    count = torch.cat([torch.zeros(1, dtype=torch.float64, device="cpu"), weight(framed, 0, REFERENCE)]) / 13
    right = torch.einsum("r,bhgr->bhg", count, backward)
    close(sums.r2g[:, 0], right, right.float(), 24, "reference_mask")


def test_points_and_boxes_lie_in_every_frame_or_in_one() -> None:
    places = [(0.3, 0.6), (1, 0.3, 0.6), (0.0, 0.0, 0.5, 1.0), (2, 0.0, 0.0, 0.5, 1.0)]
    sums, forward, _ = sums_of(2, specific=places)
    for i, place in enumerate(places):
        right = torch.einsum("g,bhgr->bhr", weight(place, 0), forward)
        close(sums.specific[:, 0, :, i], right, right.float(), 24, str(place))
    names = [describe(as_region(place, "r")) for place in places]
    assert names == ["point 0.3 0.6", "frame 1 point 0.3 0.6", "box 0 0 0.5 1", "frame 2 box 0 0 0.5 1"]
    assert as_regions([torch.tensor([1, 0.5, 0.25])]) == [(1, 0.5, 0.25)]


def test_cells_cover_each_frame() -> None:
    sums, forward, _ = sums_of(1, specific="grid")
    found = default_cells(GRID)
    assert found == cells(4, 2, frames=3)  # four along the longer side
    assert found[8:10] == [(1, 0, 0, 0.25, 0.5), (1, 0, 0.5, 0.25, 1)]
    close(sums.specific[:, 0].squeeze(2), forward, forward.float(), 24, "a cell a token")  # 24 cells of 24 tokens
    assert sum(on_grid(box, (2, 9, 7)) for box in default_cells((2, 9, 7))).eq(1).all()
    with pytest.raises(ValueError, match=r"frames must be a whole number of at least 1, got 0"):
        cells(4, 2, frames=0)


def test_a_spot_between_the_cells_of_a_frame_is_not_lost() -> None:
    dot = torch.zeros(1, 3, 8, 8, device="cpu")
    dot[0, 1, 3, 5] = dot[0, 2, 0, 0] = 1  # nearest takes pixels 0 and 4 of 8
    found = regions_on_grid([dot], (3, 2, 2), 1).view(3, 2, 2)
    assert [tuple(at) for at in found.nonzero().tolist()] == [(1, 0, 1), (2, 0, 0)]


WRONG: dict[str, tuple[Any, tuple[int, ...], int, str]] = {
    "frames or videos": (FRAMED, GRID, 3, r"m must be \[m, 3, h, w\] for 3 videos of 3 frames, got \(3, 8, 6\)\. Write mask\[None\]"),
    "too few frames": (FRAMED[None, :2], GRID, 1, r"m must be of the 3 frames of a grid of 3 x 4 x 2, got 2 frames\. Take those"),
    "neither": (FRAMED[:2], GRID, 3, r"m must be one mask, one for each of 3 frames, or one per video or prompt \(3 videos\), got 2 masks"),
    "frames of a picture": (FRAMED[None], (4, 2), 1, r"m must be of a picture, \[m, h, w\], got 3 frames\. Leave the frames out"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_may_mean_two_things_or_none_is_refused(name: str) -> None:
    mask, grid, images, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        by_frame(as_mask(mask, "m", frames=True), grid, images, "m")


def test_frames_are_of_the_grid() -> None:
    with pytest.raises(
        ValueError, match=r"specific must be in one of the 3 frames of a grid of 3 x 4 x 2, got frame 3\. They are the model's"
    ):
        sums_of(1, specific=[(3, 0.5, 0.5)])
    with pytest.raises(ValueError, match=r"specific must be a point \(y, x\) or a box, as its layers make a picture, got one in frame 0"):
        regions_on_grid([(0, 0.5, 0.5)], (4, 2), 1)
    with pytest.raises(ValueError, match=r"m must be above 0 somewhere in every image, got .* Frames of one video are \[1, frames, h, w\]"):
        as_weight(FRAMED * torch.tensor([1.0, 0, 1], device="cpu")[:, None, None], "m", frames=True)


def test_points_in_a_tensor_are_no_mask() -> None:
    with pytest.raises(ValueError, match=r"specific must be a list where it is points or boxes, got float32 \[2, 3\]"):
        as_regions(torch.tensor([[0, 0.25, 0.5], [1, 0.5, 0.75]]))
