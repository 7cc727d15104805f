"""A recorder of attention whose query heads share key heads: every sum is that of the keys repeated by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tolerance import alike
from torch import Tensor

from i2am import Recorder
from i2am.losses import cwg
from i2am.maps.kept_calls import KeptCall
from i2am.maps.layer_sums import SUMS, LayerSums

PLACES: dict[str, Any] = {"generated_grid": (4, 3), "reference_grid": (2, 5), "special": 1, "rows": (1, 3)}
RUNS = {
    "plain": {},
    "field": {"field": True, "specific": [(0.2, 0.3)]},
    "values": {"weigh": "values", "field": True},
    "gradient": {"weigh": "gradient", "field": True},
    "differentiable": {"differentiable": True},
    "differentiable values": {"differentiable": True, "weigh": "values"},
}


def drawn(keys: int) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(3, heads, tokens, 8) for heads, tokens in ((4, 12), (keys, 11), (keys, 11))]


def recorded(tensors: list[Tensor], projected: bool = False, **options: Any) -> Recorder:
    recorder = Recorder(groups=1, **options)
    weight = torch.randn(5, 32, generator=torch.Generator().manual_seed(1)) if projected else None
    for _ in range(2):
        out = recorder.attend("a", *tensors, **PLACES, output_weight=weight, enable_gqa=tensors[1].shape[1] < 4)
        if options.get("weigh") == "gradient":
            recorder.weigh_by((out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum())
        recorder.step()
    return recorder


def sums_of(tensors: list[Tensor], **options: Any) -> LayerSums:
    return recorded(tensors, **options).maps.sums[0]


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("keys", [1, 2])
def test_sums_are_those_of_repeated_keys(name: str, keys: int) -> None:
    query, key, value = drawn(keys)
    by_hand = [query, *(t.repeat_interleave(4 // keys, 1) for t in (key, value))]
    for projected in (False, True) if "values" in name else (False,):
        one, two = (sums_of(tensors, projected=projected, **RUNS[name]) for tensors in ([query, key, value], by_hand))
        seen = 0
        for kind in SUMS:
            got, wanted = getattr(one, kind), getattr(two, kind)
            assert (got is None) == (wanted is None), kind
            if got is not None:
                assert got.shape[2] == 4, "sums are those of query heads"
                alike(got, wanted, 12, 10, size=wanted.abs().max())
                seen += 1
        assert seen >= 2


@pytest.mark.parametrize("keys", [1, 2])
def test_losses_reach_the_shared_keys(keys: int) -> None:
    """Through the maps and through the calls that are kept: a key head's gradient is the sum over its group."""
    query, key, value = drawn(keys)
    inside = torch.ones(4, 3)

    def gradient(repeat: bool) -> tuple[Tensor, Tensor]:
        leaf = key.clone().requires_grad_()
        given = [leaf, value]
        tensors = [query, *(t.repeat_interleave(4 // keys, 1) if repeat else t for t in given)]
        recorder = recorded(tensors, differentiable=True)
        loss = cwg(recorder.maps, inside) + recorder.maps.sums[0].r2g.square().sum()
        return loss.detach(), torch.autograd.grad(loss, leaf)[0]

    (one, here), (two, there) = gradient(False), gradient(True)
    torch.testing.assert_close(one, two, rtol=1e-5, atol=0)
    assert here.shape == key.shape
    torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-6 * there.abs().max().item())


def test_kept_calls_are_cut_by_query_heads() -> None:
    query, key, _ = drawn(2)
    call = KeptCall(query, key, None, 1.0, slice(1, 11), group=2)
    assert call.keys.shape == (3, 4, 11, 8)
    assert call.cut(slice(0, 1), slice(None)).key.shape == (1, 2, 11, 8), "shared as they were"
    some = call.cut(slice(None), [3, 0])
    assert torch.equal(some.query, query[:, [3, 0]])
    assert torch.equal(some.keys, key[:, [1, 0]])
    with pytest.raises(ValueError, match="key must be like the query"):
        KeptCall(query, key, None, 1.0, slice(1, 11))
    with pytest.raises(ValueError, match="key must be like the query"):
        KeptCall(query, key[:, :1], None, 1.0, slice(1, 11), group=3)


def test_fewer_key_heads_must_be_said() -> None:
    query, key, value = drawn(2)
    with pytest.raises(ValueError, match=r"layer a: key must be \[3, 4, R, 8\].*enable_gqa=True"):
        Recorder(groups=1).attend("a", query, key, value)
