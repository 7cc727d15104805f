"""A piece of the pack's work, and how a list of them is done: each says what it begins before it begins it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import torch

from benchmarks.measuring import health
from benchmarks.measuring.health import DeviceLost
from benchmarks.measuring.rows import Row

LOST = 75  # exit code


class Begin(Protocol):
    """Tells that a part of an item begins, with what its row would say; False where it is to be left out."""

    def __call__(self, part: str, **what: object) -> bool: ...


class Item(NamedTuple):
    """A piece of work: its name, how many seconds between two signs of life are still no hang, and what makes its rows."""

    name: str
    patience: float
    rows: Callable[[Begin], Iterator[Row]]


class Beginning(NamedTuple):
    """`Begin` for the parts of one item."""

    item: Item
    section: str
    leave_out: Sequence[str]
    tell: Callable[[Row], None]

    def __call__(self, part: str, **what: object) -> bool:
        name = f"{self.item.name} | {part}"
        if name in self.leave_out:
            return False
        self.tell({"begin": name, "patience": self.item.patience, "of": {"section": self.section, **what}})
        return True


def rows_of(item: Item, begin: Begin, device: torch.device) -> Iterator[Row]:
    """The item's rows; where it fails, the last says so."""
    try:
        yield from item.rows(begin)
    except DeviceLost:
        raise
    except Exception as broken:
        yield {"item": item.name, "error": health.told(broken, device)}


def work(items: Sequence[Item], section: str, leave_out: Sequence[str], tell: Callable[[Row], None], device: torch.device) -> int:
    """Every item that is not left out; an error of one is a row, a lost device is the end."""
    tell({"items": [item.name for item in items]})
    for item in items:
        if item.name in leave_out:
            continue
        tell({"begin": item.name, "patience": item.patience, "of": {"section": section}})
        try:
            for row in rows_of(item, Beginning(item, section, leave_out, tell), device):
                tell({"section": section, **row})
        except DeviceLost as lost:
            tell({"lost": str(lost)})
            return LOST
        tell({"done": item.name})
    return 0
