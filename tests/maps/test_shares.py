"""Shares: which reference a patch took from, against the attention of the run stored whole."""

from __future__ import annotations

from typing import Any

import oracle
import pipelines
import pytest
import torch
from oracle import resize
from tolerance import alike
from torch import Tensor

import i2am

TERMS = 256
TEXT, GRID, ONE, TWO = 5, (4, 3), (3, 4), (2, 5)  # a joint sequence: text, generated, two references
ENDS = [0, 5, 17, 29, 39]


def joint_calls(steps: int, images: int = 2) -> list[tuple[Tensor, Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(3)
    return [tuple(torch.randn(images, 2, ENDS[-1], 8, generator=generator) for _ in range(3)) for _ in range(steps)]  # type: ignore[misc]


def recorded(calls: list[tuple[Tensor, Tensor, Tensor]], **options: Any) -> i2am.AttributionMaps:
    recorder = i2am.Recorder(groups=2, steps=len(calls), shares=True, **options)
    for query, key, value in calls:
        for i, (source, grid) in enumerate((("shirt", ONE), ("trousers", TWO))):
            recorder.attend("joint", query, key, value, generated=(5, 17), reference=(ENDS[2 + i], ENDS[3 + i]), generated_grid=GRID,
                            reference_grid=grid, source=source)  # fmt: skip
        recorder.step()
    return recorder.maps


def masses(calls: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """[steps, B, references, heads, G] in float64."""
    out = []
    for query, key, _ in calls:
        p = (query.double() @ key.double().mT * 8**-0.5).softmax(-1)[:, :, 5:17]
        out.append(torch.stack([p[..., 17:29].sum(-1), p[..., 29:39].sum(-1)], 1))
    return torch.stack(out)


@pytest.mark.parametrize("size", [None, (9, 7)])
def test_shares_are_the_masses_of_the_attention(size: Any) -> None:
    calls = joint_calls(4)
    maps, truth = recorded(calls), masses(calls)
    expected = resize(truth.sum(0).unflatten(-1, GRID), size or GRID).mean(2)
    alike(maps.shares(size).flatten(-2), (expected / expected.sum(1, keepdim=True)).flatten(-2), TERMS)
    alike(maps.shares(size, of="attention").flatten(-2), (expected / 4).flatten(-2), TERMS)
    assert maps.shares(size).shape == (2, 2, *(size or GRID))
    torch.testing.assert_close(maps.shares(size).sum(1), torch.ones(2, *(size or GRID)))
    late = resize(truth[2:].sum(0).unflatten(-1, GRID), GRID).mean(2)
    alike(maps.shares(groups=1).flatten(-2), (late / late.sum(1, keepdim=True)).flatten(-2), TERMS)
    alike(maps.shares(of="attention", groups=1).flatten(-2), (late / 4).flatten(-2), TERMS)
    one = resize(truth.sum(0)[:, :, 1:].unflatten(-1, GRID), GRID).mean(2)
    alike(maps.shares(heads=1).flatten(-2), (one / one.sum(1, keepdim=True)).flatten(-2), TERMS)
    assert maps.shares(level="time").shape == (2, 2, 2, *GRID)


def test_shares_stand_beside_fields_words_and_files(tmp_path) -> None:
    """The columns of one product: words, the mass, the field's moments."""
    calls = joint_calls(2)
    plain, more = recorded(calls), recorded(calls, field=True, specific=[(0.5, 0.5)])
    alike(more.shares(), plain.shares(), TERMS)
    for reference in ("shirt", "trousers"):
        mass = more.buffer("mass", "joint", reference=reference)
        moment = more.tokens("field_g2r", "joint", reference=reference)[:, :, :, 0].unflatten(-1, GRID)
        torch.testing.assert_close(mass, moment, rtol=1e-6, atol=0)
    again = i2am.load(more.save(tmp_path / "maps.safetensors"))
    assert torch.equal(again.shares(), more.shares())
    assert torch.equal(more[1].shares(), more.shares()[1:])


def test_two_images_of_an_adapter_share_one_softmax() -> None:
    """Recorded by itself where one call holds several references."""
    case = pipelines.ip_adapter("plain", images=2)
    with i2am.trace(case.pipe, groups=1) as run, oracle.recorded(case.denoiser, case.pipe.scheduler) as calls:
        case(batch=2, steps=2)
    found = run.maps.shares((16, 16))
    expected: Any = [[], []]
    for layer in run.maps.layers:
        own = [call for call in calls if call.layer == layer and call.number == 1]
        for i in range(2):
            mass = sum(call.scores.softmax(-1)[2:, :, :, 4 * i : 4 * i + 4].sum(-1) for call in own)
            expected[i].append(resize(mass.unflatten(-1, (round(mass.shape[-1] ** 0.5), -1)), (16, 16)))
    means = torch.stack([torch.cat(one, 1).mean(1) for one in expected], 1)
    alike(found.flatten(-2), (means / means.sum(1, keepdim=True)).flatten(-2), TERMS)
    assert (found[:, 0] - 0.5).abs().max() > 0.01


def test_softmaxes_of_several_calls_have_no_shares_among_them() -> None:
    """Two adapters of two images each: each image has a part of its own adapter's attention, and all four together are no whole."""
    case = pipelines.ip_adapter("plain", "plain", images=2)
    with i2am.trace(case.pipe, groups=1) as run:
        case(steps=2)
    assert len(run.maps.references) == 4
    for of in ("references", "attention"):
        with pytest.raises(ValueError, match=r"must be in one softmax.*Several adapters attend each by itself"):
            run.maps.shares(of=of)


def test_a_reference_that_some_layers_lack_has_no_share() -> None:
    calls, recorder = joint_calls(1), i2am.Recorder(groups=1, steps=1, shares=True)
    for layer, source, reference in (("one", "shirt", (17, 29)), ("two", "trousers", (29, 39))):
        recorder.attend(layer, *calls[0], generated=(5, 17), reference=reference, generated_grid=GRID, source=source)
    recorder.step()
    with pytest.raises(ValueError, match="the references of one must be all of shirt, trousers"):
        recorder.maps.shares()


def test_weighed_attention_has_no_whole() -> None:
    """A row of norms times attention does not sum to 1; among the references shares are still parts."""
    maps = recorded(joint_calls(2), weigh="values")
    with pytest.raises(ValueError, match='of must be "references" for maps that are weighed'):
        maps.shares(of="attention")
    torch.testing.assert_close(maps.shares().sum(1), torch.ones(2, *GRID))


def test_what_has_no_share_says_so() -> None:
    case = pipelines.ip_adapter("plain", "full")
    with i2am.trace(case.pipe, groups=1, shares=True) as run:
        case()
    with pytest.raises(ValueError, match=r"no mass maps.*Several adapters attend each by itself"):
        run.maps.shares()
    maps = recorded(joint_calls(2))
    with pytest.raises(ValueError, match='of must be "references" or "attention"'):
        maps.shares(of="text")
    with pytest.raises(ValueError, match="reference must be left out of shares"):
        maps.shares(reference="shirt")
    recorder = i2am.Recorder(shares=True)
    query, key, value = joint_calls(1)[0]
    recorder.attend("joint", query, key, value, generated=(5, 17), reference=(17, 29), generated_grid=GRID, reference_grid=ONE)
    recorder.step()
    assert 0 < float(recorder.maps.shares(of="attention").mean()) < 1
    with pytest.raises(ValueError, match='of must be "attention" for a run of one reference'):
        recorder.maps.shares()
