"""What the tests of evaluations share: a small tree on disk, and a small model in a folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from i2am.models.small.encoder import GarmentEncoder
from i2am.models.small.pipeline import SmallTryOnPipeline
from i2am.models.small.schedule import scheduler
from i2am.models.small.unet import small_unet
from i2am.synthetic import write_vitonhd

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
    import json

    return [json.loads(line) for path in sorted((out / "shards").glob("*.jsonl")) for line in path.read_text().splitlines()]
