"""python -m benchmarks.gpu first|second|third --out DIR [--commit C], and land DIR."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch

from benchmarks import gpu
from benchmarks.gpu.driver import Call, Options
from benchmarks.gpu.plan import CALLS, LIMITS
from benchmarks.gpu.row_store import Home, land
from benchmarks.gpu.verdict import verdict

EPILOG = f"""first: what the device is, whether bfloat16 is right at the shapes people use, their times beside every fused attention.
second: every other check, tiles, routes, batches, half, calls, FlexAttention. third: pipelines, layers, evaluation.
They end within {", ".join(f"{seconds:.0f} s ({name})" for name, seconds in LIMITS.items())}, and name what there was no time for.
A call over a folder that has its rows goes on behind them. land adds a folder's rows to benchmarks/results and writes the
tables of README and docs, and the results page."""


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=gpu.__doc__, epilog=EPILOG, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("call", choices=(*CALLS, "land"))
    parser.add_argument("folder", nargs="?", type=Path, help="of land: where the rows are")
    parser.add_argument("--out", type=Path, help="of a call: where the rows go")
    parser.add_argument("--commit", help="what the rows say where the files travelled without their repository")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu with --quick")
    parser.add_argument("--quick", action="store_true", help="every group in miniature: a walk through, no measurement")
    parser.add_argument("--seconds", type=float, help="end within this time instead")
    parser.add_argument("--only", nargs="*", default=[], help="these groups of the call alone")
    parser.add_argument("--trouble", nargs="*", default=[], help="KIND:RUNNER[:KEYS], to see what comes home: benchmarks/gpu/planted.py")
    parser.add_argument("--patience", type=float, default=float("inf"), help="seconds without a sign of life that end a group's process")
    given = parser.parse_args(words)
    if given.call == "land":
        return landed(given.folder or given.out)
    if given.out is None:
        raise ValueError(f"{given.call} needs --out, a folder for its rows, got none. Name one.")
    if given.device not in ("cuda", "cpu") or (given.device == "cpu" and not given.quick):
        raise ValueError(
            f"--device must be cuda, or cpu with --quick, got {given.device}. A CPU is measured by benchmarks.operator.one_call."
        )
    if given.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda needs a GPU that torch sees, got none. For the miniature: --quick --device cpu.")
    return called(given)


def called(given: argparse.Namespace) -> int:
    home = Home(given.out.resolve())
    options = Options(given.device, given.quick, given.commit, tuple(given.trouble), given.seconds, tuple(given.only), given.patience)
    call = Call(given.call, home, options)
    call.run()
    left = home.unsaved
    for _, row in left:
        print(row)  # the folder takes nothing: the output is all that comes home
    print(f"\n{given.call}, {time.monotonic() - gpu.BEGAN:.0f} s; rows in {given.out}")
    if left:
        print(f"{len(left)} rows are above and NOT in the folder: {home.trouble}")
    said = verdict(home.rows, call.left_out)
    with suppress(OSError):  # of a full folder, which has been told
        (given.out / f"{given.call}.txt").write_text(f"{said}\n")
    print(said)
    return 1 if left or any(row.get("red") or "error" in row for row in home.rows) else 0


def landed(folder: Path | None) -> int:
    if folder is None:
        raise ValueError("land needs the folder that a call wrote, got none. Name it: python -m benchmarks.gpu land DIR.")
    from benchmarks.report import page, tables  # which want more packages than a call does

    for path in land(folder):
        print(f"rows added to {path}")
    tables.main()
    page.main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
