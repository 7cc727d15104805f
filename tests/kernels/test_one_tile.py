"""References of one tile: a program walks along several blocks of queries, and several programs share a head's.

Under the interpreter a block is 32 queries; `programs` says how many a head's are cut into, 5 blocks (the last of one query).
"""

import math
from dataclasses import replace

import pytest
import torch
from cases import check, make, run
from hazards import with_scores

from i2am_kernels import tiles, triton_backend

G, R = 129, 40
pytestmark = pytest.mark.skipif(not triton_backend.INTERPRETED, reason="blocks are counted as the interpreter's")


@pytest.fixture(params=[2, 5], ids="programs {}".format)
def programs(request, monkeypatch):
    launched = []
    sweep = triton_backend.one_tile_sweep

    class Counted:
        def __getitem__(self, grid):
            launched.append(grid[0])
            return sweep[grid]

    monkeypatch.setattr(tiles, "ONE_TILE_BYTES", 2**20)  # `with_scores` has heads as wide as there are queries
    monkeypatch.setattr(triton_backend, "shares_in_waves", lambda blocks, others, programs: min(blocks, request.param))
    monkeypatch.setattr(triton_backend, "one_tile_sweep", Counted())
    yield request.param
    assert launched
    assert all(grid % request.param == 0 for grid in launched)


def everything(**options):
    """Word maps, weights and all three ranges; the generated one begins and ends inside a block."""
    return make(
        batch=2, tokens=(G, R), words=3, weighted=True, dv=24, rows=(1, 2), generated=(20, 109), reference=(3, 37), **options
    )  # fmt: skip


def mask(kind):
    some = torch.rand(2, 1, G, R) > 0.4
    some[..., 0] = True
    some[:, :, 40:50] = False  # rows without keys
    some[:, :, 64:96] = False  # all of a block
    some[..., 5] = False  # a key that nobody sees
    noise = torch.randn(2, 1, G, R)
    return {
        "none": None,
        "bool": some,
        "added": torch.where(some, noise, -math.inf),
        "bool, of keys": some[:, :, :1],
        "added, of keys": noise[:, :, :1],
        "all keys hidden": torch.zeros(2, 1, 1, R, dtype=torch.bool),
    }[kind]


@pytest.mark.parametrize("kind", ["none", "bool", "added", "bool, of keys", "added, of keys", "all keys hidden"])
def test_everything_at_once(programs, kind):
    check(everything(attn_mask=mask(kind)), "triton")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_strides(programs, dtype):
    case = everything(dtype=dtype, attn_mask=mask("bool"))
    check(replace(case, query=case.query.mT.contiguous().mT, key=case.key.transpose(1, 2).contiguous().transpose(1, 2)), "triton")


@pytest.mark.parametrize("maps", [("r2g",), ("g2r",), ()])
def test_each_map_alone(programs, maps):
    check(make(tokens=(G, R), maps=maps, words=2 if not maps else 0), "triton")


def scores(kind):
    """Rows hundreds of binary orders apart, so that the guard must act in some programs and not in others."""
    base = torch.randn(G, R, generator=torch.Generator("cpu").manual_seed(3)).to(torch.get_default_device())
    if kind == "top grows at every block":
        return base + 60 * (torch.arange(G) // 32)[:, None]
    if kind == "top falls at every block":
        return base - 60 * (torch.arange(G) // 32)[:, None]
    if kind == "faint in a later block":
        base[64:, 7] -= 200
    elif kind == "faint but in the first block":
        base[32:, 7] -= 200
        base[:32] -= 100
    elif kind == "faint but in the tail":
        base[:128, 7] -= 300
        base[128:, 7] -= 150
    elif kind == "first block out of reach":
        base[:32] -= 400
    return base


KINDS = ["top grows at every block", "top falls at every block", "faint in a later block", "faint but in the first block",
         "faint but in the tail", "first block out of reach"]  # fmt: skip


@pytest.mark.parametrize("programs", [2], indirect=True, ids="programs {}".format)
@pytest.mark.parametrize("hidden", [False, True], ids=["", "masked"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_guard_holds_in_every_program(programs, kind, hidden):
    some = torch.ones(G, R, dtype=torch.bool)
    some[:, 11] = False
    some[70:75] = False
    check(replace(with_scores(scores(kind)), options={"scale": 1.0, "attn_mask": some} if hidden else {"scale": 1.0}), "triton")


def test_more_shares_than_are_read_at_once(monkeypatch):
    """`finish` reads 32 at a time."""
    monkeypatch.setattr(triton_backend, "tile_of", lambda sweep, call: tiles.Tile(16, 64, 1, 1))
    monkeypatch.setattr(triton_backend, "shares_in_waves", lambda blocks, others, programs: blocks)
    check(make(heads=1, tokens=(33 * 16 + 1, R)), "triton")


def test_the_same_bits_twice(programs):
    case = everything(attn_mask=mask("bool"))
    one, two = run(case, "triton"), run(case, "triton")
    assert torch.equal(one.out, two.out)
    for name in case.maps:
        assert torch.equal(one.maps[name], two.maps[name]), name


@pytest.mark.parametrize(("blocks", "others", "wanted"), [(64, 80, 3), (1, 1000, 1), (64, 1, 64), (64, 264, 1), (64, 8, 32), (5, 1, 5)])
def test_shares_fill_the_device_in_whole_waves(blocks, others, wanted):
    assert triton_backend.shares_in_waves(blocks, others, 264) == wanted
    assert triton_backend.shares_in_waves(blocks, others, 1) >= 1
