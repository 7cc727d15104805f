"""Trouble on purpose, so that a rehearsal can see what comes home in spite of it: KIND:RUNNER or KIND:RUNNER:KEYS.

wrong: its R2G is spoiled. uncompiled: it raises as a kernel that does not compile would. sticky: the device is lost, for it and for
everything that this process asks of it later. hang: it never returns. killed: it takes its process with it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu import checks
from benchmarks.measuring import health
from benchmarks.operator.one_call import RUNNERS, Runner

KINDS = ("wrong", "uncompiled", "sticky", "hang", "killed")
ILLEGAL = "CUDA error: an illegal memory access was encountered"
LOST: list[str] = []


def plant(faults: Sequence[str]) -> None:
    """Wrap the runners named, in this process."""
    for fault in faults:
        kind, name, keys = (*fault.split(":"), "")[:3]
        if kind not in KINDS or name not in (*RUNNERS, "reference"):
            names = ", ".join(RUNNERS)
            raise ValueError(f"--trouble must be KIND:RUNNER[:KEYS], of {', '.join(KINDS)} and {names}, got {fault!r}. Correct it.")
        RUNNERS[name] = partial(troubled, kind, int(keys or 0), checks.runner_of(name))
    if faults:
        RUNNERS.update({name: partial(answered, runner) for name, runner in RUNNERS.items()})
        health.alive = answers


def troubled(kind: str, keys: int, run: Runner, given: dict[str, Any]) -> Tensor:
    """The runner, in trouble where the call has so many keys, or always."""
    if keys and given["key"].shape[2] != keys:
        return run(given)
    if kind == "uncompiled":
        raise RuntimeError("PassManager::run failed")
    if kind == "sticky":
        LOST.append(ILLEGAL)
        raise RuntimeError(ILLEGAL)
    if kind == "hang":
        time.sleep(3600)
    if kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    out = run(given)
    if given.get("r2g") is not None:
        given["r2g"].mul_(1.5)
    return out


def answered(run: Callable[[dict[str, Any]], Tensor], given: dict[str, Any]) -> Tensor:
    if LOST:
        raise RuntimeError(LOST[0])
    return run(given)


def answers(device: torch.device) -> None:
    """A device that was lost stays lost."""
    if LOST:
        raise health.DeviceLost(LOST[0])
