"""weigh="values": each reference token of a head counts with the norm of what it brings along. The definition in float64 with the
attention stored, and laws."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from recording import MASK, MASKS, call
from tolerance import alike
from torch import Tensor

import i2am
from i2am import Recorder, cells
from i2am.maps.layer_sums import SUMS, LayerSums
from i2am_kernels import moments

HEADS, SIZE, GRID, REFERENCE = 2, 8, (4, 3), (2, 5)  # call's, and one special token before the reference's grid
KEYS = 1 + REFERENCE[0] * REFERENCE[1]
TERMS, LOGITS = 16, 10
FIELD: dict[str, Any] = {"generated_grid": GRID, "reference_grid": REFERENCE, "special": 1}
OPTIONS: dict[str, Any] = {"generated_mask": MASKS, "reference_mask": MASK, "specific": [(0.3, 0.4), (0.0, 0.0, 0.5, 1.0)], "field": True}


def sums_of(
    *calls: tuple[Tensor, ...], weigh: str = "values", weight: Tensor | None = None, options: Any = OPTIONS, **how: Any
) -> LayerSums:
    recorder = Recorder(groups=1, weigh=weigh, **options)
    for tensors in calls:
        recorder.attend("a", *tensors, **{**FIELD, **how}, output_weight=weight)
        recorder.step()
    return recorder.maps.sums[0]


def same(one: LayerSums, two: LayerSums, factor: Any = 1.0, names: tuple[str, ...] = SUMS) -> None:
    for name in names:
        got, right = getattr(one, name), getattr(two, name)
        assert (got is None) == (right is None), name
        if got is not None:
            right = right * factor
            alike(got, right, TERMS, LOGITS, size=right.abs().max())


def by_hand(query: Tensor, key: Tensor, value: Tensor, weight: Tensor | None) -> dict[str, Tensor]:
    """Without masks or regions, of one call: [B, 1, H, ...] in float64, with P, C and n stored."""
    query, key, value = query.double(), key.double(), value.double()
    scores = query @ key.mT * SIZE**-0.5
    p, c = scores.softmax(-1), scores.softmax(-2)
    count = value.norm(dim=-1)  # [B, H, R]
    if weight is not None:
        brought = torch.stack([value[:, h] @ weight.double()[:, h * SIZE : (h + 1) * SIZE].mT for h in range(HEADS)], 1)
        count = brought.norm(dim=-1)
    there, back = moments(REFERENCE, 1).double().mT, moments(GRID).double()
    weighed = p * count[:, :, None]
    found = {
        "g2r": weighed.mean(-2),
        "r2g": (c * count[:, :, None]).mean(-1),
        "field_g2r": (weighed @ there).mT,
        "field_r2g": back @ c * count[:, :, None],
    }
    return {name: sums[:, None] for name, sums in found.items()}


@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sums_are_the_definition_s(projected: bool, dtype: torch.dtype) -> None:
    tensors = tuple(t.to(dtype) for t in call(reference=KEYS))
    weight = torch.randn(20, HEADS * SIZE).to(dtype) if projected else None
    got = sums_of(tensors, weight=weight, options={"field": True})
    for name, right in by_hand(*tensors, weight).items():
        alike(getattr(got, name), right.float(), TERMS, LOGITS, size=right.abs().max())


def test_words_count_with_their_values_too() -> None:
    query, key, value = call(reference=KEYS + 4)
    how = {"reference": (2, 2 + KEYS), "words": (KEYS + 2, KEYS + 4)}
    got, plain = (sums_of((query, key, value), weigh=weigh, **how) for weigh in ("values", "weights"))
    count = value.norm(dim=-1)[:, None]  # [B, 1, H, R]
    alike(got.words, plain.words * count[..., KEYS + 2 :, None], TERMS, LOGITS, size=got.words.max())
    alike(got.g2r, plain.g2r * count[..., 2 : 2 + KEYS], TERMS, LOGITS, size=got.g2r.max())


@pytest.mark.parametrize("weight", [None, torch.eye(HEADS * SIZE)])
def test_values_of_one_norm_give_plain_maps_times_the_norm(weight: Tensor | None) -> None:
    query, key, value = call(reference=KEYS)
    value = 3 * value / value.norm(dim=-1, keepdim=True)
    same(sums_of((query, key, value), weight=weight), sums_of((query, key, value), weigh="weights"), 3.0)


def test_twice_the_projection_is_twice_the_maps() -> None:
    tensors, weight = call(reference=KEYS), torch.randn(20, HEADS * SIZE)
    same(sums_of(tensors, weight=2 * weight), sums_of(tensors, weight=weight), 2.0)


def test_a_head_s_own_columns_of_the_projection_count() -> None:
    tensors, weight = call(reference=KEYS), torch.randn(20, HEADS * SIZE)
    changed = weight.clone()
    changed[:, SIZE:] *= 2
    one, two = sums_of(tensors, weight=weight), sums_of(tensors, weight=changed)
    for name in SUMS:
        if getattr(one, name) is not None:
            assert torch.equal(getattr(one, name)[:, :, 0], getattr(two, name)[:, :, 0]), name
    same(two.of_heads([1]), one.of_heads([1]), 2.0)


@pytest.mark.parametrize("projected", [False, True])
def test_a_token_that_brings_nothing_has_no_map(projected: bool) -> None:
    """Its value is zero, or the projection takes all of it away: a sum of a row of zeros."""
    query, key, value = call(reference=KEYS)
    weight = torch.randn(20, HEADS * SIZE)
    if projected:
        weight[:, ::SIZE] = 0  # the first channel of each head
        value[:, :, 4] = torch.eye(SIZE)[0]
    else:
        value[:, :, 4] = 0
    got = sums_of((query, key, value), weight=weight)
    for name in ("g2r", "specific", "field_r2g"):
        sums = getattr(got, name)
        assert torch.equal(sums[..., 4], torch.zeros_like(sums[..., 4])), name
        assert sums[..., 3].ne(0).any()
    without = torch.arange(KEYS) != 4
    hidden = torch.where(without, 0.0, -torch.inf).expand(1, 1, 12, KEYS)
    alone = sums_of((query, key, value), weight=weight, attn_mask=hidden)
    same(got, alone, names=("r2g",))  # C is each token's own softmax, so that R2G loses exactly this token


def test_batch_and_steps_add_up() -> None:
    one, two = call(reference=KEYS), call(reference=KEYS)
    weight = torch.randn(20, HEADS * SIZE)
    whole = sums_of(one, two, weight=weight)
    for image in range(3):
        options = {**OPTIONS, "generated_mask": MASKS[image]}
        parts = [sums_of(tuple(t[image : image + 1] for t in tensors), weight=weight, options=options) for tensors in (one, two)]
        for name in SUMS:
            if (sums := getattr(whole, name)) is not None:
                right = getattr(parts[0], name) + getattr(parts[1], name)
                alike(sums[image : image + 1], right, TERMS, LOGITS, size=right.abs().max())


def test_guidance_rows_and_groups() -> None:
    """The norms are those of the conditional rows, at every step anew."""
    steps = [call(batch=4, reference=KEYS) for _ in range(4)]
    recorder = Recorder(groups=2, steps=4, weigh="values", field=True)
    for tensors in steps:
        recorder.attend("a", *tensors, **FIELD, rows=(2, 4))
        recorder.step()
    got = recorder.maps.sums[0]
    for group in range(2):
        each = [sums_of(tuple(t[2:] for t in tensors), options={"field": True}) for tensors in steps[2 * group : 2 * group + 2]]
        for name in ("r2g", "g2r", "field_g2r", "field_r2g"):
            right = sum(getattr(sums, name) for sums in each)
            alike(getattr(got, name)[:, group : group + 1], right, TERMS, LOGITS, size=right.abs().max())


def test_a_weight_that_is_trained_is_looked_at_again() -> None:
    """In place, as optimizers do, and as another tensor; without a change its factor is kept."""
    recorder = Recorder(groups=1, weigh="values")
    weight, tensors = torch.nn.Parameter(torch.randn(20, HEADS * SIZE)), call(reference=KEYS)

    def step(given: Tensor | None) -> Tensor:
        recorder.clear()
        recorder.attend("a", *tensors, **FIELD, output_weight=given)
        recorder.step()
        return recorder.maps.sums[0].g2r

    first, kept = step(weight), recorder.projections["a"].factor
    assert torch.equal(step(weight), first)
    assert recorder.projections["a"].factor is kept
    with torch.no_grad():
        weight.mul_(2)
    alike(step(weight), 2 * first, TERMS, LOGITS, size=first.max())
    alike(step(weight.detach() / 2), first, TERMS, LOGITS, size=first.max())
    alike(step(None), sums_of(tensors, options={}).g2r, TERMS, LOGITS, size=first.max())


def test_the_output_is_the_layer_s_own_and_keeps_its_gradient() -> None:
    query, key, value = (t.requires_grad_() for t in call(reference=KEYS))
    weight = torch.randn(20, HEADS * SIZE, requires_grad=True)
    recorder = Recorder(groups=1, weigh="values")
    out = recorder.attend("a", query, key, value, output_weight=weight)
    recorder.step()
    right = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(out, right)
    assert not recorder.maps.sums[0].g2r.requires_grad
    for ours, theirs in zip(torch.autograd.grad(out.sum(), (query, key, value)), torch.autograd.grad(right.sum(), (query, key, value))):
        torch.testing.assert_close(ours, theirs)


def test_under_inference_mode() -> None:
    tensors, weight = call(reference=KEYS), torch.randn(20, HEADS * SIZE)
    right = sums_of(tensors, weight=weight)
    with torch.inference_mode():
        same(sums_of(tensors, weight=weight.clone()), right)


def test_a_value_that_is_no_number_is_told_when_maps_are_read() -> None:
    """The run goes on, as it does with plain maps; other heads and images are whole."""
    recorder = Recorder(groups=1, weigh="values", field=True)
    query, key, value = call(reference=KEYS)
    value[1, 0, 3, 2] = torch.inf
    recorder.attend("up", query, key, value, **FIELD)
    recorder.step()
    with pytest.warns(UserWarning, match="1 of 1 layers hold NaN or infinity"):
        maps = recorder.maps
    assert maps.broken == ["up"]
    sums = maps.sums[0]
    for name in ("r2g", "g2r", "field_g2r", "field_r2g"):
        finite = getattr(sums, name)[:, 0].flatten(2).isfinite().all(-1)
        assert finite.tolist() == [[True, True], [False, True], [True, True]], name


def test_files_and_words_remember_it(tmp_path: Any) -> None:
    recorder = Recorder(groups=1, weigh="values", specific=cells(2, 2))
    recorder.attend("a", *call(reference=KEYS), **FIELD)
    recorder.step()
    maps = recorder.maps
    loaded = i2am.load(maps.save(tmp_path / "run.safetensors"))
    assert "weighed by values" in repr(maps)
    assert repr(loaded) == repr(maps)
    assert loaded.about == {"weigh": "values"}
    plain = replace(maps, about={})
    assert "weighed" not in repr(plain)


@pytest.mark.parametrize("weigh", ["value", "", None, True, ["values"]])
def test_other_names_are_refused_by_name(weigh: Any) -> None:
    with pytest.raises(ValueError, match=r"weigh must be one of 'weights', 'values'") as refused:
        Recorder(weigh=weigh)
    assert str(weigh) in str(refused.value)


@pytest.mark.parametrize("weight", [torch.randn(20, HEADS * SIZE + 1), torch.randn(HEADS * SIZE), 3.0])
def test_a_matrix_that_does_not_fit_is_refused(weight: Any) -> None:
    recorder = Recorder(groups=1, weigh="values")
    with pytest.raises(ValueError, match=r"output_weight of up\.0 must be a matrix \[C, 16\], 2 heads of 8, got .*to_out\[0\]\.weight"):
        recorder.attend("up.0", *call(), output_weight=weight)
