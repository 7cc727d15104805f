"""Maps and runs in a notebook: a frame with the viewer that really runs there, small; pictures; and no failure, whatever happens."""

import io
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from typing import Any

import numpy as np
import pytest
import torch
from browsing import settled, started
from PIL import Image
from pointed import HERE, centres, mirrored, pointed
from viewed import flat, known, parsed, words_of

from i2am.attach.trace import Trace
from i2am.viewer import notebook

pytestmark = pytest.mark.usefixtures("on_the_cpu")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from started()


def inside(html: str) -> str:
    return unescape(html.split('srcdoc="')[1].split('"')[0])


def test_maps_show_the_viewer_in_a_small_frame():
    html = known(2)._repr_html_()
    assert html.startswith("<iframe ")
    assert 'sandbox="allow-scripts"' in html
    assert len(html.encode()) < 1e6
    shown = parsed(inside(html))
    assert shown.run["facts"]["images"] == 2
    assert len(shown.run["pictures"]["generated"]) == 2
    assert parsed(inside(known(1, pictures=False)._repr_html_())).run["pictures"] == {"generated": [], "references": {}}


def test_of_many_images_some_are_shown_and_it_is_said(monkeypatch):
    maps = known(6)
    html = maps._repr_html_()
    assert parsed(inside(html)).run["facts"]["images"] == 4
    assert html.endswith("<small>The first 4 of 6 images; i2am.view(maps) writes a page of all.</small>")
    monkeypatch.setattr(notebook, "MEGABYTES", len(inside(known(1)._repr_html_()).encode()) / 1e6)
    assert parsed(inside(maps._repr_html_())).run["facts"]["images"] <= 4


def test_what_cannot_be_drawn_is_said_under_its_text(monkeypatch):
    monkeypatch.setattr(notebook, "MEGABYTES", 0.01)
    html = known(2)._repr_html_()
    assert html.startswith("<pre>AttributionMaps of 2 images")
    assert "No picture: max_megabytes must be at least" in html
    maps = known(1)
    broken = replace(maps, sums=tuple(replace(s, r2g=s.r2g * torch.nan, g2r=s.g2r * torch.nan) for s in maps.sums))
    monkeypatch.undo()
    assert "No picture: the r2g sums must be finite" in broken._repr_html_()
    assert broken._repr_png_() is None


def test_a_run_shows_the_maps_of_its_last_call():
    run = Trace.__new__(Trace)
    run.finished = None
    assert run._repr_html_() is None
    run.finished = known(1)
    assert run._repr_html_() == known(1)._repr_html_()


def test_the_frame_runs_in_a_browser(browser, tmp_path):
    """Its origin is none at all: pictures must still be read for the warp."""
    maps = pointed().with_pictures(Image.new("RGB", (80, 120), (0, 90, 0)), Image.new("RGB", (150, 90), (200, 0, 0)))
    file = tmp_path / "notebook.html"
    file.write_text(f"<!doctype html><meta charset='utf-8'><body style='width:900px'>{maps._repr_html_()}", "utf-8")
    tab = browser.new_page(viewport={"width": 1000, "height": 900})
    complaints: list[str] = []
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.goto(file.as_uri())
    tab.wait_for_timeout(300)
    (frame,) = tab.frames[1:]
    frame.evaluate("i2am.ready")
    frame.locator("input[name=direction][value=warp]").check()
    settled(frame)
    frame.evaluate("scrollTo(0, 0)")
    box = frame.locator("figure[data-side=generated] .canvas").bounding_box()
    y, x = centres(HERE)[4, 3].tolist()
    tab.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
    settled(frame)
    found = frame.evaluate("i2am.pointed")
    assert [found["y"], found["x"]] == pytest.approx(mirrored(torch.tensor([y, x])).tolist(), abs=1e-4)
    red, green, _, _ = frame.evaluate(
        "Array.from(document.querySelector('figure[data-side=generated] canvas').getContext('2d').getImageData(40, 40, 1, 1).data)"
    )
    assert red > 150 > green + 40
    assert complaints == []
    tab.close()


def picture(value: Any) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(value._repr_png_())).convert("RGB")).astype(int)


def test_maps_as_a_picture():
    """Both directions, one under the other, over their pictures or alone; an image each a column."""
    alone = picture(known(2, pictures=False))
    assert alone.shape == (320 + 8 + 320, 240 + 8 + 240, 3)  # 8 x 6 patches of the reference are the widest
    over = picture(known(2))
    assert over.shape == (320 + 8 + 320, 213 + 8 + 213, 3)
    assert picture(known(6, pictures=False)).shape == (648, 4 * 240 + 3 * 8, 3)
    assert picture(words_of()).shape == (213, 320 + 8 + 320, 3)


def test_a_field_as_a_picture():
    """The wheel, and above it the warp where there is something to warp."""
    bare = pointed(images=5).field()
    carried = pointed(images=5).with_pictures(flat(0), flat(1, (64, 96))).field()
    assert picture(bare).shape == (320, 4 * 213 + 3 * 8, 3)
    assert picture(carried).shape == (320 + 8 + 320, 4 * 213 + 3 * 8, 3)
    assert (picture(carried)[328:] == picture(bare)).all()
    timed = replace(bare, positions=bare.positions[:, None], covariance=bare.covariance[:, None])
    assert timed._repr_png_() is None  # the text stands alone


def test_without_the_viewer_nothing_is_imported_for_it():
    code = "import i2am, sys; assert not {'torch', 'i2am.viewer', 'PIL'} & set(sys.modules), sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    code = "from i2am.maps.levels import AttributionMaps; from i2am.common import notebook; assert 'maps' in notebook.pages"
    subprocess.run([sys.executable, "-c", code], check=True)
