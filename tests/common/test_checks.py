"""What came, in a few words; and what memory cannot hold, before it is asked for."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from i2am import Recorder, cells
from i2am.common import checks as door
from i2am.common import machine
from i2am.common.checks import afford, in_bytes, refuse, said

pytestmark = pytest.mark.usefixtures("on_the_cpu")
NAN = float("nan")
CPU: dict[str, Any] = {"device": "cpu"}
SAID: dict[str, tuple[Any, str]] = {
    "tensor": (torch.tensor([[0.25, 2.0]], **CPU), "float32 [1, 2] on cpu from 0.25 to 2"),
    "bool": (torch.tensor([True, False], **CPU), "bool [2] on cpu from 0 to 1"),
    "NaN": (torch.full((3,), NAN, **CPU), "float32 [3] on cpu from nan to nan"),
    "empty": (torch.ones(0, 3, **CPU), "float32 [0, 3] on cpu"),
    "elsewhere": (torch.ones(4, device="meta"), "float32 [4] on meta"),
    "large": (torch.ones(1, **CPU).expand(1 << 21), "float32 [2097152] on cpu"),
    "array": (np.arange(6).reshape(2, 3), "int64 [2, 3] on cpu from 0 to 5"),
    "array of texts": (np.array(["a", "b"]), "<U1 [2] on cpu"),
    "tensors": ([torch.ones(2, **CPU)] * 9, f"[{', '.join(['float32 [2] on cpu from 1 to 1'] * 8)}, ... 9 in all]"),
    "many": (tuple(range(300)), "(0, 1, 2, 3, 4, 5, 6, 7, ... 300 in all)"),
    "few": ([1, "a", None, (2,), []], "[1, 'a', None, (2,), []]"),
    "dict": ({"a": torch.ones(1, **CPU)}, "{'a': float32 [1] on cpu from 1 to 1}"),
    "text": ("ab" * 500, f"'{'ab' * 59}a... (1,002 characters)"),
    "number": (np.float32(0.5), repr(np.float32(0.5))),
    "path": (Path("a") / "b", str(Path("a") / "b")),
    "error": (OSError("disk full"), "disk full"),
    "class": (Recorder, "the class Recorder"),
    "object": (object(), "object"),
    "module": (torch.nn.Sequential(*[torch.nn.Linear(2, 2)] * 40), "Sequential"),
}


@pytest.mark.parametrize("name", SAID)
def test_what_came_is_short(name: str) -> None:
    value, short = SAID[name]
    assert said(value) == short


def test_words_of_a_caller_are_cut() -> None:
    with pytest.raises(ValueError, match=r"^i2am: x must be short, got y{2000}\.\.\. \(3,000 characters\)\. Cut it\.$"):
        refuse("x", "short", "y" * 3000, "Cut it.")
    with pytest.raises(IndexError, match=r"^i2am: x must be y, got float32 \[2, 3\] on cpu from 1 to 1\. z\.$"):
        refuse("x", "y", torch.ones(2, 3, **CPU), "z.", IndexError)


# Memory


def test_what_does_not_fit_is_refused_before_it_is_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "free_memory", lambda device: 10**9)
    afford("x", 10**9, "y")
    with pytest.raises(ValueError, match=r"x must be small enough for the 1 GB of memory that are free, got about 1\.5 GB\. y"):
        afford("x", 15 * 10**8, "y")
    with pytest.raises(MemoryError):  # which an evaluation answers with smaller batches
        afford("x", 15 * 10**8, "y")
    monkeypatch.setattr(door, "free_memory", lambda device: None)  # a system that does not say
    afford("x", 10**18, "y")
    monkeypatch.setattr(door, "free_memory", lambda device: 0)
    afford("x", 10**6, "what is small is not looked at")


def test_bytes_are_in_the_unit_that_reads_best() -> None:
    assert [in_bytes(n) for n in (12, 5 * 10**6, 19_530_000_000, 4 * 10**12)] == ["12 bytes", "5 MB", "19.5 GB", "4 TB"]
    assert in_bytes(10**16) == "10,000 TB"


def test_free_memory_is_that_of_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = machine.free_memory()
    assert free is None or free > 1 << 20
    (tmp_path / "memory.max").write_text("12345\n")
    monkeypatch.setattr(machine, "LIMITS", (str(tmp_path / "memory.max"),))
    assert machine.free_memory() == machine.free_memory(torch.device("cpu")) == 12345
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.free_memory() != 12345
    assert machine.free_memory("meta") is None


SECOND: dict[str, Any] = {"generated_grid": (64, 48), "reference_grid": (64, 48)}


def test_regions_that_memory_cannot_hold_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """500 x 500 cells on 3072 tokens a side: the sums of one head take 3 GB a time group, their weights as much."""
    monkeypatch.setattr(door, "free_memory", lambda device: 5 * 10**9)
    with pytest.warns(UserWarning, match=r"250,000 regions make the attention .* about 1251 times as slow and take 250,000 times"):
        recorder = Recorder(groups=1, specific=cells(500, 500))
    tokens = torch.rand(1, 1, 3072, 8, **CPU)
    with pytest.raises(ValueError, match=r"what is recorded of a must be .* 5 GB of memory .*got about 6\.14 GB.*fewer regions"):
        recorder.attend("a", tokens, tokens, tokens, **SECOND)


def test_time_groups_to_come_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that was never written to is not taken yet: each layer alone would seem to fit."""
    tokens = torch.rand(1, 1, 3072, 8, **CPU)
    recorder = Recorder(groups=5, steps=5, specific=cells(25, 40))  # 12.3 MB a layer and group
    monkeypatch.setattr(door, "free_memory", lambda device: 90 * 10**6)
    recorder.attend("a", tokens, tokens, tokens, **SECOND)
    with pytest.raises(ValueError, match=r"what is recorded of 2 layers must be .* 90 MB of memory .*got about 98\.5 MB"):
        recorder.attend("b", tokens, tokens, tokens, **SECOND)


def test_a_thousand_regions_pass_in_silence() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Recorder(specific=cells(25, 40))
    with pytest.warns(UserWarning, match=r"1,025 regions .* about 6 times as slow"):
        Recorder(specific=cells(25, 41))
