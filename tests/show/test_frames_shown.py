"""Videos in pictures: rows of frames, sheets and what moves, read back pixel by pixel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from i2am import AttributionMaps, load, log
from i2am.maps.layer_sums import LayerSums
from i2am.show.pictures import animate, levels, overlay, sheet, strip
from i2am.show.shares import shares

FRAMES, SIZE = 3, (40, 60)  # of the pictures


def flat(*colour: int, size: tuple[int, int] = SIZE) -> Image.Image:
    return Image.new("RGB", size[::-1], colour)


VIDEO = [flat(40 * i, 90, 200 - 40 * i) for i in range(FRAMES)]
OTHER = [flat(10, 80 * i, 30) for i in range(FRAMES)]


def draw(*shape: int) -> Tensor:
    return torch.rand(shape, device="cpu").pow(3)


def run_of(images: int = 2, reference: tuple[int, ...] = (2, 3)) -> AttributionMaps:
    r = torch.Size(reference).numel()
    sums = LayerSums("a", "reference", (FRAMES, 4, 6), reference, 0, draw(images, 2, 2, 72), draw(images, 2, 2, r))
    return AttributionMaps((sums,), 2)


def laid(picture: Image.Image, map: Tensor, low: Tensor, high: Tensor, alpha: float) -> np.ndarray:
    """A map of the picture's size over it, in plain numbers."""
    level = ((map - low) / (high - low)).clamp(0, 1).numpy()
    return (1 - alpha) * np.asarray(picture) + alpha * (colormaps["inferno"](level, bytes=True)[..., :3])


def grown(maps: Tensor, size: tuple[int, int] = SIZE) -> Tensor:
    """[frames, h, w] -> the size, each frame by itself."""
    return F.interpolate(maps[:, None], size, mode="bicubic", align_corners=False)[:, 0].clamp(min=0)


def cells_of(page: Image.Image, count: int, size: tuple[int, int] = SIZE) -> list[np.ndarray]:
    """The pictures of a row of frames, under their numbers."""
    height, width = size
    gap = (page.width - count * width) // max(1, count - 1)
    return [np.asarray(page)[-height:, i * (width + gap) : i * (width + gap) + width] for i in range(count)]


def test_a_row_of_frames_has_one_range_of_colours() -> None:
    maps = draw(2, FRAMES, 4, 6)
    rows = overlay([VIDEO, OTHER], maps, alpha=0.5)
    for row, video, each in zip(rows, (VIDEO, OTHER), maps):
        big = grown(each)
        for got, picture, map in zip(cells_of(row, FRAMES), video, big):
            assert np.abs(got - laid(picture, map, big.min(), big.max(), 0.5)).max() <= 1
    big = torch.stack([grown(each) for each in maps])
    (shared, _) = overlay([VIDEO, OTHER], maps, alpha=1.0, scale="shared")
    assert np.abs(cells_of(shared, FRAMES)[2] - laid(VIDEO[2], big[0, 2], big.min(), big.max(), 1.0)).max() <= 1


def test_chosen_frames_in_their_order() -> None:
    maps = draw(1, FRAMES, 4, 6)
    (row,) = overlay(VIDEO, maps, frames=[2, 0], alpha=0.0)
    assert [tuple(cell[0, 0]) for cell in cells_of(row, 2)] == [VIDEO[2].getpixel((0, 0)), VIDEO[0].getpixel((0, 0))]
    (one,) = overlay(VIDEO, maps, frames=1, alpha=0.0)
    assert one.width == SIZE[1]
    assert np.asarray(one)[-1, 0].tolist() == list(VIDEO[1].getpixel((0, 0)))


VIDEOS: dict[str, tuple[Callable[[np.ndarray], Any], int]] = {
    "a list of pictures": (lambda rgb: [Image.fromarray(one) for one in rgb], 1),
    "lists of pictures": (lambda rgb: [[Image.fromarray(one) for one in rgb]] * 2, 2),
    "an array": (lambda rgb: rgb, 1),
    "one array for two": (lambda rgb: rgb, 2),
    "diffusers' arrays": (lambda rgb: np.stack([rgb, rgb]) / 255, 2),
    "diffusers' tensors": (lambda rgb: torch.from_numpy(np.stack([rgb, rgb])).movedim(-1, -3) / 255, 2),
    "tensors": (lambda rgb: [torch.from_numpy(rgb).movedim(-1, -3)] * 2, 2),
}


@pytest.mark.parametrize("name", VIDEOS)
def test_every_kind_of_video_is_the_same_video(name: str) -> None:
    make, count = VIDEOS[name]
    rgb = np.random.default_rng(0).integers(0, 256, (FRAMES, *SIZE, 3), np.uint8)
    rows = overlay(make(rgb), draw(count, FRAMES, 4, 6), alpha=0)
    assert len(rows) == count
    for row in rows:
        assert all(np.array_equal(got, one) for got, one in zip(cells_of(row, FRAMES), rgb))


def test_long_videos_become_small() -> None:
    (row,) = overlay(flat(1, 2, 3, size=(400, 600)), draw(1, 30, 4, 6), alpha=0.5)
    assert 2300 <= row.width <= 2400
    assert 50 < row.height < 75


def test_a_row_without_pictures() -> None:
    map = draw(FRAMES, 4, 6)
    big = grown(map)
    for got, one in zip(cells_of(strip(map, SIZE), FRAMES), big):
        assert np.abs(got - laid(VIDEO[0], one, big.min(), big.max(), 1.0)).max() <= 1
    assert (
        np.abs(cells_of(strip(map, frames=2), 1, (4, 6))[0] - laid(VIDEO[0].resize((6, 4)), map[2], map[2].min(), map[2].max(), 1)).max()
        <= 1
    )


def test_maps_draw_their_own_videos(tmp_path: Path) -> None:
    maps = run_of(reference=(2, 2, 3)).with_pictures([VIDEO, OTHER], flat(7, 8, 9))
    assert [tuple(one.shape) for one in maps.pictures.generated] == [(FRAMES, 3, *SIZE)] * 2
    assert tuple(maps.pictures.references["reference"][0].shape) == (1, 3, *SIZE)
    assert maps.overlay() == overlay([VIDEO, OTHER], maps.unified("r2g"))
    assert maps.overlay(direction="g2r", alpha=0.3) == overlay([[flat(7, 8, 9)]], maps.unified("g2r"), alpha=0.3)
    assert maps[1].overlay(frames=0) == overlay([OTHER], maps.unified("r2g")[1:], frames=0)
    back = load(maps.save(tmp_path / "run.safetensors"))
    assert back.overlay(heads=1) == maps.overlay(heads=1)
    assert maps._repr_png_()[:4] == b"\x89PNG"


def test_logs_get_rows_of_frames_and_go_on_where_layers_differ() -> None:
    maps, shown = run_of(), dict[str, Any]()
    odd = LayerSums("odd", "reference", (2, 4, 6), None, 0, draw(2, 2, 2, 48))

    class Writer:
        def add_scalar(self, tag: str, scalar_value: float, global_step: int | None) -> None:
            pass

        def add_images(self, tag: str, img_tensor: Tensor, global_step: int | None, dataformats: str) -> None:
            shown[tag] = img_tensor.numpy()

    log(Writer(), AttributionMaps((*maps.sums, odd), 2), images=[VIDEO, OTHER])
    assert all(np.array_equal(got, np.asarray(row)) for got, row in zip(shown["i2am/r2g"], maps.overlay([VIDEO, OTHER])))
    log(Writer(), maps)
    assert shown["i2am/r2g"].shape[0] == 2
    assert shown["i2am/r2g"].shape[2] > 3 * 256


@pytest.mark.parametrize("form", ["gif", "webp"])
def test_videos_move(tmp_path: Path, form: str) -> None:
    maps = run_of().with_pictures([VIDEO, OTHER])
    with Image.open(maps.animate(tmp_path / f"run.{form}", alpha=0.5, duration=0.1)) as shown:
        assert (shown.n_frames, shown.info["loop"]) == (FRAMES, 0)
        big = torch.stack([grown(each) for each in maps.unified("r2g")])
        for frame in range(FRAMES):
            shown.seek(frame)
            page = np.asarray(shown.convert("RGB")).astype(int)
            for i, video in enumerate((VIDEO, OTHER)):
                right = laid(video[frame], big[i, frame], big.min(), big.max(), 0.5)
                got = page[-SIZE[0] :, i * (SIZE[1] + 8) : i * (SIZE[1] + 8) + SIZE[1]]
                assert np.abs(got - right).mean() < 12, (frame, i)  # of a palette or a lossy form
                assert np.abs(got - laid(video[(frame + 1) % FRAMES], big[i, frame], big.min(), big.max(), 0.5)).mean() > 12


def test_pictures_move_by_their_time_groups(tmp_path: Path) -> None:
    sums = LayerSums("a", "reference", (4, 6), None, 0, draw(1, 2, 2, 24))
    maps = AttributionMaps((sums,), 2).with_pictures([flat(1, 2, 3)])
    one, two = maps.animate(tmp_path / "a.gif"), animate(flat(1, 2, 3), maps.time("r2g"), tmp_path / "b.gif")
    assert one.read_bytes() == two.read_bytes()


def test_sheets_lay_each_column_over_its_frame() -> None:
    maps = draw(2, FRAMES, 4, 6)
    named = {"row_labels": ["a", "b"], "column_labels": list("xyz"), "alpha": 0.0}
    with_video, alone = sheet(maps, image=VIDEO, **named), sheet(maps, image=VIDEO[0], **named)
    assert with_video.size == alone.size
    found = {tuple(colour) for colour in np.asarray(with_video).reshape(-1, 3)}
    assert all(picture.getpixel((0, 0)) in found for picture in VIDEO)
    assert VIDEO[1].getpixel((0, 0)) not in {tuple(colour) for colour in np.asarray(alone).reshape(-1, 3)}


def test_levels_of_one_frame_are_those_of_its_picture() -> None:
    maps = run_of()
    one = AttributionMaps(
        (LayerSums("a", "reference", (4, 6), None, 0, maps.sums[0].r2g.unflatten(-1, (FRAMES, 24))[..., 1, :].contiguous()),), 2
    )
    shown, right = (
        np.asarray(page).astype(int)[60:] for page in (levels(maps, image=VIDEO, frame=1, index=1), levels(one, image=VIDEO[1], index=1))
    )
    assert shown.shape == right.shape
    assert (shown == right).all()  # under the title


def test_shares_of_frames_are_those_of_pictures() -> None:
    parts = draw(2, 2, FRAMES, 4, 6)
    parts = parts / parts.sum(1, keepdim=True)
    rows = shares([VIDEO, OTHER], parts, ["shirt", "hat"])
    for row, video, each in zip(rows, (VIDEO, OTHER), parts):
        for frame in range(FRAMES):
            (right,) = shares(video[frame], each[None, :, frame], ["shirt", "hat"])
            left = frame * (row.width - SIZE[1]) // (FRAMES - 1)
            inside = np.asarray(row)[:, left : left + SIZE[1]]
            wanted = np.asarray(right)[: SIZE[0]]
            assert any(np.array_equal(inside[top : top + SIZE[0]], wanted) for top in range(row.height - SIZE[0]))


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "too many frames": (lambda: overlay([flat(0, 0, 0)] * 9, draw(1, FRAMES, 4, 6)),
                        r"images must be one for each of the 3 frames .* got a video of 9\. .* such as video\[::4\]\. Frames that"),
    "too few": (lambda: overlay(VIDEO[:2], draw(1, FRAMES, 4, 6)), r"images must be one for each .* got a video of 2"),
    "two sizes": (lambda: overlay([*VIDEO[:2], flat(0, 0, 0, size=(9, 9))], draw(1, FRAMES, 4, 6)), r"images must be frames of one size"),
    "three videos for two": (lambda: overlay([VIDEO] * 3, draw(2, FRAMES, 4, 6)), r"images must be one video, .* \(2\), got 3 of 3, 3, 3"),
    "both": (lambda: overlay([VIDEO, flat(0, 0, 0)], draw(2, FRAMES, 4, 6)), r"images must be a video's pictures, or a list of videos"),
    "a frame too far": (lambda: overlay(VIDEO, draw(1, FRAMES, 4, 6), frames=3), r"frames must be some of the 3 frames of the maps, got 3"),
    "no frames": (lambda: overlay(VIDEO, draw(1, FRAMES, 4, 6), frames=[]), r"frames must be some of the 3"),
    "frames of pictures": (lambda: overlay(flat(0, 0, 0), draw(1, 4, 6), frames=0), r"frames must be left out for maps of pictures"),
    "which frame": (lambda: levels(run_of()), r"frame must be one of the video's 3 frames, got None"),
    "a frame too late": (lambda: levels(run_of(), frame=3), r"frame must be one of the video's 3 frames, got 3"),
    "kept": (lambda: run_of().with_pictures([VIDEO + VIDEO]), r"images must be one for each of the 3 frames .* got a video of 6"),
    "none kept": (lambda: run_of().animate("a.gif"), r"images must be given for r2g, got none"),
    "a strip of one picture": (lambda: strip(draw(4, 6)), r"map must be \[frames, h, w\]"),
    "size of a strip": (lambda: strip(draw(3, 4, 6), (4,)), r"size must be \(height, width\) of a frame"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_video_of_these_maps_is_refused(name: str) -> None:
    act, message = WRONG[name]
    with pytest.raises(ValueError, match=f"i2am: {message}"):
        act()
