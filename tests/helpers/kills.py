"""Kill an evaluation again and again at random moments, then let it end: `python kills.py DATA MODEL OUT KILLS SEED`.

Every attempt is a child process, forked when everything is imported and nothing has run, so that it begins at once; SIGKILL leaves it no
time for anything. Prints how many pairs were done at each kill.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import accelerate  # noqa: F401  before the forks: importing takes longer than painting
import torch

import i2am.models.small.pipeline
import i2am.show.pictures  # noqa: F401
from i2am.evaluation import evaluate
from i2am.evaluation.shards import count


def attempt(data: str, model: str, out: Path) -> int:
    """A child at work; its process number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # bars
        evaluate(data, model, out=out, steps=2, batch_size=3, metrics=("ssim",), images=True, maps=True, cpu=True)
        code = 0
    finally:
        os._exit(code)


def ended(child: int) -> bool:
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def main(data: str, model: str, out: Path, kills: int, seed: int) -> None:
    torch.set_num_threads(1)  # a pool of threads does not survive a fork
    began = time.monotonic()
    assert os.waitpid(attempt(data, model, out / "whole"), 0)[1] == 0
    lasts = time.monotonic() - began
    chance, done = random.Random(seed), []
    while len(done) < kills:
        before = count(out / "killed" / "shards")
        child = attempt(data, model, out / "killed")
        if len(done) % 2:  # at any time, or shortly after a batch was written
            time.sleep(chance.uniform(0, lasts))
        else:
            while count(out / "killed" / "shards") == before and not ended(child):
                time.sleep(0.002)
            time.sleep(chance.uniform(0, lasts / 10))
        os.kill(child, signal.SIGKILL)
        if os.WIFSIGNALED(os.waitpid(child, 0)[1]):
            done.append(count(out / "killed" / "shards"))
        else:  # it had ended by itself: begin anew
            (out / "killed").rename(out / f"ended-{len(list(out.iterdir()))}")
    assert os.waitpid(attempt(data, model, out / "killed"), 0)[1] == 0
    print(*done)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
