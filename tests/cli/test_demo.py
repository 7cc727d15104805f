"""The demo, with a tiny random model: every promised file, links that lead somewhere, scores or the reason for none, clear errors."""

import contextlib
import io
import json
import math
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("matplotlib")
import scene_model
from PIL import Image

import i2am
from i2am.cli import demo_pictures as room
from i2am.cli.demo_page import ROWS, page
from i2am.cli.demo_pictures import demo
from i2am.cli.demo_scores import SCORES, Scored, score, shown, table
from i2am.cli.demo_words import write_words
from i2am.cli.main import main
from i2am.data.synthetic import draw
from i2am.models.small.encoder import GarmentEncoder
from i2am.models.small.pipeline import SmallTryOnPipeline
from i2am.models.small.schedule import scheduler
from i2am.models.small.unet import small_unet

DRAWN = ("warp", "r2g", "g2r", "r2g_mean", "g2r_mean")
WHOLE = ["index.html", "words.html", "viewer.html", "sheet.png", "time.png", "head.png", "layer.png", "scores.json", "maps.safetensors"]
NOTHING = dict.fromkeys((*SCORES, "truth_imacs_r", "baseline_accuracy"))
NOTHING |= {"imacs_g": -0.5, "truth_imacs_g": 0.4}
NONE = Scored([{"image": 0, **NOTHING, "patches": 0}], NOTHING, {"00 imacs_r": "the garment fills its picture & more"})
FACTS = {"steps": 2, "seed": 0, "seconds": 1.0, "threads": 1, "model": "<own>", "layers": 5, "groups": 2, "megabytes": 1.0}


pytestmark = pytest.mark.usefixtures("on_the_cpu")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, on_the_cpu):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny") / "weights"
    unet = small_unet((16, 32), 2, 32, (8, 6))
    SmallTryOnPipeline(unet, GarmentEncoder((8, 6), 16, 32, 2), scheduler()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def made(tiny, tmp_path_factory):
    """(folder, what was printed) of a demo that was written over an earlier, larger one."""
    out = tmp_path_factory.mktemp("demo") / "demo"
    (out / "r2g").mkdir(parents=True)
    (out / "scores.json").write_text(json.dumps({"made by": room.MARK}))
    (out / "r2g" / "01.png").write_bytes(b"old")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "write_words", lambda folder, seed: write_words(folder, seed, scene_model.tiny(), scene_model.tiny(1)))
        assert demo(out, count=1, steps=2, model=tiny) == out / "index.html"
    return out, printed.getvalue()


def test_everything_is_there(made):
    out, printed = made
    assert {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} == {*WHOLE, *(f"{name}/00.png" for name in ROWS)}
    sizes = {name: Image.open(out / name / "00.png").size for name in ROWS}
    assert sizes == {name: (96, 128) if name in DRAWN else (24, 32) for name in ROWS}
    assert str(out / "index.html") in printed
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 1e6
    assert f"It holds {size:.0f} MB; {(out / 'maps.safetensors').stat().st_size / 1e6:.0f} of them are maps.safetensors, the" in printed
    assert re.search(r"The model took \d+ s for 1 picture, \d+\.\d s each", printed)


def test_the_pictures_are_what_they_are_called(made):
    out, _ = made
    plain = [name for name in ROWS if name not in DRAWN]
    pictures = {name: torch.from_numpy(np.array(Image.open(out / name / "00.png"), dtype=np.int32)) for name in plain}
    grey = (pictures["agnostic"] == 128).all(-1)
    assert 0.1 < grey.float().mean() < 0.9
    for name in ("generated", "person"):  # what is kept is kept, what is painted is not
        assert (pictures[name][~grey] - pictures["agnostic"][~grey]).abs().max() <= 1
        assert (pictures[name][grey] != 128).any()


def test_links_lead_to_files_beside_the_page(made):
    out, _ = made
    text = (out / "index.html").read_text(encoding="utf-8")
    links = set(re.findall(r'(?:href|src)="([^"]*)"', text))
    assert {*WHOLE, *(f"{name}/00.png" for name in ROWS)} - {"index.html"} == links
    assert all((out / link).is_file() for link in links)
    assert str(out) not in text
    assert "http" not in text


def test_scores_are_numbers_or_said_not_to_exist(made):
    out, printed = made
    text = json.loads((out / "scores.json").read_text())
    assert text["made by"] == room.MARK
    assert (text["steps"], text["seed"], text["model"]) == (2, 0, "weights")
    (row,) = text["images"]
    for label, found in (("00", row), ("all", text["all"])):
        for name in SCORES:
            assert (found[name] is None) == (f"{label} {name}" in text["missing"])
            assert found[name] is None or math.isfinite(found[name])
            assert shown(name, found[name]) in printed
    assert row["patches"] > 0
    assert 0 <= row["pointing_accuracy"] <= 1
    assert 0 < row["pointing_mass"] < 1


def test_the_maps_are_the_whole_run(made):
    out, _ = made
    maps = i2am.load(out / "maps.safetensors")
    assert (len(maps), maps.steps, maps.groups, len(maps.regions), len(maps.layers)) == (1, 2, 2, 192, 5)
    assert maps.unified("r2g").shape == maps.unified("g2r").shape == (1, 8, 6)
    assert [picture.size for picture in maps.overlay(direction="g2r")] == [(24, 32)]


def test_what_does_not_exist_is_said(made):
    maps = i2am.load(made[0] / "maps.safetensors")
    pairs = draw(1, size=(32, 24))
    nothing = replace(pairs, worn=torch.zeros_like(pairs.worn), mask=torch.ones_like(pairs.mask))
    scored = score(nothing, maps)
    assert {name for name in SCORES if scored.images[0][name] is None} == set(SCORES) - {"imacs_r"}
    assert set(scored.missing) == {f"{label} {name}" for label in ("00", "all") for name in SCORES if name != "imacs_r"}
    assert '<td class="none">none</td>' in page(FACTS, vars(scored))


def test_what_does_not_exist_is_named():
    assert table(NONE).splitlines()[1].split() == ["00", *["none"] * 5, "-0.50,", "0.40", "none,", "none"]
    assert "00 imacs_r: none, because the garment fills its picture & more" in table(NONE)
    text = page(FACTS, vars(NONE))
    assert text.count('<td class="none">none</td>') == 12
    assert "picture &amp; more" in text
    assert "&lt;own&gt;" in text


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"count": 0}, "count must be at least 1 picture, got 0"),
        ({"count": 2.0}, "count must be at least 1 picture, got 2.0"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"seed": 2**32}, "seed must be from 0 to"),
        ({"seed": -1}, "seed must be from 0 to"),
        ({"model": "nowhere"}, r"model must be the folder of a small model.* got nowhere\. Leave it out"),
    ],
)
def test_what_is_asked_is_checked_first(asked, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        demo(tmp_path / "demo", **asked)
    assert not (tmp_path / "demo").exists()


def test_only_a_demo_is_written_over(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="out must be a folder, got the file"):
        demo(tmp_path / "file")
    with pytest.raises(ValueError, match="out must be a new folder, or one that an earlier demo wrote"):
        demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(("name", "extra"), [("diffusers", "diffusers"), ("matplotlib", "pictures")])
def test_a_missing_package_names_the_extra(name, extra, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf"the demo needs {name}\. pip install 'i2am\[{extra}\]'"):
        demo(tmp_path / "demo")


def test_the_command_asks_for_the_same(monkeypatch, capsys, tmp_path):
    asked = []
    monkeypatch.setattr(room, "demo", lambda out, **options: asked.append((out, options)))
    assert main(["demo"]) == main(["demo", "--out", "o", "--count", "3", "--seed", "4", "--steps", "5", "--model", "w", "--open"]) == 0
    usual = {"count": 8, "seed": 0, "steps": 10, "model": None, "open_browser": False}
    assert asked == [("demo", usual), ("o", {"count": 3, "seed": 4, "steps": 5, "model": "w", "open_browser": True})]
    monkeypatch.undo()
    assert main(["demo", "--out", str(tmp_path), "--count", "0"]) == 2
    assert capsys.readouterr().err.startswith("i2am: count must be at least 1")
