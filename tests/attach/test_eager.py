"""Compiled models run uncompiled while somebody looks inside, and are given back whoever ends last."""

import itertools

import pipelines
import pytest
import torch
import torch._dynamo

import i2am
from i2am.attach.eager import Eager

pytestmark = pytest.mark.usefixtures("on_the_cpu")


def stance() -> str:
    return torch._dynamo.eval_frame._stance.stance


@pytest.mark.parametrize("ends", list(itertools.permutations(range(3))))
def test_several_may_end_in_any_order(ends):
    one = Eager()
    for _ in ends:
        one.begin()
        assert stance() == "force_eager"
    for left in (2, 1, 0):
        one.end()
        assert stance() == ("force_eager" if left else "default")


@pytest.mark.parametrize("inner", ["hold", "trace"])
def test_nothing_stays_behind_a_trace_and_held_attention(inner):
    pipe = pipelines.sd15().pipe
    contexts = [i2am.trace(pipe, words=True), i2am.hold(pipe)]
    first, second = contexts if inner == "hold" else contexts[::-1]
    with first, second:
        assert stance() == "force_eager"
        pipe(["a red cat", "a red dog"], num_inference_steps=2, guidance_scale=1.0, output_type="latent")
        assert stance() == "force_eager"
    assert stance() == "default"
