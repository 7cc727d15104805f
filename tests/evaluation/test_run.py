"""An evaluation, end to end on drawn pairs: the same scores in every batch, what goes on, what is refused, and what is kept."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluated import DIGITS, PAIRS, STEPS, done, lines, model, on_the_threshold, same_scores, table, tree, write_model
from PIL import Image

import i2am
from i2am.cli import main as cli
from i2am.data.synthetic import write_vitonhd
from i2am.data.vitonhd import VitonHD
from i2am.evaluation import evaluate, resolve
from i2am.evaluation.painter import Painter, seed_of
from i2am.evaluation.rescore import score_again
from i2am.score.imacs import convention, imacs

__all__ = ["done", "model", "tree"]
pytestmark = pytest.mark.usefixtures("on_the_cpu")


def test_every_pair_is_scored_as_by_hand(done: Path, tree: Path, model: str) -> None:
    """One pair at a time, without anything of the evaluation: the seed, the picture, the maps and the score."""
    data = VitonHD(tree, size=(64, 48))
    pipe = resolve(model).pipeline
    pipe.set_progress_bar_config(disable=True)
    found = table(done)
    assert list(found) == [person for person, _ in data.pairs]
    for index in (0, 7):
        pair = data[index]
        generator = torch.Generator("cpu").manual_seed(seed_of(0, pair["name"], pair["cloth"]))
        with i2am.trace(pipe, groups=1) as run:
            image = pipe(pair["person"][None], pair["mask"][None, None], pair["garment"][None], pair["densepose"][None],
                         num_inference_steps=2, generator=[generator], output_type="pt").images  # fmt: skip
        for metric, direction, mask in (("imacs_g", "r2g", "mask"), ("imacs_r", "g2r", "garment_mask")):
            score = imacs(run.maps.unified(direction), pair[mask][None]).item()
            hang = on_the_threshold(done, tree, pair["name"])[metric]
            assert float(found[pair["name"]][metric]) == pytest.approx(score, abs=DIGITS + hang)
        kept = torch.from_numpy(np.array(Image.open(done / "images" / pair["name"].replace(".jpg", ".png")))).permute(2, 0, 1) / 255
        assert (kept - image[0]).abs().max() <= 0.5 / 255 + 1e-4
        from_file = i2am.load(done / "maps" / pair["name"].replace(".jpg", ".safetensors"))
        assert torch.allclose(from_file.unified("g2r"), run.maps.unified("g2r"), atol=1e-5)
        assert torch.equal(from_file.pictures.generated[0] / 255, kept)  # so that `i2am view` needs nothing else
        assert (from_file.pictures.references["reference"][0] / 255 - pair["garment"]).abs().max() <= 0.5 / 255 + 1e-4
        assert Image.open(done / "looks" / pair["name"]).size == (4 * 192, 256)


def test_the_report_adds_up(done: Path) -> None:
    report = json.loads((done / "report.json").read_text())
    values = [float(row["imacs_g"]) for row in table(done).values()]
    assert report["metrics"]["imacs_g"]["mean"] == pytest.approx(np.mean(values), abs=1e-7)
    assert report["pairs"] == {"asked": PAIRS, "scored": PAIRS, "failed": 0}
    assert report["options"]["steps"] == 2
    assert report["options"]["convention"]["name"] == "method"
    assert 0 < report["time"]["share_scoring"] < 1


@pytest.mark.parametrize("size", [1, 3, 8])
def test_scores_do_not_depend_on_the_batch(size: int, done: Path, tree: Path, model: str, tmp_path: Path) -> None:
    evaluate(tree, model, out=tmp_path, steps=2, batch_size=size, metrics=("ssim",))
    same_scores(tmp_path, done, tree)


@pytest.mark.parametrize("threads", [1, 3])
def test_scores_do_not_depend_on_the_threads(threads: int, done: Path, tree: Path, model: str, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        evaluate(tree, model, out=tmp_path, metrics=("ssim",), **STEPS)
    finally:
        torch.set_num_threads(before)
    same_scores(tmp_path, done, tree)


def test_a_finished_run_is_not_painted_again(done: Path, tree: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (done / "scores.csv").read_bytes()
    monkeypatch.setattr(Painter, "rows", lambda *_: pytest.fail("painted"))
    evaluate(tree, model, out=done, metrics=("ssim",), images=True, maps=True, groups=2, **STEPS)
    assert (done / "scores.csv").read_bytes() == before


def test_more_pairs_may_follow(done: Path, tree: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In other batches than at first, and the torn line of a process that was killed is painted again."""
    options: dict[str, Any] = {"metrics": ("ssim",), **STEPS}
    evaluate(tree, model, out=tmp_path, limit=3, **options)
    assert len(table(tmp_path)) == 3
    shard = tmp_path / "shards" / "0000.jsonl"
    shard.write_bytes(shard.read_bytes()[:-9])
    capsys.readouterr()
    evaluate(tree, model, out=tmp_path, **options)
    bars = [(int(n), int(of)) for n, of in re.findall(r"evaluating: .*?\| (\d+)/(\d+) \[", capsys.readouterr().err)]
    assert (bars[0], bars[-1]) == ((2, PAIRS), (PAIRS, PAIRS))  # not from 0, nor of what was left alone
    assert sorted(row["index"] for row in lines(tmp_path)) == list(range(PAIRS))
    same_scores(tmp_path, done, tree)


@pytest.mark.parametrize(
    ("change", "named"),
    [({"steps": 3}, "steps: 2 there, 3 now"), ({"seed": 1}, "seed: 0 there, 1 now"), ({"metrics": ()}, 'metrics: ["ssim"] there, [] now'),
     ({"convention": "custom"}, "convention"), ({"paired": False, "metrics": ()}, "paired: true there, false now")],
)  # fmt: skip
def test_other_results_are_not_mixed_in(change: dict[str, Any], named: str, done: Path, tree: Path, model: str) -> None:
    options = {"metrics": ("ssim",), "images": True, "maps": True, "groups": 2, **STEPS, **change}
    before = (done / "run.json").read_bytes()
    with pytest.raises(ValueError, match="results of the same options") as error:
        evaluate(tree, model, out=done, **options)
    assert named in str(error.value)
    assert (done / "run.json").read_bytes() == before


def test_another_models_results_are_not_mixed_in(done: Path, tree: Path, tmp_path: Path) -> None:
    """The weights in the same folder changed: the name says nothing, the fingerprint does."""
    other = resolve(f"small:{write_model(tmp_path / 'weights', seed=1)}")
    with pytest.raises(ValueError, match="weights: "):
        evaluate(tree, other, out=done, metrics=("ssim",), images=True, maps=True, groups=2, **STEPS)


def test_a_folder_of_other_things_is_left_alone(tree: Path, model: str, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="which holds other things"):
        evaluate(tree, model, out=tmp_path, **STEPS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_saved_maps_score_the_same(done: Path, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`i2am imacs` on what `--save-maps` kept: to the last bit, with the run's own size; and other options give other scores."""
    assert cli.main(["imacs", "--maps", str(done / "maps"), "--data", str(tree), "--out", str(tmp_path / "same")]) == 0
    assert f"of {PAIRS} pairs" in capsys.readouterr().out
    for name, row in table(tmp_path / "same").items():
        assert row["imacs_g"] == table(done)[name]["imacs_g"]
        assert row["imacs_r"] == table(done)[name]["imacs_r"]
        assert row["seed"] == table(done)[name]["seed"]
    words = ["--penalty", "0", "--invert", "--force-mask", "--threshold", "0.1", "--out", str(tmp_path / "other")]
    assert cli.main(["imacs", "--maps", str(done / "maps"), "--data", str(tree), *words]) == 0
    data = VitonHD(tree, size=(64, 48))
    for index, name in ((0, "00000_00"), (5, "00005_00")):
        maps, row = i2am.load(done / "maps" / f"{name}.safetensors"), table(tmp_path / "other")[f"{name}.jpg"]
        expected = imacs(maps.unified("r2g"), data[index]["mask"], threshold=0.1, penalty=0.0, invert=True).item()
        assert float(row["imacs_g"]) == pytest.approx(expected, abs=1e-6)
        expected = imacs(maps.unified("g2r"), data[index]["garment_mask"], threshold=0.1, penalty=0.0, force_mask=True).item()
        assert float(row["imacs_r"]) == pytest.approx(expected, abs=1e-6)


def test_maps_of_other_people_are_named(done: Path, tree: Path, tmp_path: Path) -> None:
    stray = tmp_path / "nobody.safetensors"
    stray.write_bytes((done / "maps" / "00000_00.safetensors").read_bytes())
    with pytest.raises(ValueError, match=r"nobody\.safetensors, which are not"):
        score_again([done / "maps", stray], tree, tmp_path / "out")


def test_maps_belong_to_the_data_and_to_one_evaluation(
    done: Path, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Found beside them wherever one stands; other pictures of the same names are of another shape; reports are not written over."""
    copy = Path(shutil.copytree(done, tmp_path / "copy"))
    monkeypatch.chdir(copy / "maps")
    assert cli.main(["imacs", "--maps", ".", "--data", str(tree)]) == 0
    assert table(copy / "imacs-method") == {name: row for name, row in table(done).items() if row.pop("ssim")}
    monkeypatch.chdir(tmp_path)
    words = ["imacs", "--maps", "copy/maps", "--data"]
    for line, told in (
        ([*words, str(write_vitonhd("other", PAIRS, size=(128, 64)))], "i2am: the data in other have problems, and nothing was scored."),
        ([*words, str(tree), "--out", "copy"], "i2am: out must be a new folder, or an earlier report's, got copy, which holds batch-size"),
        ([*words, str(tree), "--reference", ""], "i2am: reference must be "),
        ([*words, str(tree), "--maps", "copy/maps/00000_00.safetensors"], "i2am: --maps must be one file per pair, got 11 files of 10"),
    ):
        assert cli.main([*line, *(() if "--out" in line else ("--out", "new"))]) == 2
        assert told in capsys.readouterr().err
    settings = json.loads((copy / "run.json").read_text())
    settings["options"]["seed"] = 7
    (copy / "run.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=r"--maps must be of one evaluation, got those of \S+ and of \S+, of another seed\."):
        score_again([copy / "maps", done / "maps"], tree, tmp_path / "new")


# What goes wrong on the way


# Models


def test_weighed_conventions_weigh_while_the_model_runs(tree: Path, model: str, tmp_path: Path) -> None:
    """custom: G2R of the inpainting mask's queries alone, which is another map."""
    evaluate(tree, model, out=tmp_path / "custom", convention="custom", limit=2, **STEPS)
    plain = replace(convention("custom"), weighed=False)
    evaluate(tree, model, out=tmp_path / "plain", convention=plain, limit=2, **STEPS)
    for name, row in table(tmp_path / "custom").items():
        assert row["imacs_g"] == table(tmp_path / "plain")[name]["imacs_g"]
        assert row["imacs_r"] != table(tmp_path / "plain")[name]["imacs_r"]


def test_seeds_belong_to_pairs() -> None:
    """A fixed number: a change of it would make every reported score another one."""
    assert seed_of(0, "00006_00.jpg", "00006_00.jpg") == 39343033133701029
    assert len({seed_of(s, a, b) for s in range(3) for a in "ab" for b in "ab"}) == 12
