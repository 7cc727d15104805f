"""A look at each picture: what was painted, and over it the map of each content word, named."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from tqdm.auto import tqdm

from i2am.common.outputs import write_whole
from i2am.maps.words import WordMaps
from i2am.show.drawing import Picture, font, text_width
from i2am.show.pictures import overlay
from i2am.studies.painted import Painted

SIDE, GAP, SIZE = 256, 8, 16  # pixels: the longer side of a cell, between cells, of letters
COLUMNS, MOST = 6, 17  # cells a row, and words
# words that stand for no thing, in prompts; a map of theirs says little, and there is no need of a parser to leave them out of a look
FUNCTION_WORDS = """a an the this that these those some any each every no and or but nor so as if of on in at to by for from with without
into onto over under up down out off near beside between behind above below through is are was were be been being am has have had do does
did
its his her their our my your it he she they we i you there here which who whose what while then than s t re ve m ll d 's 't 're 've"""


def content_words(words: WordMaps) -> list[str]:
    """The words of one picture's prompt that stand for something; all of them, if none does."""
    found = [word for word in words if word not in FUNCTION_WORDS.split() and any(c.isalnum() for c in word)]
    return found or list(words)


def look(painted: Painted) -> Picture:
    """One sheet."""
    picture, words = painted.picture(), painted.words()
    picture.thumbnail((SIDE, SIDE)) if max(picture.size) > SIDE else None
    shown = content_words(words)[:MOST]
    maps = [words[word][0] for word in shown]
    over = [overlay(picture, one[None])[0] for one in maps]
    return captioned([("painted", picture), *zip(shown, over)], painted.asked.prompt)


def captioned(cells: Sequence[tuple[str, Any]], title: str, columns: int = COLUMNS) -> Picture:
    """Pictures in rows, each with its caption under it, under a title; all have the room of the first."""
    wide, high = cells[0][1].size
    scale = max(1, SIDE // max(wide, high))  # small pictures are shown larger, pixel by pixel
    wide, high = wide * scale, high * scale
    columns = min(columns, len(cells))
    width, line = columns * (wide + GAP) + GAP, round(1.5 * SIZE)
    lines = textwrap.wrap(title, max(8, int(width / text_width("n", SIZE))))
    down = high + line + GAP
    top = GAP + line * len(lines)
    whole = Image.new("RGB", (width, top + -(-len(cells) // columns) * down + GAP), "white")
    pen = ImageDraw.Draw(whole)
    for n, text in enumerate(lines):
        pen.text((GAP, GAP + n * line), text, "black", font=font(SIZE))
    for n, (caption, one) in enumerate(cells):
        x, y = GAP + n % columns * (wide + GAP), top + n // columns * down
        put = fitted(one, (wide, high))
        whole.paste(put, (x + (wide - put.width) // 2, y + (high - put.height) // 2))
        size = max(6, int(min(SIZE, SIZE * wide / max(1.0, text_width(caption, SIZE)))))
        pen.text((x + wide / 2, y + high + line / 2), caption, "black", font=font(size), anchor="mm")
    return whole


def fitted(picture: Picture, room: tuple[int, int]) -> Picture:
    """As large as the room allows."""
    scale = min(room[0] / picture.width, room[1] / picture.height)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture if size == picture.size else picture.resize(size, Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BICUBIC)


def write_looks(out: Path, pictures: Sequence[Painted]) -> Path:
    """A sheet for each picture; those that are newer than their picture stay."""
    folder = out / "looks"
    folder.mkdir(exist_ok=True)
    for painted in tqdm(pictures, desc="looks", unit="image", delay=2):
        path = folder / f"{painted.asked.id}.jpg"
        if not path.is_file() or path.stat().st_mtime < painted.maps.stat().st_mtime:
            write_whole(path, partial(look(painted).save, format="JPEG", quality=88))
    return folder
