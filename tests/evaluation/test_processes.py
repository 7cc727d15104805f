"""Several processes, and processes that are killed: the same scores to the last bit, no pair lost and none twice."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from evaluated import PAIRS, lines, model, tree

from i2am.evaluation.batches import LARGEST, chosen_size, chunks, fitting, read_ahead
from i2am.evaluation.shards import Shard, check_metrics, count, read, todo

__all__ = ["model", "tree"]
KILLS = int(os.environ.get("KILLS", "20"))


def run(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """One thread a process, as its number decides in which order floats are added up."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(["tests/helpers", *sys.path])}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment)


def command(tree: Path, model: str, out: Path) -> list[str]:
    return ["evaluate", "--data", str(tree), "--model", model, "--out", str(out), "--steps", "2", "--batch-size", "3", "--metrics", "ssim",
            "--cpu"]  # fmt: skip


def test_two_processes_score_as_one_does(tree: Path, model: str, tmp_path: Path) -> None:
    """And a third run of one process takes over what two have left undone. Both leave their group before they end: its threads, alive in
    an interpreter that is not, abort one exit in twenty."""
    alone = run(["-m", "i2am", *command(tree, model, tmp_path / "one")])
    assert alone.returncode == 0, alone.stderr
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "tests/helpers/leaves.py"]
    words = command(tree, model, tmp_path / "two")
    both = run([*launch, *(words if torch.accelerator.is_available() else words[:-1])])  # where there is nothing else, --cpu is not needed
    assert both.returncode == 0, both.stderr
    expected = (tmp_path / "one" / "scores.csv").read_bytes()
    assert (tmp_path / "two" / "scores.csv").read_bytes() == expected
    assert both.stdout.count("Look at") == 1
    assert both.stdout.count("no group is left") == 2
    shards = sorted((tmp_path / "two" / "shards").iterdir())
    assert [len(shard.read_text().splitlines()) for shard in shards] == [6, 4]
    shards[1].write_text("".join(shards[1].read_text().splitlines(keepends=True)[:2]))
    alone = run(["-m", "i2am", *command(tree, model, tmp_path / "two")])
    assert alone.returncode == 0, alone.stderr
    assert (tmp_path / "two" / "scores.csv").read_bytes() == expected
    assert sorted(row["index"] for row in lines(tmp_path / "two")) == list(range(PAIRS))


def test_killed_and_started_again(tree: Path, model: str, tmp_path: Path) -> None:
    """SIGKILL at random moments; what comes out in the end is what an undisturbed run gives, to the last bit."""
    found = run(["tests/helpers/kills.py", str(tree), model, str(tmp_path), str(KILLS), "0"])
    assert found.returncode == 0, found.stderr
    done = list(map(int, found.stdout.split()))
    assert len(done) == KILLS
    assert any(0 < n < PAIRS for n in done), done
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert (killed / "scores.csv").read_bytes() == (whole / "scores.csv").read_bytes()
    assert sorted(row["index"] for row in lines(killed)) == list(range(PAIRS))
    for folder in ("images", "maps", "looks"):
        assert {p.name: p.read_bytes() for p in (killed / folder).iterdir()} == {p.name: p.read_bytes() for p in (whole / folder).iterdir()}


# Its parts


def test_shards_keep_whole_lines(tmp_path: Path) -> None:
    shard = Shard(tmp_path, 0)
    shard.append([{"index": 0, "scores": {"imacs_g": 0.25}}, {"index": 1, "failed": "torn"}])
    with pytest.raises(ValueError, match="no other process is writing to"):
        Shard(tmp_path, 0)
    shard.close()
    with (tmp_path / "0000.jsonl").open("ab") as file:
        file.write(b'{"index": 2, "sco')
    assert sorted(read(tmp_path)) == [0, 1]
    assert count(tmp_path) == 2
    shard = Shard(tmp_path, 0)
    shard.append([{"index": 1, "scores": {"imacs_g": None}}])
    shard.close()
    assert read(tmp_path) == {0: {"index": 0, "scores": {"imacs_g": 0.25}}, 1: {"index": 1, "scores": {"imacs_g": None}}}
    (tmp_path / "0003.jsonl").write_text('{"index": 5, "scores": {}}\n{"scores": {}}\n')
    with pytest.raises(ValueError, match=r"line 2 of .*0003\.jsonl is damaged"):
        read(tmp_path)
    for wrong in ("[1]", '{"index": -5, "scores": {}}', '{"index": 3}', '{"index": 3, "scores": []}', "\xff"):
        (tmp_path / "0003.jsonl").write_text(wrong + "\n")
        with pytest.raises(ValueError, match=r"line 1 of .*0003\.jsonl is damaged .* Delete that line"):
            read(tmp_path)
    rows = [{"index": 0, "scores": {"imacs_g": 1.0}}, {"index": 1, "failed": "x"}, {"index": 2, "scores": {"ssim": 1.0}}]
    check_metrics(rows[:2], tmp_path)
    with pytest.raises(ValueError, match="of the same scores, got imacs_g of pair 0 and ssim of pair 2"):
        check_metrics(rows, tmp_path)


def test_a_line_that_does_not_fit_is_taken_back(tmp_path: Path) -> None:
    shard = Shard(tmp_path, 0)
    shard.append([{"index": 0}])
    full = shard.file

    class Full:
        def __getattr__(self, name: str) -> object:
            return getattr(full, name)

        def write(self, text: bytes) -> int:
            if len(text) < 30:
                raise OSError(28, "No space left on device")
            return full.write(text[:30])

    shard.file = Full()  # type: ignore[assignment]
    with pytest.raises(OSError, match="No space"):
        shard.append([{"index": 1, "name": "a long enough name to be torn"}])
    assert shard.path.read_text() == '{"index": 0}\n'


def test_chunks_are_cut_at_the_same_places() -> None:
    assert chunks(7, 3, set()) == [[0, 1, 2], [3, 4, 5], [6]]
    assert chunks(7, 3, {1, 6}) == [[0, 2], [3, 4, 5]]
    assert todo(chunks(7, 3, set()), {0: {}, 1: {}, 2: {}, 4: {"failed": "x"}, 3: {}, 5: {}}) == [[3, 4, 5], [6]]


def test_batch_sizes(tmp_path: Path) -> None:
    assert chosen_size(3, tmp_path, None, 0) == 3
    assert chosen_size("auto", tmp_path, None, 0) == 8
    assert fitting(lambda n: 1000 + 100 * n, 10_000) == 64  # 1000 + 6400 fits in 8000
    assert fitting(lambda n: 1000 + 1000 * n, 10_000) == 4
    assert fitting(lambda n: 9000 * n, 10_000) == 1
    assert fitting(lambda n: 0, 10_000) == LARGEST

    def full(pairs: int) -> int:
        if pairs > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return 9000

    assert fitting(full, 10_000) == 1
    (tmp_path / "batch-size").write_text("5\n")
    assert chosen_size("auto", tmp_path, None, 0) == 5
    assert chosen_size(2, tmp_path, None, 0) == 2
    for junk in (b"0\n", b"\xff\n", b"", "²".encode()):
        (tmp_path / "batch-size").write_bytes(junk)
        assert chosen_size("auto", tmp_path, None, 0) == 8
    for wrong in ("many", 0, 2.5):
        with pytest.raises(ValueError, match="batch_size"):
            chosen_size(wrong, tmp_path, None, 0)  # type: ignore[arg-type]


def test_reading_ahead_names_what_cannot_be_read() -> None:
    class Data:
        pairs = tuple((f"{i}.jpg", f"{i}.jpg") for i in range(9))

        def __getitem__(self, index: int) -> dict[str, int]:
            if index in (2, 8):
                raise ValueError(f"i2am: {index} is torn")
            return {"index": index}

    found = list(read_ahead(Data(), [[0, 1, 2], [3], [8], [4, 5]], True))
    assert [None if batch is None else batch["index"].tolist() for batch, _ in found] == [[0, 1], [3], None, [4, 5]]
    assert [[row["failed"] for row in failed] for _, failed in found] == [["i2am: 2 is torn"], [], ["i2am: 8 is torn"], []]
    with pytest.raises(ValueError, match="2 is torn"):
        list(read_ahead(Data(), [[0, 1, 2], [3]], False))
