"""The public door: one shape for every error, and the checks that many functions share. Imports no torch."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import fields
from numbers import Integral
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from i2am.common.machine import free_memory

Kind = TypeVar("Kind")
ITEMS, TEXT, WORDS = 8, 120, 2000  # of a list, characters of a user's text, and of what a caller says in words
RANGED = 1 << 20  # numbers of a tensor whose least and greatest are worth a look
SMALL = 1 << 26  # bytes for which nobody asks how many are free


def refuse(what: str, expected: str, got: object, remedy: str, error: type[Exception] = ValueError) -> NoReturn:
    """One shape for every message: the user's own thing, what was expected, what came, what to do. A text says what came in words;
    anything else, and a user's own text through `said`, is shortened to what one can read."""
    raise error(f"i2am: {what} must be {expected}, got {cut(got, WORDS) if isinstance(got, str) else said(got)}. {remedy}")


def said(value: Any) -> str:
    """A user's value in a few words: a tensor by its dtype, shape, device and range, a long list by its beginning and its length."""
    shape = getattr(value, "shape", None)
    if isinstance(shape, Sequence) and len(shape) and hasattr(value, "dtype"):
        kind = f"{str(value.dtype).removeprefix('torch.')} {list(shape)}"
        return f"{kind} on {getattr(value, 'device', 'cpu')}{extent(value)}"
    if isinstance(value, str):
        return cut(repr(value), TEXT)
    if type(value) in (list, tuple):
        items = ", ".join(said(item) for item in value[:ITEMS])
        more = f", ... {len(value)} in all" if len(value) > ITEMS else "," if len(value) == 1 and type(value) is tuple else ""
        return f"({items}{more})" if type(value) is tuple else f"[{items}{more}]"
    if isinstance(value, dict):
        items = ", ".join(f"{said(key)}: {said(item)}" for key, item in list(value.items())[:ITEMS])
        return f"{{{items}{f', ... {len(value)} in all' if len(value) > ITEMS else ''}}}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, (BaseException, os.PathLike)):
        return cut(str(value), WORDS)
    text = repr(value)
    return type(value).__name__ if len(text) > TEXT or "\n" in text or " at 0x" in text else text


def cut(text: str, most: int) -> str:
    """The beginning of a text that is too long, and its length."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"


def extent(value: Any) -> str:
    """The range of a small tensor's or array's numbers."""
    if not 0 < math.prod(value.shape) <= RANGED or "complex" in str(value.dtype):
        return ""
    value = value.detach() if hasattr(value, "detach") else value
    try:
        return f" from {float(value.min()):g} to {float(value.max()):g}"
    except (TypeError, ValueError, RuntimeError):  # texts, tensors without memory
        return ""


def counted(number: int, thing: str) -> str:
    """A number of things, in words."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def cited(names: Sequence[str], most: int = 3) -> str:
    """A few names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more or "none"


def fields_said(self: Any) -> str:
    """The `__repr__` of a dataclass that holds tensors."""
    return f"{type(self).__name__}({', '.join(f'{f.name}={said(getattr(self, f.name))}' for f in fields(self) if f.repr)})"


def is_whole(number: object, least: int = 0) -> bool:
    """Python's and numpy's whole numbers, but not True."""
    return isinstance(number, Integral) and not isinstance(number, bool) and int(number) >= least


def is_size(size: object) -> bool:
    """(height, width), both whole and at least 1."""
    return isinstance(size, Sequence) and not isinstance(size, str) and len(size) == 2 and all(is_whole(side, 1) for side in size)


def is_grid(grid: object) -> bool:
    """(height, width), or (frames, height, width) of a video, all whole and at least 1."""
    return is_size(grid) or (isinstance(grid, Sequence) and not isinstance(grid, str) and len(grid) == 3 and is_size(grid[1:])
                             and is_whole(grid[0], 1))  # fmt: skip


def is_range(part: object) -> bool:
    """(start, stop), both whole; whether they fit is another question."""
    if not isinstance(part, Sequence) or isinstance(part, str) or len(part) != 2:
        return False
    return all(isinstance(end, Integral) and not isinstance(end, bool) for end in part)


def is_floating(value: Any, *dimensions: int) -> bool:
    """A tensor of floating point numbers, of one of these numbers of dimensions."""
    return callable(getattr(value, "is_floating_point", None)) and value.is_floating_point() and value.ndim in dimensions


def whole_number(name: str, value: Any, least: int, remedy: str) -> int:
    """The number, if it is whole and not less."""
    if not is_whole(value, least):
        refuse(name, f"a whole number of at least {least}", said(value), remedy)
    return int(value)


def index_of(what: str, index: Any, count: int, things: str, remedy: str) -> int:
    """An index as a list takes it: from the end if negative, an IndexError beyond."""
    if not isinstance(index, Integral) or isinstance(index, bool):
        refuse(what, "a whole number", said(index), remedy)
    if not -count <= int(index) < count:
        refuse(what, f"below {count}, the number of {things}", said(index), remedy, IndexError)
    return int(index) % count


def number(name: str, value: Any, expected: str, good: Callable[[float], bool], remedy: str) -> float:
    """The number, if it is one and good; nothing that is compared with NaN is."""
    try:
        found = math.nan if isinstance(value, (bool, str, bytes)) else float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        found = math.nan
    if not good(found):
        refuse(name, expected, said(value), remedy)
    return found


def instance(name: str, value: Any, kind: type[Kind], remedy: str) -> Kind:
    """The value, if it is of this class."""
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIO" else "a"
        refuse(name, f"{article} {kind.__name__}", said(value), remedy)
    return value


def as_path(name: str, path: Any, remedy: str) -> Path:
    """The path of a text or a path."""
    if not isinstance(path, (str, os.PathLike)):
        refuse(name, "a text or a pathlib.Path", said(path), remedy)
    return Path(path)


class TooLargeError(ValueError, MemoryError):
    """What memory cannot hold. A MemoryError too, for those who then go on with less, as an evaluation does."""


def afford(what: str, need: int, remedy: str, device: Any = "cpu") -> None:
    """Refuse what cannot be held in memory, before an allocator or the system ends the process."""
    free = free_memory(device) if need > SMALL else None
    if free is not None and need > free:
        refuse(what, f"small enough for the {in_bytes(free)} of memory that are free", f"about {in_bytes(need)}", remedy, TooLargeError)


def in_bytes(count: int) -> str:
    """Bytes in the unit that reads best."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:,.3g} {unit}" if count < 1e3 * size else f"{count / size:,.0f} {unit}"
    return f"{count:,} bytes"
