"""Every kind of bad input is refused at the door: a ValueError that names the thing, what was expected, what came and what to
do, with every buffer as it was."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cases import make, run

from i2am_kernels import bi_attention
from i2am_kernels.check import checked

B, H, G, R, D = 2, 2, 5, 7, 8


def call():
    """A good call with everything in it."""
    return {
        "query": torch.randn(B, H, G, D), "key": torch.randn(B, H, R, D), "value": torch.randn(B, H, R, D),
        "r2g": torch.full((B, H, G), 2.0), "g2r": torch.full((B, H, R), 2.0), "token_maps": torch.full((B, H, 3, G), 2.0),
        "column_maps": torch.full((B, H, 4, R), 2.0), "generated_weight": torch.rand(B, G), "reference_weight": torch.rand(B, R),
        "token_weight": torch.rand(B, R, 3), "column_weight": torch.rand(B, 4, G),
    }  # fmt: skip


SHARED = torch.full((B, H, G), 2.0)
WIDE = torch.full((B, H, R + G), 2.0)
# what is changed in the good call -> the words that the message must contain: thing and expected, got, remedy
BAD = {
    "query of three dimensions": ({"query": torch.randn(B, G, D)}, ["query", "[batch, heads, tokens,", "(2, 5, 8)", "unflatten"]),
    "query no tensor": ({"query": [1.0]}, ["query", "tensor", "list", "Split"]),
    "key none": ({"key": None}, ["key", "tensor", "NoneType", "Split"]),
    "integer query": ({"query": torch.ones(B, H, G, D, dtype=torch.int64)}, ["query", "float32", "int64", "query.to"]),
    "float64 query": ({"query": torch.ones(B, H, G, D, dtype=torch.float64)}, ["query", "bfloat16", "float64", "query.to"]),
    "key of another dtype": ({"key": torch.randn(B, H, R, D).half()}, ["key", "float32", "float16", "key.to(query)"]),
    "value of another dtype": ({"value": torch.randn(B, H, R, D).bfloat16()}, ["value", "float32", "bfloat16", "value.to(query)"]),
    "key on another device": ({"key": torch.empty(B, H, R, D, device="meta")}, ["key", "meta", "key.to(query)"]),
    "no tokens": ({"query": torch.randn(B, H, 0, D)}, ["query", "without empty dimensions", "(2, 2, 0, 8)", "Leave"]),
    "no keys": ({"key": torch.randn(B, H, 0, D)}, ["key", "without empty dimensions", "(2, 2, 0, 8)", "Leave"]),
    "fewer key heads": ({"key": torch.randn(B, 1, R, D)}, ["key", "[2, 2, R, 8]", "(2, 1, 7, 8)", "enable_gqa=True"]),
    "key of another batch": ({"key": torch.randn(1, H, R, D)}, ["key", "[2, 2, R, 8]", "(1, 2, 7, 8)"]),
    "key of another head size": ({"key": torch.randn(B, H, R, 9)}, ["key", "[2, 2, R, 8]", "(2, 2, 7, 9)"]),
    "value of other tokens": ({"value": torch.randn(B, H, R + 1, D)}, ["value", "[2, 2, 7, Dv]", "(2, 2, 8, 8)", "same tokens"]),
    "rows outside": ({"rows": (0, 3)}, ["rows", "<= 2", "(0, 3)", "slices"]),
    "rows reversed": ({"rows": (1, 1)}, ["rows", "start < stop", "(1, 1)"]),
    "negative generated": ({"generated": (-3, 5)}, ["generated", "<= 5", "(-3, 5)", "Negative"]),
    "reference reversed": ({"reference": (4, 2)}, ["reference", "<= 7", "(4, 2)"]),
    "a number for a range": ({"reference": 4}, ["reference", "pair (start, stop)", "4", "first"]),
    "a triple for a range": ({"reference": (0, 4, 1)}, ["reference", "pair (start, stop)", "(0, 4, 1)", "first"]),
    "words for a range": ({"rows": ("a", "b")}, ["rows", "pair (start, stop)", "('a', 'b')"]),
    "r2g of the reference's length": ({"r2g": torch.zeros(B, H, R)}, ["r2g", "[B', H, G'] = (2, 2, 5)", "(2, 2, 7)", "torch.zeros"]),
    "r2g of all rows when some have maps": ({"rows": (0, 1)}, ["r2g", "(1, 2, 5)", "(2, 2, 5)", "torch.zeros"]),
    "g2r of the wrong length": ({"g2r": torch.zeros(B, H, G)}, ["g2r", "[B', H, R'] = (2, 2, 7)", "(2, 2, 5)", "torch.zeros"]),
    "g2r of no weightings": ({"g2r": torch.zeros(B, H, 0, R)}, ["g2r", "(2, 2, n, 7)", "(2, 2, 0, 7)"]),
    "token_maps without words": ({"token_maps": torch.zeros(B, H, G)}, ["token_maps", "(2, 2, n, 5)", "(2, 2, 5)", "torch.zeros"]),
    "column_maps of the canvas": ({"column_maps": torch.zeros(B, H, 4, G)}, ["column_maps", "(2, 2, n, 7)", "(2, 2, 4, 5)", "torch.zeros"]),
    "column_maps inside g2r": ({"g2r": WIDE[..., :R], "column_maps": WIDE[:, :, None, :R], "column_weight": torch.rand(B, 1, G)},
                               ["g2r", "apart from column_maps", "share", "disjoint"]),
    "column_weight transposed": ({"column_weight": torch.rand(B, G, 4)}, ["column_weight", "[B', n, G'] = (2, 4, 5)", "(2, 5, 4)"]),
    "column_weight left out": ({"column_weight": None}, ["column_weight", "(2, 4, 5)", "None", "moments(grid)"]),
    "weights of columns not asked for": ({"column_maps": None}, ["column_weight", "left out without column_maps", "drop column_weight"]),
    "negative column weights": ({"column_weight": torch.full((B, 4, G), -0.5)}, ["column_weight", "not negative", "-0.5", "clamp"]),
    "r2g no tensor": ({"r2g": [0.0]}, ["r2g", "float32", "list", "torch.zeros"]),
    "half r2g": ({"r2g": torch.zeros(B, H, G).half()}, ["r2g", "float32", "float16", "torch.zeros"]),
    "float64 g2r": ({"g2r": torch.zeros(B, H, R).double()}, ["g2r", "float32", "float64", "torch.zeros"]),
    "r2g on another device": ({"r2g": torch.zeros(B, H, G, device="meta")}, ["r2g", "meta", "torch.zeros"]),
    "r2g wants gradients": ({"r2g": torch.zeros(B, H, G, requires_grad=True)}, ["r2g", "requires_grad", "detach"]),
    "expanded r2g": ({"r2g": torch.zeros(B, 1, G).expand(B, H, G)}, ["r2g", "memory of its own", "strides (5, 0, 1)", "clone"]),
    "one buffer twice": ({"g2r": WIDE[..., :R], "r2g": WIDE[..., 2 : G + 2]}, ["r2g", "apart from g2r", "share", "disjoint"]),
    "r2g inside token_maps": ({"r2g": SHARED, "token_maps": SHARED[:, :, None].expand(B, H, 1, G), "token_weight": torch.rand(B, R, 1)},
                              ["r2g", "apart from token_maps", "share", "disjoint"]),
    "r2g is a weight": ({"generated_weight": SHARED[:, 0], "r2g": SHARED}, ["r2g", "apart from generated_weight", "share", "its own"]),
    "r2g is the mask": ({"attn_mask": SHARED[:, :, :, None], "r2g": SHARED}, ["r2g", "apart from attn_mask", "share", "its own"]),
    "generated_weight of keys": ({"generated_weight": torch.rand(B, R)}, ["generated_weight", "[B', G'] = (2, 5)", "(2, 7)", "expand"]),
    "generated_weight of one row": ({"generated_weight": torch.rand(1, G)}, ["generated_weight", "(2, 5)", "(1, 5)", "expand"]),
    "weights for one map of two": ({"g2r": torch.zeros(B, H, 2, R)}, ["generated_weight", "[B', n, G'] = (2, 2, 5)", "(2, 5)", "expand"]),
    "no weights for two maps": ({"g2r": torch.zeros(B, H, 2, R), "generated_weight": None},
                                ["generated_weight", "(2, 2, 5) when g2r has 2 maps", "None", "Say what"]),
    "reference_weight too short": ({"reference_weight": torch.rand(B, R - 1)}, ["reference_weight", "(2, 7)", "(2, 6)", "expand"]),
    "token_weight transposed": ({"token_weight": torch.rand(B, 3, R)}, ["token_weight", "[B', R', n] = (2, 7, 3)", "(2, 3, 7)"]),
    "token_weight left out": ({"token_weight": None}, ["token_weight", "(2, 7, 3)", "None", "torch.eye"]),
    "weights of one head for two": ({"reference_weight": torch.rand(B, 1, R)},
                                    ["reference_weight", "(2, 7) for all heads, or [B', H, R'] = (2, 2, 7)", "(2, 1, 7)"]),
    "weights of heads before the rows": ({"token_weight": torch.rand(H + 1, B, R, 3)},
                                         ["token_weight", "[B', H, R', n] = (2, 2, 7, 3)", "(3, 2, 7, 3)"]),
    "negative weights of one head": ({"column_weight": torch.tensor([1.0, -1.0]).view(1, H, 1, 1).expand(B, H, 4, G)},
                                     ["column_weight", "not negative", "from -1 to 1"]),
    "complex weights": ({"generated_weight": torch.rand(B, G).to(torch.complex64)}, ["generated_weight", "(2, 5)", "complex64"]),
    "weights on another device": ({"reference_weight": torch.rand(B, R, device="meta")}, ["reference_weight", "meta"]),
    "weights no tensor": ({"reference_weight": 1.0}, ["reference_weight", "(2, 7)", "float", "expand"]),
    "weights of a map not asked for": ({"r2g": None}, ["reference_weight", "left out without r2g", "Pass r2g as well"]),
    "weights of g2r not asked for": ({"g2r": None}, ["generated_weight", "left out without g2r", "Pass g2r as well"]),
    "weights of words not asked for": ({"token_maps": None}, ["token_weight", "left out without token_maps", "drop token_weight"]),
    "negative weights": ({"generated_weight": torch.linspace(-1, 1, B * G).view(B, G)},
                         ["generated_weight", "finite and not negative", "values from -1 to 1", "clamp"]),
    "weights that are no numbers": ({"reference_weight": torch.tensor([math.nan] + [0.5] * (R - 1)).expand(B, R)},
                                    ["reference_weight", "finite and not negative", "nan", "clamp"]),
    "infinite weights": ({"token_weight": torch.rand(B, R, 3).index_fill(1, torch.tensor([2]), math.inf)},
                         ["token_weight", "finite and not negative", "inf", "clamp"]),
    "scale no number": ({"scale": math.nan}, ["scale", "finite", "nan", "Leave it out"]),
    "infinite scale": ({"scale": -math.inf}, ["scale", "finite", "-inf", "Leave it out"]),
    "words for a scale": ({"scale": "big"}, ["scale", "a number", "'big'", "Leave it out"]),
    "integer mask": ({"attn_mask": torch.ones(G, R, dtype=torch.int64)}, ["attn_mask", "bool", "int64", "mask.bool()"]),
    "mask no tensor": ({"attn_mask": True}, ["attn_mask", "bool", "got bool", "mask.bool()"]),
    "mask on another device": ({"attn_mask": torch.ones(G, R, device="meta")}, ["attn_mask", "meta"]),
    "mask of the batch's keys": ({"attn_mask": torch.ones(B, R).bool()}, ["attn_mask", "(2, 2, 5, 7)", "(2, 7)", "mask[:, None, None, :]"]),
    "mask of five dimensions": ({"attn_mask": torch.ones(1, B, H, G, R).bool()}, ["attn_mask", "(2, 2, 5, 7)", "(1, 2, 2, 5, 7)"]),
    "mask too long": ({"attn_mask": torch.ones(G, R + 1).bool()}, ["attn_mask", "(2, 2, 5, 7)", "(5, 8)"]),
    "unknown backend": ({"backend": "cuda"}, ["backend", '"streaming"', "'cuda'", "docstring"]),
    "no backend": ({"backend": None}, ["backend", '"auto"', "None"]),
    "large heads for triton": ({"query": torch.randn(B, H, G, 264), "key": torch.randn(B, H, R, 264), "backend": "triton"},
                               ["backend", "triton", "256", "streaming"]),
    "large values for triton": ({"value": torch.randn(B, H, R, 300), "backend": "triton"}, ["backend", "triton", "256", "streaming"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_refused_with_everything_named(kind):
    change, words = BAD[kind]
    arguments = {**call(), **change}
    buffers = {name: arguments[name] for name in ("r2g", "g2r", "token_maps", "column_maps")}
    buffers = {name: t for name, t in buffers.items() if isinstance(t, torch.Tensor) and t.device.type != "meta"}
    before = {name: t.detach().clone() for name, t in buffers.items()}
    with pytest.raises(ValueError, match=r"^bi_attention: ") as refused:
        bi_attention(**arguments)
    message = str(refused.value)
    assert [word for word in words if word not in message] == [], message
    assert " must be " in message
    assert message.rstrip().endswith("."), message
    for name, t in buffers.items():
        assert torch.equal(t.detach(), before[name]), f"{name} was written before the refusal"


def test_the_good_call_is_good(backend):
    """Else the refusals above could be for another reason."""
    arguments = call()
    bi_attention(**arguments, backend=backend)
    assert all((arguments[name] != 2).any() for name in ("r2g", "g2r", "token_maps", "column_maps"))


@pytest.mark.parametrize("name", ["query", "key", "value"])
def test_a_buffer_that_is_an_input_is_refused(name):
    arguments = call()
    tokens = G if name == "query" else R
    arguments[name] = torch.randn(B, H, tokens, D)
    buffer = "r2g" if name == "query" else "g2r"
    arguments[buffer] = arguments[name][..., 3]
    before = arguments[name].clone()
    with pytest.raises(ValueError, match=f"{buffer} must be apart from {name}"):
        bi_attention(**arguments)
    assert torch.equal(arguments[name], before)


def test_interleaved_views_are_apart(backend):
    """Every other element of one tensor: the ranges of addresses overlap, the elements do not."""
    case = make(batch=2, tokens=(7, 7))
    woven = torch.zeros(2, 2, 7, 2)
    right = run(case, backend).maps
    got = run(case, backend, {"r2g": woven[..., 0], "g2r": woven[..., 1]}).maps
    for name, buffer in got.items():
        assert torch.equal(buffer, right[name])


def test_neighbouring_slots_are_apart():
    slots = torch.zeros(3, 2, 1, 2, 7)
    run(make(tokens=(7, 7)), "streaming", {"r2g": slots[1, 0], "g2r": slots[1, 1]})
    assert slots[1].ne(0).all()
    assert slots[::2].eq(0).all()


def test_a_buffer_interleaved_with_its_inputs_is_fine():
    """A weight column beside the map it weighs, in one tensor."""
    case = make(tokens=(7, 7), generated_weight=torch.rand(1, 7))
    both = torch.zeros(2, 7, 2)
    both[0, :, 1] = case.options["generated_weight"][0]
    right = run(case, "streaming").maps["r2g"].clone()
    case.options["generated_weight"] = both[:1, :, 1]
    buffers = {"r2g": both[None, :, :, 0], "g2r": torch.zeros(1, 2, 7)}
    assert torch.equal(run(case, "streaming", buffers).maps["r2g"], right)


def test_triton_on_a_cpu_without_the_interpreter_is_refused():
    """In a fresh interpreter of Python, because the choice is made when the kernels are imported."""
    program = """
import torch
from i2am_kernels import bi_attention
x, r2g = torch.randn(1, 1, 4, 8), torch.zeros(1, 1, 4)
try:
    bi_attention(x, x, x, r2g=r2g, backend="triton")
except ValueError as refused:
    assert r2g.eq(0).all()
    print(refused)
bi_attention(x, x, x, r2g=r2g)
assert r2g.ne(0).all()
"""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    root = str(Path(__file__).parents[2])
    environment["PYTHONPATH"] = os.pathsep.join([root, environment.get("PYTHONPATH", "")])
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    for word in ("backend", "triton", "CPU", "TRITON_INTERPRET=1", "auto"):
        assert word in ran.stdout, ran.stdout


def test_values_of_weights_are_looked_at_on_a_cpu_alone():
    """Not where that would wait for a device, nor where there are no values: in a graph that is compiled, among fake tensors."""
    from torch._subclasses import FakeTensorMode

    wrong = {**call(), "generated_weight": torch.full((B, G), -1.0), "scale": 0.5}
    torch._dynamo.reset()
    torch.compile(lambda given: bi_attention(**given), fullgraph=True, backend="eager")(wrong)
    mode, left_out = FakeTensorMode(), dict.fromkeys(["attn_mask", "rows", "generated", "reference"])
    checked(**{name: mode.from_tensor(t) if isinstance(t, torch.Tensor) else t for name, t in wrong.items()}, **left_out)
    with pytest.raises(ValueError, match="generated_weight must be finite and not negative, got values from -1 to -1"):
        bi_attention(**wrong)
