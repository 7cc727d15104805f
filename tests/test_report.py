"""The report of an evaluation: its numbers against numpy, its files to the letter, and its page in a parser and a real browser."""

import base64
import csv
import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import started
from PIL import Image
from scipy.stats import pearsonr, spearmanr

from i2am.evaluation import report_charts, report_page
from i2am.evaluation.report import write
from i2am.imacs import convention

pytestmark = pytest.mark.usefixtures("on_the_cpu")
VOID = {"meta", "img", "input"}
NASTY = '<script>alert("1")</script>&\'.jpg'


def row(index: int, name: str | None = None, **scores: float | None) -> dict[str, Any]:
    name = name or f"{index:05d}_00.jpg"
    return {"index": index, "name": name, "cloth": name, "seed": 1000 + index, "scores": scores}


def drawn(count: int = 40) -> list[dict[str, Any]]:
    """Scores that hang together, every ninth pair without IMACS_r."""
    rng = np.random.default_rng(0)
    rows = []
    for i, q in enumerate(rng.normal(size=count)):
        r = None if i % 9 == 4 else float(rng.normal(0.1, 0.3))
        rows.append(row(i, imacs_g=float(0.3 + 0.1 * q), imacs_r=r, ssim=float(0.86 + 0.02 * q + rng.normal(0, 0.01))))
    return rows


def facts(rows: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "title": "A model on a set", "options": {"model": "small", "data": "/somewhere/else/tree", "paired": True, "size": (512, 384)},
        "convention": asdict(convention("stableviton")), "versions": {"i2am": "0.1.0"}, "hardware": {"devices": ["cpu"]},
        "time": {"seconds": 100.0, "images": len(rows), "images_per_second": 0.4, "share_scoring": 0.1},
        "sets": {}, "settings": {}, "pairs": {"asked": len(rows), "scored": len(rows), "failed": 0}, "failed": [], "notes": [],
    }  # fmt: skip
    return found | more


class Page(HTMLParser):
    """What a page holds: every tag closed, its texts, and its elements in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.elements if found == tag]


def strict(path: Path) -> dict[str, Any]:
    def refused(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refused)


def looks(out: Path, rows: list[dict[str, Any]], size: tuple[int, int] = (48, 16)) -> None:
    (out / "looks").mkdir()
    for one in rows:
        color = (5 * one["index"] % 256, 80, 160)
        Image.new("RGB", size, color).save(out / "looks" / f"{Path(one['name']).stem}.jpg")


def test_scores_csv_to_the_letter(tmp_path):
    rows = [
        row(0, imacs_g=0.1, ssim=None),
        row(1, 'a,"b.jpg', imacs_g=float(np.float32(1) / 3), ssim=float("nan")),
        row(7, imacs_g=-1e-7, ssim=1),
    ]
    page = write(tmp_path, rows, facts(rows))
    assert page == tmp_path / "report.html"
    assert (tmp_path / "scores.csv").read_bytes() == (
        b"index,name,cloth,seed,imacs_g,ssim\n"
        b"0,00000_00.jpg,00000_00.jpg,1000,0.1,\n"
        b'1,"a,""b.jpg","a,""b.jpg",1001,0.33333334,\n'
        b"7,00007_00.jpg,00007_00.jpg,1007,-1e-07,1.0\n"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json", "scores.csv"]


def test_scores_csv_gives_every_float32_back(tmp_path):
    rows = drawn()
    write(tmp_path, rows, facts(rows))
    with (tmp_path / "scores.csv").open(newline="") as file:
        for line, one in zip(csv.DictReader(file), rows, strict=True):
            for name, score in one["scores"].items():
                assert line[name] == "" if score is None else np.float32(line[name]) == np.float32(score)


def test_numbers_are_numpys(tmp_path):
    rows = drawn()
    write(tmp_path, rows, facts(rows, sets={"fid": 12.5, "kid": float("inf")}))
    found = strict(tmp_path / "report.json")
    columns = {name: np.array([x["scores"][name] for x in rows], np.float32).astype(float) for name in rows[0]["scores"]}
    for name, column in columns.items():
        got, there = found["metrics"][name], column[~np.isnan(column)]
        assert (got["count"], got["nan"]) == (len(there), len(column) - len(there))
        right = [there.mean(), there.min(), np.median(there), there.max()]
        assert [got[key] for key in ("mean", "min", "median", "max")] == pytest.approx(right, rel=1e-12)
        error = there.std() / len(there) ** 0.5
        assert [got["low"], got["high"]] == pytest.approx([there.mean() - 1.96 * error, there.mean() + 1.96 * error], abs=0.3 * error)
    assert found["metrics"]["imacs_r"]["nan"] == 4
    for one in found["correlations"]:
        there = ~np.isnan(columns[one["a"]]) & ~np.isnan(columns[one["b"]])
        a, b = columns[one["a"]][there], columns[one["b"]][there]
        assert (one["n"], one["pearson"], one["spearman"]) == (len(a), pytest.approx(pearsonr(a, b)[0]), pytest.approx(spearmanr(a, b)[0]))
    assert len(found["correlations"]) == 3
    assert found["sets"] == {"fid": 12.5, "kid": None}
    assert found["better"] == {"imacs_g": "higher", "imacs_r": "higher", "ssim": "higher", "fid": "lower", "kid": "lower"}
    assert found["options"]["size"] == [512, 384]
    assert found["convention"]["r2g"]["invert"] is True


def test_the_same_scores_in_any_order_give_the_same_numbers(tmp_path):
    rows = drawn()
    said = []
    for i, some in enumerate((rows, rows[::-1], rows)):
        (tmp_path / str(i)).mkdir()
        write(tmp_path / str(i), some, facts(rows))
        said.append({name: (tmp_path / str(i) / name).read_bytes() for name in ("report.json", "scores.csv", "report.html")})
    assert said[0] == said[2]
    metrics = [json.loads(one["report.json"])["metrics"] for one in said]
    assert metrics[0] == metrics[1]


def test_facts_that_json_does_not_know(tmp_path):
    more = {"hardware": {"path": Path("a"), "score": np.float32(0.5), "nan": float("nan"), "pair": (1, np.int64(2))}}
    write(tmp_path, [], facts([], **more))
    assert strict(tmp_path / "report.json")["hardware"] == {"path": "a", "score": 0.5, "nan": None, "pair": [1, 2]}


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


def test_a_histogram_counts_every_pair_once():
    for values in ([0.3], [0.0, 0.0], [0.1, 0.2, 0.3, 0.3, 0.9], [-3.0, 1.0], [1e-9, 2e-9], list(np.linspace(-0.2, 0.9, 2032))):
        svg = report_charts.histogram(values, {"mean": np.mean(values), "low": min(values), "high": max(values)}, "imacs_g")
        bars = [title.replace("\u2212", "-").split(": ") for title in re.findall("<title>(.*?)</title>", svg)]
        assert sum(int(count.replace(",", "")) for _, count in bars) == len(values)
        for span, count in bars:
            low, high = map(float, span.split(" to "))
            assert sum(low <= x < high for x in values) == int(count.replace(",", "")) > 0
        assert len(bars) <= report_charts.BINS + 1
        assert "nan" not in svg


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


def test_few_pairs_and_no_scores(tmp_path):
    page = Page(write(tmp_path, [], facts([])))
    assert "0 of 0 pairs have scores" in page.text
    assert page.all("svg") == []
    assert (tmp_path / "scores.csv").read_text() == "index,name,cloth,seed\n"

    one_token = asdict(convention("paint-by-example"))
    page = Page(write(tmp_path, [row(0, imacs_g=0.25)], facts([], convention=one_token)))
    assert "Best by IMACS g" in page.text
    assert "From left to right: the garment; the generated picture with R2G" in page.text
    assert "Worst" not in page.text.replace("Best and worst", "")
    assert strict(tmp_path / "report.json")["metrics"]["imacs_g"] == {
        "mean": 0.25, "low": 0.25, "high": 0.25, "min": 0.25, "median": 0.25, "max": 0.25, "count": 1, "nan": 0,
    }  # fmt: skip

    page = Page(write(tmp_path, [row(i, imacs_g=None, ssim=0.5) for i in range(3)], facts([])))
    assert "No pair has this score." in page.text
    assert "Best by" not in page.text
    assert strict(tmp_path / "report.json")["metrics"]["imacs_g"] == {
        **dict.fromkeys(("mean", "low", "high", "min", "median", "max")), "count": 0, "nan": 3,
    }  # fmt: skip


def test_what_was_there_stays_whole_if_writing_fails(tmp_path, monkeypatch):
    rows = drawn(3)
    write(tmp_path, rows, facts(rows))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(path: Path, data: bytes) -> None:
        assert path.suffix == ".part"
        with path.open("wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path, drawn(5), facts(rows))
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


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
