"""A small healthy tree of VITON-HD, and copies to break."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from i2am.data.synthetic import write_vitonhd
from i2am.data.vitonhd import VitonHD

SIZE, COUNT, SEED = (128, 96), 4, 5
NAMES = [f"{i:05d}_00.jpg" for i in range(COUNT)]
MASK = "test/agnostic-mask/00001_00_mask.png"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with torch.device("cpu"):
        return write_vitonhd(tmp_path_factory.mktemp("data"), COUNT, SEED, SIZE)


@pytest.fixture
def broken(tree: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return shutil.copytree(tree, tmp_path / "copy")


def read(root: Path, **options: Any) -> VitonHD:
    return VitonHD(root, **{"size": SIZE, **options})


def listing(root: Path, *lines: str) -> Path:
    (root / "test_pairs.txt").write_text("".join(f"{line}\n" for line in lines))
    return root


PERSON = "test/image/00001_00.jpg"
