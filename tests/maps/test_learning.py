"""A recorder whose maps carry gradient: the same sums, and the gradient of stored attention."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from recording import MASK, call
from statement import JOINT, PLAIN, Run, play
from tolerance import alike

from i2am import Recorder, load

TERMS, LOGITS = 120, 10
RUNS = {
    "plain": Run(PLAIN, {"groups": 1}),
    "groups": Run(PLAIN, {"groups": 3, "steps": 4}),
    "masks": Run(PLAIN, {"groups": 3, "steps": 4, "generated_mask": MASK, "reference_mask": MASK}),
    "specific": Run(PLAIN, {"groups": 1, "specific": [(0.3, 0.3), MASK]}),
    "rows": Run(PLAIN, {"groups": 1, "field": True}, blocks=2),
    "words and reference": Run(JOINT, {"groups": 1, "reference_mask": MASK}, {"scale": 0.7}),
    "hidden keys": Run(JOINT, {"groups": 1}, hidden=True),
    "values": Run(PLAIN, {"groups": 3, "steps": 4, "weigh": "values", "specific": [MASK]}),
}


@pytest.mark.parametrize("name", RUNS)
def test_the_sums_are_the_same(name):
    run = RUNS[name]
    torch.manual_seed(0)
    plain, _ = play(run, 2, torch.float32)
    torch.manual_seed(0)
    learned, _ = play(replace(run, options={**run.options, "differentiable": True}), 2, torch.float32)
    for one, other in zip(plain.maps.sums, learned.maps.sums):
        for kind, sums in one.recorded.items():
            alike(other.recorded[kind], sums, TERMS, LOGITS)
        assert len(other.calls) == plain.done
        assert one.calls == ()


def recorded(backend: str = "auto", **options: Any) -> tuple[Any, tuple[torch.Tensor, ...]]:
    """Two steps of one layer with a special token, and what they were called with."""
    recorder = Recorder(differentiable=True, backend=backend, **options)
    torch.manual_seed(0)
    tensors = tuple(tensor.requires_grad_() for tensor in (*call(), *call()))
    for step in (tensors[:3], tensors[3:]):
        recorder.attend("a", *step, generated_grid=(4, 3), reference_grid=(5, 2), special=1)
        recorder.step()
    return recorder.maps, tensors


@pytest.mark.parametrize("options", [{}, {"generated_mask": MASK, "reference_mask": MASK, "specific": [MASK]}, {"weigh": "values"}])
def test_gradients_are_those_of_stored_attention(options):
    """Through every level of the maps, and the field's sums."""
    slopes = []
    for backend in ("auto", "reference"):
        maps, tensors = recorded(backend, **options)
        sums = maps.sums[0]
        loss = maps.unified("r2g", size=(7, 5)).square().sum() * 144 + maps.head("g2r").square().sum() * 100
        loss = loss + sums.field_g2r.square().mean() + sums.field_r2g.square().mean()
        loss = loss + (maps.specific(0).square().sum() if "specific" in options else 0)
        slopes.append(torch.autograd.grad(loss, tensors, allow_unused=True))
    for place, (ours, right) in enumerate(zip(*slopes)):
        if place % 3 == 2:  # values: the maps do not depend on them
            assert ours is right is None
        else:
            alike(ours, right, TERMS, LOGITS, size=right.abs().max().item())


def test_calls_are_kept_as_they_were():
    maps, tensors = recorded()
    first, second = maps.sums[0].calls
    assert torch.equal(first.query, tensors[0])
    assert torch.equal(second.key, tensors[4])
    assert (first.reference, first.mask, first.scale) == (slice(0, 11), None, tensors[0].shape[-1] ** -0.5)


def test_ranges_and_masks_of_kept_calls():
    """The rows and queries that are recorded, and every key."""
    recorder = Recorder(differentiable=True)
    query, key, value = call(batch=4)
    seen = torch.rand(4, 1, 12, 11) > 0.2
    ranges = {"rows": (2, 4), "generated": (4, 12), "reference": (1, 11)}
    recorder.attend("a", query, key, value, attn_mask=seen, **ranges, generated_grid=(4, 2), scale=0.3)
    recorder.step()
    kept = recorder.maps.sums[0].calls[0]
    assert torch.equal(kept.query, query[2:, :, 4:])
    assert torch.equal(kept.key, key[2:])
    assert torch.equal(kept.mask, seen[2:, :, 4:])
    assert (kept.reference, kept.scale) == (slice(1, 11), 0.3)


def test_outside_of_gradient_mode_maps_carry_none():
    with torch.no_grad():
        maps, _ = recorded()
    assert not maps.sums[0].r2g.requires_grad


def test_files_hold_the_numbers(tmp_path):
    maps, _ = recorded()
    again = load(maps.save(tmp_path / "maps.safetensors"))
    assert torch.equal(again.sums[0].g2r, maps.sums[0].g2r)
    assert not again.sums[0].g2r.requires_grad


def test_no_grid_is_needed_where_no_loss_asks_for_one():
    """Differentiable runs add up the field where they can, and do not insist."""
    recorder = Recorder(differentiable=True)
    recorder.attend("a", *call())
    recorder.step()
    assert recorder.maps.sums[0].field_g2r is None


def test_refused():
    with pytest.raises(ValueError, match="differentiable must be True or False"):
        Recorder(differentiable="yes")
