"""Runs a call's groups, each in a process of its own, within the call's time. This process asks nothing of the device.

What ends a group's process - a lost device, a crash, a hang - is found by what the process said it began last. That gets a red row
with the runner's name, and the group goes on behind it in a new process.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import torch

from benchmarks.gpu import BEGAN
from benchmarks.gpu.items import LOST
from benchmarks.gpu.plan import CALLS, LIMITS, MINIATURE, MODULES, Stage
from benchmarks.gpu.row_store import Home
from benchmarks.measuring.rows import Row, environment
from benchmarks.operator.one_call import line

ROOT = Path(__file__).parents[2]
START = 90.0  # seconds that a process may take until its first sign
LEAST = 5.0  # seconds that are worth a process
POLL = 0.1
VERDICT = 5.0  # seconds kept for it


class Options(NamedTuple):
    device: str = "cuda"
    quick: bool = False
    commit: str | None = None
    trouble: tuple[str, ...] = ()
    seconds: float | None = None
    only: tuple[str, ...] = ()
    patience: float = float("inf")  # a limit to that of the groups


class Ending(NamedTuple):
    """How a process ended: empty if well, and what it said before."""

    how: str
    said: list[Row]
    log: str


class Call:
    """One of the three, on its way."""

    def __init__(self, name: str, home: Home, options: Options):
        self.name, self.home, self.options = name, home, options
        limit = LIMITS[name] - VERDICT if options.seconds is None else options.seconds
        self.end = BEGAN + limit
        self.left_out: list[str] = []
        self.lock = Lock()
        self.place: Row | None = None

    def run(self) -> None:
        for stage in CALLS[self.name]:
            self.stage(stage)

    def stage(self, stage: Stage) -> None:
        """The stage's groups side by side, until its seconds or the call's are over."""
        done = self.home.done(self.name)
        only = self.options.only or stage.groups
        groups = [group for group in stage.groups if group not in done and group in only]
        if self.options.quick and not self.options.only:
            groups = [group for group in groups if group in MINIATURE]
        seconds = stage.seconds if self.options.seconds is None else self.options.seconds
        end = min(self.end, time.monotonic() + seconds)
        with ThreadPoolExecutor(min(16, os.cpu_count() or 2)) as pool:
            for result in [pool.submit(self.group, group, end) for group in groups]:
                result.result()

    def group(self, group: str, end: float) -> None:
        self.module(group, end) if group in MODULES else self.items(group, end)

    def items(self, group: str, end: float) -> None:
        """The group's items, again behind whatever ended its process."""
        leave_out, names = list(self.home.done(self.name, group)), None
        while True:
            if end - time.monotonic() < LEAST:
                break
            ended = self.process(group, ["benchmarks.gpu.worker", group, *self.words(), "--leave-out", *leave_out], end)
            finished = [row["done"] for row in ended.said if "done" in row]
            names = next((row["items"] for row in ended.said if "items" in row), names)
            leave_out += finished
            if not ended.how or (names is not None and set(names) <= set(leave_out)):
                self.write({"section": "done", "call": self.name, "group": group})
                print(f"{group}: done", flush=True)
                return
            if ended.how == "no time":
                break
            culprit = begun(ended.said)
            self.blame(culprit or {"begin": group, "of": {"section": "crash"}}, group, ended)
            if culprit is None and not finished:
                return
            leave_out += [culprit["begin"]] if culprit else []
        self.leave_out(group, ", ".join(name for name in names or ["everything"] if name not in leave_out))

    def leave_out(self, group: str, what: str) -> None:
        with self.lock:
            self.left_out.append(f"{group}: {what}")
        print(f"left out: {group}: {what}", flush=True)

    def blame(self, culprit: Row, group: str, ended: Ending) -> None:
        """A red row in the name of what had begun last."""
        of = culprit["of"]
        log = ended.log.rstrip()[-1500:]
        self.write({**of, "group": group, "item": culprit["begin"], "error": f"{ended.how}\n{log}".rstrip(), "red": True})
        print(f"{group}: {culprit['begin']}: {ended.how[:200]} {log.splitlines()[-1][:200] if log else ''}", flush=True)

    def module(self, group: str, end: float) -> None:
        """A benchmark of the CPU as it is; its rows are taken as they come."""
        module = MODULES[group]
        lacking = [package for package in module.needs if importlib.util.find_spec(package) is None]
        if lacking or end - time.monotonic() < LEAST:
            why = f"needs {', '.join(lacking)}: carry the wheel and pip install --no-deps it" if lacking else "everything"
            self.leave_out(group, why)
            return
        name, *words = module.quick if self.options.quick else module.words
        device = ["--device", self.options.device] if module.places else []
        ended = self.process(group, [f"benchmarks.{name}", *words, *device], end, module.kind)
        if ended.how == "no time":
            self.leave_out(group, f"cut off after {len(ended.said)} rows")
        elif ended.how and not any(row.get("red") for row in ended.said):  # a red row is an exit code of 1 already
            self.blame({"begin": group, "of": {"section": "crash"}}, group, ended)
        else:
            self.write({"section": "done", "call": self.name, "group": group})
        print(f"{group}: {len(ended.said)} rows {ended.how}", flush=True)

    def words(self) -> list[str]:
        given = self.options
        return ["--device", given.device, *(["--quick"] if given.quick else []),
                *(["--trouble", *given.trouble] if given.trouble else [])]  # fmt: skip

    def variables(self) -> dict[str, str]:
        return {**os.environ, **({"I2AM_COMMIT": self.options.commit} if self.options.commit else {})}

    def write(self, row: Row, kind: str = "") -> None:
        """A row of a group's, which says where it was made, or one of ours, made where the last one was."""
        with self.lock:
            self.place = row.get("environment", self.place) or {
                **environment(torch.device("cpu")), "device": f"unknown {self.options.device}"}  # fmt: skip
            self.home.write({**row, **({"quick": True} if self.options.quick else {}), "environment": self.place}, kind)

    def process(self, group: str, words: list[str], end: float, kind: str | None = None) -> Ending:
        """Run a module that writes rows to `--out`, and take them; it is stopped at `end`, or where it shows no sign of life."""
        with tempfile.TemporaryDirectory() as folder:
            out, log = Path(folder, "rows.jsonl"), Path(folder, "log")
            command = [sys.executable, "-m", "benchmarks.gpu.with_parent", str(os.getpid()), words[0], "--out", str(out), *words[1:]]
            with log.open("w") as file:
                running = subprocess.Popen(command, cwd=ROOT, env=self.variables(), stdout=file, stderr=file, start_new_session=True)
            said: list[Row] = []
            how, signs, patience = "", time.monotonic(), START if kind is None else float("inf")
            fresh = taken(out)
            try:
                while True:
                    over = running.poll() is not None
                    for row in next(fresh):
                        said.append(row)
                        signs = time.monotonic()
                        patience = min(row["patience"], self.options.patience) if "patience" in row else patience
                        self.take(group, row, kind)
                    if over:
                        break
                    if time.monotonic() > end:
                        how = "no time"
                    elif time.monotonic() > signs + patience:
                        how = f"no sign of life for {patience:.0f} s"
                    if how:
                        break
                    time.sleep(POLL)
            finally:
                stop(running)
            if not how and running.returncode:
                lost = [row["lost"] for row in said if "lost" in row]
                how = f"lost the device: {lost[-1]}" if running.returncode == LOST and lost else f"exit code {running.returncode}"
            return Ending(how, said, log.read_text(errors="replace"))

    def take(self, group: str, row: Row, kind: str | None) -> None:
        """Rows go home; what a worker says about itself is for us, beside the items it has done."""
        if kind is not None:
            self.write(row, kind)
        elif "done" in row:
            self.write({"environment": row["environment"], "section": "done", "call": self.name, "group": group, "item": row["done"]})
        elif "section" in row:
            self.write({**row, "group": group})
            if "shape" in row and "runner" in row and "rows" in row:
                print(line(row), flush=True)


def begun(said: list[Row]) -> Row | None:
    """What a process was at when it ended: the last thing begun, unless that was done."""
    signs = [row for row in said if "begin" in row or "done" in row]
    return signs[-1] if signs and "begin" in signs[-1] else None


def taken(path: Path) -> Iterator[list[Row]]:
    """The whole lines that have come since the last look, for ever."""
    at = 0
    while True:
        rows: list[Row] = []
        if path.exists():
            with path.open("rb") as file:
                file.seek(at)
                whole, newline, _ = file.read().rpartition(b"\n")
            at += len(whole) + len(newline)
            rows = [json.loads(text) for text in whole.decode().splitlines() if text.strip()]
        yield rows


def stop(running: subprocess.Popen[bytes]) -> None:
    """The process and what it started; one that the driver holds is left behind."""
    with suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)
    try:
        running.wait(timeout=10)
    except subprocess.TimeoutExpired:
        print(f"process {running.pid} does not end", flush=True)
