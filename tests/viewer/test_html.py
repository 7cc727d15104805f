"""The viewer's file: what it holds is the maps, within what a byte can say; it stays small, whole and says what it leaves out."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from viewed import CELLS, LAYERS, REFERENCE, Page, drawn, flat, known, parsed, several, target, words_of

import i2am
from i2am import AttributionMaps
from i2am.maps.layer_sums import LayerSums
from i2am.viewer import places, size_limit
from i2am.viewer.html import page
from i2am.viewer.size_limit import Detail


def held(found: dict[tuple[str, int], tuple[Tensor, Tensor]], level: str, place: int, right: Tensor, items: Any = None) -> None:
    """Held maps [n, h, w] are these, as nearly as a byte can say; of several the items are held."""
    right = right[None] if right.ndim == 2 else right if items is None else right[items]
    got, slack = found[level, place]
    assert got.shape == right.shape
    assert ((got - right.double()).abs() <= slack).all(), (level, place)


def agrees(shown: Page, maps: AttributionMaps, image: int, kind: str, items: Any = None, reference: str = "reference") -> None:
    """Every level of a kind."""
    one, found = maps[image], shown.maps(kind, image, reference)
    direction = kind if items is None else "specific"
    names = one.names(direction, reference=reference)
    names = names if len(names) > 1 else []  # one layer is all of them
    for level, count in (("unified", 1), ("time", maps.groups), ("head", one.sums[0].r2g.shape[2])):  # type: ignore[union-attr]
        right = one.level(direction, level, reference=reference)
        for place in range(count):
            held(found, level, place, right[0] if level == "unified" else right[0, place], items)
    for place, name in enumerate(names):
        right = one.level(direction, layers=lambda other, name=name: other == name, reference=reference)[0]  # on the layer's own grid
        held(found, "layer", place, right, items)
    assert len(found) == 1 + maps.groups + one.sums[0].r2g.shape[2] + len(names)  # type: ignore[union-attr]


def test_the_page_holds_every_level_of_every_map():
    maps = known(specific=[(0.5, 0.5), (0.1, 0.1, 0.9, 0.4)])
    shown = parsed(page(maps))
    for image in (0, 1):
        for kind, items in (("r2g", None), ("g2r", None), ("cells", list(range(24))), ("regions", [24, 25])):
            agrees(shown, maps, image, kind, items)
    cells = shown.set("cells")["cells"]
    assert (len(cells["rows"]) - 1, len(cells["columns"]) - 1) == CELLS
    for i, cell in enumerate(shown.maps("cells", 1)["unified", 0][0]):
        assert divmod(int(cell.argmax()), REFERENCE[1]) == target(*divmod(i, CELLS[1]), image=1)
    assert [level["name"] for level in shown.set("r2g")["parts"][1]["levels"]][-3:] == list(LAYERS)
    assert shown.run["facts"] | {"versions": {}} == {
        "model": "KnownPipeline", "images": 2, "steps": 4, "groups": 2, "layers": 3, "heads": [3], "references": ["reference"],
        "versions": {}, "prompts": [],
    }  # fmt: skip
    assert set(shown.run["facts"]["versions"]) >= {"torch", "i2am"}
    assert shown.run["notes"] == []


def test_several_references_and_regions():
    maps = several()
    shown = parsed(page(maps))
    agrees(shown, maps, 0, "regions", [0, 1, 2], "garment")
    agrees(shown, maps, 0, "r2g", None, "adapter <b>&2")
    assert {(one["kind"], one["reference"]) for one in shown.run["sets"]} == {
        ("r2g", "garment"), ("g2r", "garment"), ("regions", "garment"), ("r2g", "adapter <b>&2")}  # fmt: skip
    assert shown.set("regions", "garment")["places"] == [
        {"region": 0, "kind": "point", "at": [0.25, 0.75]}, {"region": 1, "kind": "box", "at": [0.1, 0.2, 0.5, 0.6]},
        {"region": 2, "kind": "mask", "at": []}]  # fmt: skip
    lacks = {(lack["kind"], lack["reference"]): lack["why"] for lack in shown.run["lacks"]}
    assert "The reference is one token" in lacks["g2r", "adapter <b>&2"]
    assert "no parts of it to tell apart" in lacks["specific", "adapter <b>&2"]


def test_words_are_those_of_each_images_prompt():
    maps = words_of()
    shown = parsed(page(maps))
    words = shown.set("words")
    assert words["names"] == [["a", "red", "shirt"], ["one", "hat", "on", "sand"]]
    assert words["absent"]["head"].startswith("The layers have different numbers of heads (2 and 4)")
    for image, names in enumerate(words["names"]):
        found = shown.maps("words", image)
        for level, place, choice in (("unified", 0, {}), ("time", 1, {"groups": 1}), ("layer", 1, {"layers": "layer.2"})):
            held(found, level, place, torch.cat([maps.words(**choice).image(image)[word] for word in names]))
    loose = replace(maps, prompts=(), columns=(5, 2, 3, 1, 0, 4))
    shown = parsed(page(loose))
    assert shown.set("words")["names"] == [[f"token {i}" for i in (5, 2, 3, 1, 0, 4)]]
    assert "no text" in shown.run["notes"][0]


def test_the_file_is_whole():
    html = page(known(), title="</script><b>&")
    assert not re.search(r"<link|<script[^>]*\bsrc|<iframe|@import|\burl\(|\bfetch\(|XMLHttpRequest|\bimport\s*\(|WebSocket", html)
    assert not re.search(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", re.sub(r"//[^\n]*\n", "\n", html.split("<script>")[-1]))
    assert not re.search(r"https?://", html)
    assert "default-src 'none'" in html
    assert "<title>&lt;/script&gt;&lt;b&gt;&amp;" in html
    assert html.count("<script") == html.count("</script>")
    assert page(known(), title="</script><b>&") == html  # same maps, same page
    assert "</script" not in re.search(r'id="run">(.*?)</script>', page(replace(known(), about={"model": "</script>"})), re.S)[1]  # type: ignore[index]


def big(images: int, cells: tuple[int, int], pictures: bool = True) -> AttributionMaps:
    """A run of the size the viewer is made for; noise, which does not compress."""
    reference, groups, heads = (32, 24), 2, 2
    regions = tuple(f"box {t:g} {left:g} {b:g} {r:g}" for t, left, b, r in i2am.cells(*cells))
    g, r, n = 32 * 24, 32 * 24 + 1, len(regions)
    one = LayerSums("a", "reference", (32, 24), reference, 1, drawn(images, groups, heads, g), drawn(images, groups, heads, r),
                    drawn(1, groups, heads, n, r).expand(images, -1, -1, -1, -1))  # fmt: skip
    maps = AttributionMaps((one, replace(one, layer="b")), steps=10, regions=regions)
    noise = [Image.fromarray((drawn(512, 384, 3) * 255).byte().numpy()).resize((384, 512)) for _ in range(2)]
    return maps.with_pictures([noise[i % 2] for i in range(images)], noise[0]) if pictures else maps


def test_what_does_not_fit_is_made_coarser_and_said():
    maps = big(2, (8, 6))
    sizes = []
    for megabytes in (5, 1.2, 0.6, 0.4):
        html = page(maps, max_megabytes=megabytes)
        assert len(html.encode()) < megabytes * 1e6
        sizes.append(len(html))
        notes = " ".join(parsed(html).run["notes"])
        assert (notes == "") == (megabytes == 5)
        assert megabytes == 5 or f"To stay under {megabytes:g} MB: " in notes
    assert sizes == sorted(sizes, reverse=True)
    assert "maps of single cells for single time groups, heads and layers have " in notes
    with pytest.raises(ValueError, match=r"i2am: max_megabytes must be at least 0\.\d for this run, got 0\.1\. Show fewer images"):
        page(maps, max_megabytes=0.1)


@pytest.mark.parametrize("detail", [Detail(255, 1, 2), Detail(127, 2, 1), Detail(63, 3, 4), None], ids=str)
def test_coarser_maps_are_means_of_patches_and_sums_of_cells(monkeypatch, detail):
    monkeypatch.setattr(size_limit, "UNIFIED", (detail or Detail(),))
    monkeypatch.setattr(size_limit, "OTHERS", (detail,))
    maps = big(1, (9, 6), pictures=False)
    shown = parsed(page(maps))
    notes = " ".join(shown.run["notes"])
    if detail is None:
        assert "maps of single cells for single time groups, heads and layers are left out" in notes
        assert shown.set("cells")["left_out"]
        assert set(shown.maps("cells", 0)) == {("unified", 0)}
        return
    found = shown.maps("cells", 0)
    for level in ("unified", "time", "head"):
        right = maps.level("specific", level)[0].reshape(-1, 9, 6, 32, 24)
        padded = F.pad(right, (0, 0, 0, 0, 0, -6 % detail.merged, 0, -9 % detail.merged))
        sums = padded.unfold(1, detail.merged, detail.merged).unfold(2, detail.merged, detail.merged).sum((-1, -2)).flatten(1, 2)
        for place, right in enumerate(sums):
            size = [-(-side // detail.coarse) for side in (32, 24)]
            held(found, level, place, F.interpolate(right[None], size, mode="area")[0])
    said = {f"{detail.steps + 1} values": detail.steps < 255, "cells instead of 9 \u00d7 6": detail.merged > 1,
            "patches instead of 32 \u00d7 24": detail.coarse > 1}  # fmt: skip
    assert {what: what in notes for what in said} == said


def test_a_batch_of_eight_stays_under_five_megabytes():
    html = page(big(8, (16, 12)))
    assert len(html.encode()) < 5e6
    assert len(parsed(html).run["pictures"]["generated"]) == 8
    assert len(parsed(html).run["pictures"]["references"]["reference"]) == 1


def test_pictures_are_shown_small_and_said():
    maps = known(pictures=False).with_pictures([flat(0, (2000, 100)), flat(1, (30, 40))])
    shown = parsed(page(maps))
    assert "pictures are shown at 768 pixels along their longer side" in shown.run["notes"][0]
    assert all(url.startswith("data:image/webp;base64,") for url in shown.run["pictures"]["generated"])
    assert shown.run["pictures"]["references"] == {}


def test_runs_of_every_shape():
    maps = known(1, steps=1, groups=1, cells=False, pictures=False)
    one = parsed(page(maps)).set("g2r")
    assert one["absent"] == {"time": "The run was recorded as one time group."}
    assert [part["levels"][0]["level"] for part in one["parts"]] == ["unified", "head"]
    layer = replace(maps.sums[0], r2g=maps.sums[0].r2g[:, :, :1], g2r=maps.sums[0].g2r[:, :, :1])  # type: ignore[index]
    assert set(parsed(page(replace(maps, sums=(layer,)))).set("g2r")["absent"]) == {"time", "head", "layer"}
    resampled = replace(maps, sums=tuple(replace(s, reference_grid=None) for s in maps.sums))
    (lack,) = parsed(page(resampled)).run["lacks"]
    assert "no known place on a canvas" in lack["why"]
    some = replace(maps, sums=(replace(maps.sums[0], reference_grid=None), *maps.sums[1:]))
    assert "g2r is without 1 of 3 layers" in parsed(page(some)).run["notes"][0]
    zero = replace(maps, sums=tuple(replace(s, r2g=s.r2g * 0) for s in maps.sums))  # type: ignore[operator]
    got, _ = parsed(page(zero)).maps("r2g", 0)["unified", 0]
    assert (got == 0).all()
    even = replace(maps, sums=tuple(replace(s, r2g=s.r2g * 0 + 3) for s in maps.sums))  # type: ignore[operator]
    got, _ = parsed(page(even)).maps("r2g", 0)["unified", 0]
    assert got.min() == got.max()
    assert got.max() == pytest.approx(3, rel=1e-3)


def test_nothing_to_draw_is_refused():
    maps = known(1, pictures=False)
    nowhere = replace(maps, sums=tuple(replace(s, reference_grid=None, generated_grid=None) for s in maps.sums), regions=())
    nowhere = replace(nowhere, sums=tuple(replace(s, specific=None) for s in nowhere.sums))
    with pytest.raises(ValueError, match=r"i2am: this run has no map that could be drawn\. .*no known place on a canvas"):
        page(nowhere)
    broken = replace(maps, sums=tuple(replace(s, g2r=s.g2r * torch.nan) for s in maps.sums))  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"i2am: the g2r sums must be finite, got NaN or infinity in 3 of 3 layers.* Look for overflow"):
        page(broken)


def test_view_writes_beside_the_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    path = known(1, pictures=False).save(tmp_path / "try on.safetensors")
    out = i2am.view(path, images=flat(0), references=flat(1))
    assert out == tmp_path / "try on.html"
    shown = parsed(out.read_text("utf-8"))
    assert shown.run["title"] == "try on"
    assert len(shown.run["pictures"]["generated"]) == 1
    assert opened == []
    assert i2am.view(str(path), tmp_path / "b.html", title="B", open_browser=True).name == "b.html"
    assert opened == [(tmp_path / "b.html").as_uri()]
    monkeypatch.chdir(tmp_path)
    assert i2am.view(known(1, pictures=False)) == Path("run.html")
    assert parsed(Path("run.html").read_text("utf-8")).run["title"] == "KnownPipeline"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.html", "run.html", "try on.html", "try on.safetensors"]


REFUSED: dict[str, tuple[Any, str]] = {
    "suffix": (lambda folder: i2am.view(known(1), folder / "run.pt"), r"out must be a \.html or \.htm file, got .* Write run\.html"),
    "folder": (lambda folder: i2am.view(known(1), folder / "none" / "run.html"), r"out must be in a folder that exists"),
    "no file": (lambda folder: i2am.view(folder / "run.safetensors"), r"path must be a file of maps, got .* which is not there"),
    "no maps": (lambda folder: i2am.view(3), r"maps must be AttributionMaps or the path of a file of them, got 3\. Pass run\.maps"),
    "pictures": (lambda folder: i2am.view(known(2), folder / "a.html", images=[flat(0)] * 3), r"images must be one, or as many as"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_view_refuses(tmp_path, name):
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=f"i2am: {message}"):
        call(tmp_path)
    assert list(tmp_path.iterdir()) == []


CELL_NAMES = ["box " + " ".join(f"{x:g}" for x in box) for box in i2am.cells(3, 7)]
TILED: dict[str, tuple[list[str], tuple[int, int] | None, int]] = {
    "cells": (CELL_NAMES, (3, 7), 0),
    "any order": (CELL_NAMES[::-1], (3, 7), 0),
    "among others": (["point 0.5 0.5", "box 0 0 0.1 0.1", *CELL_NAMES, "mask 1x2x2"], (3, 7), 3),
    "uneven": (["box 0 0 0.2 1", "box 0.2 0 1 1"], (2, 1), 0),
    "a gap": (CELL_NAMES[:-1], None, 20),
    "twice": (CELL_NAMES[:-1] + CELL_NAMES[:1], None, 21),
    "not to the edge": (["box 0 0 0.5 0.9", "box 0.5 0 1 0.9"], None, 2),
    "overlapping": (["box 0 0 0.6 1", "box 0.4 0 1 1"], None, 2),
    "one box": (["box 0 0 1 1"], None, 1),
    "nonsense": (["box a b c d", "point 1", "", "circle 1 2", "box 0 0 2 2"], None, 5),
}


@pytest.mark.parametrize("name", TILED)
def test_cells_are_read_back_from_names(name):
    names, grid, rest = TILED[name]
    cells, others = places.placed(names)
    assert (cells.grid if cells else None) == grid
    assert len(others) == rest
    if cells:
        assert sorted([*cells.regions, *(place.region for place in others)]) == list(range(len(names)))
        first = names[cells.regions[0]].split()[1:3]
        assert first == ["0", "0"]
        assert [cells.rows[0], cells.rows[-1], cells.columns[0], cells.columns[-1]] == [0, 1, 0, 1]
    assert name != "nonsense" or all(place.at == () for place in others)
