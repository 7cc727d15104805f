"""Weights that differ from head to head, on every route: each head's maps are those of its own weights, and what heads share lies in
memory once."""

from dataclasses import replace

import pytest
import torch
from cases import FUSED, ROUTES, check, make, run
from tolerance import alike

from i2am_kernels.arguments import high_and_low
from i2am_kernels.check import checked

SIZES = (63, 40)  # on every general route two tiles or blocks of one side at least, the last of them partial


@pytest.fixture(params=ROUTES)
def route(request):
    return request.param


def each_its_own(weightings=3, **options):
    return make(batch=2, heads=3, tokens=SIZES, weightings=weightings, words=2, columns=2, weighted=True, per_head=True, **options)


@pytest.mark.parametrize("weightings", [None, 3])
def test_a_head_has_the_maps_of_its_weights_alone(route, weightings):
    """Two batch rows, as a part of the streaming backend is either heads of a row or rows of a head."""
    case = each_its_own(weightings)
    whole = run(case, route)
    for h in range(3):
        one = slice(h, h + 1)
        query, key, value = (t[:, one] for t in (case.query, case.key, case.value))
        alone = replace(case, query=query, key=key, value=value, options={name: t[:, h] for name, t in case.options.items()})
        got = run(alone, route)
        for name in case.maps:
            alike(got.maps[name], whole.maps[name][:, one], max(SIZES), 10)


@pytest.mark.parametrize("weightings", [None, 3])
def test_equal_weights_of_heads_are_shared_weights_to_the_bit(route, weightings):
    """Expanded and copied."""
    shared = make(batch=2, heads=3, tokens=SIZES, weightings=weightings, words=2, columns=2, weighted=True)
    expanded = {name: t.unsqueeze(1).expand(-1, 3, *t.shape[1:]) for name, t in shared.options.items()}
    copied = {name: t.contiguous() for name, t in expanded.items()}
    one = run(shared, route)
    for wide in (expanded, copied):
        other = run(replace(shared, options=wide), route)
        for name in shared.maps:
            assert torch.equal(one.maps[name], other.maps[name]), name


@pytest.mark.parametrize("route", FUSED)
@pytest.mark.parametrize(
    "options",
    [
        {"weightings": None},
        {"rows": (1, 2), "generated": (5, 60), "reference": (3, 38)},
        {"attn_mask": torch.arange(SIZES[1]) % 5 > 0},
        {"attn_mask": torch.rand(2, 1, *SIZES, generator=torch.Generator().manual_seed(0)) > 0.4, "reference": (1, 40)},
        {"weightings": 17},  # two visits of a sweep
        {"amplitude": 40.0},  # columns that underflow are visited again
        {"dtype": torch.bfloat16},
    ],
)
def test_they_hold_the_truth(route, options):
    check(each_its_own(**options), route)


def test_the_one_tile_takes_them():
    """Without column maps and with one weighting."""
    check(make(batch=2, heads=3, tokens=SIZES, words=2, weighted=True, per_head=True), "triton")


def test_what_heads_share_is_not_written_out():
    """Neither at the door, nor as the numbers of the sweeps' products; only of several heads' own there are several."""
    own, shared = each_its_own(), make(batch=2, heads=3, tokens=SIZES, weightings=3, words=2, columns=2, weighted=True)
    expanded = {name: t.unsqueeze(1).expand(-1, 3, *t.shape[1:]) for name, t in shared.options.items()}
    for case, heads in ((own, 3), (shared, 1), (replace(shared, options=expanded), 1)):
        left_out = dict.fromkeys(("attn_mask", "scale", "rows", "generated", "reference"))
        call = checked(case.query, case.key, case.value, **case.buffers(), **{**left_out, **case.options})
        for name in case.options:
            assert getattr(call, name).shape[:2] == (2, heads), name
        found = high_and_low(call, call.token_weight, 16, whole=False)
        assert found.shape == (2, 2, 3, SIZES[1], 16)
        assert found.untyped_storage().nbytes() == 2 * 2 * heads * SIZES[1] * 16 * 2
        assert high_and_low(call, call.token_weight, 1, whole=False).data_ptr() == call.token_weight.data_ptr()
