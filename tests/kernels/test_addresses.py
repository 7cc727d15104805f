"""Bits do not depend on where numbers lie in memory: of the operator on a CPU, of our pipelines, of an evaluation.

Products of a matrix and a vector sum in another order at other addresses with MKL on some processors, and not on others: what could
not fail everywhere is held by the addresses themselves.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
import torch
from addresses import ALIGNED, OFFSETS, displace, displaced
from cases import Case, make, run
from gradients import asked, gradients
from torch import Tensor, nn

from i2am_kernels import op
from i2am_kernels.call import Call, aligned

TENSORS = ("query", "key", "value", "generated_weight", "reference_weight", "token_weight")
pytestmark = pytest.mark.usefixtures("on_the_cpu")


def moved(case: Case, offset: int) -> Case:
    def move(value: Any) -> Any:
        return displaced(value, offset) if isinstance(value, Tensor) and offset % value.element_size() == 0 else value

    options = {name: move(value) for name, value in case.options.items()}
    return replace(case, query=move(case.query), key=move(case.key), value=move(case.value), options=options)


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("tokens", [(1, 1), (48, 1), (1, 77), (2, 33), (33, 40)], ids=str)  # few of either are vectors
@pytest.mark.parametrize("route", ["reference", "streaming", "streaming blocks", "triton"])
def test_the_same_call_gives_the_same_bits_wherever_its_tensors_lie(route: str, tokens: tuple[int, int], offset: int) -> None:
    for options in ({}, {"weightings": 3, "weighted": True, "words": 2}, {"attn_mask": torch.rand(tokens) > 0.3}):
        case = make(1 if route == "triton" else 2, 2, tokens, 8, **options)
        one, two = run(case, route), run(moved(case, offset), route)
        assert torch.equal(one.out, two.out)
        assert all(torch.equal(one.maps[name], two.maps[name]) for name in case.maps)


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("tokens", [(48, 1), (1, 77), (33, 40)], ids=str)
def test_gradients_have_the_same_bits_wherever_the_tensors_lie(tokens: tuple[int, int], offset: int) -> None:
    case = make(2, 2, tokens, 8, weightings=3, weighted=True, words=2)
    up = asked(case)
    one, two = gradients(case, up, "streaming"), gradients(moved(case, offset), up, "streaming")
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_backends_are_handed_aligned_tensors_with_the_strides_they_had() -> None:
    case = make(2, 2, (33, 40), 8, weightings=3, weighted=True, words=2)
    wide = displaced(torch.randn(2, 33, 3, 2, 8), 36)  # queries, keys and values of one projection
    case = replace(moved(case, 8), query=wide[:, :, 1].transpose(1, 2))
    seen: list[Call] = []
    with patch.dict(op.BACKENDS, streaming=lambda call: seen.append(call) or op.streaming(call)):
        run(case, "streaming")
    for name in TENSORS:
        got = getattr(seen[0], name)
        given = case.options[name].unsqueeze(1) if name in case.options else getattr(case, name)  # weights that all heads share
        assert got.data_ptr() % ALIGNED == 0, name
        assert got.data_ptr() != given.data_ptr(), name
        assert torch.equal(got, given), name
        assert got.stride() == given.stride(), name


def test_what_is_aligned_is_not_copied() -> None:
    whole = torch.randn(4, 16)
    assert aligned(whole) is whole
    assert aligned(row := whole[2]) is row
    expanded = displaced(torch.randn(8), 4).expand(3, 8)
    assert aligned(expanded).stride() == (0, 1)
    assert torch.equal(aligned(expanded), expanded)


def test_weights_are_moved_once_and_stay_shared() -> None:
    from i2am.models.inputs import align

    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
    model.append(model[0])
    meta = nn.Linear(2, 2, device="meta")
    displace(model, 24)
    before = {name: one.clone() for name, one in model.state_dict().items()}
    parts = [model, meta, None, "a tokenizer"]
    align(parts)
    there = [one.data_ptr() for one in (*model.parameters(), *model.buffers())]
    assert not any(place % ALIGNED for place in there)
    assert model[0].weight is model[2].weight
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
    align(parts)
    assert there == [one.data_ptr() for one in (*model.parameters(), *model.buffers())]


def test_the_small_model_paints_the_same_bits_wherever_its_weights_lie() -> None:
    from small_model import run as paint
    from small_model import tiny

    pipe = tiny()
    right = paint(pipe, guidance_scale=2.0)
    for offset in OFFSETS:
        displace(pipe.unet, offset)
        displace(pipe.garment_encoder, offset)
        assert torch.equal(paint(pipe, guidance_scale=2.0), right)


def test_an_evaluation_moves_the_weights_of_any_pipeline() -> None:
    from i2am.evaluation.run import move_pipeline

    class Pipeline:
        def __init__(self) -> None:
            self.components = {"unet": nn.Linear(8, 8), "tokenizer": None}

        def to(self, device: torch.device) -> None:
            self.components["unet"].to(device)

    pipe = Pipeline()
    displace(pipe.components["unet"], 8)
    move_pipeline(pipe, torch.device("cpu"))
    assert pipe.components["unet"].weight.data_ptr() % ALIGNED == 0
