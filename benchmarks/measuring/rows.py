"""Rows: one JSON line per measurement, each with the place it was made in, on disk before the next one starts."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

Row = dict[str, Any]
RESULTS = Path(__file__).parents[1] / "results"
WRITTEN = ("benchmarks/results", "README.md", "docs")  # what benchmarks themselves write
SMALL_WORLD = RESULTS / "small-world.jsonl"


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def git(*words: str) -> str | None:
    """What git says about this checkout; None where there is no git or no repository."""
    try:
        return subprocess.run(["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def cpu_model() -> str:
    try:
        return re.findall(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())[0].strip()
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def environment(device: torch.device) -> Row:
    """Where a row was made; the variable I2AM_COMMIT names the commit where the files travelled without their repository."""
    known = git("rev-parse", "HEAD")
    status = git("status", "--porcelain", "--", ":/", *(f":(exclude,top){path}" for path in WRITTEN))
    gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if gpu else cpu_model(),
        "capability": ".".join(map(str, torch.cuda.get_device_capability(device))) if gpu else None,
        "cpu": cpu_model(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "triton": installed("triton"),
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "interpreter": os.environ.get("TRITON_INTERPRET") == "1",
        "commit": known or os.environ.get("I2AM_COMMIT"),
        "dirty": None if known is None else bool(status),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def slug(device: str) -> str:
    """A device name as a file name."""
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")


class Writer:
    """Appends rows to a file; a run that is cut off keeps every row it has finished."""

    def __init__(self, path: Path, environment: Row):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = path.open("a")
        self.environment = environment

    def write(self, row: Row) -> None:
        self.file.write(json.dumps({**row, "environment": self.environment}) + "\n")
        self.file.flush()
        os.fsync(self.file.fileno())

    def close(self) -> None:
        self.file.close()


def recorded(kind: str) -> list[Row]:
    """Every device's rows of one benchmark, results/<device>-<kind>.jsonl."""
    return [row for path in sorted(RESULTS.glob(f"*-{kind}.jsonl")) for row in read(path)]


def read(path: Path) -> list[Row]:
    """The rows of a file. A last line that was cut off in the middle is left out; anything else that is no row is an error."""
    lines = path.read_text().split("\n")
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows += [json.loads(line)] if line.strip() else []
        except json.JSONDecodeError as wrong:
            if number < len(lines):
                raise ValueError(f"{path}:{number} must be one JSON object per line, got {line[:60]!r}. Remove the line.") from wrong
    return rows


def percentiles(values: list[float]) -> dict[str, float]:
    """p20, p50 and p80, linear between the measured values."""
    if not values:
        raise ValueError("percentiles need at least one value, got none. Raise the number of repeats.")
    ordered = torch.tensor(values, dtype=torch.float64)
    return {f"p{p}": round(ordered.quantile(p / 100).item(), 6) for p in (20, 50, 80)}
