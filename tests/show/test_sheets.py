"""Sheets are held to their pixels and their labels: every map in its place, numbers right at the bar, nothing overlapping."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("matplotlib")
import matplotlib
from matplotlib.transforms import Bbox
from painted import DEEP, LAYERS, Maps, at, close, colour, hot, noise, without_pyplot  # noqa: F401 (a fixture)

from i2am.show import drawing, labels, sheets
from i2am.show.pictures import levels, sheet


@pytest.fixture
def pages(monkeypatch):
    """The pages drawn, to look at axes and texts."""
    drawn = []
    draw = sheets._Page.picture
    monkeypatch.setattr(sheets._Page, "picture", lambda page: (drawn.append(page), draw(page))[1])
    return drawn


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
