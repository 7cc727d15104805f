"""Places that something will be written to: what is known to fail is refused before the work for it is done."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from i2am.common.checks import as_path, refuse

PROBE = 4096  # bytes
LOCKED = (errno.EACCES, errno.EPERM, errno.EROFS)


def folder(path: str | Path, what: str = "out") -> Path:
    """The path of a folder that can be written into, or made; nothing is made yet."""
    with writable(path, what) as found:
        if str(found) != str(found).encode("utf-8", "replace").decode():
            refuse(what, "a name in UTF-8", ascii(str(found)), "safetensors writes to no other: name another, or set the locale.")
        there = next(up for up in (found, *found.parents) if os.path.lexists(up))
        if not there.is_dir():
            got = f"the file {found}" if there == found else f"{found}, where {there} is a file"
            refuse(what, "a folder", got, "Name another, or move the file.")
        if there != found:
            with contextlib.suppress(FileNotFoundError):
                os.lstat(found)  # says whether there can be such a name
        probe(there)
    return found


def file(path: str | Path, what: str = "out", suffixes: Sequence[str] = ()) -> Path:
    """The path of a file that can be written, in a folder that is there. suffixes: what its name may end in, the usual one first."""
    with writable(path, what) as found:
        if suffixes and found.suffix.lower() not in suffixes:
            usual = found.with_suffix(suffixes[0]).name if found.name else f"run{suffixes[0]}"
            refuse(what, f"a {' or '.join(suffixes)} file", found, f"Write {usual}.")
        if found.is_dir():
            refuse(what, "a file", f"{found}, which is a folder", "Name another, or move the folder.")
        if not found.parent.is_dir():
            refuse(what, "in a folder that exists", found, f"Make {found.parent} first, or name another.")
        probe(found.parent)  # where the file is written, under another name until it is whole
    return found


@contextlib.contextmanager
def writable(path: str | Path, what: str) -> Iterator[Path]:
    """What the operating system says against it, in words."""
    if isinstance(path, str) and not path:
        refuse(what, "a name", "an empty one", "Is a variable of the command line empty?")
    try:
        yield as_path(what, path, "Say where it is written to.")
    except OSError as error:
        got = f"{path} ({error.strerror or error})"
        refuse(what, "where something can be written", got, "Make room or get the right to, or name another place.")


def probe(there: Path) -> None:
    """Write a little into a folder; nothing of it stays."""
    with tempfile.TemporaryFile(dir=there) as trial:
        trial.write(bytes(PROBE))
        trial.flush()


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[None]:
    """What is written into a new or empty folder is there whole, or not at all."""
    there = folder.exists()
    try:
        yield
    except BaseException:
        for one in folder.iterdir() if folder.is_dir() else ():
            shutil.rmtree(one) if one.is_dir() else one.unlink()
        if not there and folder.is_dir():
            folder.rmdir()
        raise


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """The file appears whole or not at all: `write` gets another name, beside it. It has the mode that open() gives a file, whatever
    writers that go through files of their own leave."""
    part = path.with_name(path.name + ".part")
    try:
        part.unlink(missing_ok=True)
        part.touch()
        mode = (path if path.is_file() else part).stat().st_mode
        write(part)
        part.chmod(stat.S_IMODE(mode))
        part.replace(path)
    except OSError as error:
        if error.errno not in LOCKED:
            raise
        refuse("path", "where a file may be written", f"{path} ({error.strerror})", "Choose another folder, or change its mode.")
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
