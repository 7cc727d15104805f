"""Is there a combination nobody thought of? hypothesis draws shapes, dtypes, strides and options, and every route must hold
the truth within the usual tolerance. `N=10000` in the environment draws as many."""

import os

import hypothesis.strategies as st
import pytest
import torch
from cases import FUSED, STREAMING, check, make, transposed
from hypothesis import given, settings

pytestmark = pytest.mark.fuzz
N = int(os.environ.get("N", "0"))


@st.composite
def ranges(draw, size):
    if draw(st.booleans()):
        return None
    start = draw(st.integers(0, size - 1))
    return start, draw(st.integers(start + 1, size))


@st.composite
def masks(draw, shape):
    """Of any broadcast shape: bool, added, or added with hidden keys; lines may be hidden whole."""
    kind = draw(st.sampled_from([None, None, "bool", "added", "added, hidden", "lines"]))
    if kind is None:
        return None
    shape = [size if draw(st.booleans()) else 1 for size in shape][draw(st.integers(0, 3)) :]
    some = torch.rand(shape) < draw(st.sampled_from([0.05, 0.5, 0.95]))
    if kind == "lines":
        some = torch.ones(shape, dtype=torch.bool)
        some.select(draw(st.integers(0, len(shape) - 1)), 0).fill_(False)
    if kind in ("bool", "lines"):
        return some
    noise = torch.randn(shape) * draw(st.sampled_from([1.0, 30.0]))
    hidden = draw(st.sampled_from([-torch.inf, torch.finfo(torch.float32).min, -10000.0]))
    return noise if kind == "added" else torch.where(some, noise, hidden)


@st.composite
def cases(draw, most):
    torch.manual_seed(draw(st.integers(0, 2**31)))
    batch, heads = draw(st.sampled_from([(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 3)]))
    tokens = draw(st.integers(1, most)), draw(st.integers(1, most))
    size = draw(st.sampled_from([1, 8, 16, 20, 40, 64, 80]))
    maps = draw(st.sampled_from([("r2g", "g2r"), ("r2g",), ("g2r",), ()]))
    columns = draw(st.sampled_from([0, 0, 1, 6, 18]))
    words = draw(st.integers(0 if maps or columns else 1, 20))
    options = {
        "rows": draw(ranges(batch)),
        "generated": draw(ranges(tokens[0])),
        "reference": draw(ranges(tokens[1])),
        "attn_mask": draw(masks((batch, heads, *tokens))),
        "scale": draw(st.sampled_from([None, None, 0.1, 1.0])),
    }
    case = make(
        batch, heads, tokens, size, dv=draw(st.sampled_from([None, None, 24])), dtype=draw(st.sampled_from(DTYPES)),
        amplitude=draw(st.sampled_from([0.0, 1.0, 1.0, 5.0, 40.0])), maps=maps, words=words, columns=columns,
        weightings=draw(st.sampled_from([None, None, 1, 3, 17])), weighted=draw(st.booleans()),
        per_head=draw(st.booleans()), **options,
    )  # fmt: skip
    for name in ("query", "key", "value"):
        layout = draw(st.sampled_from(["plain", "plain", "transposed", "scattered"]))
        tensor = getattr(case, name)
        laid = {"plain": tensor, "transposed": transposed(tensor), "scattered": tensor.mT.contiguous().mT}[layout]
        object.__setattr__(case, name, laid)
    return case


DTYPES = [torch.float32, torch.float32, torch.float16, torch.bfloat16]


@settings(max_examples=N or 60)
@given(case=cases(most=150), route=st.sampled_from(STREAMING))
def test_streaming_holds_the_truth(case, route):
    check(case, route)


@settings(max_examples=N // 10 or 15)
@given(case=cases(most=70), route=st.sampled_from([name for name in FUSED if name not in STREAMING]))
def test_triton_holds_the_truth(case, route):
    check(case, route)
