"""Maps as tensors with gradient: right by finite differences and by the definition, one node for torch, in linear memory."""

import math
from functools import partial

import pytest
import torch
from cases import make
from gradients import asked, check, strided
from tolerance import alike
from torch.library import opcheck
from torch.utils.checkpoint import checkpoint

from benchmarks.measuring.measure import peak_bytes
from i2am_kernels import backward, bi_attention, bi_attention_maps, differentiable, key_blocks

ALL = {"weighted": True, "words": 3, "columns": 2, "weightings": 2}
RANGES = {"rows": (1, 2), "generated": (2, 8), "reference": (1, 6)}
MASK = torch.arange(10)[:, None] + torch.arange(7) > 4  # the first queries see the last keys alone, the first of them none


def doubles(case):
    """What gradcheck moves: operands and weights in float64."""
    case = case.to(torch.float64)
    weights = {name: (one.double() + 0.1).requires_grad_() for name, one in case.options.items() if name.endswith("weight")}
    return [getattr(case, name).requires_grad_() for name in ("query", "key", "value")], weights, case


@pytest.mark.parametrize("given", [ALL, {**ALL, "per_head": True}, {**ALL, **RANGES}, {"attn_mask": MASK}, {"attn_mask": MASK, **RANGES}])
def test_finite_differences_agree(given):
    operands, weights, case = doubles(make(batch=2, tokens=(10, 7), size=4, dv=3, **given))

    def results(*tensors):
        rest = {**case.options, **dict(zip(weights, tensors[3:]))}
        return tuple(one for one in bi_attention_maps(*tensors[:3], **rest) if one is not None)

    assert torch.autograd.gradcheck(results, (*operands, *weights.values()), fast_mode=True)


@pytest.fixture(params=["one block", "blocks of some 16 keys", "columns by their own maxima"])
def blocks(request, monkeypatch):
    if request.param != "one block":
        monkeypatch.setattr(key_blocks, "BLOCK_BYTES", 1)
    if request.param == "columns by their own maxima":  # all of them, as on a device that does not look at the column sums
        monkeypatch.setattr(backward, "LOST", math.inf)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize(
    "given",
    [
        {"tokens": (63, 257), "size": 40, **ALL},
        {"tokens": (257, 63), "size": 80, "dv": 24},
        {"tokens": (1, 40)},  # the columns' softmax is 1
        {"tokens": (40, 1)},  # the rows' is
        {"heads": 1, "tokens": (35, 33)},  # an odd number of scores
        {"tokens": (63, 77), "batch": 3, **ALL, "per_head": True, "rows": (1, 2), "generated": (5, 60), "reference": (3, 70)},
        {"tokens": (63, 40), "amplitude": 30.0},  # peaked
        {"tokens": (63, 40), "amplitude": 0.0},  # constant
        {"tokens": (63, 40), "dtype": torch.bfloat16},
        {"tokens": (63, 40), "dtype": torch.float16, **ALL},
    ],
)
def test_streaming_gives_the_gradients_of_the_definition(given):
    case = make(**given)
    check(strided(case), asked(case), backend="streaming")


@pytest.mark.parametrize("name", ["output", "r2g", "g2r", "token_maps", "column_maps"])
def test_each_direction_alone(name):
    case = make(batch=2, tokens=(63, 77), **ALL, rows=(0, 1), generated=(0, 50))
    found = check(case, {name: asked(case)[name]}, backend="streaming")
    if name != "output":
        assert found["query"][1].count_nonzero() == 0, "a row without maps has no gradient from them"


@pytest.mark.parametrize("kind", ["bool", "additive", "of keys"])
def test_masks_and_lines_that_see_nothing(kind):
    case = make(batch=2, tokens=(63, 77), **ALL, rows=(1, 2), generated=(5, 60), reference=(3, 70))
    seen = torch.rand(2, 1, 63, 77) > 0.3
    seen[:, :, 5], seen[..., 7] = False, False
    masks = {"bool": seen, "additive": torch.randn(seen.shape).masked_fill(~seen, -torch.inf), "of keys": seen[:, :, :1]}
    case.options["attn_mask"] = masks[kind]
    check(case, asked(case), backend="streaming")


def test_a_column_far_below_the_rest_has_its_gradient():
    """85 nats: P of its row is lost in float32 from L alone where the others are large; C of its column is not."""
    case = make(tokens=(63, 40), size=16)
    case.key[..., 7, :] -= 85 / 16**-0.5 * case.query.mean(2) / case.query.mean(2).norm(dim=-1, keepdim=True) ** 2
    check(case, {"r2g": asked(case)["r2g"]}, backend="streaming")


@pytest.mark.parametrize("route", ["auto", "streaming", "triton", "reference"])
def test_the_results_are_those_of_the_buffers(route):
    case = make(batch=2, tokens=(63, 40), **ALL, rows=(0, 1))
    buffers = case.buffers()
    out = bi_attention(case.query, case.key, case.value, **buffers, **case.options, backend=route)
    found = bi_attention_maps(case.query, case.key, case.value, **case.options, backend=route)
    alike(found.output, out, 63, 10)
    for name, maps in buffers.items():
        alike(getattr(found, name), maps, 63, 10)


def test_only_what_was_asked_for():
    case = make(tokens=(5, 7))
    found = bi_attention_maps(case.query, case.key, case.value, r2g=False)
    assert [maps is None for maps in found] == [False, True, False, True, True]
    assert found.g2r.shape == (1, 2, 7)
    alone = bi_attention_maps(case.query, case.key, case.value, r2g=False, g2r=False)
    assert alone[1:] == (None,) * 4
    assert torch.equal(alone.output, torch.nn.functional.scaled_dot_product_attention(*operands(case)))


def operands(case):
    return case.query, case.key, case.value


def leaves(case, dtype=torch.float32):
    return [tensor.to(dtype).requires_grad_() for tensor in operands(case)]


def test_the_second_derivative_is_refused_by_name():
    tensors = leaves(make(tokens=(5, 7)))
    (slope,) = torch.autograd.grad(bi_attention_maps(*tensors).g2r.square().sum(), tensors[0], create_graph=True)
    with pytest.raises(RuntimeError, match="has no gradient of its own"):
        slope.sum().backward()


def test_the_definition_has_a_second_derivative():
    tensors = leaves(make(tokens=(5, 7), size=4), torch.float64)
    assert torch.autograd.gradgradcheck(lambda *t: bi_attention_maps(*t, backend="reference")[:3], tensors, fast_mode=True)


@pytest.mark.parametrize("name", ["query", "key", "value", "output", "weight"])
def test_a_tensor_changed_before_the_backward_is_an_error(name):
    case = make(tokens=(5, 7), weighted=True)
    tensors = [tensor * 1 for tensor in leaves(case)]
    weight = case.options["generated_weight"]
    found = bi_attention_maps(*tensors, generated_weight=weight)
    changed = {"query": tensors[0], "key": tensors[1], "value": tensors[2], "output": found.output, "weight": weight}[name]
    with torch.no_grad():
        changed.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        (found.output.sum() + found.g2r.square().sum()).backward()


def test_a_map_changed_in_place_is_followed():
    """A result is the caller's own: what is done to it is part of the graph."""
    tensors = leaves(make(tokens=(5, 7)))
    found = bi_attention_maps(*tensors)
    twice = torch.autograd.grad((found.g2r * 2).square().sum(), tensors[0], retain_graph=True)[0]
    assert torch.allclose(twice, torch.autograd.grad(found.g2r.mul_(2).square().sum(), tensors[0])[0])


def arguments(backend="streaming", grad=True, **options):
    """A call as the custom op receives it."""
    case = make(batch=2, tokens=(5, 7), **options)
    seen = []
    with pytest.MonkeyPatch.context() as patched:
        nothing = [torch.zeros(1, 1, 1, 1)] * 6
        patched.setattr(differentiable.torch.ops.i2am_kernels, "bi_attention_maps", lambda *given: seen.append(given) or nothing)
        bi_attention_maps(*(t.requires_grad_(grad) for t in operands(case)), **case.options, backend=backend, g2r="g2r" in case.maps)
    return seen[0]


@pytest.mark.parametrize("kind", [{}, ALL, {**ALL, "per_head": True}, RANGES | {"generated": (1, 4)}, {"dtype": torch.bfloat16}])
def test_the_op_declares_itself_rightly(kind):
    """Schema, fake tensors, autograd registration and the AOT path, by torch's own checker."""
    checked = opcheck(torch.ops.i2am_kernels.bi_attention_maps, arguments(**kind))
    assert set(checked.values()) == {"SUCCESS"}


def layer(query, key, value, **options):
    found = bi_attention_maps(query * 1.5, key, value, **options)
    return found.output.transpose(1, 2).flatten(2) + 1, found.r2g, found.g2r


def test_compiled():
    case = make(batch=2, tokens=(9, 7), weighted=True)
    torch._dynamo.reset()
    compiled = torch.compile(partial(layer, **case.options), fullgraph=True, backend="aot_eager")
    slopes = []
    for run in (partial(layer, **case.options), compiled):
        tensors = leaves(case)
        out, r2g, g2r = run(*tensors)
        slopes.append(torch.autograd.grad(out.square().sum() + r2g.square().sum() + g2r.square().sum(), tensors))
    for one, other in zip(*slopes):
        torch.testing.assert_close(one, other)


def test_under_checkpointing():
    case = make(tokens=(9, 7))
    tensors = leaves(case)
    slopes = [torch.autograd.grad(sum(one.square().sum() for one in run(*tensors)), tensors)
              for run in (layer, partial(checkpoint, layer, use_reentrant=False))]  # fmt: skip
    for one, other in zip(*slopes):
        assert torch.equal(one, other)


def test_under_autocast():
    tensors = leaves(make(tokens=(9, 7)))
    with torch.autocast("cpu", torch.bfloat16):
        found = bi_attention_maps(*tensors)
    assert (found.output.dtype, found.g2r.dtype) == (torch.bfloat16, torch.float32)
    found.g2r.square().sum().backward()
    assert tensors[0].grad.dtype == torch.float32


def test_memory_is_linear():
    """Both ways, with gradients of everything, beside one matrix of a head, which the eager way keeps several of."""
    tensors = leaves(make(heads=1, tokens=(3000, 2800), size=16))

    def both_ways():
        found = bi_attention_maps(*tensors)
        torch.autograd.grad([one.square().sum() for one in found[:3]], tensors)

    both_ways()  # the scratch is kept from call to call
    assert peak_bytes(both_ways, torch.device("cpu")) < 4 * 3000 * 2800 / 4


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"backend": "eager"}, 'backend must be one of "auto"'),
        ({"attn_mask": torch.zeros(5, 7, requires_grad=True)}, 'attn_mask must be a tensor without requires_grad.*backend="reference"'),
        ({"generated_weight": torch.ones(1, 6)}, r"generated_weight must be \[B', G'\] = \(1, 5\)"),
        ({"reference_weight": torch.full((1, 7), torch.nan)}, "reference_weight must be finite"),
        ({"token_weight": torch.ones(1, 6, 2)}, r"token_weight must be \[B', R', n\] = \(1, 7, 2\)"),
        ({"column_weight": torch.tensor(1.0)}, "column_weight must be"),
        ({"token_weight": 3}, "token_weight must be"),
        ({"rows": (0, 2)}, "rows must be"),
    ],
)
def test_refused(given, message):
    with pytest.raises(ValueError, match=message):
        bi_attention_maps(*leaves(make(tokens=(5, 7))), **given)


@pytest.mark.parametrize("backend", ["streaming", "triton"])
def test_float64_has_one_forward(backend):
    with pytest.raises(ValueError, match='backend must be "auto" or "reference" for float64'):
        bi_attention_maps(*leaves(make(tokens=(5, 7)), torch.float64), backend=backend)
