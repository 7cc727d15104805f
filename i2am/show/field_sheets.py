"""Everything that a field shows of an image on one labelled page."""

from __future__ import annotations

from typing import Any

from PIL import Image, ImageDraw

from i2am.show.drawing import Picture, as_images, font, text_width
from i2am.show.field_marks import dotted
from i2am.show.fields import EVEN, checked, warp, wheel

TALL = 420  # pixels of each picture
LABELS = {True: ("generated image", "the reference moved into place", "reference", "displacement"),
          False: ("reference", "the generated image taken back", "generated image", "displacement")}  # fmt: skip


def sheet(
    positions: Any, spread: Any, images: Any, others: Any, *, back: bool = True, columns: int = 8, wide: float = EVEN
) -> list[Picture]:
    """A row for each image: its picture with dots, the other picture warped onto it, the other with the same dots, and the wheel."""
    positions, _ = checked(positions, spread, wide)
    pairs = dotted(positions, spread, images, others, columns=columns, wide=wide)
    under = as_images(images) * (len(pairs) if len(as_images(images)) == 1 else 1)
    big = [one.resize((round(one.width * TALL / one.height), TALL), Image.Resampling.BICUBIC) for one in under]
    found = []
    for i, (left, right) in enumerate(pairs):
        at, how = positions[i : i + 1], spread[i : i + 1]
        size = (TALL, big[i].width)
        moved = warp(at, how, as_images(others)[i if len(as_images(others)) > 1 else 0], big[i], size, wide=wide)[0]
        flow = wheel(at, how, size, back=back, wide=wide)[0]
        found.append(row([left, moved, right, flow], LABELS[back]))
    return found


def row(pictures: list[Picture], labels: tuple[str, ...]) -> Picture:
    """Pictures of one height side by side, each under its label."""
    sized = [one.resize((max(1, round(one.width * TALL / one.height)), TALL), Image.Resampling.LANCZOS) for one in pictures]
    gap = TALL // 30
    size = int(min(16, *(0.98 * one.width / text_width(label, 1) for one, label in zip(sized, labels))))
    head = round(1.8 * size)
    page = Image.new("RGB", (sum(one.width for one in sized) + gap * (len(sized) - 1), head + TALL), "white")
    left = 0
    for one, label in zip(sized, labels):
        page.paste(one, (left, head))
        ImageDraw.Draw(page).text((left + one.width / 2, head / 2), label, "black", font=font(max(8, size)), anchor="mm")
        left += one.width + gap
    return page
