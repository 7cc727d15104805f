"""One group of the pack in a process of its own: it says what it begins before it begins it, so that its end can be blamed.

    python -m benchmarks.gpu.worker checks-people-bfloat16 --out FILE --leave-out '77 | triton_own'

FILE gets the names of the group's items, then for each a `begin`, its rows and a `done`. A device that no longer answers ends the
process with a `lost`; `--leave-out` names what an earlier process of the group has done or was ended by.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import torch

from benchmarks import health
from benchmarks.health import DeviceLost
from benchmarks.rows import Row, Writer, environment

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


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu.worker", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("group")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--leave-out", nargs="*", default=[])
    parser.add_argument("--trouble", nargs="*", default=[])
    given = parser.parse_args(words)
    from benchmarks.gpu import trouble
    from benchmarks.gpu.plan import group

    trouble.plant(given.trouble)
    device = torch.device(given.device)
    section, items = group(given.group, device, given.quick)
    tell = Writer(given.out, environment(device)).write
    with torch.no_grad():
        return work(items, section, given.leave_out, tell, device)


if __name__ == "__main__":
    sys.exit(main())
