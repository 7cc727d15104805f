"""An evaluation, end to end on drawn pairs: the same scores in every batch, what goes on, what is refused, and what is kept."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluated import DIGITS, PAIRS, damaged, lines, model, on_the_threshold, same_scores, table, tree, write_model
from PIL import Image

import i2am
from i2am import cli
from i2am.evaluation import evaluate, resolve
from i2am.evaluation.again import score_again
from i2am.evaluation.painter import Painter, seed_of
from i2am.imacs import convention, imacs
from i2am.machine import out_of_memory
from i2am.synthetic import write_vitonhd
from i2am.vitonhd import VitonHD

__all__ = ["damaged", "model", "tree"]
pytestmark = pytest.mark.usefixtures("on_the_cpu")
STEPS = {"steps": 2, "batch_size": 4}


@pytest.fixture(scope="module")
def done(tree: Path, model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run with everything that can be kept."""
    out = tmp_path_factory.mktemp("done") / "out"
    assert evaluate(tree, model, out=out, metrics=("ssim",), images=True, maps=True, groups=2, **STEPS) == out / "report.html"
    return out


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
        assert Image.open(done / "looks" / pair["name"]).size == (3 * 192, 256)


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


def test_out_of_memory_halves_the_batch(done: Path, tree: Path, model: str, tmp_path: Path) -> None:
    built = resolve(model)
    sizes = []

    def paint(batch: Any, **options: Any) -> Any:
        sizes.append(len(batch["name"]))
        if len(batch["name"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return built.paint(batch, **options)

    evaluate(tree, replace(built, paint=paint), out=tmp_path, metrics=("ssim",), steps=2, batch_size=8)
    assert sizes == [8, 4, 2, 2, 2, 2, 2]
    assert json.loads((tmp_path / "report.json").read_text())["notes"] == [
        "Out of memory: went on with batches of 4.", "Out of memory: went on with batches of 2."]  # fmt: skip
    same_scores(tmp_path, done, tree)


def test_what_is_out_of_memory() -> None:
    assert out_of_memory(torch.OutOfMemoryError("x"))
    assert out_of_memory(RuntimeError("[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: can't allocate memory: you tried"))
    assert out_of_memory(MemoryError())
    assert not out_of_memory(RuntimeError("mat1 and mat2 must have the same dtype"))


def test_a_single_pair_that_does_not_fit_is_an_error(tree: Path, model: str, tmp_path: Path) -> None:
    def paint(batch: Any, **_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(torch.OutOfMemoryError):
        evaluate(tree, replace(resolve(model), paint=paint), out=tmp_path, **STEPS)


@pytest.mark.filterwarnings("ignore:.*layers hold NaN")
def test_a_model_that_overflows_in_one_pair(done: Path, tree: Path, model: str, tmp_path: Path) -> None:
    """NaN in one garment reaches that image's maps and no other's; the pair is left out, and the others are scored as without it."""
    built = resolve(model)

    def paint(batch: Any, **options: Any) -> Any:
        encoder = built.pipeline.garment_encoder
        hook = encoder.register_forward_hook(lambda _, given, tokens: tokens.index_fill(0, hit, math.nan))
        hit = torch.tensor([i for i, name in enumerate(batch["name"]) if name == "00006_00.jpg"], dtype=torch.long)
        try:
            return built.paint(batch, **options).nan_to_num()
        finally:
            hook.remove()

    broken = replace(built, paint=paint)
    with pytest.raises(ValueError, match=r"images and their maps must be finite, got NaN or infinity in 00006_00\.jpg"):
        evaluate(tree, broken, out=tmp_path, metrics=("ssim",), **STEPS)
    evaluate(tree, broken, out=tmp_path, keep_going=True, metrics=("ssim",), **STEPS)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["failed"] == [{"name": "00006_00.jpg", "what": "its maps are not finite"}]
    same_scores(tmp_path, done, tree, without="00006_00.jpg")
    assert len(list((tmp_path / "looks").iterdir())) == PAIRS - 1


def test_images_that_are_not_finite(tree: Path, model: str, tmp_path: Path) -> None:
    built = resolve(model)

    def paint(batch: Any, **options: Any) -> Any:
        images = built.paint(batch, **options).clone()
        images[[name == "00006_00.jpg" for name in batch["name"]]] = math.nan
        return images

    broken = replace(built, paint=paint)
    with pytest.raises(ValueError, match=r"NaN or infinity in 00006_00\.jpg"):
        evaluate(tree, broken, out=tmp_path, **STEPS)
    assert [row["index"] for row in lines(tmp_path)] == [0, 1, 2, 3]
    evaluate(tree, broken, out=tmp_path, keep_going=True, **STEPS)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["pairs"] == {"asked": PAIRS, "scored": PAIRS - 1, "failed": 1}
    assert report["failed"] == [{"name": "00006_00.jpg", "what": "the image is not finite"}]
    evaluate(tree, built, out=tmp_path, **STEPS)  # mended: the failed pair alone is written again
    assert sorted(table(tmp_path)) == [f"{i:05d}_00.jpg" for i in range(PAIRS)]
    assert len(lines(tmp_path)) == PAIRS + 1


def break_image(root: Path) -> None:
    path = root / "test" / "image" / "00004_00.jpg"
    path.write_bytes(path.read_bytes()[:900])


def break_mask(root: Path) -> None:
    path = root / "test" / "agnostic-mask" / "00004_00_mask.png"
    path.write_bytes(path.read_bytes()[:60])


def break_name(root: Path) -> None:
    listing = root / "test_pairs.txt"
    listing.write_text(listing.read_text().replace("00004_00.jpg 0", "../../00004_00.jpg 0"))


@pytest.mark.parametrize(("damage", "named"), [(break_image, "00004_00.jpg"), (break_mask, "00004_00_mask.png"), (break_name, "../")])
def test_bad_pairs_stop_a_run_before_it_starts(damage: Any, named: str, damaged: Path, model: str, tmp_path: Path) -> None:
    damage(damaged)
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="nothing was generated") as error:
        evaluate(damaged, model, out=out, **STEPS)
    assert named in str(error.value)
    assert lines(out) == []
    evaluate(damaged, model, out=out, keep_going=True, **STEPS)
    report = json.loads((out / "report.json").read_text())
    assert report["pairs"] == {"asked": PAIRS, "scored": PAIRS - 1, "failed": 1}
    assert named in report["failed"][0]["what"]
    assert sorted(row["index"] for row in lines(out)) == [0, 1, 2, 3, 5, 6, 7, 8, 9]


def test_a_missing_folder_is_one_problem(damaged: Path, model: str, tmp_path: Path) -> None:
    (damaged / "test" / "agnostic-mask").rename(damaged / "test" / "elsewhere")
    with pytest.raises(ValueError, match="agnostic-mask") as error:
        evaluate(damaged, model, out=tmp_path / "out", keep_going=True, **STEPS)
    assert "1 problem:" in str(error.value)


def test_a_full_disk_loses_nothing(tree: Path, model: str, tmp_path: Path) -> None:
    """On a disk of 250 kB: what was scored before is whole, and the same command goes on once there is room."""
    out = tmp_path / "disk"
    out.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=250k", "tmpfs", str(out)], capture_output=True).returncode:
        pytest.skip("needs root, to mount a small tmpfs: sudo make test")
    try:
        with pytest.raises(ValueError, match="make room, and give the same command again"):
            evaluate(tree, model, out=out / "run", images=True, maps=True, steps=2, batch_size=2)
        kept = lines(out / "run")
        assert 0 < len(kept) < PAIRS
        subprocess.run(["mount", "-o", "remount,size=64m", str(out)], check=True)
        evaluate(tree, model, out=out / "run", images=True, maps=True, steps=2, batch_size=2)
        assert lines(out / "run")[: len(kept)] == kept
        assert sorted(row["index"] for row in lines(out / "run")) == list(range(PAIRS))
        assert len(list((out / "run" / "images").iterdir())) == len(list((out / "run" / "maps").iterdir())) == PAIRS
    finally:
        subprocess.run(["umount", "-l", str(out)], check=True)


# Models


def test_weighed_conventions_weigh_while_the_model_runs(tree: Path, model: str, tmp_path: Path) -> None:
    """custom: G2R of the inpainting mask's queries alone, which is another map."""
    evaluate(tree, model, out=tmp_path / "custom", convention="custom", limit=2, **STEPS)
    plain = replace(convention("custom"), weighed=False)
    evaluate(tree, model, out=tmp_path / "plain", convention=plain, limit=2, **STEPS)
    for name, row in table(tmp_path / "custom").items():
        assert row["imacs_g"] == table(tmp_path / "plain")[name]["imacs_g"]
        assert row["imacs_r"] != table(tmp_path / "plain")[name]["imacs_r"]


def test_what_paint_returns_is_checked(tree: Path, model: str, tmp_path: Path) -> None:
    built = resolve(model)
    pil = replace(built, paint=lambda batch, **options: [built.paint(batch, **options)])
    with pytest.raises(ValueError, match=r"a tensor \(4, 3, 64, 48\)"):
        evaluate(tree, pil, out=tmp_path, **STEPS)


def test_seeds_belong_to_pairs() -> None:
    """A fixed number: a change of it would make every reported score another one."""
    assert seed_of(0, "00006_00.jpg", "00006_00.jpg") == 39343033133701029
    assert len({seed_of(s, a, b) for s in range(3) for a in "ab" for b in "ab"}) == 12
