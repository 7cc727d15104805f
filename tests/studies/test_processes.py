"""Two processes paint what one does, and both know all of it: here two threads that take turns at the model, as each has a trace."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pipelines
import pytest
import torch

from i2am.evaluation import processes
from i2am.studies.options import Options
from i2am.studies.painter import Painter
from i2am.studies.run import paint

pytestmark = pytest.mark.usefixtures("on_the_cpu")
PROMPTS = ["a red shirt", "the dog on a striped shirt", "a plain red coat", "a cat", "the cat"]


class Two:
    """What accelerate knows of two processes."""

    def __init__(self) -> None:
        self.meeting, self.turn, self.found = threading.Barrier(2, timeout=60), threading.Lock(), dict[int, list[Any]]()
        self.mine = threading.local()

    def state(self, cpu: bool) -> tuple[Any, bool]:
        index = self.mine.index
        first = contextlib.contextmanager(lambda: self.in_order(index))
        return SimpleNamespace(process_index=index, num_processes=2, is_main_process=index == 0, device=torch.device("cpu"),
                               main_process_first=first, wait_for_everyone=self.meeting.wait), False  # fmt: skip

    def in_order(self, index: int) -> Any:
        if index:
            self.meeting.wait()
        yield
        if not index:
            self.meeting.wait()

    def gathered(self, mine: list[Any], state: Any) -> list[Any]:
        self.found[state.process_index] = mine
        self.meeting.wait()
        both = self.found[0] + self.found[1]
        self.meeting.wait()
        return both


def test_two_processes_paint_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, options, two = pipelines.sd15().pipe, Options(steps=2, size=(64, 48)), Two()
    alone = paint(PROMPTS, pipe, out=tmp_path / "one", options=options, batch_size=1, cpu=True)
    got: dict[int, Any] = {}
    original, pipes = Painter.paint, [pipe, pipelines.sd15().pipe]

    def in_turn(self: Painter, *words: Any, **more: Any) -> Any:
        with two.turn:
            return original(self, *words, **more)

    def process(index: int) -> None:
        two.mine.index = index
        with torch.device("cpu"):
            got[index] = paint(PROMPTS, pipes[index], out=tmp_path / "two", options=options, batch_size=1 + index, cpu=True)

    monkeypatch.setattr(Painter, "paint", in_turn)
    monkeypatch.setattr(processes, "started", two.state)
    monkeypatch.setattr(processes, "gathered", two.gathered)
    threads = [threading.Thread(target=process, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got[0] == got[1]
    assert [one.asked.prompt for one in got[0]] == PROMPTS
    assert [len(path.read_text().splitlines()) for path in sorted((tmp_path / "two" / "shards").iterdir())] == [3, 2]
    assert (tmp_path / "two" / "batch-size").read_text() == "1\n"  # the smaller of 1 and 2
    for one, other in zip(got[0], alone):
        assert one.image.read_bytes() == other.image.read_bytes()
        assert one.maps.read_bytes() == other.maps.read_bytes()
