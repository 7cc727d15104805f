"""Gradient times attention by the sweep over keys, against the definition in float64 with the matrix stored and torch's own gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tolerance import alike
from torch import Tensor

from i2am_kernels import relevance
from i2am_kernels.parts import KEPT

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "one key": {"reference": 1},
    "one query": {"generated": 1},
    "odd, and values of another size": {"generated": 63, "reference": 257, "size": 40, "of_values": 24},
    "several blocks of keys": {"generated": 4096, "reference": 150, "heads": 3, "batch": 1},
    "rows and ranges": {"generated": 40, "reference": 70, "batch": 3, "how": {"rows": (1, 3), "generated": (5, 33), "reference": (2, 61)}},
    "sharp": {"factor": 12.0},
}


def drawn(batch: int = 2, heads: int = 2, generated: int = 30, reference: int = 20, size: int = 8, of_values: int = 8,
          factor: float = 1.0) -> list[Tensor]:  # fmt: skip
    torch.manual_seed(0)
    shapes = ((generated, size), (reference, size), (reference, of_values), (generated, of_values))
    query, *others = (torch.randn(batch, heads, *shape) for shape in shapes)
    return [query * factor, *others]


def truth(query: Tensor, key: Tensor, value: Tensor, d_output: Tensor, *, attn_mask: Tensor | None = None, scale: float | None = None,
          rows: Any = (None,), generated: Any = (None,), reference: Any = (None,), positive: bool = True) -> Tensor:  # fmt: skip
    """M [B', H, G', R'] in float64: P times the gradient by P that torch finds."""
    query, key, value, d_output = (x.detach().double() for x in (query, key, value, d_output))
    scores = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else scores + attn_mask.double()
    p = scores.softmax(-1).nan_to_num(0.0).requires_grad_()
    (asked,) = torch.autograd.grad(((p @ value) * d_output).sum(), p)
    asked = asked.clamp(min=0) if positive else asked
    return (p * asked).detach()[slice(*rows), :, slice(*generated), slice(*reference)]


def same(got: Tensor, right: Tensor, m: Tensor, sharp: float = 10.0) -> None:
    alike(got.double(), right, m.shape[-2] + m.shape[-1], sharp, size=right.abs().max())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("positive", [True, False])
def test_sums_are_the_definition_s(case: str, positive: bool) -> None:
    given = dict(CASES[case])
    how = given.pop("how", {})
    tensors = drawn(**given)
    found, m = relevance(*tensors, **how, positive=positive), truth(*tensors, **how, positive=positive)
    size = (m.abs().mean(-1), m.abs().mean(-2))  # signed sums may cancel
    for got, right, whole in zip(found, (m.mean(-1), m.mean(-2)), size):
        assert got.dtype == torch.float32
        alike(got.double(), right, sum(m.shape[-2:]), 40 * given.get("factor", 1.0), size=whole.max())
    assert (found.g2r >= 0).all() == positive or m.shape[-1] * m.shape[-2] < 64


def test_float64_is_exact() -> None:
    tensors = [x.double() for x in drawn()]
    found, m = relevance(*tensors), truth(*tensors)
    torch.testing.assert_close(found.r2g, m.mean(-1), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(found.g2r, m.mean(-2), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", ["keys", "rows of heads", "additive", "finfo.min"])
def test_masks(kind: str) -> None:
    """A row that sees nothing adds nothing, and hidden keys count nothing."""
    tensors, how = drawn(), {"rows": (1, 2), "generated": (3, 25), "reference": (0, 17)}
    chosen = torch.rand(2, 2, 30, 20) > 0.4
    chosen[1, 1, 7] = False
    mask = {"keys": chosen[:, :1, :1], "rows of heads": chosen, "additive": torch.randn(1, 2, 30, 20),
            "finfo.min": torch.zeros(2, 2, 30, 20).masked_fill(~chosen, torch.finfo(torch.float32).min)}[kind]  # fmt: skip
    found, m = relevance(*tensors, attn_mask=mask, **how), truth(*tensors, attn_mask=chosen if kind == "finfo.min" else mask, **how)
    same(found.r2g, m.mean(-1), m)
    same(found.g2r, m.mean(-2), m)
    if kind in ("rows of heads", "finfo.min"):
        assert (found.r2g[0, 1, 7 - 3] == 0).all()


@pytest.mark.parametrize("layout", ["heads beside tokens", "every second token"])
def test_strided(layout: str) -> None:
    tensors = drawn()
    if layout == "heads beside tokens":  # as models split them
        strided = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in tensors]
    else:
        strided = [x.repeat_interleave(2, 2)[:, :, ::2] for x in tensors]
    for one, other in zip(relevance(*strided), relevance(*tensors)):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_operands_are_summed_in_float32(dtype: torch.dtype) -> None:
    """As exact as float32 on the numbers that are given."""
    tensors = [x.to(dtype) for x in drawn()]
    found, m = relevance(*tensors), truth(*tensors)
    for got, right in zip(found, (m.mean(-1), m.mean(-2))):
        assert got.dtype == torch.float32
        same(got, right, m)


def test_weights_one_or_several() -> None:
    tensors = drawn()
    one, several = torch.rand(2, 30), torch.rand(2, 3, 30)
    single, right = torch.rand(2, 20), torch.rand(2, 20, 4)
    m = truth(*tensors)
    found = relevance(*tensors, generated_weight=one, reference_weight=single)
    same(found.g2r, (one.double()[:, None, None] @ m)[:, :, 0], m)
    same(found.r2g, (m @ single.double()[:, None, :, None])[..., 0], m)
    found = relevance(*tensors, generated_weight=several, reference_weight=right)
    same(found.g2r, several.double()[:, None] @ m, m)
    same(found.r2g, (m @ right.double()[:, None]).mT, m)


def test_signed_sums_are_values_times_their_gradient() -> None:
    """v_j . dV_j, of attention as torch differentiates it."""
    query, key, value, d_output = (x.double() for x in drawn())
    value.requires_grad_()
    (d_value,) = torch.autograd.grad(torch.nn.functional.scaled_dot_product_attention(query, key, value), value, d_output)
    found = relevance(query, key, value, d_output, generated_weight=torch.ones(2, 30), positive=False)
    torch.testing.assert_close(found.g2r, (value * d_value).sum(-1).detach(), rtol=1e-10, atol=1e-12)
    assert not any(x.requires_grad for x in found)


def test_memory_is_a_tile_s() -> None:
    """Whatever exists at a time is far from the 4 * 4096 * 4096 bytes a head of the matrix."""
    tensors = drawn(batch=1, heads=1, generated=4096, reference=4096)
    largest: list[int] = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            largest.append(max((x.untyped_storage().nbytes() for x in (out if isinstance(out, (tuple, list)) else [out])
                                if isinstance(x, Tensor)), default=0))  # fmt: skip
            return out

    KEPT.memory = None
    with Watch():
        relevance(*tensors)
    assert 0 < max(largest) <= 16 << 20 < 4 * 4096**2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"d_output": torch.zeros(2, 2, 30, 9)}, r"relevance: d_output must be the gradient of the output, \(2, 2, 30, 8\)"),
        ({"d_output": torch.zeros(2, 2, 30, 8, dtype=torch.float64)}, "of the query's dtype"),
        ({"d_output": None}, "got NoneType"),
        ({"generated_weight": torch.zeros(2, 29)}, r"generated_weight must be \[B', G'\]"),
        ({"generated_weight": torch.zeros(2, 3, 29)}, r"generated_weight must be \[B', n, G'\]"),
        ({"reference_weight": torch.zeros(2, 3, 20)}, r"reference_weight must be \[B', R', n\]"),
        ({"reference_weight": -torch.ones(2, 20)}, "finite and not negative"),
        ({"reference": (3, 21)}, "reference must be"),
    ],
)
def test_refused(change: dict[str, Any], said: str) -> None:
    given = dict(zip(("query", "key", "value", "d_output"), drawn()))
    with pytest.raises(ValueError, match=said):
        relevance(**{**given, **change})
