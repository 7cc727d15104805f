"""Everything that only a GPU can tell, in one command and within its time.

    python -m benchmarks.gpu_pack --out DIR [--tune]
    python -m benchmarks.gpu_pack --out DIR --section layers        # then growth, pipelines, evaluation: benchmarks.gpu_models

The operator needs torch, triton and numpy. In order: environment; correctness of every backend and
dtype, determinism, compile and CUDA graph (groups of `benchmarks.gpu_checks`, several processes at once); with --tune the
tile sweep and the choice of route; timings and peak memory against the baselines; graph replays of the small shapes.
Rows go to DIR/rows.jsonl one by one; the last one names what there was no time for. A backend and dtype with a red check
gets no times. `--quick --device cpu` with TRITON_INTERPRET=1 walks through the same sections in miniature.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path

import torch

from benchmarks import gpu_checks, gpu_models, gpu_tune
from benchmarks.operators import DEFAULT, DTYPES, OURS, RUNNERS, line, measure
from benchmarks.rows import Row, Writer, environment, read
from benchmarks.shapes import SHAPES, SMALL, Shape

CHECK_SECONDS = 170.0  # the most that the checks may take of the whole
TINY = Shape(33, 19, 40, 1, "a miniature")
FLEX = ("warp_3072", "ip_257", "warp_192")  # FlexAttention compiles for tens of seconds at every shape
FAST = tuple(name for name in DEFAULT if name != "flex")
FAMILY = {"triton": "triton", "triton_own": "triton", "triton_library": "triton"}  # one red route silences the backend


class Pack:
    """The clock, the file and what is known to be wrong so far."""

    def __init__(self, out: Path, device: torch.device, seconds: float, quick: bool, fault: str, commit: str | None):
        self.device, self.quick, self.fault, self.out = device, quick, fault, out
        self.start, self.seconds = time.monotonic(), seconds
        self.environment = environment(device, commit)
        self.writer = Writer(out / "rows.jsonl", self.environment)
        self.rows: list[Row] = []
        self.left_out: list[str] = []
        self.wrong: set[tuple[str, str]] = set()  # (backend, dtype) with a red check

    def left(self) -> float:
        return self.seconds - (time.monotonic() - self.start)

    def write(self, row: Row) -> None:
        self.writer.write(row)
        self.rows.append(row)
        if row.get("red") and row["section"] in ("correctness", "determinism", "compile", "graph"):
            names = [row["runner"]] if "runner" in row else list(OURS)
            self.wrong |= {(FAMILY.get(name, name), row["dtype"]) for name in names}

    def item(self, label: str, reserve: float, work: Callable[[], Iterator[Row]], section: str) -> None:
        """One piece of work, if that leaves `reserve` seconds for it and what is more important; a crash is a row."""
        if self.left() < reserve:
            self.left_out.append(label)
            return
        try:
            for row in work():
                self.write({**row, "section": section})
                if "runner" in row:
                    print(line(row), flush=True)
        except Exception as broken:
            self.write({"section": section, "item": label, "error": f"{type(broken).__name__}: {broken}"[:2000]})
            print(f"{label}: {type(broken).__name__}", flush=True)

    def known_red(self, dtype: str) -> list[str]:
        return [name for name in RUNNERS if (FAMILY.get(name, name), dtype) in self.wrong]


def processes(pack: Pack, tune: bool) -> None:
    """The groups of checks and, behind them, the compilation of the tile candidates into Triton's cache."""
    options = ["--device", str(pack.device), *(["--quick"] if pack.quick else []), *(["--fault", pack.fault] if pack.fault else [])]
    jobs = [
        (group, ["benchmarks.gpu_checks", "--group", group, "--out", str(part(pack, group)), *options])
        for group in gpu_checks.groups(pack.quick)
    ]
    if tune and not pack.quick:
        jobs += [(f"compile {sweep} {size}", ["benchmarks.gpu_tune", "--sweep", sweep, "--size", str(size)])
                 for sweep in gpu_tune.CANDIDATES for size in gpu_tune.LAYERS]  # fmt: skip
    end = time.monotonic() + min(CHECK_SECONDS, pack.left())
    with ThreadPoolExecutor(min(12, max(2, (os.cpu_count() or 2) * 3 // 4))) as pool:
        running = {pool.submit(process, words, end): label for label, words in jobs}
        for future in as_completed(running):
            label, ending = running[future], future.result()
            finished(pack, label, ending)
    if (pack.out / "parts").exists():
        (pack.out / "parts").rmdir()


def part(pack: Pack, group: str) -> Path:
    return pack.out / "parts" / f"{group}.jsonl"


def process(words: list[str], end: float) -> str:
    """Run one module; how it ended in words, empty if well."""
    left = end - time.monotonic()
    if left < 5:
        return "no time"
    command = [sys.executable, "-m", *words]
    with tempfile.TemporaryFile("w+") as log:  # no pipe: a compiler's own workers may outlive a process that is stopped
        try:
            done = subprocess.run(command, cwd=Path(__file__).parents[1], stdout=subprocess.DEVNULL, stderr=log, timeout=left)
        except subprocess.TimeoutExpired:
            return "no time"
        log.seek(0)
        return "" if done.returncode == 0 else f"exit code {done.returncode}: {log.read()[-1500:]}"


def finished(pack: Pack, label: str, ending: str) -> None:
    """Take over the rows of a group; a crash is red for all of our backends, for nobody knows what it would have found."""
    if label.startswith("compile "):
        if ending:
            pack.left_out.append(f"{label}: {ending.splitlines()[0]}")
        return
    path = part(pack, label)
    rows = [{k: v for k, v in row.items() if k != "environment"} for row in read(path)] if path.exists() else []
    for row in rows:
        pack.write(row)
    path.unlink(missing_ok=True)
    if ending == "no time":
        pack.left_out.append(f"checks {label}, after {len(rows)} rows")
    elif ending:
        pack.write({"section": "correctness", "group": label, "dtype": label.partition("-")[2], "error": ending, "red": True})
    bad = sum(bool(row.get("red")) for row in rows)
    print(f"checks {label}: {len(rows)} rows, {bad} red {ending[-200:]}", flush=True)


def tuning(pack: Pack) -> None:
    """Each sweep alone under candidate tiles, then own against library forward, per head size."""
    sizes, dtype, reserve = ([40], "float32", 1) if pack.quick else (list(gpu_tune.LAYERS), "bfloat16", 150)
    for size in sizes:
        for sweep in gpu_tune.CANDIDATES:
            if "triton" in pack.known_red(dtype):
                pack.left_out.append(f"tune {sweep} {size}: a check of triton in {dtype} is red")
                continue
            pack.item(f"tune {sweep} {size}", reserve, partial(gpu_tune.tune, sweep, size, pack.device, 2.0, quick=pack.quick), "tune")
    for size in sizes:
        for layer in (gpu_tune.LAYERS[size], gpu_tune.WORDS[size]):
            work = partial(
                timing, pack, f"d{size}_r{layer.reference}", layer, 8, dtype, "all", ("triton_own", "triton_library"), on_gpu(pack)
            )
            pack.item(f"route {size}", reserve, work, "route")


def timing(
    pack: Pack, name: str, shape: Shape, batch: int, dtype: str, rows: str, runners: Sequence[str], graphs: bool = False
) -> Iterator[Row]:
    if pack.quick:
        name, shape, batch, dtype = f"tiny_{name}", TINY, 2, "float32"
    return measure(
        name, shape, batch, DTYPES[dtype], rows, pack.device, runners, 3 if pack.quick else 31, 3.0, graphs, pack.known_red(dtype)
    )


def on_gpu(pack: Pack) -> bool:
    return pack.device.type == "cuda"


def timings(pack: Pack) -> None:
    """Batch 8 first, where the figures to reach are; then replays, the large and the single batch, the other dtype."""
    names = ["warp_192"] if pack.quick else list(SHAPES)
    few = ("sdpa", "triton", "four_flash", "colreduce")
    items: list[tuple[str, int, str, str, Sequence[str], bool]] = []
    items += [(name, 8, "bfloat16", "all", DEFAULT if name in FLEX else FAST, False) for name in names]
    items += [(name, 8, "bfloat16", "half", FAST, False) for name in names]
    if on_gpu(pack):
        items += [(name, 8, "bfloat16", rows, few[:3], True) for rows in ("all", "half") for name in names]
        items += [(name, 1, "bfloat16", "all", few[:3], True) for name in SMALL]
    items += [(name, 32, "bfloat16", rows, few, False) for rows in ("all", "half") for name in names]
    items += [(name, 1, "bfloat16", "all", FAST, False) for name in names]
    items += [(name, 8, "float16", "all", FAST, False) for name in names if name in ("warp_3072", "ip_257", "words_77")]
    for name, batch, dtype, rows, runners, graphs in items[:2] if pack.quick else items:
        label = f"{name} batch {batch} {dtype} {rows}{' graph' if graphs else ''}"
        reserve = 1 if pack.quick else 50 if "flex" in runners else 12
        pack.item(label, reserve, partial(timing, pack, name, SHAPES[name], batch, dtype, rows, runners, graphs), "timings")


def summary(pack: Pack) -> None:
    """What a reader of the last screen wants: the checks, the best tiles, the ratios."""
    checks = [row for row in pack.rows if row["section"] in ("correctness", "determinism", "compile", "graph")]
    for section in dict.fromkeys(row["section"] for row in checks):
        rows = [row for row in checks if row["section"] == section]
        bad, skipped = sum(bool(row.get("red")) for row in rows), sum("skipped" in row for row in rows)
        print(f"{section}: {len(rows)} rows, {bad} red, {skipped} skipped")
    for row in [row for row in checks if row.get("red")][:20]:
        where = f"{row['section']} {row.get('case', row.get('group'))} {row.get('runner', '')} {row['dtype']}"
        print(f"  RED {where} {str(row.get('error', row.get('error_of')))[:120]}")
    tuned = [row for row in pack.rows if row["section"] == "tune" and "ms" in row]
    for sweep, size in dict.fromkeys((row["sweep"], row["size"]) for row in tuned):
        rows = sorted((row for row in tuned if (row["sweep"], row["size"]) == (sweep, size)), key=lambda row: row["ms"]["p50"])
        own = next((row["ms"]["p50"] for row in rows if row["table"]), float("nan"))
        print(f"tile {sweep:<9} {size:<4} best {rows[0]['tile']} {rows[0]['ms']['p50']:.4f} ms, the table's {own:.4f} ms")
    timed = [row for row in pack.rows if row["section"] in ("timings", "route") and "ms" in row and row["runner"] != "sdpa"]
    for key in dict.fromkeys((row["shape"], row["batch"], row["dtype"], row["rows"], row["mode"]) for row in timed):
        here = [row for row in timed if (row["shape"], row["batch"], row["dtype"], row["rows"], row["mode"]) == key]
        print(" ".join(f"{word}" for word in key), " ".join(f"{row['runner']} {row['ratio']:.2f}" for row in here))


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_pack", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="a folder; rows.jsonl must not be in it yet")
    parser.add_argument("--section", default="operator", choices=("operator", *gpu_models.SECTIONS))
    parser.add_argument("--tune", action="store_true", help="sweep the tiles and the routes")
    parser.add_argument("--quick", action="store_true", help="every section in miniature")
    parser.add_argument("--device", default="cuda", help="cuda or cpu (cpu with --quick only)")
    parser.add_argument("--seconds", type=float, default=460.0, help="end within this time")
    parser.add_argument("--commit", help="what the rows say where the files travelled without their repository")
    parser.add_argument(
        "--fault", default="", help=f"spoil this runner's R2G, to see its check turn red: of {', '.join(gpu_checks.RUNNERS)}"
    )
    given = parser.parse_args(words)
    if given.device not in ("cuda", "cpu") or (given.device == "cpu" and not given.quick):
        raise ValueError(f"--device must be cuda, or cpu with --quick, got {given.device}. A CPU is measured by benchmarks.operators.")
    if given.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda needs a GPU that torch sees, got none. For the miniature: --quick --device cpu.")
    if given.fault and given.fault not in gpu_checks.RUNNERS:
        raise ValueError(f"--fault must be of {', '.join(gpu_checks.RUNNERS)}, got {given.fault!r}. Correct the name.")
    if given.section != "operator":
        return gpu_models.run(given.section, given.out.resolve(), given.device, given.seconds, given.quick, process)
    if (given.out / "rows.jsonl").exists():
        raise ValueError(f"--out must be a folder without rows.jsonl, got {given.out}. Name a new one.")
    pack = Pack(given.out.resolve(), torch.device(given.device), given.seconds, given.quick, given.fault, given.commit)
    pack.write({"section": "environment"})
    processes(pack, given.tune)
    with torch.no_grad():
        if given.tune:
            tuning(pack)
        timings(pack)
    pack.write({"section": "end", "seconds": round(time.monotonic() - pack.start, 1), "left_out": pack.left_out})
    summary(pack)
    print(f"left out: {'; '.join(pack.left_out) or 'nothing'}\nrows in {given.out / 'rows.jsonl'}")
    return 1 if any(row.get("red") or "error" in row for row in pack.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
