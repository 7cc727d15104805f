"""One group of the pack in a process of its own: it says what it begins before it begins it, so that its end can be blamed.

    python -m benchmarks.gpu.worker checks-people-bfloat16 --out FILE --leave-out '77 | triton_own'

FILE gets the names of the group's items, then for each a `begin`, its rows and a `done`. A device that no longer answers ends the
process with a `lost`; `--leave-out` names what an earlier process of the group has done or was ended by.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.gpu import planted
from benchmarks.gpu.items import work
from benchmarks.gpu.plan import group
from benchmarks.measuring.rows import Writer, environment


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
    planted.plant(given.trouble)
    device = torch.device(given.device)
    section, items = group(given.group, device, given.quick)
    tell = Writer(given.out, environment(device)).write
    with torch.no_grad():
        return work(items, section, given.leave_out, tell, device)


if __name__ == "__main__":
    sys.exit(main())
