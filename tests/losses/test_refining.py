"""The refinement losses on maps: what they are, against loops over stored attention in float64."""

from __future__ import annotations

import itertools

import pytest
import torch
from refined import Attention, drawn, half, looped_cwg, looped_dcml, looped_tv, traced

import i2am
from i2am.losses import PRESETS, cwg, dcml, total, tv

pytestmark = pytest.mark.usefixtures("on_the_cpu")
LOOPS = {"tv": (tv, looped_tv), "dcml": (dcml, looped_dcml), "cwg": (cwg, looped_cwg)}
HIDDEN = torch.rand(2, 1, 12, 21, generator=torch.Generator().manual_seed(1)) > 0.3
CASES: dict[str, Attention] = {
    "every key a cell": drawn(),
    "a CLS token": drawn(special=1),
    "other keys around it": drawn(special=1, before=2, after=3),
    "two steps": drawn(special=1, steps=2),
    "hidden keys": drawn(special=1, mask=HIDDEN),
    "one row": drawn(grid=(1, 12)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("preset", "loss"), [(preset, loss) for preset, losses in PRESETS.items() for loss in losses])
def test_presets_are_what_loops_say(case, preset, loss):
    of, (ours, loop) = CASES[case], LOOPS[loss]
    mask = half(2, of.grid) if of.grid[0] > 1 else torch.tensor([1.0] * 7 + [0] * 5)[None]
    found = ours(traced(of), mask, preset=preset)
    assert found.shape == ()
    assert found.item() == pytest.approx(loop(of, mask, **PRESETS[preset][loss]), rel=1e-10)


@pytest.mark.parametrize("loss", LOOPS)
def test_every_option_is_what_loops_say(loss):
    of, (ours, loop) = CASES["a CLS token"], LOOPS[loss]
    names = {"distance": ("absolute", "square"), "mean": ("all", "mask"), "renormalise": (True, False), "sigma": (0.7, 3), "weight": (2.5,)}
    own = {name: values for name, values in names.items() if name in PRESETS["release"][loss]}
    for values in itertools.product(*own.values()):
        options = dict(zip(own, values))
        assert ours(traced(of), half(), **options).item() == pytest.approx(loop(of, half(), **options), rel=1e-10), options


def test_time_groups_change_nothing():
    of = drawn(steps=4)
    for loss, _ in LOOPS.values():
        assert loss(traced(of, groups=2), half()).item() == pytest.approx(loss(traced(of), half()).item(), rel=1e-12)


def test_layers_are_averaged_and_chosen():
    one, other = drawn(special=1), drawn(grid=(8, 6), reference=(3, 2), seed=1)
    both = traced(one, other)
    for loss, _ in LOOPS.values():
        apart = [loss(both, half(), layers=name).item() for name in ("a", "b")]
        assert loss(both, half()).item() == pytest.approx(sum(apart) / 2, rel=1e-12)
        assert loss(both, half(), layers=lambda name: name != "a").item() == apart[1] != apart[0]


def test_total_is_the_sum_and_says_its_parts():
    maps = traced(drawn(special=1))
    found, parts = total(maps, half())
    assert {name: loss.item() for name, loss in parts.items()} == {name: loss(maps, half()).item() for name, (loss, _) in LOOPS.items()}
    assert found.item() == pytest.approx(sum(loss.item() for loss in parts.values()))
    assert found.requires_grad
    assert not any(loss.requires_grad for loss in parts.values())
    assert list(total(maps, half(), dcml=0, cwg=0.0)[1]) == ["tv"]
    assert list(total(maps, half(), preset="stableviton")[1]) == ["tv"]
    assert total(maps, half(), tv=0.5)[1]["tv"].item() == pytest.approx(5000 * parts["tv"].item())


def test_a_cell_is_inside_from_one_half():
    maps, whole = traced(drawn()), half()
    for loss, _ in LOOPS.values():
        assert loss(maps, whole * 0.5).item() == loss(maps, whole).item()
        assert loss(maps, (whole + 0.49).clamp(max=1)).item() == loss(maps, whole).item()


def test_every_loss_reaches_query_and_key():
    for loss, _ in LOOPS.values():
        of = drawn(special=1, steps=2)
        loss(traced(of), half()).backward()
        assert all(operand.grad.abs().sum() > 0 for operand in of.operands)


def test_the_room_is_an_attribute():
    assert i2am.losses.tv is tv
    assert "losses" in dir(i2am)
