"""How a command that fails ends: a line for what was refused, for what the operating system said and for Ctrl-C.

Whatever else is raised is our own mistake, whose traceback is worth more than a line.
"""

from __future__ import annotations

import errno
import os
import re

from i2am.common.machine import out_of_memory

ELSEWHERE = "Name another place."
REMEDIES = {
    errno.ENOENT: "Look at its name; a folder that is missing must be made first.",
    errno.EEXIST: "Name another place, or move what is there.",
    errno.ENOTDIR: "A file lies where a folder belongs: name another place, or move it.",
    errno.EISDIR: "A folder lies where a file belongs: name another place, or move it.",
    errno.EACCES: "Get the right to read and write there, or name another place.",
    errno.EPERM: "Get the right to read and write there, or name another place.",
    errno.ENOSPC: "Make room, and give the same command again.",
    errno.EDQUOT: "Make room, and give the same command again.",
    errno.EFBIG: "Raise the limit of a file's size, or name a place on another disk.",
    errno.EMFILE: "Raise the limit of open files: ulimit -n 4096.",
    errno.ENAMETOOLONG: "Give it a shorter name.",
}


def line(error: BaseException, out: str | None = None) -> str | None:
    """What is said of it; None is our own mistake. out: where the command writes, for errors that do not say."""
    if isinstance(error, (ValueError, ImportError)) and str(error).startswith("i2am:"):
        return str(error)
    if (number := system(error)) is not None:
        names = [os.fsdecode(name) for name in (getattr(error, "filename", None), getattr(error, "filename2", None))
                 if isinstance(name, (str, bytes, os.PathLike))]  # fmt: skip
        what = " -> ".join(names) or out or "what it was asked to read or write"
        return f"i2am: the operating system refused {what}: {os.strerror(number)}. {REMEDIES.get(number, ELSEWHERE)}"
    if isinstance(error, (MemoryError, RuntimeError)) and out_of_memory(error):
        said = str(error).partition("\n")[0] or "no more memory"
        return f"i2am: out of memory ({said}). Ask for fewer pictures at a time, or smaller ones."
    return None


def system(error: BaseException) -> int | None:
    """The number of the operating system's error; safetensors has it in words alone."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error)) if type(error).__name__ == "SafetensorError" else None
    return int(found[1]) if found else None
