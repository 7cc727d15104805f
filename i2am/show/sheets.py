"""Labelled sheets of maps with colour bars whose numbers are right, and the levels of one image on one page."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from i2am.common.checks import is_whole, refuse, said
from i2am.show.drawing import (
    BLANK,
    COLOURS,
    Picture,
    Scale,
    as_images,
    as_maps,
    as_tensor,
    blend,
    checked_labels,
    colour_map,
    is_flat,
    ranges,
    resized,
    text_width,
)
from i2am.show.labels import fit

Block = tuple[str, list[str], Tensor]  # title, labels, maps [n, h, w]
LISTED = (Tensor, np.ndarray, list, tuple)
DPI = 100
SIDE = 2000  # pixels that the cells of a sheet may take, each way
CELL = 420  # pixels of one cell's longer side at most
SMALLEST = 16  # pixels of one cell's shorter side at least
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
ABOUT = {"r2g": "r2g: where the reference acts on the generated image", "g2r": "g2r: which parts of the reference are used"}


def sheet(
    rows: Any,
    *,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    title: str | None = None,
    image: Any = None,
    colours: str = COLOURS,
    alpha: float = 0.6,
    scale: Scale = "shared",
) -> Picture:
    """A labelled grid of maps [rows, columns, h, w], or rows of maps [h, w], with one colour bar.

    None or a map of NaN leaves its cell blank. The bar shows the values of the maps; with scale="each" every cell has a range of its
    own and the bar says so. Labels that are too long lose the words that all of them have, then their middle. image: what the maps lie
    over, one for all or one for each column, as a video has for the columns of maps [rows, frames, h, w].
    """
    here = ("a map", "[h, w]")
    if not isinstance(rows, LISTED) or not all(isinstance(row, LISTED) for row in rows):
        refuse("rows", "rows of maps", said(rows), 'maps.layer("r2g") has a row for each image.')
    grid = [[None if m is None or as_tensor(m, *here).isnan().all() else as_maps(m, *here) for m in row] for row in rows]
    found = [m for row in grid for m in row if m is not None]
    if not found or len({len(row) for row in grid}) != 1:
        refuse("rows", "rows of equally many maps, one of them at least not blank", [len(row) for row in grid], "None is a blank.")
    columns = len(grid[0])
    row_labels = checked_labels("row_labels", row_labels, len(grid), "row")
    column_labels = checked_labels("column_labels", column_labels, columns, "column")
    pictures = [None] if image is None else [_one(image, i, columns, f"{columns} columns") for i in range(columns)]
    cell = _cell(found, pictures[0], len(grid), columns)
    gap = max(2, round(0.02 * max(cell)))
    down, across = cell[0] + gap, cell[1] + gap
    size = min(24.0, max(14.0, max(len(grid) * down, columns * across) / 80))
    spans = iter(ranges(found, scale))

    names, beside = fit(row_labels, max(16 * size, columns * across / 4), [min(size, 0.9 * cell[0])])
    left = max(text_width(name, beside) for name in names) + size
    heads, above = fit(column_labels, across - 0.4 * size, [size, 0.9 * size, 0.8 * size, 0.7 * size])
    turned = heads != column_labels
    if turned:
        heads, above = fit(column_labels, 16 * size, [min(size, cell[1])])
    start = 2.2 * size if title else 0.5 * size
    top = start + (max(text_width(name, above) for name in heads) + 0.8 * size if turned else 1.7 * size)
    page = _Page(left + columns * across + 5 * size, top + len(grid) * down + 0.3 * size)
    if title:
        page.text(page.width / 2, 1.2 * size, str(title), 1.2 * size, page.width - size, ha="center", weight="bold")
    for j, name in enumerate(heads):
        page.text(left + j * across + cell[1] / 2, top - 0.35 * size, name, above, ha="center", va="bottom", rotation=90 if turned else 0)
    for i, row in enumerate(grid):
        page.text(left - 0.5 * size, top + i * down + cell[0] / 2, names[i], beside, ha="right")
        for j, m in enumerate(row):
            shown = None if m is None else _thumbnail(m, pictures[j % len(pictures)], next(spans), colours, alpha, cell)
            page.cell(left + j * across, top + i * down, shown, cell)
    span = None if scale == "each" else ranges(found, scale)[0]
    page.bar(left + columns * across + 0.3 * size, top, len(grid) * down - gap, span, colours, size)
    return page.picture()


def levels(
    maps: Any,
    direction: str = "r2g",
    *,
    image: Any = None,
    index: int = 0,
    frame: int | None = None,
    size: tuple[int, int] | None = None,
    colours: str = COLOURS,
    alpha: float = 0.6,
    **choice: Any,
) -> Picture:
    """The unified, time, head and layer maps of one image of the batch, each level with its own scale and colour bar, because sums
    over groups and means over layers differ in size. frame: which one of a video. choice (layers=, reference=...) goes to every
    level; a level that the run does not have is named under the title with the reason."""
    if not hasattr(maps, "unified"):
        refuse("maps", "an AttributionMaps", said(maps), "run.maps is one.")
    unified = maps.unified(direction, size=size, **choice)
    if not is_whole(index) or index >= len(unified):
        refuse("index", f"below the number of images, {len(unified)}", said(index), "Images are counted from 0.")
    frames = checked_frame(frame, unified)
    at = (index, len(unified), f"batch's {len(unified)}") if frame is None else (frame, frames, f"video's {frames}")
    picture = None if image is None else _one(image, *at)
    named = {key: value for key, value in choice.items() if key in ("layers", "reference")}
    blocks: list[Block] = [("unified", [""], unified[index][None] if frame is None else unified[index, frame][None])]
    notes = []
    for level, title in (("time", "time groups, noisiest first"), ("head", "heads"), ("layer", "layers")):
        try:
            found = getattr(maps, level)(direction, size=size, **choice)[index]
        except ValueError as error:
            notes.append(f"No {level} level: {str(error).removeprefix('i2am: ')}")
            continue
        found = found if frame is None else found[:, frame]
        count = len(found)
        if level == "layer":
            labels = checked_labels(
                "the layers' names", maps.names(direction, **named) if hasattr(maps, "names") else maps.layers, count, "map"
            )
        else:
            labels = [f"head {i}" if level == "head" else f"group {i + 1} of {count}" for i in range(count)]
        blocks.append((title, labels, found))
    title = ABOUT.get(direction, direction) + ("" if frame is None else f", frame {frame} of {frames}")
    return _blocks(blocks, title, notes, picture, colours, alpha).picture()


def checked_frame(frame: Any, unified: Tensor) -> int:
    """How many frames there are; one of them must be asked for of a video [B, frames, h, w], and none of pictures [B, h, w]."""
    frames = unified.shape[1] if unified.ndim == 4 else 0
    if not frames and frame is not None:
        refuse("frame", "left out for pictures", said(frame), "Maps of videos are [B, frames, h, w].")
    if frames and not (is_whole(frame) and frame < frames):
        refuse("frame", f"one of the video's {frames} frames", said(frame), "frame=0 is the first.")
    return frames


def _one(image: Any, index: int, count: int, things: str) -> Picture:
    """The picture itself, or the one at this index."""
    pictures = as_images(image)
    if len(pictures) not in (1, count):
        refuse("image", "one image" + f", or one for each of the {things}" * (count > 1), f"{len(pictures)} images", "Pick one.")
    return pictures[index if len(pictures) > 1 else 0]


class _Page:
    """A matplotlib figure addressed in pixels from its top left corner."""

    def __init__(self, width: float, height: float) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.width, self.height = math.ceil(width), math.ceil(height)
        self.figure = Figure((self.width / DPI, self.height / DPI), dpi=DPI, facecolor="white")
        self.canvas = FigureCanvasAgg(self.figure)

    def cell(self, x: float, y: float, picture: Picture | None, size: tuple[int, int]) -> None:
        """A picture, pixel for pixel, in the middle of a cell of (height, width); grey where there is none."""
        picture = picture or Image.new("RGB", size[::-1], BLANK)
        left, top = x + (size[1] - picture.width) // 2, y + (size[0] - picture.height) // 2
        self.figure.figimage(np.asarray(picture), round(left), self.height - round(top) - picture.height, origin="upper")

    def text(self, x: float, y: float, text: str, size: float, room: float = math.inf, **how: Any) -> None:
        """A text, smaller where it would take more than its room."""
        size = min(size, room / max(1.15 * text_width(text, 1), 1))  # bold letters are wider
        how = {"va": "center", "color": "black", "weight": "normal", **how}
        self.figure.text(x / self.width, 1 - y / self.height, text, fontsize=size * 72 / DPI, family="DejaVu Sans",
                         parse_math=False, usetex=False, **how)  # fmt: skip

    def bar(self, x: float, y: float, height: float, span: tuple[float, float] | None, colours: str, size: float) -> None:
        """A colour bar with the range's numbers; without a range, every cell has its own."""
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import ListedColormap, Normalize
        from matplotlib.ticker import MaxNLocator

        low, high = span or (0.0, 1.0)
        flat = is_flat((low, high))
        cmap, norm = colour_map(colours), Normalize(*((low - 1, low + 1) if flat else (low, high)))
        axes = self.figure.add_axes((x / self.width, 1 - (y + height) / self.height, 0.7 * size / self.width, height / self.height))
        self.figure.colorbar(ScalarMappable(norm, ListedColormap([cmap(0.0)]) if flat else cmap), cax=axes).outline.set_visible(False)
        power = math.floor(math.log10(max(abs(low), abs(high)) or 1))
        power = 0 if -1 <= power <= 2 else power
        ticks = [low] if flat else [low, high]
        if span is not None and not flat:
            spread = MaxNLocator(max(2, min(6, int(height / (2.5 * size)))), steps=[1, 2, 5, 10]).tick_values(low, high)
            ticks = [tick for tick in spread if low <= tick <= high]
        numbers = [f"{tick / 10**power:.{4 if flat else 8}g}".replace("-", "\N{MINUS SIGN}") for tick in ticks]
        texts = ["min", "max"] if span is None else numbers
        small = min(size, 3.3 * size / max(text_width(text, 1) for text in texts))  # a narrow range has long numbers
        axes.set_yticks(ticks, texts, family="DejaVu Sans", weight="normal", fontsize=small * 72 / DPI, usetex=False)
        axes.tick_params(direction="out", width=0.8, length=0.25 * size * 72 / DPI, pad=0.2 * size * 72 / DPI, colors="black")
        if power:
            self.text(x, y - 0.7 * size, "\N{MULTIPLICATION SIGN}10" + str(power).translate(SUPERSCRIPT), size)

    def picture(self) -> Picture:
        self.canvas.draw()
        return Image.fromarray(np.asarray(self.canvas.buffer_rgba())[..., :3].copy())


def _thumbnail(
    map: Tensor, picture: Picture | None, span: tuple[float, float], colours: str, alpha: float, cell: tuple[int, int]
) -> Picture:
    """A map at the size of its cell, over the image if there is one; smaller where its shape is another."""
    height, width = map.shape if picture is None else picture.size[::-1]
    factor = min(cell[0] / height, cell[1] / width)
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    small = resized(map[None], size, antialias=map.shape[0] > size[0])[0]
    under = None if picture is None else picture.resize(size[::-1], Image.Resampling.LANCZOS)
    return blend(under, small, span, colours, alpha, None)


def _cell(maps: Sequence[Tensor], picture: Picture | None, rows: int, columns: int) -> tuple[int, int]:
    """(height, width) of a cell, so that the grid has a sensible size."""
    canvas = picture.size[::-1] if picture else max((m.shape for m in maps), key=math.prod)
    factor = min(CELL / max(canvas), SIDE / (rows * canvas[0]), SIDE / (columns * canvas[1]))
    cell = (round(canvas[0] * factor), round(canvas[1] * factor))
    if min(cell) < SMALLEST:
        refuse("a sheet", "small enough to read", f"{rows} rows of {columns} maps", "Draw it in several.")
    return cell


def _blocks(blocks: list[Block], title: str, notes: list[str], picture: Picture | None, colours: str, alpha: float) -> _Page:
    """Blocks of labelled maps, each with its colour bar, set like words: left to right, then on the next line."""
    blocks = [(name, labels, as_maps(maps, f"the {name} maps", "[n, h, w]")) for name, labels, maps in blocks]
    counts = [len(maps) for _, _, maps in blocks]
    plans: list[tuple[float, Any]] = []  # how much of the page is maps, and the page
    for columns in range(5, 100):
        cell = _cell([maps[0] for _, _, maps in blocks], picture, 1, columns)
        size = min(24.0, max(14.0, columns * cell[1] / 80))
        gap = max(4, round(0.03 * max(cell)))
        down, across = cell[0] + gap + 1.3 * size, cell[1] + gap
        sizes = [(count, 5 * size) for count in counts]
        places, width, height = _flow(([(1, gap)] if picture else []) + sizes, columns, down, across, 2.5 * size)
        if height <= columns * across:  # no page taller than wide; of the four with the largest cells the fullest
            plans.append((sum(counts) * math.prod(cell) / (width * height), (cell, size, gap, places, width, height)))
        if len(plans) == 4:
            break
    if not plans:
        refuse("levels", "few enough to read", f"{sum(counts)} maps", "Choose layers with layers=.")
    cell, size, gap, places, width, height = max(plans, key=lambda plan: plan[0])[1]
    down, across = cell[0] + gap + 1.3 * size, cell[1] + gap
    lines = [line for note in notes for line in textwrap.wrap(note, int(width / (0.5 * size)), max_lines=3, placeholder=" …")]
    head = 2.2 * size + size * len(lines)
    page = _Page(width + size, head + height)
    page.text(size, 1.1 * size, title, 1.2 * size, page.width - 2 * size, weight="bold")
    for i, line in enumerate(lines):
        page.text(size, (2.4 + i) * size, line, 0.75 * size, color="0.3")
    if picture is not None:
        x, y, _ = places.pop(0)
        page.text(size + x, head + y + size, "image", size, cell[1])
        page.cell(size + x, head + y + 3.3 * size, picture.resize(cell[::-1], Image.Resampling.LANCZOS), cell)
    for (x, y, columns), (name, labels, maps) in zip(places, blocks):
        left, top = size + x, head + y + 3.3 * size
        page.text(left, head + y + size, name, size, columns * across + 4 * size)
        texts, small = fit(labels, across - 0.5 * size, [max(10.0, part * size) for part in (0.75, 0.65, 0.55)])
        span = ranges([maps], "shared")[0]
        for i, (text, map) in enumerate(zip(texts, maps)):
            right, below = left + i % columns * across, top + i // columns * down
            page.text(right + cell[1] / 2, below - 0.65 * size, text, small, ha="center")
            page.cell(right, below, _thumbnail(map, picture, span, colours, alpha, cell), cell)
        tall = math.ceil(len(maps) / columns) * down - gap - 1.3 * size
        page.bar(left + columns * across, top, tall, span, colours, 0.85 * size)
    return page


def _flow(
    blocks: list[tuple[int, float]], columns: int, down: float, across: float, head: float
) -> tuple[list[tuple[float, float, int]], float, float]:
    """(x, y, columns) of each block of (maps, room at its right), and the width and height of all."""
    places: list[tuple[float, float, int]] = []
    x = y = width = tall = 0.0
    for count, room in blocks:
        lines = math.ceil(count / columns)
        wide = math.ceil(count / lines)
        if x and x + wide * across > columns * across:
            x, y, tall = 0.0, y + tall, 0.0
        places.append((x, y, wide))
        x += wide * across + room
        width, tall = max(width, x), max(tall, head + lines * down)
    return places, width, y + tall
