"""A row in which every key is hidden has an output of zero, whichever attention torch picks and however it hides keys."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from cases import make, truth
from torch.overrides import TorchFunctionMode

from i2am_kernels import bi_attention, forward
from i2am_kernels.check import checked

B, H, G, R = 2, 2, 9, 7
SEEN = torch.ones(B, 1, G, R, dtype=torch.bool)
SEEN[0, 0, 3] = SEEN[1] = False  # one row; a whole image
SEEN[0, 0, 5, 2:] = False


def hidden_by(value):
    return torch.zeros(SEEN.shape).masked_fill(~SEEN, value)


MASKS = {
    "bool": SEEN,
    "bool [B, 1, G, 1]": SEEN[..., :1],
    "-inf": hidden_by(-math.inf),
    "finfo.min": hidden_by(torch.finfo(torch.float32).min),
    "-2^24": hidden_by(-(2.0**24)),
}


def as_cudnn(query, key, value, attn_mask=None, scale=None):
    """What torch has made of masks for cuDNN, which knows no -inf: true and false become 0 and -65504."""
    if attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros(attn_mask.shape).masked_fill(~attn_mask, -math.inf)
    attn_mask = attn_mask.clamp(-65504.0)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask, scale=scale)


class Elsewhere(torch.Tensor):
    """Tokens that say they are on a GPU."""

    @property
    def device(self):
        return torch.device("cuda")


def held(case, out):
    right = truth(case).out
    assert right[1].eq(0).all()
    assert out[right.eq(0)].eq(0).all()
    torch.testing.assert_close(out, right.to(out.dtype))


@pytest.mark.parametrize("buffers", ["none", "all", "one image's", "learning"])
@pytest.mark.parametrize("kind", MASKS)
def test_the_output_is_zero(kind, buffers):
    case = make(batch=B, tokens=(G, R), attn_mask=MASKS[kind], rows=(0, 1) if buffers == "one image's" else None)
    case.query.requires_grad_(buffers == "learning")
    held(case, bi_attention(case.query, case.key, case.value, **({} if buffers == "none" else case.buffers()), **case.options).detach())


@pytest.mark.parametrize("kind", MASKS)
def test_the_output_is_zero_where_a_library_hides_keys_with_a_finite_number(kind, monkeypatch):
    monkeypatch.setattr(forward, "scaled_dot_product_attention", as_cudnn)
    case = make(batch=B, tokens=(G, R), attn_mask=MASKS[kind])
    tokens = case.query, case.key, case.value
    assert as_cudnn(*tokens, MASKS[kind])[1].ne(0).all()  # else there is nothing to mend
    call = checked(*tokens, *[None] * 8, MASKS[kind], *[None] * 4)
    out = forward.plain(replace(call, query=case.query.as_subclass(Elsewhere)))
    held(case, out.as_subclass(torch.Tensor))


class Called(TorchFunctionMode):
    def __init__(self):
        self.names = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.names.append(getattr(function, "__name__", ""))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(("mask", "looks"), [(None, False), ("bool", False), ("-inf", True)])
def test_a_boolean_mask_on_a_cpu_costs_nothing(mask, looks):
    case = make(batch=B, tokens=(G, R), attn_mask=None if mask is None else MASKS[mask])
    with Called() as called:
        bi_attention(case.query, case.key, case.value, **case.options)
    assert ("masked_fill" in called.names) == looks


def test_gradients_do_not_come_from_hidden_rows():
    case = make(batch=B, tokens=(G, R), attn_mask=MASKS["finfo.min"])
    case.value.requires_grad_()
    bi_attention(case.query, case.key, case.value, **case.options).sum().backward()
    assert case.value.grad[1].eq(0).all()
