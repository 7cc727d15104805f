"""The parts of a study's page, in a parser that closes every tag."""

import base64
import io

import numpy as np
import pytest
from reported import Page

pytest.importorskip("accelerate")
from PIL import Image

from i2am.studies.charts import curves
from i2am.studies.page import Pictures, card, cards, how, look, looks, notes, page, row, section, share, sure, table, tabs, text

NASTY = "<script>alert(1)</script>\"'"


def noise(size: tuple[int, int] = (96, 64)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8))


def opened(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.split(",")[1])))


def test_a_page_of_all_parts_is_closed_and_asks_for_nothing(tmp_path):
    pictures = Pictures()
    shown = look([(pictures.add(noise()), NASTY), ("", "gone")], text(NASTY), "IoU 0.5", "more")
    plot = curves("mIoU", {NASTY: [(0.2, 0.5, 0.4, 0.6), (0.4, 0.6, 0.5, 0.7)], "one point": [(0.3, 0.2, 0.1, 0.3)]})
    numbers = [row("cat", sure(0.5, 0.1), share(0.5, 0.4, 0.6))]
    parts = [
        section("Numbers", "Said.", table("Numbers", ("Word", "mIoU", ""), numbers), notes("One")),
        section(NASTY, "", cards(card("Curves", plot, "side")), name="curves"),
        section("Examples", "", tabs("by", {"Best": looks([shown], "Best"), "Worst": looks([look([("", "gone")], "x")])})),
        how("All of it.", {"Options": {NASTY: [1, 2], "nested": {"one": None}}, "Nothing": {}}),
    ]  # fmt: skip
    file = tmp_path / "page.html"
    file.write_text(page(NASTY, "A lede.", parts), encoding="utf-8")
    found = Page(file)
    assert found.all("script") == []
    assert not [one for _, one in found.elements if any(key.startswith("on") for key in one)]
    assert all((one.get("src") or "").startswith("data:image/") for one in found.all("img"))
    assert len(found.all("img")) == 1
    assert [one["id"] for one in found.all("input")] == ["by-0", "by-1"]
    assert "0.5000 ± 0.1000" in found.text
    assert "nested.one none" in found.text
    assert "Nothing" not in found.text
    assert found.text.count("Left out, as this page would grow too large.") == 1


def test_every_curve_has_its_points_where_its_numbers_are(tmp_path):
    file = tmp_path / "plot.html"
    file.write_text(curves("x", {"a": [(0.2, 0.0, 0.0, 0.0), (0.6, 1.0, 1.0, 1.0)], "b": [(0.4, 0.5, 0.5, 0.5)]}), encoding="utf-8")
    first, last, middle = [(float(one["cx"] or 0), float(one["cy"] or 0)) for one in Page(file).all("circle")]
    assert middle == pytest.approx(((first[0] + last[0]) / 2, (first[1] + last[1]) / 2), abs=0.1)
    assert first[1] > middle[1] > last[1]


def test_pictures_fill_the_room_and_are_counted_beyond_it():
    one = len(Pictures().add(noise()))
    pictures = Pictures(room=one)
    assert opened(pictures.add(noise())).size == (96, 64)
    assert (pictures.add(noise()), pictures.left_out) == ("", 1)
    assert opened(Pictures().add(noise((600, 300)), side=200)).size == (200, 100)


def test_masks_stay_sharp():
    mask = Image.fromarray(np.eye(8, dtype=np.uint8) * 255)
    found = opened(Pictures().add(mask, side=70, sharp=True))
    assert np.array_equal(np.asarray(found), np.kron(np.eye(8, dtype=np.uint8) * 255, np.ones((8, 8), np.uint8)))
