"""Layers whose query heads share key heads: maps are the oracle's, which repeats keys, and the operator gets them as they are."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import oracle
import pipelines
import pytest
import torch
import torch.nn.functional as F
from families import TERMS, Family, hold_words, observed
from tolerance import alike
from torch import Tensor, nn

import i2am
from i2am.maps import buffers


class Shared:
    """A UNet's attention with the first of its key heads alone, which all query heads read."""

    def __call__(self, attn: nn.Module, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any) -> Tensor:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        projected = attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context)
        query, key, value = (x.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for x in projected)
        out = F.scaled_dot_product_attention(query, key[:, :1], value[:, :1], enable_gqa=True)
        return attn.to_out[0](out.transpose(1, 2).flatten(2))


def shared() -> pipelines.Case:
    """Text to image with 2 query heads and 1 key head a layer."""
    case = pipelines.sd15()
    case.pipe.unet.set_attn_processor({name: Shared() for name in case.pipe.unet.attn_processors})
    return case


FAMILY = Family(shared, words=lambda call: (0, call.key.shape[2]))


@pytest.mark.parametrize(("batch", "guided"), [(1, False), (2, True)])
def test_words_equal_the_stored_attention(batch: int, guided: bool) -> None:
    with patch.object(buffers, "bi_attention", wraps=buffers.bi_attention) as operator:
        maps = hold_words(FAMILY, batch, 1, guided)
    assert {sums.words.shape[2] for sums in maps.sums if sums.words is not None} == {2}, "maps are those of query heads"
    assert {(call.args[0].shape[1], call.args[1].shape[1], call.kwargs["enable_gqa"]) for call in operator.call_args_list} == {(2, 1, True)}


def test_values_count_with_the_columns_of_every_query_head() -> None:
    """One key head, which each query head's own part of the layer's matrix projects: n_hj = ||W_h v_j||, in float64."""
    plain, _, _ = observed(FAMILY, 1, 1, False, words=True)
    weighed, calls, case = observed(FAMILY, 1, 1, False, words=True, weigh="values")
    layers = dict(case.denoiser.named_modules())
    for before, after in zip(plain.sums, weighed.sums):
        value = oracle.of(calls, before.layer)[0].value
        assert value is not None
        assert before.words is not None
        assert after.words is not None
        each = layers[before.layer].to_out[0].weight.detach().double().unflatten(1, (2, -1))  # [C, H, D]
        count = torch.einsum("chd,bhrd->bhrc", each, value).norm(dim=-1)  # [B, H, R], the same in all steps
        count = count[:, None, :, list(plain.columns or ()), None]
        alike(after.words.double(), before.words * count, TERMS, 20)


def test_the_picture_is_as_it_was() -> None:
    case = shared()
    before = case(batch=1)
    with i2am.trace(case.pipe, words=True, groups=1):
        during = case(batch=1)
    assert (before - during).abs().max() < 1e-4
