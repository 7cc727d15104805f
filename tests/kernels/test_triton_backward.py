"""The fused backward of attention with its maps against the definition, which torch differentiates in float64."""

from dataclasses import replace
from unittest.mock import patch

import pytest
import torch
from cases import make
from gradients import asked, check, gradients, strided

from i2am_kernels import bi_attention_maps, differentiable, triton_backward

ALL = {"weighted": True, "words": 5, "columns": 4, "weightings": 3}
RANGES = {"rows": (1, 2), "generated": (5, 60), "reference": (3, 70)}


@pytest.mark.parametrize(
    "given",
    [
        {"heads": 1, "tokens": (63, 257), "size": 40},  # more keys than queries; tiles that are cut
        {"heads": 1, "tokens": (257, 63), "size": 80, "dv": 24},  # a head in two parts, values of another size
        {"tokens": (64, 32), "size": 16, "dv": 80, "weighted": True},  # whole tiles; values in two parts; one weighting with weights
        {"heads": 1, "tokens": (65, 40), "size": 24, "words": 70, "columns": 3},  # more terms than lie on chip at once
        {"heads": 1, "tokens": (40, 33), "size": 144},  # keys' and values' gradients in launches of their own
    ],
)
def test_all_maps_and_the_output(given):
    case = make(**given)
    check(case, asked(case))


@pytest.mark.parametrize("name", ["output", "r2g", "g2r", "token_maps", "column_maps"])
def test_each_direction_alone(name):
    """The others give nothing back, beside it and where their rows have maps."""
    case = make(batch=2, tokens=(63, 77), size=40, dv=24, **ALL, rows=(0, 1), generated=(0, 50))
    up = asked(case)
    found = check(case, {name: up[name]})
    if name != "output":
        assert found["query"][1].count_nonzero() == 0, "a row without maps has no gradient from them"


@pytest.mark.parametrize("weightings", [None, 3])
def test_weights_that_differ_from_head_to_head(weightings):
    case = make(batch=2, tokens=(63, 40), size=16, **{**ALL, "weightings": weightings}, per_head=True, rows=(1, 2))
    check(case, asked(case))


@pytest.mark.parametrize("programs", [0, 16])
@pytest.mark.parametrize("kind", ["", "bool", "additive", "of keys"])
def test_ranges_masks_and_strides(kind, programs):
    """With queries in one share and in several; a query and a key that see nothing."""
    case = make(batch=2, heads=1, tokens=(63, 77), size=40, dv=24, **ALL, **RANGES)
    seen = torch.rand(2, 1, 63, 77) > 0.3
    seen[:, :, 5], seen[..., 7] = False, False
    masks = {"bool": seen, "additive": torch.randn(seen.shape).masked_fill(~seen, -torch.inf), "of keys": seen[:, :, :1]}
    if kind:
        case.options["attn_mask"] = masks[kind]
    check(strided(case), asked(case), programs)


@pytest.mark.parametrize("tokens", [(1, 1), (1, 40), (40, 1)])
def test_one_token(tokens):
    """Of one key every query has all, and of one query every key: what is asked of that softmax changes nothing."""
    case = make(tokens=tokens, words=2, columns=2)
    up = asked(case)
    found, right = gradients(case, up), gradients(case.to(torch.float64), up, "reference")
    size = max(one.abs().max() for one in up.values()) * max(t.abs().max() for t in (case.query, case.key, case.value)) ** 2 * 16
    for name, one in right.items():
        torch.testing.assert_close(found[name].double(), one.double(), rtol=0, atol=1e-6 * size.item())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    case = make(batch=2, tokens=(63, 77), size=80, dv=24, dtype=dtype, **ALL, **RANGES)
    check(case, asked(case))


def test_a_small_gradient_is_not_lost_in_float16():
    """What a map's mean asks of one score is less than float16's smallest number, and the gradients are not."""
    case = make(heads=1, tokens=(257, 65), size=40, dtype=torch.float16, scale=1e6)
    case = replace(case, query=case.query / 2500, key=case.key / 2500)
    found = check(case, asked(case, output=False, size=1e-6))
    assert found["query"].abs().max() > 1e-6


@pytest.mark.parametrize(("logits", "nats"), [("columns", -85.0), ("logit", 200.0)])
def test_peaked_logits(logits, nats):
    """A column far under the rest is a softmax like the others; one score far above them is all of its row and of its column."""
    case = make(tokens=(63, 77), size=40, scale=1.0)
    case.query[..., 0], case.key[..., 0] = (1, 0) if logits == "columns" else (0, 0)
    if logits == "columns":
        case.key[:, :, ::7, 0] = nats
    else:
        case.query[:, :, 31, 0] = case.key[:, :, 38, 0] = nats**0.5
    check(case, asked(case))


@pytest.mark.parametrize("scale", [-0.3, 0.0])
def test_any_scale(scale):
    case = make(tokens=(63, 40), scale=scale, generated=(1, 63))
    check(case, asked(case))


def test_weights_that_are_not_learned_take_no_sweep():
    """Moments of a grid, say."""
    case = make(heads=1, tokens=(40, 33), **ALL)
    weights = {name: t.requires_grad_(name == "token_weight") for name, t in case.options.items() if name.endswith("weight")}
    with patch.object(triton_backward, "launch_sums", wraps=triton_backward.launch_sums) as launched:
        found = bi_attention_maps(case.query.requires_grad_(), case.key, case.value, **weights, backend="triton")
        sum(one.square().sum() for one in found[1:]).backward()
    assert [call.args[3] for call in launched.call_args_list] == ["lines", "others", "found"]
    assert weights["token_weight"].grad.abs().max() > 0
    assert weights["column_weight"].grad is None


def test_the_same_bits_twice():
    case = make(tokens=(63, 40), size=40, **ALL)
    up = asked(case)
    one, two = (gradients(case, up, programs=16) for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    ("backend", "dtype", "fused"),
    [("triton", torch.float32, True), ("streaming", torch.float32, False), ("auto", torch.float32, False), ("auto", torch.float64, False)],
)
def test_the_backend_of_the_call_is_the_backend_of_its_gradient(backend, dtype, fused):
    """On a CPU "auto" is not Triton."""
    query = torch.randn(1, 1, 20, 16, dtype=dtype, device="cpu", requires_grad=True)
    with patch.object(differentiable, "launch_backward", wraps=triton_backward.launch_backward) as launched:
        bi_attention_maps(query, query, query, backend=backend).r2g.square().sum().backward()
    assert launched.called == fused
