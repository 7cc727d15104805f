"""Pictures of a study on disk: those that are damaged, and those that prompts begin from."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from i2am.data.prompts import Asked
from i2am.studies.options import Options
from i2am.studies.painted import Painted
from i2am.studies.run import described


def test_a_damaged_picture_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"one that can be read, got .*a\.png .*Delete it"):
        Painted(Asked("a", "a cat"), tmp_path / "a.png", tmp_path / "a.safetensors").picture()


def test_a_picture_that_changed_between_runs_is_another_list(tmp_path: Path) -> None:
    path = tmp_path / "one.ppm"  # both as large
    about = []
    for value in (0, 9):
        path.write_bytes(b"P6 1 1 255\n" + bytes([value] * 3))
        calls = SimpleNamespace(pipe=SimpleNamespace())
        about.append(described(Options(), calls, "model", [Asked("one", "a cat", image=path)], {})["list"])  # type: ignore[arg-type]
    assert about[0] != about[1]
