"""Places to write to: what cannot be written is refused before the work, and what fails on the way ends in a line."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from i2am.cli import failures
from i2am.cli import main as cli
from i2am.common import outputs

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tmp_path.joinpath("taken").write_text("mine")
    tmp_path.joinpath("link").symlink_to("nowhere")
    tmp_path.joinpath("folder.html").mkdir()
    return tmp_path


@pytest.mark.parametrize("path", ["new", "new/in/new", ".", "with a space/und ein Ü"])
def test_folders_that_can_be_made_are_not_made_yet(here, path):
    before = sorted(here.rglob("*"))
    assert outputs.folder(path) == Path(path)
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize(
    ("path", "said"),
    [("taken", "a folder, got the file taken"), ("taken/in/it", "a folder, got taken/in/it, where taken is a file"), ("", "an empty one"),
     ("link", "a folder, got the file link"), ("/proc/new", "where something can be written, got /proc/new"),
     ("caf\udce9", r"a name in UTF-8, got 'caf\udce9'"), ("x" * 300, "where something can be written, got xxx")],
)  # fmt: skip
def test_folders_that_cannot_be_made(here, path, said):
    with pytest.raises(ValueError, match=r"^i2am: --out must be ") as refused:
        outputs.folder(path, "--out")
    assert said in str(refused.value)


def test_files(here):
    for path in ("new.html", "./NEW.HTM", "taken"):
        assert outputs.file(path, suffixes=() if path == "taken" else (".html", ".htm")) == Path(path)
    for path, said in (
        ("new.txt", "a .html or .htm file, got new.txt. Write new.html."),
        ("folder.html", "a file, got folder.html, which is a folder. Name another"),
        ("none/new.html", "in a folder that exists, got none/new.html. Make none first"),
        ("taken/new.html", "in a folder that exists, got taken/new.html"),
        ("/proc/new.html", "where something can be written, got /proc/new.html"),
    ):
        with pytest.raises(ValueError, match=r"^i2am: out must be ") as refused:
            outputs.file(path, suffixes=(".html", ".htm"))
        assert said in str(refused.value)
    assert not list(here.glob("new*"))


def test_a_disk_that_only_reads_or_is_full_is_refused(here, monkeypatch):
    for number in (errno.EROFS, errno.EACCES, errno.ENOSPC):

        def refused(number: int = number, **_: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("tempfile.TemporaryFile", refused)
        with pytest.raises(ValueError, match=f"got new .{os.strerror(number)}"):
            outputs.folder("new")


def test_a_folder_is_whole_or_not_there(here):
    for name, left in (("new", False), ("old", True)):
        folder = here / name
        if left:
            folder.mkdir()
        with pytest.raises(KeyboardInterrupt):
            stopped(folder)
        assert folder.exists() == left
        assert not left or not list(folder.iterdir())
    with outputs.whole_folder(here / "new"):
        (here / "new").mkdir()
    assert (here / "new").is_dir()


def stopped(folder: Path) -> None:
    with outputs.whole_folder(folder):
        (folder / "part").mkdir(parents=True)
        (folder / "part" / "file").write_text("half")
        (folder / "file").write_text("half")
        raise KeyboardInterrupt


# Whatever fails on the way


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(errno.EACCES, "x", "a/b"), "refused a/b: Permission denied. Get the right"),
        (FileNotFoundError(errno.ENOENT, "x", "a"), "refused a: No such file or directory. Look at its name"),
        (OSError(errno.EXDEV, "x", "a", None, "b"), "refused a -> b: Invalid cross-device link. Name another place."),
        (FULL, "refused demo: No space left on device. Make room"),
        (IsADirectoryError(errno.EISDIR, "x", b"a"), "refused a: Is a directory. A folder lies where a file belongs"),
        (MemoryError(), "out of memory (no more memory). Ask for fewer"),
        (RuntimeError("[x] DefaultCPUAllocator: can't allocate memory: y\nz"), "out of memory ([x] DefaultCPUAllocator: can't allocate"),
        (type("SafetensorError", (Exception,), {})("I/O error: full (os error 28)"), "refused demo: No space left on device. Make room"),
    ],
)
def test_what_the_system_says_is_a_line(error, said, monkeypatch, capsys):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("i2am.cli.demo_pictures.demo", fail)
    assert cli.main(["demo"]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("i2am: ")
    assert printed.count("\n") == 1
    assert said in printed


@pytest.mark.parametrize("error", [ValueError("x"), OSError("no number"), KeyError("x"), RuntimeError("x"), ImportError("x")], ids=repr)
def test_our_own_mistakes_keep_their_traceback(error):
    assert failures.line(error) is None


def test_a_reader_that_goes_away_is_no_error():
    for command in ("--help", "evaluate --help", "--version"):
        ended = subprocess.run(f"{sys.executable} -m i2am {command} | true; echo ${{PIPESTATUS[0]}}", shell=True, executable="/bin/bash",
                               capture_output=True, text=True)  # fmt: skip
        assert ended.stderr == ""
        assert int(ended.stdout) in (0, 141)


# Every command


PLACES = {
    "view": ("view run.safetensors --no-open --out", True),
    "demo": ("demo --out", False),
    "evaluate": ("evaluate --data data --out", False),
    "imacs": ("imacs --maps run.safetensors --data data --out", False),
    "detect": ("detect --maps run.safetensors --boxes boxes.json --out", True),
    "drawn": ("detect --maps run.safetensors --boxes boxes.json --pictures", False),
    "convert": ("convert stableviton model.ckpt", False),
    "train-small": ("train-small --out", False),
    "train-scenes": ("train-scenes --out", False),
}


def test_a_drawn_world_is_refused_a_place_alike(here):
    from i2am.data.synthetic import write_vitonhd

    for place in ("taken", "taken/world", "/proc/world", ""):
        with pytest.raises(ValueError, match=r"^i2am: root must be "):
            write_vitonhd(place, 1)


@pytest.mark.parametrize("name", PLACES)
def test_every_command_refuses_before_it_works(here, name, capsys, monkeypatch):
    """Nothing that the commands would read is looked at, but for maps and annotations."""
    pytest.importorskip("diffusers")
    from viewed import known

    known(1).save(here / "run.safetensors")
    (here / "model.ckpt").write_bytes(b"")
    (here / "boxes.json").write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    trained = ("i2am.models.small.train.Model", "i2am.models.scenes.train.Model")
    for work in ("i2am.cli.demo_pictures.paint", *trained, "i2am.evaluation.run.resolve", "torch.load"):
        monkeypatch.setattr(work, lambda *_, **__: pytest.fail("worked"))
    words, file = PLACES[name]
    suffix = {"view": ".html", "detect": ".json"}.get(name, "") if file else ""
    for place in (f"taken/new{suffix}", f"/proc/new{suffix}", "taken", ""):
        assert cli.main([*words.split(), place]) == 2, place
        printed = [line for line in capsys.readouterr().err.splitlines() if line.startswith("i2am: ")]
        assert len(printed) == 1
        assert "out" in printed[0] or "--pictures" in printed[0]
    assert (here / "taken").read_text() == "mine"
