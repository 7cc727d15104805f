"""Pictures are held to their pixels: the right colour at the right place, whatever the shape, and labels that can be read."""

import re
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("matplotlib")
import matplotlib
from matplotlib import colormaps
from matplotlib.transforms import Bbox

from i2am import drawing, labels, sheets
from i2am.pictures import animate, heat, levels, overlay, sheet

LAYERS = [
    f"{block}.attentions.{i}.transformer_blocks.0.attn2" for block in ("down_blocks.0", "down_blocks.1", "up_blocks.2") for i in (0, 1)
]
DEEP = [
    f"unet.{block}.attentions.{i}.transformer_blocks.{k}.attn2"
    for block in ("down_blocks.1", "up_blocks.0")
    for i in (0, 1)
    for k in range(8)
]


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    """Maps are CPU tensors whatever the suite's default device, and whoever asks for pyplot does not get it."""
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    before = torch.get_default_device()
    torch.set_default_device("cpu")
    yield
    torch.set_default_device(before)


@pytest.fixture
def pages(monkeypatch):
    """The pages drawn, to look at axes and texts."""
    drawn = []
    draw = sheets._Page.picture
    monkeypatch.setattr(sheets._Page, "picture", lambda page: (drawn.append(page), draw(page))[1])
    return drawn


def noise(height, width, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def hot(height, width, row, column, value=1.0):
    """A map of one hot cell."""
    map = torch.zeros(height, width)
    map[row, column] = value
    return map


def colour(name, level):
    return tuple(colormaps[name](float(level), bytes=True)[:3])


def at(picture, row, column):
    return picture.getpixel((column, row))


def close(a, b, by=2):
    return np.abs(np.asarray(a, dtype=int) - np.asarray(b, dtype=int)).max() <= by


class Maps:
    """What `levels` needs of AttributionMaps: B = 2 images, and levels of very different size."""

    def __init__(self, groups=5, heads=3, layers=LAYERS, grid=(16, 12)):
        self.groups, self.heads, self.layers, self.grid, self.asked = groups, heads, layers, grid, []

    def _maps(self, count, size, by):
        self.asked.append(size)
        return by * torch.rand(2, count, *(size or self.grid)) * torch.tensor([0.5, 1.0]).view(2, 1, 1, 1)

    def unified(self, direction, size=None):
        return self._maps(1, size, 1.0)[:, 0]

    def time(self, direction, size=None):
        return self._maps(self.groups, size, 0.2)

    def head(self, direction, size=None):
        if self.heads is None:
            raise ValueError("i2am: the head level needs layers with the same number of heads. " + ", ".join(DEEP))
        return self._maps(self.heads, size, 3.0)

    def layer(self, direction, size=None):
        return self._maps(len(self.layers), size, 40.0)


# Overlay


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


def cells(page):
    """The pixels of each cell, in the order of drawing."""
    return [image.get_array() for image in page.figure.images]


def readable(page):
    """Nothing outside the page, nothing over another thing; fonts of at least 10 pixels."""
    renderer = page.canvas.get_renderer()
    texts = [text for text in page.figure.texts if text.get_text()]
    boxes = [text.get_window_extent(renderer) for text in texts]
    ticks = [label for axes in page.figure.axes for label in axes.get_yticklabels()]
    boxes += [label.get_window_extent(renderer) for label in ticks]
    boxes += [axes.get_window_extent(renderer) for axes in page.figure.axes]
    boxes += [Bbox.from_bounds(image.ox, image.oy, *image.get_array().shape[1::-1]) for image in page.figure.images]
    edges = np.array([box.extents for box in boxes])  # x0, y0, x1, y1
    assert edges.min() >= 0
    assert (edges[:, 2:] <= (page.width, page.height)).all()
    inside = np.minimum(edges[:, None, 2:], edges[:, 2:]) - np.maximum(edges[:, None, :2], edges[:, :2])
    assert not np.triu((inside > 0).all(-1), 1).any()
    assert min(text.get_fontsize() * sheets.DPI / 72 for text in texts) >= 10


@pytest.mark.parametrize(("rows", "columns"), [
    (["group 1"], ["a"]),
    ([f"group {i}" for i in range(5)], [f"head {i}" for i in range(20)]),
    (DEEP, [f"group {i}" for i in range(5)]),
    (["g2r", "r2g"], DEEP),
    (["a row of a name without dots that goes on for longer than anybody would want to read it " * 2], ["one", "two"]),
], ids=["one", "time x head", "layer x time", "direction x layer", "long"])  # fmt: skip
def test_a_sheet_has_a_cell_for_each_map_and_can_be_read(pages, rows, columns):
    picture = sheet(
        torch.rand(len(rows), len(columns), 16, 12) * 1e-4, row_labels=rows, column_labels=columns, title="A title of some words"
    )
    (page,) = pages
    assert len(cells(page)) == len(rows) * len(columns)
    assert picture.size == (page.width, page.height)
    assert max(picture.size) <= 3000
    readable(page)


def test_long_column_labels_are_turned_and_a_long_title_is_smaller(pages):
    title = "A title with so many words that it would not fit into the width of the page at its usual size"
    sheet(torch.rand(1, 6, 16, 4), row_labels=["a"], column_labels=LAYERS, title=title)
    turned = [text.get_text() for text in pages[0].figure.texts if text.get_rotation() == 90]
    assert turned[3] == "down_blocks.1…1…0.attn2"
    readable(pages[0])


def test_a_sheet_puts_maps_in_their_place_on_one_scale_with_the_right_numbers(pages):
    maps = torch.stack([torch.stack([hot(8, 6, 2 * i, j, 0.0003 * (1 + 3 * i + j)) for j in range(3)]) for i in range(2)])
    out = sheet(maps, row_labels=["a", "b"], column_labels=["x", "y", "z"])
    (page,) = pages
    for n, (image, pixels) in enumerate(zip(page.figure.images, cells(page))):
        i, j = divmod(n, 3)
        height, width = pixels.shape[:2]
        row, column = round((2 * i + 0.5) * height / 8), round((j + 0.5) * width / 6)
        assert close(pixels[row, column], colour("inferno", (1 + 3 * i + j) / 6), 12)
        top = page.height - image.oy - height  # the same pixels, in the picture itself
        assert np.array_equal(np.asarray(out)[top : top + height, image.ox : image.ox + width], pixels)
    bar = page.figure.axes[-1]
    box = bar.get_window_extent()  # as high as the cells
    assert abs(box.y1 - page.figure.images[0].oy - height) <= 1
    assert abs(box.y0 - page.figure.images[-1].oy) <= 1
    assert bar.get_ylim() == pytest.approx((0.0, 0.0018))
    (power,) = [text.get_text() for text in page.figure.texts if text.get_text().startswith("\N{MULTIPLICATION SIGN}10")]
    assert power[1:] == "10⁻³"
    ticks = [(float(tick), float(label.get_text())) for tick, label in zip(bar.get_yticks(), bar.get_yticklabels())]
    assert len(ticks) >= 3
    assert all(number * 1e-3 == pytest.approx(tick) for tick, number in ticks)


@pytest.mark.parametrize(("low", "high"), [(0.0123, 0.0138), (1, 1.0002), (-0.5, 0.5), (2e5, 9e5), (0, 7e-9)])
def test_the_numbers_at_the_bar_are_those_of_its_ticks(pages, low, high):
    sheet(torch.rand(1, 1, 8, 6), row_labels=["a"], column_labels=["x"], scale=(low, high))
    readable(pages[0])
    powers = [text.get_text()[3:] for text in pages[0].figure.texts if text.get_text().startswith("\N{MULTIPLICATION SIGN}10")]
    power = int(powers[0].translate({after: before for before, after in sheets.SUPERSCRIPT.items()})) if powers else 0
    bar = pages[0].figure.axes[-1]
    numbers = [float(label.get_text().replace("\N{MINUS SIGN}", "-")) * 10.0**power for label in bar.get_yticklabels()]
    assert len(numbers) >= 3
    assert np.abs(numbers - bar.get_yticks()).max() < 1e-4 * (high - low)


def test_each_cell_with_its_own_scale_says_so(pages):
    maps = torch.stack([hot(8, 6, 2, 2), hot(8, 6, 2, 2, 9.0)])[None]
    sheet(maps, row_labels=["a"], column_labels=["x", "y"], scale="each")
    first, second = cells(pages[0])
    assert np.array_equal(first, second)
    assert [label.get_text() for label in pages[0].figure.axes[-1].get_yticklabels()] == ["min", "max"]


def test_blank_cells_stay_blank_and_do_not_spoil_the_scale(pages):
    blank = torch.full((8, 6), float("nan"))
    sheet([[hot(8, 6, 2, 2), None], [blank, hot(8, 6, 3, 3, 2.0)]], row_labels=["a", "b"], column_labels=["x", "y"])
    assert [bool((pixels == drawing.BLANK).all()) for pixels in cells(pages[0])] == [False, True, True, False]
    assert pages[0].figure.axes[-1].get_ylim() == pytest.approx((0, 2))


def test_an_image_lies_under_each_map(pages):
    red = Image.new("RGB", (30, 40), (200, 0, 0))
    sheet(torch.rand(1, 2, 8, 6), row_labels=["a"], column_labels=["x", "y"], image=red, alpha=0)
    first, second = cells(pages[0])
    assert (first == (200, 0, 0)).all()
    assert (second == first).all()
    assert first.shape[0] * 3 == first.shape[1] * 4


def test_a_constant_sheet_names_its_value(pages):
    sheet(torch.full((1, 1, 8, 6), 0.25), row_labels=["a"], column_labels=["x"])
    assert (cells(pages[0])[0] == colour("inferno", 0.0)).all()
    (label,) = pages[0].figure.axes[-1].get_yticklabels()
    assert float(label.get_text()) == 0.25


def test_long_names_lose_what_they_share_and_stay_different():
    short, size = labels.fit(DEEP, 300, [20.0])
    assert size == 20
    assert len(set(short)) == len(DEEP)
    assert all(drawing.text_width(name, 20) <= 300 for name in short)
    assert short[11] == "…down_blocks.1…1…3.attn2"
    crammed, _ = labels.fit(DEEP, 40, [20.0])
    assert all(drawing.text_width(name, 20) <= 40 for name in crammed)
    assert labels.fit(["short", "names"], 260, [20.0]) == (["short", "names"], 20)
    alike, _ = labels.fit(["down_blocks.0.attn", "down_layers.0.attn"], 130, [20.0])
    assert len(set(alike)) == 2


# Levels


def test_levels_shows_every_level_with_a_bar_of_its_own(pages):
    maps = Maps()
    levels(maps, "r2g", image=noise(64, 48), index=1)
    (page,) = pages
    bars = page.figure.axes
    assert len(cells(page)) == 1 + (1 + 5 + 3 + 6)
    assert [bar.get_ylim()[1] for bar in bars] == pytest.approx([1.0, 0.2, 3.0, 40.0], rel=0.1)
    texts = [text.get_text() for text in page.figure.texts]
    assert {"unified", "group 5 of 5", "head 2", "layers"} <= set(texts)
    assert not any("No " in text for text in texts)
    readable(page)


@pytest.mark.parametrize(("groups", "heads", "layers_", "grid"), [
    (1, 1, LAYERS[:1], (16, 12)), (10, 20, [f"{n}.{i}" for n in DEEP for i in range(2)], (16, 12)), (2, 2, LAYERS, (12, 40)),
    (1, 2, LAYERS[:2], (60, 16)),
], ids=["few", "many", "wide", "tall"])  # fmt: skip
def test_levels_of_any_number_and_shape_can_be_read(pages, groups, heads, layers_, grid):
    picture = levels(Maps(groups, heads, layers_, grid), "g2r")
    readable(pages[0])
    assert max(picture.size) <= 3000


def test_levels_says_why_there_is_no_head_row(pages):
    levels(Maps(heads=None), "g2r", size=(32, 24))
    texts = " ".join(text.get_text() for text in pages[0].figure.texts)
    assert "No head level: the head level needs layers with the same number of heads." in texts
    assert len(cells(pages[0])) == 1 + 5 + 6
    assert len(pages[0].figure.axes) == 3
    readable(pages[0])


def test_levels_passes_the_size_on_and_takes_the_images_own_row(pages):
    maps = Maps()
    black, white = Image.new("RGB", (12, 16)), Image.new("RGB", (12, 16), "white")
    levels(maps, size=(32, 24), image=[black, white], index=1)
    assert set(maps.asked) == {(32, 24)}
    assert (cells(pages[0])[0] == 255).all()


def test_the_users_style_changes_nothing():
    style = {"image.origin": "lower", "text.color": "w", "ytick.color": "w", "figure.facecolor": "k", "axes.facecolor": "k",
             "font.weight": "bold", "font.family": "serif", "ytick.direction": "in", "ytick.major.width": 3, "axes.edgecolor": "r",
             "text.usetex": True}  # fmt: skip
    maps = torch.rand(1, 2, 8, 6)
    plain = sheet(maps, row_labels=[1], column_labels=["$x", "y$"], title="t")
    with matplotlib.rc_context(style):
        assert sheet(maps, row_labels=[1], column_labels=["$x", "y$"], title="t") == plain


def test_sheets_are_the_same_in_threads():
    maps = torch.rand(2, 3, 8, 6)

    def draw(_):
        return sheet(maps, row_labels=["a", "b"], column_labels=["x", "y", "z"], title="t").tobytes()

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(draw, range(5))) == {draw(0)}


# Animations


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


# The door

M = torch.rand(2, 8, 6)
I = noise(16, 12)  # noqa: E741
NAN = M.clone()
NAN[0, :2, 0] = float("nan")
ONE = {"row_labels": ["a"], "column_labels": ["x"]}
BAD = {
    "maps of four dimensions": (lambda: overlay(I, M[None]), ["maps", "[B, h, w]", "(1, 2, 8, 6)", "maps[0]"]),
    "a list of maps": (lambda: overlay(I, [M[0]]), ["maps", "tensor", "list", "torch.stack"]),
    "empty maps": (lambda: overlay(I, M[:0]), ["maps", "without empty", "(0, 8, 6)"]),
    "NaN": (lambda: overlay(I, NAN), ["maps", "finite", "2 NaN", "of 96", "overflow"]),
    "NaN in a cell": (lambda: sheet(NAN[None, :1], **ONE), ["a map", "finite", "2 NaN", "of 48"]),
    "three images for two maps": (lambda: overlay([I] * 3, M), ["images", "one", "(2)", "got 3", "batch"]),
    "no images": (lambda: overlay([], M), ["images", "PIL", "empty list"]),
    "a path for an image": (lambda: overlay("a.png", M), ["images", "str", "PIL.Image.open"]),
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
