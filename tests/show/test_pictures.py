"""Pictures are held to their pixels: the right colour at the right place, whatever the shape."""

import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("matplotlib")
from matplotlib import colormaps
from painted import DEEP, LAYERS, Maps, at, close, colour, hot, noise, without_pyplot  # noqa: F401 (a fixture)

from i2am.show.pictures import animate, heat, levels, overlay, sheet


@pytest.mark.parametrize("size", [(64, 48), (33, 70)])
def test_without_alpha_the_image_comes_back(size):
    image = noise(*size)
    (out,) = overlay(image, torch.rand(1, 16, 12), alpha=0)
    assert out.mode == "RGB"
    assert np.array_equal(np.asarray(out), np.asarray(image))


@pytest.mark.parametrize("colours", ["inferno", "viridis", "jet"])
def test_the_peak_has_the_top_colour_and_the_least_value_the_lowest(colours):
    map = torch.rand(1, 16, 12)
    map[0, 3, 7], map[0, 10, 2] = 2.0, 0.0
    (out,) = overlay(noise(16, 12), map, alpha=1, colours=colours)
    assert at(out, 3, 7) == colour(colours, 1.0)
    assert at(out, 10, 2) == colour(colours, 0.0)
    assert at(out, 3, 7) == at(heat(map[0], colours=colours), 3, 7)


def test_alpha_is_the_share_of_the_map():
    map = hot(8, 6, 2, 4)[None]
    image = noise(8, 6)
    (out,) = overlay(image, map, alpha=0.25)
    expected = 0.75 * np.array(at(image, 2, 4)) + 0.25 * np.array(colour("inferno", 1.0))
    assert close(at(out, 2, 4), expected, 1)


@pytest.mark.parametrize(("row", "column"), [(0, 5), (7, 0), (6, 1)])
def test_a_hot_cell_lands_in_its_place_on_an_image_of_4_to_3(row, column):
    (out,) = overlay(Image.new("RGB", (48, 64)), hot(8, 6, row, column)[None], alpha=1, colours="gray")
    assert out.size == (48, 64)
    found = np.argwhere(np.asarray(out)[..., 0] > 127).mean(0) / 8 - 0.5
    assert np.abs(found - [row, column]).max() < 0.5


def test_resizing_is_torchs_bicubic_clamped_at_0():
    map = hot(8, 6, 4, 3)[None] + 0.01
    expected = torch.nn.functional.interpolate(map[None], (64, 48), mode="bicubic", align_corners=False, antialias=False)[0, 0].clamp(min=0)
    low, high = expected.min(), expected.max()
    assert low == 0  # bicubic undershoots around a peak
    (out,) = overlay(Image.new("RGB", (48, 64)), map, alpha=1, colours="gray")
    assert np.array_equal(np.asarray(out), colormaps["gray"](((expected - low) / (high - low)).numpy(), bytes=True)[..., :3])


def test_each_shared_and_given_scales():
    maps = torch.stack([hot(8, 6, 2, 4, 1.0), hot(8, 6, 2, 4, 0.5)])
    image = noise(8, 6)

    def peaks(scale):
        return [at(out, 2, 4) for out in overlay(image, maps, alpha=1, scale=scale)]

    assert peaks("each") == [colour("inferno", 1.0)] * 2
    assert peaks("shared") == [colour("inferno", 1.0), colour("inferno", 0.5)]
    assert peaks((0, 2)) == [colour("inferno", 0.5), colour("inferno", 0.25)]
    assert peaks((0.0, 0.25)) == [colour("inferno", 1.0)] * 2  # what is above the scale stays the top colour


def test_the_threshold_is_strict_and_leaves_the_image():
    map = torch.tensor([[[0.0, 0.25, 0.5, 1.0]]])
    image = noise(1, 4)
    (out,) = overlay(image, map, alpha=1, threshold=0.25)
    assert [at(out, 0, j) == at(image, 0, j) for j in range(4)] == [True, True, False, False]


@pytest.mark.parametrize("make", [
    lambda rgb: Image.fromarray(rgb), lambda rgb: [Image.fromarray(rgb)], lambda rgb: rgb, lambda rgb: rgb[None], lambda rgb: rgb / 255,
    lambda rgb: (torch.from_numpy(rgb).movedim(-1, 0) / 255), lambda rgb: [(torch.from_numpy(rgb).movedim(-1, 0) / 255)[None]],
    lambda rgb: torch.from_numpy(rgb).movedim(-1, 0),
], ids=["PIL", "list", "HWC", "BHWC", "float HWC", "CHW", "list of BCHW", "bytes CHW"])  # fmt: skip
def test_every_kind_of_image_is_the_same_image(make):
    rgb = np.array(noise(9, 5))
    (out,) = overlay(make(rgb), torch.rand(1, 3, 2), alpha=0)
    assert np.array_equal(np.asarray(out), rgb)


def test_images_of_several_sizes_and_one_image_for_all():
    maps = torch.rand(2, 8, 6)
    assert [out.size for out in overlay([noise(64, 48), noise(20, 30)], maps)] == [(48, 64), (30, 20)]
    assert [out.size for out in overlay(noise(64, 48), maps)] == [(48, 64)] * 2


def test_half_precision_gradients_grey_and_read_only_arrays_are_drawn():
    map = torch.rand(1, 4, 3, requires_grad=True).bfloat16()
    (out,) = overlay(torch.rand(1, 8, 6, dtype=torch.float16), map, alpha=0)
    assert out.getbands() == ("R", "G", "B")
    array = np.random.default_rng(0).random((1, 8, 6))[:, ::-1]
    array.flags.writeable = False
    assert overlay(noise(8, 6), array) == overlay(noise(8, 6), torch.tensor(array.copy()))
    sheet(array[None], row_labels=["a"], column_labels=["x"])


@pytest.mark.parametrize("value", [0.0, 1 / 3072, 7.3])
def test_a_constant_map_is_flat_and_no_noise(value):
    (out,) = overlay(noise(67, 45), torch.full((1, 16, 12), value), alpha=1)
    assert set(out.get_flattened_data() if hasattr(out, "get_flattened_data") else out.getdata()) == {colour("inferno", 0.0)}


def test_heat_takes_height_and_width():
    assert heat(torch.rand(8, 6)).size == (6, 8)
    assert heat(torch.rand(8, 6), (64, 48)).size == (48, 64)
    assert at(heat(hot(8, 6, 1, 4), scale=(0, 2)), 1, 4) == colour("inferno", 0.5)


# Sheets


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".GIF"])
def test_an_animation_has_a_frame_for_each_group(tmp_path, suffix):
    steps = (0.25, 0.5, 1.0)
    maps = torch.stack([hot(8, 6, 6, 1, value) for value in steps])
    path = animate(noise(256, 192), maps, tmp_path / f"a{suffix}", duration=0.3, alpha=1, colours="viridis")
    assert path == tmp_path / f"a{suffix}"
    with Image.open(path) as picture:
        assert picture.n_frames == 3
        assert picture.info["loop"] == 0
        assert picture.width == 192
        assert 256 < picture.height < 300  # the label stands above the image
        for i, level in enumerate(steps):
            picture.seek(i)
            frame = picture.convert("RGB")
            assert picture.info["duration"] == 300
            assert close(at(frame, picture.height - 256 + 208, 48), colour("viridis", level), 12)  # one scale for all frames


def test_an_animation_sets_a_batch_side_by_side(tmp_path):
    maps = torch.stack([torch.stack([hot(8, 6, 2, 2, v)] * 2) for v in (0.5, 1.0)])  # [B, groups, h, w]
    images = [Image.new("RGB", (48, 64)), Image.new("RGB", (30, 40))]
    animate(images, maps, tmp_path / "shared.gif", labels=["first", "last"], alpha=1, colours="gray")
    animate(images, maps, tmp_path / "each.gif", labels=["first", "last"], alpha=1, colours="gray", scale="each")
    peaks = {}
    for name in ("shared", "each"):
        with Image.open(tmp_path / f"{name}.gif") as picture:
            assert picture.n_frames == 2
            assert picture.width == 48 + 30 + 8
            frame = np.asarray(picture.convert("L"))[picture.height - 64 :]
        peaks[name] = (frame[:, :48].max(), frame[:40, 56:].max())
    assert close(peaks["shared"], (127, 255), 12)
    assert close(peaks["each"], (255, 255), 12)


def test_the_label_of_a_frame_changes(tmp_path):
    maps = torch.rand(1, 8, 6).expand(3, 8, 6)
    animate(noise(64, 48), maps, tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as picture:
        assert picture.n_frames == 3
        frames = []
        for i in range(3):
            picture.seek(i)
            frames.append(np.asarray(picture.convert("RGB")))
    top = frames[0].shape[0] - 64
    assert np.array_equal(frames[0][top:], frames[2][top:])
    assert not np.array_equal(frames[0][:top], frames[2][:top])


def test_an_animation_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    maps, path = torch.rand(2, 8, 6), tmp_path / "a.webp"
    before = animate(noise(16, 12), maps, path).read_bytes()

    def fail(*args, **kwargs):
        args[1].write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        animate(noise(16, 12), maps.flip(0), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.webp"]


# The door

M = torch.rand(2, 8, 6)
I = noise(16, 12)  # noqa: E741
NAN = M.clone()
NAN[0, :2, 0] = float("nan")
ONE = {"row_labels": ["a"], "column_labels": ["x"]}
BAD = {
    "maps of five dimensions": (lambda: overlay(I, M[None, None]), ["maps", "[B, h, w]", "(1, 1, 2, 8, 6)", "maps[0]"]),
    "a list of maps": (lambda: overlay(I, [M[0]]), ["maps", "tensor", "list", "torch.stack"]),
    "empty maps": (lambda: overlay(I, M[:0]), ["maps", "without empty", "(0, 8, 6)"]),
    "NaN": (lambda: overlay(I, NAN), ["maps", "finite", "2 NaN", "of 96", "overflow"]),
    "NaN in a cell": (lambda: sheet(NAN[None, :1], **ONE), ["a map", "finite", "2 NaN", "of 48"]),
    "three images for two maps": (lambda: overlay([I] * 3, M), ["images", "one", "(2)", "got 3", "batch"]),
    "no images": (lambda: overlay([], M), ["images", "PIL", "empty list"]),
    "a path for an image": (lambda: overlay("a.png", M), ["images", "'a.png'", "PIL.Image.open"]),
    "images in -1..1": (lambda: overlay(torch.rand(3, 8, 6) * 2 - 1, M), ["images", "from 0 to 1", "(x + 1) / 2"]),
    "numbers up to 255": (lambda: overlay(np.full((8, 6, 3), 200.0), M), ["images", "200", "uint8"]),
    "NaN in the image": (lambda: overlay(torch.full((3, 8, 6), float("nan")), M), ["images", "nan"]),
    "channels first in an array": (lambda: overlay(np.zeros((3, 8, 6), np.uint8), M), ["images", "[H, W, C]", "(3, 8, 6)", "axis"]),
    "a picture of 16 bits": (lambda: overlay(Image.new("I;16", (6, 8)), M), ["images", "I;16"]),
    "unknown colours": (lambda: overlay(I, M, colours="infreno"), ["colours", "'infreno'", "inferno"]),
    "alpha": (lambda: overlay(I, M, alpha=1.5), ["alpha", "0", "1.5", "0.6"]),
    "threshold": (lambda: overlay(I, M, threshold=1), ["threshold", "below 1", "got 1"]),
    "scale": (lambda: overlay(I, M, scale="all"), ["scale", '"each", "shared"', "'all'"]),
    "scale reversed": (lambda: overlay(I, M, scale=(1, 0)), ["scale", "low < high", "(1, 0)"]),
    "heat of a batch": (lambda: heat(M), ["map", "[h, w]", "(2, 8, 6)", "maps[0]"]),
    "heat size": (lambda: heat(M[0], (0, 3)), ["size", "(height, width)", "(0, 3)"]),
    "row labels": (lambda: sheet(M[None], row_labels=["a", "b"], column_labels=["x", "y"]), ["row_labels", "1 texts", "got 2"]),
    "a text for labels": (lambda: sheet(M[None], row_labels=["a"], column_labels="xy"), ["column_labels", "2 texts", "'xy'"]),
    "ragged rows": (lambda: sheet([[M[0]], [M[0], M[1]]], **ONE), ["rows", "equally many", "[1, 2]", "None"]),
    "all blank": (lambda: sheet([[None]], **ONE), ["rows", "not blank"]),
    "two images under a sheet": (lambda: sheet(M[None, :1], image=[I, I], **ONE), ["image", "one image", "2 images"]),
    "too many": (lambda: sheet(torch.rand(1, 300, 4, 3), row_labels=["a"], column_labels=["x"] * 300), ["small enough", "300", "several"]),
    "index": (lambda: levels(Maps(), index=2), ["index", "2", "counted from 0"]),
    "three images for two": (lambda: levels(Maps(), image=[I] * 3), ["image", "batch's 2", "3 images"]),
    "suffix": (lambda: animate(I, M, "a.mp4"), ["path", ".gif or .webp", "a.mp4"]),
    "duration": (lambda: animate(I, M, "a.gif", duration=0), ["duration", "0.02", "got 0"]),
    "a folder that is missing": (lambda: animate(I, M, "none/a.gif"), ["path", "folder that exists", "none/a.gif", "Make none first"]),
    "labels of frames": (lambda: animate(I, M, "a.gif", labels=["a"]), ["labels", "2 texts", "got 1"]),
    "frames of two dimensions": (lambda: animate(I, M[0], "a.gif"), ["maps_over_time", "groups, h, w]", "(8, 6)"]),
    "frames for other images": (lambda: animate([I] * 3, M[None], "a.gif"), ["images", "one", "got 3"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_refused_with_what_was_expected_what_came_and_what_to_do(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    act, words = BAD[name]
    with pytest.raises(ValueError, match=r"i2am: .* must be .*, got .*\. .+") as refused:
        act()
    missing = [word for word in words if not re.search(re.escape(word), str(refused.value))]
    assert not missing, str(refused.value)
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'i2am\[pictures\]'"):
        overlay(I, M)
