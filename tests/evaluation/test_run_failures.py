"""An evaluation in trouble: out of memory, numbers that are none, bad pairs, a full disk."""

from __future__ import annotations

import json
import math
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluated import PAIRS, STEPS, damaged, done, lines, model, same_scores, table, tree

from i2am.common.machine import out_of_memory
from i2am.evaluation import evaluate, resolve

__all__ = ["damaged", "done", "model", "tree"]
pytestmark = pytest.mark.usefixtures("on_the_cpu")


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
    """On a disk of 900 kB: what was scored before is whole, and the same command goes on once there is room."""
    out = tmp_path / "disk"
    out.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=900k", "tmpfs", str(out)], capture_output=True).returncode:
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


def test_what_paint_returns_is_checked(tree: Path, model: str, tmp_path: Path) -> None:
    built = resolve(model)
    pil = replace(built, paint=lambda batch, **options: [built.paint(batch, **options)])
    with pytest.raises(ValueError, match=r"a tensor \(4, 3, 64, 48\)"):
        evaluate(tree, pil, out=tmp_path, **STEPS)
