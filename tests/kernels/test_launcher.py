"""What is launched from memory is what Triton itself would launch: the same grid, kernel and arguments, under both its versions."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from i2am_kernels import launcher

ROOT = Path(__file__).parents[2]
OLDEST = ROOT / ".triton-3.6"  # brought by `make test`


@pytest.mark.parametrize("version", ["newest", "oldest"])
def test_a_remembered_launch_is_tritons_own(version):
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join([str(OLDEST)] * (version == "oldest") + [str(ROOT)])
    done = subprocess.run(
        [sys.executable, "tests/helpers/launched.py"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["version"].startswith("3.6.") == (version == "oldest")
    for name, rounds in said["found"].items():
        for one in rounds:
            assert one["triton"], name
            assert one["remembered"] == one["triton"], name
            assert one["planned"] == one["triton"], name
    plain, half = (said["found"][name][1]["planned"] for name in ("plain", "half"))
    assert len(plain) >= 3
    assert plain != half  # another kernel: what it is compiled for is in its name there
    assert said["planned"] == [True] * (len(said["found"]) - 1), "a kind of call that is not planned"
    assert said["found"]["switched off"] != said["found"]["a library's L"]
    assert said["kernels"]["forward_sweep"] == 5  # one tile and a library need none; another scale, weights and rows are no other kernel
    assert ("onchip" in said["found"]) == (version == "newest")


class Compiled:
    """A kernel of Triton's that counts how often it is asked to find out about its arguments."""

    arg_names = ("query", "strides", "heads", "SIZE")
    device_caches = ()

    def __init__(self):
        self.asked = []
        self.run = []

    def __getitem__(self, grid):
        def first(*values, **constants):
            self.asked.append((grid, values, constants))
            return self

        return first if len(grid) == 1 else lambda *values: self.run.append((grid, values))


def test_a_launch_is_remembered_by_all_that_a_kernel_depends_on():
    jit = Compiled()
    kernel = launcher.Kernel(jit)
    tensor = torch.zeros(64)

    def launch(query=tensor, strides=(64, 1), heads=2, SIZE=64, num_warps=4):
        kernel[(7,)](query, strides, heads, SIZE=SIZE, num_warps=num_warps)

    for _ in range(3):
        launch()
    assert len(jit.asked) == 1
    assert jit.run == [((7, 1, 1), (tensor, (64, 1), 2, 64))] * 2  # the constants in the signature's order, options not
    others = ({"query": tensor.half()}, {"query": tensor[1:]}, {"strides": (65, 1)}, {"strides": (64, 2)}, {"heads": 16}, {"SIZE": 32},
              {"num_warps": 8})  # fmt: skip
    for other in others:
        launch(**other)
    assert len(jit.asked) == 8
    launch(query=torch.ones(64))  # the same but for what is in it
    assert len(jit.asked) == 8


def test_the_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(launcher, "MOST", 3)
    kernel = launcher.Kernel(Compiled())
    for heads in range(10):
        kernel[(1,)](torch.zeros(4), heads, SIZE=4)
    assert len(kernel.known) <= 3
