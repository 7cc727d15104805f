"""What the tests of evaluations share: a small tree on disk, and a small model in a folder."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scored import cubic

import i2am
from i2am.data.synthetic import write_vitonhd
from i2am.data.vitonhd import VitonHD
from i2am.evaluation import evaluate
from i2am.models.small.encoder import GarmentEncoder
from i2am.models.small.pipeline import SmallTryOnPipeline
from i2am.models.small.schedule import scheduler
from i2am.models.small.unet import small_unet

GRID = (16, 12)
PAIRS = 10


def write_model(folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    SmallTryOnPipeline(small_unet((16, 32), 2, 32, GRID), GarmentEncoder(GRID, 16, 32, 2), scheduler()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, on_the_cpu: None) -> Path:
    """Ten pairs; tests that damage it take a copy."""
    return write_vitonhd(tmp_path_factory.mktemp("world") / "data", PAIRS, seed=3, size=(128, 96))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, on_the_cpu: None) -> str:
    """A model with random weights, by its name."""
    return f"small:{write_model(tmp_path_factory.mktemp('model') / 'weights')}"


@pytest.fixture
def damaged(tree: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tree, tmp_path / "damaged"))


def lines(out: Path) -> list[Any]:
    return [json.loads(line) for path in sorted((out / "shards").glob("*.jsonl")) for line in path.read_text().splitlines()]


def table(out: Path) -> dict[str, dict[str, str]]:
    with (out / "scores.csv").open(newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


DIGITS = 1e-4  # that other batches, numbers of threads and processors agree in


def on_the_threshold(done: Path, tree: Path, name: str) -> dict[str, float]:
    """What pixels within DIGITS of IMACS's threshold weigh in a pair's scores: rounding moves one across, and it counts whole or not."""
    maps, data = i2am.load(done / "maps" / f"{Path(name).stem}.safetensors"), VitonHD(tree, size=(64, 48))
    pair, found = data[[person for person, _ in data.pairs].index(name)], {}
    for metric, direction, mask in (("imacs_g", "r2g", "mask"), ("imacs_r", "g2r", "garment_mask")):
        x, m = maps.unified(direction)[0].double().numpy(), pair[mask].double().numpy()
        x = cubic((x - x.min()) / (x.max() - x.min()), *m.shape)
        near = np.abs((x - x.min()) / (x.max() - x.min()) - 0.4) < DIGITS
        found[metric] = 0.4 * ((near * m).sum() / m.sum() + 3 * (near * (1 - m)).sum() / (1 - m).sum())
    return found


def same_scores(out: Path, done: Path, tree: Path, without: str = "") -> None:
    """Every score of `out` is that of `done`, a run that kept its maps, to the digits that are promised."""
    found, right = table(out), table(done)
    assert list(found) == [name for name in right if name != without]
    for name, row in found.items():
        hang = on_the_threshold(done, tree, name)
        for metric in ("imacs_g", "imacs_r", "ssim"):
            assert float(row[metric]) == pytest.approx(float(right[name][metric]), abs=DIGITS + hang.get(metric, 0.0)), (name, metric)


STEPS = {"steps": 2, "batch_size": 4}


@pytest.fixture(scope="module")
def done(tree: Path, model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run with everything that can be kept."""
    out = tmp_path_factory.mktemp("done") / "out"
    assert evaluate(tree, model, out=out, metrics=("ssim",), images=True, maps=True, groups=2, **STEPS) == out / "report.html"
    return out
