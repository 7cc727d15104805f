"""Attention calls that are kept beside the sums: cut as they are, and in no file."""

from __future__ import annotations

import pytest
import torch
from refined import drawn, traced

import i2am
from i2am.maps.kept_calls import KeptCall

pytestmark = pytest.mark.usefixtures("on_the_cpu")
MASKS = {"none": None, "of each": torch.rand(2, 3, 12, 20) > 0.3, "of all": torch.rand(1, 1, 12, 20) > 0.3}


@pytest.mark.parametrize("mask", MASKS)
def test_an_image_keeps_its_own_calls(mask):
    """What is made again of them is what the whole batch's has."""
    maps = traced(drawn(mask=MASKS[mask]))
    inside = torch.ones(16, 12)
    apart = sum(i2am.losses.cwg(maps[i], inside) for i in range(2)) / 2
    assert apart.item() == pytest.approx(i2am.losses.cwg(maps, inside).item(), rel=1e-12)
    call = maps[1].sums[0].calls[0]
    assert call.query.shape == (1, 3, 12, 6)
    assert call.query.requires_grad


@pytest.mark.parametrize("mask", MASKS)
def test_heads_keep_their_own_calls(mask):
    sums = traced(drawn(mask=MASKS[mask])).sums[0]
    (call,), (whole,) = sums.of_heads([2, 0]).calls, sums.calls
    assert torch.equal(call.query, whole.query[:, [2, 0]])
    assert torch.equal(call.key, whole.key[:, [2, 0]])
    if mask == "of each":
        assert torch.equal(call.mask, whole.mask[:, [2, 0]])
    elif mask == "of all":
        assert torch.equal(call.mask, whole.mask)


def test_some_groups_have_no_calls():
    """They do not say whose they are."""
    sums = traced(drawn(steps=2), groups=2).sums[0]
    assert len(sums.cut(slice(None), [0]).calls) == 0
    assert len(sums.cut(slice(None)).calls) == 2


def test_files_hold_none(tmp_path):
    maps = traced(drawn(dtype=torch.float32))
    assert i2am.load(maps.save(tmp_path / "run.safetensors")).sums[0].calls == ()


def test_it_says_what_it_is():
    call = traced(drawn()).sums[0].calls[0]
    assert repr(call).startswith("KeptCall(query=float64 [2, 3, 12, 6] on cpu from ")
    assert "calls" not in repr(traced(drawn()).sums[0])


def test_a_slice_with_steps_is_refused():
    query, key = torch.rand(1, 1, 12, 6), torch.rand(1, 1, 20, 6)
    with pytest.raises(ValueError, match=r"reference must be a slice of the 20 keys, got slice\(0, 20, 2\)"):
        KeptCall(query, key, None, 1.0, slice(0, 20, 2))
