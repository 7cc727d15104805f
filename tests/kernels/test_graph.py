"""What torch sees: one well-declared node, equal results under torch.compile, the output's gradients, autocast, inference mode."""

import shutil

import pytest
import torch
import torch.nn.functional as F
from cases import make, plain
from counting import Counting
from torch.library import opcheck

from i2am_kernels import bi_attention

OPTIONS = {
    "r2g": {"maps": ("r2g",)},
    "g2r": {"maps": ("g2r",)},
    "words": {"maps": (), "words": 2},
    "columns": {"maps": (), "columns": 2},
    "all": {"words": 2, "columns": 2, "weightings": 3, "weighted": True},
    "bool mask": {"attn_mask": torch.arange(7) < 5},
    "added mask": {"attn_mask": torch.linspace(-1, 1, 35).view(5, 7)},
    "ranges": {"rows": (1, 2), "generated": (1, 4), "reference": (2, 6)},
    "half": {"dtype": torch.bfloat16},
}


def arguments(backend, **options):
    """A call as the custom op receives it."""
    case = make(batch=2, tokens=(5, 7), **options)
    seen = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("i2am_kernels.op.run", lambda call, chosen: seen.append(call))
        bi_attention(case.query, case.key, case.value, **case.buffers(), **case.options, backend=backend)
    (call,) = seen
    return (
        call.query, call.key, call.value, call.mask, call.r2g, call.g2r, call.token_maps, call.column_maps,
        call.generated_weight, call.reference_weight, call.token_weight, call.column_weight, call.scale,
        [*call.rows, *call.generated, *call.reference], backend,
    )  # fmt: skip


@pytest.mark.parametrize("kind", OPTIONS)
def test_the_op_declares_itself_rightly(backend, kind):
    """Schema, fake tensors, mutation and the AOT path, by torch's own checker."""
    checked = opcheck(torch.ops.i2am_kernels.bi_attention, arguments(backend, **OPTIONS[kind]))
    assert set(checked.values()) == {"SUCCESS"}


@pytest.mark.parametrize("layout", ["heads apart", "heads merged", "expanded"])
@pytest.mark.parametrize("route", ["streaming", "triton", "reference"])
def test_fake_strides_are_the_real_ones(route, layout):
    """Compiled code is generated for the strides the fake promises; the output merges its heads for free."""
    call = list(arguments(route, words=2, columns=2))
    if layout == "heads merged":
        call[:3] = [t.transpose(1, 2).contiguous().transpose(1, 2) for t in call[:3]]
    if layout == "expanded":
        call[:3] = [t[:1].expand_as(t) for t in call[:3]]
    real = torch.ops.i2am_kernels.bi_attention(*call)
    fake = torch.ops.i2am_kernels.bi_attention(*(t.to("meta") if isinstance(t, torch.Tensor) else t for t in call))
    assert (real.shape, real.stride(), real.dtype) == (fake.shape, fake.stride(), fake.dtype)
    real.transpose(1, 2).view(2, 5, -1)  # no copy


def compiled_and_eager(counting, **options):
    case = make(batch=2, tokens=(9, 7), words=2, columns=3, weighted=True, **options)

    def layer(query, key, value, r2g, g2r, token_maps, column_maps):
        """As a model uses it: a buffer is a slot of [groups, layers, ...]."""
        slots = {"r2g": r2g[1, 2], "g2r": g2r[1, 2], "token_maps": token_maps[1, 2], "column_maps": column_maps[1, 2]}
        out = bi_attention(query * 1.5, key, value, **slots, **case.options)
        return out.transpose(1, 2).flatten(2) + 1

    large = [{name: torch.zeros(2, 3, *t.shape) for name, t in case.buffers().items()} for _ in range(2)]
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend=counting)
    tokens = case.query, case.key, case.value
    for _ in range(2):
        one, two = layer(*tokens, **large[0]), compiled(*tokens, **large[1])
    return (one, large[0]), (two, large[1])


@pytest.mark.parametrize(
    "options", [{}, {"rows": (1, 2), "generated": (2, 8)}, {"attn_mask": torch.arange(7) < 5}], ids=["all", "ranges", "mask"]
)
def test_compiled_is_one_node_with_equal_results(options):
    counting = Counting("aot_eager")
    (one, maps), (two, compiled_maps) = compiled_and_eager(counting, **options)
    torch.testing.assert_close(one, two)
    for name, t in maps.items():
        assert t[1, 2].ne(0).any()
        torch.testing.assert_close(t, compiled_maps[name])
    assert len(counting.graphs) == 1
    assert len(counting.nodes()) == 1


@pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="needs a C++ compiler, for inductor on a CPU: apt-get install g++"
)
def test_inductor_gives_equal_results():
    (one, maps), (two, compiled_maps) = compiled_and_eager(Counting("inductor"))
    torch.testing.assert_close(one, two)
    for name, t in maps.items():
        torch.testing.assert_close(t, compiled_maps[name])


@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
def test_gradients_are_those_of_scaled_dot_product_attention(backend, masked):
    case = make(tokens=(9, 7), attn_mask=torch.rand(9, 7) > 0.3 if masked else None, scale=0.4)
    upstream = torch.randn(1, 2, 9, 16)
    tokens = [t.requires_grad_() for t in (case.query, case.key, case.value)]
    buffers = case.buffers()
    out = bi_attention(*tokens, **buffers, **case.options, backend=backend)
    got = torch.autograd.grad(out, tokens, upstream)
    right = torch.autograd.grad(plain(case), tokens, upstream)
    torch.testing.assert_close(out, plain(case))
    for one, two in zip(got, right):
        torch.testing.assert_close(one, two)
    for name, buffer in buffers.items():
        assert buffer.grad_fn is None, name
        assert not buffer.requires_grad, name
        assert buffer.ne(0).any(), name


@pytest.mark.parametrize("wanting", [0, 1, 2], ids=["query", "key", "value"])
def test_one_input_that_wants_gradients_is_enough(wanting):
    case = make(tokens=(9, 7))
    tokens = [case.query, case.key, case.value]
    tokens[wanting].requires_grad_()
    bi_attention(*tokens, **case.buffers()).sum().backward()
    assert tokens[wanting].grad.isfinite().all()


def test_compiled_training_step():
    case = make(tokens=(9, 7))
    torch._dynamo.reset()

    def loss(query, r2g):
        return bi_attention(query, case.key, case.value, r2g=r2g).square().sum()

    grads, buffers = [], []
    for step in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        query, r2g = case.query.clone().requires_grad_(), torch.zeros(1, 2, 9)
        step(query, r2g).backward()
        grads.append(query.grad)
        buffers.append(r2g)
    torch.testing.assert_close(*grads)
    torch.testing.assert_close(*buffers)


def test_a_mask_that_learns():
    """The output is differentiable in an additive mask as scaled_dot_product_attention's is."""
    case = make(tokens=(9, 7))
    grads = []
    for with_maps in (True, False):
        bias = torch.linspace(-1, 1, 63).view(9, 7).requires_grad_()
        buffers = case.buffers() if with_maps else {}
        bi_attention(case.query, case.key, case.value, **buffers, attn_mask=bias).square().sum().backward()
        grads.append(bias.grad)
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
def test_without_gradients(backend, guard):
    case = make(tokens=(9, 7), words=2)
    tokens = [t.requires_grad_() for t in (case.query, case.key, case.value)]
    with guard():
        buffers = case.buffers()
        out = bi_attention(*tokens, **buffers, **case.options, backend=backend)
    assert not out.requires_grad
    torch.testing.assert_close(out, plain(case).detach())
    assert all(buffer.ne(0).all() for buffer in buffers.values())


def test_autocast_as_scaled_dot_product_attention(backend):
    case = make(tokens=(9, 7))
    buffers = case.buffers()
    with torch.autocast(case.query.device.type, torch.bfloat16):
        out = bi_attention(case.query, case.key, case.value, **buffers, backend=backend)
        right = F.scaled_dot_product_attention(case.query, case.key, case.value)
    assert out.dtype == right.dtype == torch.bfloat16
    torch.testing.assert_close(out, right, rtol=2e-2, atol=2e-2)
    rounded = case.to(torch.bfloat16)
    again = case.buffers()
    bi_attention(rounded.query, rounded.key, rounded.value, **again, backend=backend)
    for name, buffer in buffers.items():
        assert torch.equal(buffer, again[name]), name


def test_autocast_with_a_float32_mask():
    """Under autocast a mask made beforehand in float32 works with and without buffers."""
    case = make(tokens=(9, 7))
    bias = torch.linspace(-1, 1, 63).view(9, 7)
    with torch.autocast(case.query.device.type, torch.bfloat16):
        outs = [bi_attention(case.query, case.key, case.value, **b, attn_mask=bias) for b in ({}, case.buffers())]
    torch.testing.assert_close(*outs, rtol=2e-2, atol=2e-2)
