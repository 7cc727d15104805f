"""The page of an evaluation, in a parser and in a real browser."""

import base64
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from browsing import started
from PIL import Image
from reported import Page, drawn, facts, row, strict

from i2am.evaluation import report_page
from i2am.evaluation.report import write
from i2am.score.imacs import convention

pytestmark = pytest.mark.usefixtures("on_the_cpu")

NASTY = '<script>alert("1")</script>&\'.jpg'


def looks(out: Path, rows: list[dict[str, Any]], size: tuple[int, int] = (48, 16)) -> None:
    (out / "looks").mkdir()
    for one in rows:
        color = (5 * one["index"] % 256, 80, 160)
        Image.new("RGB", size, color).save(out / "looks" / f"{Path(one['name']).stem}.jpg")


def test_the_page_says_what_was_measured(tmp_path):
    rows = drawn()
    failed = [{"name": "x.jpg", "what": "is truncated"}, {"name": "x.jpg", "what": "its mask is empty"}]
    more = {"pairs": {"asked": 42, "scored": 40, "failed": 2}, "failed": failed, "notes": ["Mind the gap."],
            "sets": {"fid": 12.5, "kid": 0.0042, "kid_std": 0.0003}}  # fmt: skip
    page = Page(write(tmp_path, rows, facts(rows, **more)))
    text = page.text
    assert "small on tree with each person's own garment (paired): 40 of 42 pairs have scores. 2 failed and are in no number" in text
    about = f"IMACS by the convention stableviton : {convention('stableviton').about}"
    for said in (
        about,
        "Mind the gap.",
        "x.jpg is truncated x.jpg its mask is empty",
        "12.5000",
        "± 0.0003 over subsets",
        "4 without a score",
    ):
        assert said in text, said
    found = strict(tmp_path / "report.json")["metrics"]["imacs_g"]
    assert f"{found['mean']:.4f} {found['low']:.4f} to {found['high']:.4f}" in text
    assert [plot["aria-label"] for plot in page.all("svg")][:3] == [
        "Histogram of IMACS_g: 40 pairs", "Histogram of IMACS_r: 36 pairs", "Histogram of SSIM: 40 pairs",
    ]  # fmt: skip
    assert len(page.all("svg")) == 6
    assert page.all("script") == []
    assert any("default-src 'none'" in (meta.get("content") or "") for meta in page.all("meta"))
    assert not [
        url for tag in ("a", "img", "link") for one in page.all(tag) for key in ("href", "src") if "//" in (url := one.get(key) or "")
    ]
    assert {one.get("tabindex") for one in page.all("div") if one.get("class") == "rows" and "role" in one} == {"0"}


@pytest.mark.parametrize(("paired", "asked", "shown"), [(True, 2032, True), (False, 2032, False), (True, 2031, False)])
def test_published_numbers_stand_beside_a_run_that_may_be_compared(tmp_path, paired, asked, shown):
    rows = drawn(4)
    more = {"options": {"asked": {"paired": paired}}, "pairs": {"asked": asked, "scored": 4, "failed": 0}}
    text = Page(write(tmp_path, rows, facts(rows, **more))).text
    assert ("StableVITON stableviton 0.3083 0.3388 0.8634 0.0817 10.6755 0.0064" in text) is shown
    assert ("measured by others" in text) is shown


def test_names_are_text(tmp_path):
    rows = [row(i, f"{i}{NASTY}", imacs_g=i / 10, ssim=0.5) | {"cloth": NASTY} for i in range(4)]
    rows = [{**one, "scores": {**one["scores"], NASTY: one["scores"]["imacs_g"] ** 2}} for one in rows]
    more = {
        "title": NASTY, "options": {"model": NASTY, "data": NASTY, NASTY: NASTY}, "failed": [{"name": NASTY, "what": NASTY}],
        "notes": [NASTY], "convention": asdict(convention("method")) | {"name": NASTY, "about": NASTY},
        "hardware": {NASTY: [NASTY, {"a": NASTY}]},
    }  # fmt: skip
    page = Page(write(tmp_path, rows, facts(rows, **more)))
    assert page.all("script") == []
    assert page.text.count("<script>") >= 20
    assert not [one for _, one in page.elements if any(key.startswith("on") for key in one)]


def test_a_name_that_is_no_unicode(tmp_path):
    rows = [row(0, "\udcff.jpg", imacs_g=0.1)]
    write(tmp_path, rows, facts(rows))
    assert b"\\udcff.jpg" in (tmp_path / "scores.csv").read_bytes()


def test_best_and_worst_pairs_are_shown(tmp_path):
    rows = drawn()
    looks(tmp_path, rows)
    order = sorted((i for i in range(40)), key=lambda i: -rows[i]["scores"]["imacs_g"])
    (tmp_path / "looks" / f"{order[0]:05d}_00.jpg").unlink()
    page = Page(write(tmp_path, rows, facts(rows)))
    names = [(one.get("alt") or "").split(":")[0] for one in page.all("img")]
    by_g = [f"Pair {i:05d}_00.jpg" for i in (*order[1:6], *order[:-7:-1])]
    assert names[:11] == by_g
    assert len(names) == 11 + 12 - (order[0] in by_r(rows))
    assert f"{order[0]:05d}_00.jpg IMACS g {rows[order[0]]['scores']['imacs_g']:.4f}" in page.text
    assert "No picture was kept." in page.text
    data = base64.b64decode((page.all("img")[0]["src"] or "").removeprefix("data:image/jpeg;base64,"))
    assert data == (tmp_path / "looks" / f"{order[1]:05d}_00.jpg").read_bytes()
    assert [one["id"] for one in page.all("input")] == ["by-0", "by-1"]


def by_r(rows: list[dict[str, Any]]) -> list[int]:
    order = sorted((i for i, one in enumerate(rows) if one["scores"]["imacs_r"] is not None), key=lambda i: -rows[i]["scores"]["imacs_r"])
    return order[:6] + order[-6:]


def test_a_look_outside_the_folder_is_not_read(tmp_path):
    (tmp_path / "run" / "looks").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "run" / "secret.jpg")
    rows = [row(0, "../secret.jpg", imacs_g=0.1)]
    assert Page(write(tmp_path / "run", rows, facts(rows))).all("img") == []


def test_the_page_stays_within_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(report_page, "BYTES", 100_000)
    rows = drawn()
    looks(tmp_path, rows, (576, 256))
    file = write(tmp_path, rows, facts(rows))
    page = Page(file)
    assert 80_000 < file.stat().st_size <= 100_000
    shown = [(one.get("alt") or "") for one in page.all("img")]
    best = max(rows, key=lambda one: one["scores"]["imacs_g"])["name"]
    assert any(best in alt for alt in shown)  # the most extreme go first
    assert page.text.count("Left out, as this page would grow too large") == 24 - len(shown) > 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from started()


def test_the_page_in_a_browser(browser, tmp_path):
    rows = drawn()
    looks(tmp_path, rows, (576, 256))
    failed = [{"name": "a" * 200, "what": "w" * 300}]
    file = write(tmp_path, rows, facts(rows, title="T" * 120, failed=failed))
    inks = set()
    for width, scheme in ((390, "light"), (1280, "dark")):
        complaints: list[str] = []
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        tab = context.new_page()
        tab.on("console", lambda message: complaints.append(message.text))  # noqa: B023
        tab.on("pageerror", lambda error: complaints.append(str(error)))  # noqa: B023
        tab.on("request", lambda asked: None if asked.url.startswith(("file:", "data:")) else complaints.append(asked.url))  # noqa: B023
        tab.goto(file.as_uri())
        tab.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        assert tab.evaluate("[...document.images].every(one => one.naturalWidth === 576)")
        inks.add(tab.evaluate("[getComputedStyle(document.body).color, getComputedStyle(document.querySelector('svg .bars')).fill].join()"))
        seen = "[...document.querySelectorAll('.panel')].map(one => one.checkVisibility())"
        assert tab.evaluate(seen) == [True, False]
        tab.locator("#by-0").focus()
        tab.keyboard.press("ArrowRight")
        assert tab.evaluate(seen) == [False, True]
        tab.emulate_media(media="print")
        assert tab.evaluate(seen) == [True, True]
        context.close()
        assert complaints == []
    assert len(inks) == 2
