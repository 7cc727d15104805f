"""Maps and fields as one small picture, for whoever shows a value as PNG."""

from __future__ import annotations

import io
from typing import Any

IMAGES = 4  # of a batch, at most
SIDE = 320  # pixels of each picture's longer side


def png_of_maps(maps: Any) -> bytes:
    """The unified maps of both directions over their pictures, or alone; an image each a column."""
    from i2am.show.pictures import heat, overlay, strip

    rows = []
    some = maps[:IMAGES] if len(maps) > IMAGES else maps
    reference = maps.references[0] if maps.references else None
    for direction in ("r2g", "g2r") if reference is not None else ("words",):
        try:
            unified = some.level(direction, reference=reference)
        except ValueError:  # a reference of one token
            continue
        unified = unified.sum(1) if direction == "words" else unified
        own = some.pictures and some.pictures.on(direction, reference, some.references)
        alone = strip if unified.ndim == 4 else heat
        rows.append(overlay(list(own), unified) if own else [alone(one) for one in unified])
    return png_of(rows)


def png_of_field(field: Any) -> bytes:
    """The other picture warped, where the field carries it, and the colour wheel."""
    some = field[:IMAGES]
    _, other = some.sides(None, None)
    return png_of([*([some.warp()] if other else []), some.wheel((SIDE, round(SIDE * some.positions.shape[2] / some.positions.shape[1])))])


def png_of(rows: list[list[Any]]) -> bytes:
    """Rows of pictures, each as large as SIDE says, as the bytes of a file."""
    from PIL import Image

    sized = []
    for row in rows:
        sides = [SIDE * (3 if max(one.size) > 2.5 * min(one.size) else 1) for one in row]  # a video's frames are a long row
        factors = [side / max(one.size) for one, side in zip(row, sides)]
        sized.append([one.resize((max(1, round(one.width * f)), max(1, round(one.height * f))), Image.Resampling.BICUBIC)
                      for one, f in zip(row, factors)])  # fmt: skip
    gap = SIDE // 40
    width = max(sum(one.width + gap for one in row) - gap for row in sized)
    heights = [max(one.height for one in row) + gap for row in sized]
    page = Image.new("RGB", (width, sum(heights) - gap), "white")
    for row, top in zip(sized, (sum(heights[:i]) for i in range(len(heights)))):
        left = 0
        for one in row:
            page.paste(one, (left, top))
            left += one.width + gap
    file = io.BytesIO()
    page.save(file, "PNG")
    return file.getvalue()
