"""How files are written: whole or not at all, with the mode that open() gives, and with a word on numbers that are none."""

import errno
import os
import stat
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from saved import run_of

import i2am
from i2am.show.pictures import animate


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.usefixtures("umask")
def test_files_have_the_mode_that_open_gives(tmp_path):
    """safetensors writes through a temporary file that only its owner may read."""
    path = run_of().save(tmp_path / "run.safetensors")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o604)
    assert stat.S_IMODE(run_of().save(path).stat().st_mode) == 0o604  # as when open() writes over a file
    html = i2am.view(run_of(), tmp_path / "run.html")
    gif = animate(Image.new("RGB", (6, 8)), torch.rand(2, 4, 3, device="cpu"), tmp_path / "run.gif")
    assert {stat.S_IMODE(file.stat().st_mode) for file in (html, gif)} == {0o640}


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS], ids=["EACCES", "EROFS"])
def test_a_folder_that_may_not_be_written_to(tmp_path, monkeypatch, code):
    def locked(self: Path, *args: Any, **kwargs: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "touch", locked)
    for write in (run_of().save, partial(i2am.view, run_of())):
        path = tmp_path / ("run.html" if isinstance(write, partial) else "run.safetensors")
        with pytest.raises(ValueError, match=rf"path must be where a file may be written, .*run.* \({os.strerror(code)}\)\. Choose"):
            write(path)
    assert not list(tmp_path.iterdir())


def test_numbers_that_are_none_are_told_when_they_are_read(tmp_path):
    run = run_of()
    broken = replace(run, sums=(replace(run.sums[0], g2r=run.sums[0].g2r * torch.nan), *run.sums[1:]))
    path = broken.save(tmp_path / "run.safetensors")
    with pytest.warns(UserWarning, match=r"1 of 4 layers hold NaN or infinity: down\.0\. Look for overflow"):
        back = i2am.load(path)
    assert back.broken == ["down.0"]
    with pytest.raises(ValueError, match=r"g2r sums must be finite, got NaN .* 1 of 1 layers, the first down\.0 in image 0, 1 of 2"):
        back.unified("g2r", reference="reference")
    assert torch.equal(back.layer("r2g", layers="down.0", reference="reference"), run.layer("r2g", layers="down.0", reference="reference"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        i2am.load(run.save(path))
