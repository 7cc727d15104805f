"""The interpreter that these tests run in computes what Triton's own computes, and leaves the language as it found it."""

import interpreting
import pytest
import torch
import triton.language as tl
from cases import TRITON, make, run

from i2am_kernels import triton_backend

pytestmark = pytest.mark.skipif(not triton_backend.INTERPRETED, reason="there is no interpreter")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("route", TRITON)
def test_it_gives_the_bits_of_tritons_own(route, dtype, monkeypatch):
    from triton.runtime import interpreter

    mask = torch.rand(19, 40) > 0.3
    case = make(batch=2, tokens=(19, 40), words=2, columns=2, weightings=3, weighted=True, dtype=dtype, attn_mask=mask)
    found = run(case, route)
    assert interpreting.OWN
    for name, own in interpreting.OWN.items():
        assert getattr(interpreter, name) is not own
        monkeypatch.setattr(interpreter, name, own)
    right = run(case, route)
    assert torch.equal(found.out, right.out)
    for name, one in right.maps.items():
        assert torch.equal(found.maps[name], one), name


@pytest.mark.parametrize("part", [tl, tl.tensor, tl.dtype], ids=lambda part: part.__name__)
def test_a_launch_leaves_the_language_as_it_was(part):
    before = dict(vars(part))
    for tokens in ((19, 40), (40, 70)):
        run(make(tokens=tokens, words=2, columns=2), "triton own forward")
    assert [name for name, one in before.items() if vars(part).get(name) is not one] == []
