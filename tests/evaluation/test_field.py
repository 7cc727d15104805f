"""Scores of the field in an evaluation: beside the others in every file, the same from saved maps, and left out where it is."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluated import DIGITS, PAIRS, STEPS, damaged, done, lines, model, table, tree
from PIL import Image
from reported import Page

import i2am
from i2am.cli import main as cli
from i2am.data.vitonhd import VitonHD
from i2am.evaluation import evaluate, resolve
from i2am.evaluation.options import Options
from i2am.evaluation.report_charts import number
from i2am.evaluation.report_pairs import best_and_worst
from i2am.evaluation.rescore import score_again
from i2am.maps.field import BACK, chosen_moments, strayed
from i2am.score import correspondence
from i2am.score.imacs import imacs

__all__ = ["damaged", "done", "model", "tree"]
pytestmark = pytest.mark.usefixtures("on_the_cpu")
FIRST = 4  # pairs of the smaller runs


@pytest.fixture(scope="module")
def without(tree: Path, model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was to leave the field out."""
    out = tmp_path_factory.mktemp("without") / "out"
    evaluate(tree, model, out=out, field=False, maps=True, groups=2, limit=FIRST, **STEPS)
    return out


def maps_of(out: Path, name: str) -> i2am.AttributionMaps:
    return i2am.load(out / "maps" / f"{Path(name).stem}.safetensors")


def masks(tree: Path, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    data = VitonHD(tree, size=(64, 48))
    pair = data[[person for person, _ in data.pairs].index(name)]
    return pair["mask"][None], pair["garment_mask"][None]


def columns(out: Path) -> list[str]:
    with (out / "scores.csv").open(newline="") as file:
        return next(csv.reader(file))


def test_every_pair_has_the_scores_of_its_maps(done: Path, tree: Path) -> None:
    assert columns(done) == ["index", "name", "cloth", "seed", "imacs_g", "imacs_r", *correspondence.NAMES, "ssim"]
    found = table(done)
    assert len(found) == PAIRS
    for name, row in found.items():
        right = correspondence.scores(maps_of(done, name), *masks(tree, name))
        for metric in correspondence.NAMES:
            assert torch.tensor(float(row[metric])) == right[metric].item(), (name, metric)
    assert len({row["correspondence"] for row in found.values()}) == PAIRS


def test_inside_is_of_the_garments_own_mask(damaged: Path, model: str, tmp_path: Path) -> None:
    """Positions of random weights lie about the middle of the picture; here garments end there."""
    for path in sorted((damaged / "test" / "cloth-mask").iterdir()):
        half = np.zeros((128, 96), np.uint8)
        half[:, :48] = 255
        Image.fromarray(half).save(path)
    evaluate(damaged, model, out=tmp_path / "out", maps=True, limit=2, **STEPS)
    for name, row in table(tmp_path / "out").items():
        mask, garment = masks(damaged, name)
        positions = maps_of(tmp_path / "out", name).field("g2r").positions[0]
        worn = mask[0, ::4, ::4] > 0.5
        assert 0 < float(row["inside"]) < 1
        assert float(row["inside"]) == pytest.approx((positions[worn][:, 1] < 0.5).double().mean().item(), abs=2 / worn.sum().item())
        assert torch.tensor(float(row["inside"])) == correspondence.scores(maps_of(tmp_path / "out", name), mask, garment)["inside"].item()


def test_the_report_has_them_with_the_others(done: Path) -> None:
    report = json.loads((done / "report.json").read_text())
    for metric in correspondence.NAMES:
        values = torch.tensor([float(row[metric]) for row in table(done).values()])
        assert report["metrics"][metric]["count"] == PAIRS
        assert report["metrics"][metric]["mean"] == pytest.approx(values.double().mean().item(), abs=1e-7)
        assert report["better"][metric] == "higher"
    assert report["options"]["field"] is True
    text = Page(done / "report.html").text
    for metric in correspondence.NAMES:
        mean = re.escape(number(report["metrics"][metric]["mean"]))
        assert re.search(rf"{metric.capitalize()} \S+ \(higher is better\) {mean}", text), metric
    assert text.index("Best by Correspondence") < text.index("Best by IMACS")


def test_the_best_pairs_are_those_that_correspond() -> None:
    values = {"imacs_g": [0.1, 0.3, 0.2], "correspondence": [0.5, None, 0.7], "ssim": [0.9, 0.8, 0.7], "imacs_r": [None] * 3}
    assert best_and_worst(values) == {
        "correspondence": {"Best": [2], "Worst": [0]}, "imacs_g": {"Best": [1, 2], "Worst": [0]},
    }  # fmt: skip
    assert list(best_and_worst({"imacs_g": [0.1], "imacs_r": [0.2]})) == ["imacs_g", "imacs_r"]


def on_an_edge(maps: i2am.AttributionMaps) -> bool:
    """Whether some patch ends, by some head, so near to one patch from home that rounding says if it comes home."""
    for direction, back in BACK.items():
        finest = max((s.generated_grid if direction == "field_g2r" else s.reference_grid) for s in maps.sums)
        for sums in maps.sums:
            away = strayed(*(chosen_moments(sums, name, "unified", None, None) for name in (direction, back)), finest)
            if ((away - 1).abs() < DIGITS / 10).any():
                return True
    return False


@pytest.mark.parametrize("size", [1, 3])
def test_scores_do_not_depend_on_the_batch(size: int, done: Path, tree: Path, model: str, tmp_path: Path) -> None:
    evaluate(tree, model, out=tmp_path, steps=2, batch_size=size, limit=FIRST, metrics=("ssim",))
    right, compared = table(done), 0
    for name, row in table(tmp_path).items():
        if on_an_edge(maps_of(done, name)):
            continue
        compared += 1
        patches = masks(tree, name)[0][:, ::4, ::4].sum().item()
        for metric in correspondence.NAMES:
            one = 1 / patches if metric != "sharpness" else 0  # a patch of the field itself may be on an edge
            assert float(row[metric]) == pytest.approx(float(right[name][metric]), abs=DIGITS + one), (name, metric)
    assert compared >= FIRST / 2


def test_without_a_field_there_are_none_and_files_are_small(without: Path, done: Path) -> None:
    assert columns(without) == ["index", "name", "cloth", "seed", "imacs_g", "imacs_r"]
    assert "Correspondence" not in Page(without / "report.html").text
    assert json.loads((without / "report.json").read_text())["options"]["field"] is False
    for name, row in table(without).items():
        for metric in ("imacs_g", "imacs_r"):
            assert float(row[metric]) == pytest.approx(float(table(done)[name][metric]), abs=DIGITS)
        maps, whole = maps_of(without, name), maps_of(done, name)
        assert (maps.has_field, whole.has_field) == (False, True)
        numbers = [sum(t.numel() for s in some.sums for t in s.recorded.values()) for some in (maps, whole)]
        assert numbers[1] == 7 * numbers[0]
    assert [name for name, score in lines(without)[0]["scores"].items()] == ["imacs_g", "imacs_r"]


def test_saved_maps_score_the_same(done: Path, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["imacs", "--maps", str(done / "maps"), "--data", str(tree), "--out", str(tmp_path / "same")]) == 0
    assert columns(tmp_path / "same") == [name for name in columns(done) if name != "ssim"]
    for name, row in table(tmp_path / "same").items():
        assert [row[metric] for metric in correspondence.NAMES] == [table(done)[name][metric] for metric in correspondence.NAMES]


def test_saved_maps_score_by_the_heads_that_are_asked_for(done: Path, tree: Path, tmp_path: Path) -> None:
    names = sorted(table(done))[:2]
    files = [done / "maps" / f"{Path(name).stem}.safetensors" for name in names]
    layer = maps_of(done, names[0]).names("g2r")[-1]
    score_again(files, tree, tmp_path / "one", layers=layer, heads=1, balance=True)  # which a field has not
    score_again(files, tree, tmp_path / "points", layers="pointing")
    for name in names:
        for folder, choice in (("one", {"layers": layer, "heads": 1}), ("points", {"layers": "pointing"})):
            right = correspondence.scores(maps_of(done, name), *masks(tree, name), **choice)
            row, unified = table(tmp_path / folder)[name], maps_of(done, name).unified("r2g", balance=folder == "one", **choice)
            assert torch.tensor(float(row["imacs_g"])) == imacs(unified, masks(tree, name)[0]).item()
            assert [float(row[metric]) for metric in correspondence.NAMES] == pytest.approx([right[m].item() for m in correspondence.NAMES])


def test_maps_with_and_without_are_not_scored_together(done: Path, without: Path, tree: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed" / "maps"
    shutil.copytree(done / "maps", mixed)
    shutil.copy(without / "maps" / "00001_00.safetensors", mixed)
    told = (
        r"00001_00\.safetensors must be maps with the same sums as the others, got scores imacs_g, imacs_r, before .*correspondence.*apart"
    )
    with pytest.raises(ValueError, match=told):
        score_again(mixed, tree, tmp_path / "out")
    score_again(without / "maps", tree, tmp_path / "out")
    assert columns(tmp_path / "out") == ["index", "name", "cloth", "seed", "imacs_g", "imacs_r"]


def test_results_with_and_without_are_not_mixed(without: Path, tree: Path, model: str) -> None:
    with pytest.raises(ValueError, match=r"results of the same options.*field: false there, true now"):
        evaluate(tree, model, out=without, maps=True, groups=2, limit=FIRST, **STEPS)


def test_whether_there_is_a_field_follows_from_the_convention(model: str) -> None:
    tryon = resolve(model)
    for asked, convention, found in (
        (None, None, True), (None, "paint-by-example", False), (False, None, False), (True, "paint-by-example", True),
    ):  # fmt: skip
        assert Options(field=asked, convention=convention).settled(tryon).field is found
    for wrong in ("x", "yes", 2, ()):
        with pytest.raises(ValueError, match=r"i2am: field must be True or False, got .*True also scores whether attention corresponds"):
            Options(field=wrong)
