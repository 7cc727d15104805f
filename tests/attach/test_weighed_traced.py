"""weigh="values" of every kind of layer: the maps equal an oracle's, that stores attention and values of the same run in float64."""

from __future__ import annotations

from typing import Any

import joint
import oracle
import pipelines
import pytest
import torch
from families import FAMILIES, GROUPS, STEPS, Family, observed, rows
from tolerance import alike
from torch import Tensor, nn

import i2am
from i2am.attach.projection import output_weight
from i2am.maps.layer_sums import SUMS

RUNS = [
    pytest.param(name, batch, guided, id=f"{name}-{batch}-{'guided' if guided else 'plain'}")
    for name in ("paint-by-example", "ip-adapter-full", "ip-adapter-second-of-two", "kandinsky", "catvton", "flux-kontext",
                 "qwen-image-edit", "stable-viton")
    for batch, guided in ((1, FAMILIES[name].guided[-1]), (3, FAMILIES[name].guided[0]))
]  # fmt: skip


def counts(call: oracle.Call, module: nn.Module) -> Tensor:
    """n [B, H, R] in float64; flux's single blocks have no projection of their own."""
    assert call.value is not None
    if getattr(module, "to_out", None) is None:
        return call.value.norm(dim=-1)
    heads, size = call.value.shape[1], call.value.shape[3]
    each = module.to_out[0].weight.detach().double().unflatten(1, (heads, size))  # [C, H, D]
    return torch.einsum("chd,bhrd->bhrc", each, call.value).norm(dim=-1)


def truth(calls: list[oracle.Call], module: nn.Module, family: Family, batch: int) -> dict[str, Tensor]:
    """[B, groups, H, tokens] of a layer."""
    found: dict[str, list[Any]] = {"r2g": [0.0] * GROUPS, "g2r": [0.0] * GROUPS}
    for call in calls:
        reference, group = family.reference(call), oracle.group(call.step, GROUPS, STEPS)
        p, c = (x[rows(family, call, batch)] for x in oracle.probabilities(call, family.generated(call), reference))
        count = counts(call, module)[rows(family, call, batch)][..., slice(*(reference or (None,)))]
        found["g2r"][group] = found["g2r"][group] + count * p.mean(-2)
        found["r2g"][group] = found["r2g"][group] + (c * count[:, :, None]).mean(-1)
    return {name: torch.stack(sums, 1) for name, sums in found.items()}


@pytest.mark.parametrize(("name", "batch", "guided"), RUNS)
def test_maps_equal_the_stored_attention_and_values(name: str, batch: int, guided: bool) -> None:
    family = FAMILIES[name]
    maps, calls, case = observed(family, batch, 1, guided, weigh="values")
    recorded = [s for s in maps.sums if family.source is None or s.source == family.source]
    assert recorded
    modules = dict(case.denoiser.named_modules())
    for sums in recorded:
        run = oracle.of(calls, sums.layer, family.number, 0)
        right = truth(run, modules[sums.layer], family, batch)
        logits = max(call.scores.abs().max().item() for call in run)
        for kind in ("r2g", "g2r") if sums.g2r is not None else ("r2g",):
            alike(getattr(sums, kind), right[kind], oracle.longest(run), logits, size=right[kind].abs().max())
    assert maps.about["weigh"] == "values"
    assert "weighed by values" in repr(maps)


def pipeline_maps(case: Any, batch: int = 2, steps: int = 4, **options: Any) -> i2am.AttributionMaps:
    with i2am.trace(case.pipe, **{"groups": 2, "weigh": "values", **options}) as run:
        case(batch=batch, steps=steps)
    return run.maps


@pytest.mark.parametrize("build", [lambda: pipelines.ip_adapter("full"), lambda: joint.flux_kontext(distilled=False)])
def test_compiled_in_one_graph(build: Any) -> None:
    """As many graphs as plain maps cost, and the uncompiled run's sums."""
    from torch._dynamo.testing import CompileCounterWithBackend

    case = build()
    expected, graphs = pipeline_maps(case, field=True), []
    for weigh in ("weights", "values"):
        torch._dynamo.reset()
        counter = CompileCounterWithBackend("eager")
        case.denoiser.compile(fullgraph=True, backend=counter)
        for _ in range(2):
            maps = pipeline_maps(case, field=True, weigh=weigh)
        graphs.append(counter.frame_count)
    assert graphs[1] <= graphs[0]
    for ours, theirs in zip(maps.sums, expected.sums):
        for name in SUMS:
            one, other = getattr(ours, name), getattr(theirs, name)
            assert (one is None and other is None) or torch.equal(one, other), name
    torch._dynamo.reset()


def test_twice_the_projection_is_twice_the_maps_of_its_layer() -> None:
    case = pipelines.ip_adapter("full")
    before = pipeline_maps(case, steps=1, groups=1)
    last = before.layers[-1]
    projection = case.pipe.unet.get_submodule(last).to_out[0]
    projection.weight.data.mul_(2)
    after = pipeline_maps(case, steps=1, groups=1)
    for direction in ("r2g", "g2r"):
        for layer in before.layers:
            one, other = (maps.tokens(direction, layer) for maps in (before, after))
            torch.testing.assert_close(other, one * (2 if layer == last else 1), rtol=1e-4, atol=1e-9)


def test_the_picture_is_that_of_plain_maps() -> None:
    case, pictures = pipelines.ip_adapter("full"), []
    for weigh in ("weights", "values"):
        with i2am.trace(case.pipe, groups=1, weigh=weigh, field=True, specific="grid"):
            pictures.append(case(batch=2, steps=2))
    assert torch.equal(*pictures)


def test_the_factor_is_found_once_a_trace() -> None:
    """Several calls of the pipeline: the projections are looked at again, and factored where they were changed."""
    case = pipelines.ip_adapter("full")
    with i2am.trace(case.pipe, groups=1, weigh="values") as run:
        case(steps=1)
        first, factors = run.maps, {name: tap.projection.factor for name, tap in run.taps.items()}
        changed = next(iter(factors))
        with torch.no_grad():
            case.pipe.unet.get_submodule(changed).to_out[0].weight.mul_(3)
        case(steps=1)
        for name, tap in run.taps.items():
            assert (tap.projection.factor is factors[name]) == (name != changed)
        torch.testing.assert_close(run.maps.tokens("g2r", changed), 3 * first.tokens("g2r", changed), rtol=1e-4, atol=1e-9)


class Adapted(nn.Module):
    """A projection with a low-rank part beside it, as adapters make them."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base, self.low = base, nn.Linear(base.in_features, 2, bias=False)
        self.up = nn.Linear(2, base.out_features, bias=False)

    def forward(self, states: Tensor) -> Tensor:
        return self.base(states) + self.up(self.low(states))


def test_what_is_behind_the_heads_is_found_in_every_shape() -> None:
    linear, like = nn.Linear(6, 4), torch.zeros(1)
    adapted = Adapted(nn.Linear(6, 4))
    whole = (adapted.base.weight + adapted.up.weight @ adapted.low.weight).detach()
    for out, right in (
        (linear, linear.weight),
        (nn.ModuleList([linear, nn.Dropout()]), linear.weight),
        (nn.Sequential(linear, nn.Dropout()), linear.weight),
        (nn.ModuleList([adapted, nn.Dropout()]), whole),
    ):
        module = nn.Module()
        module.to_out = out
        found = output_weight(module, 6, like)
        assert found is not None
        torch.testing.assert_close(found, right)
    for out in (None, nn.Identity(), nn.ModuleList()):
        module = nn.Module()
        module.to_out = out
        assert output_weight(module, 6, like) is None
    assert output_weight(nn.Module(), 6, like) is None


def test_other_names_are_refused_before_anything_is_touched() -> None:
    case = pipelines.paint_by_example()
    with pytest.raises(ValueError, match=r"weigh must be one of 'weights', 'values', 'gradient', got 'norms'"):
        i2am.trace(case.pipe, weigh="norms")
    assert i2am.trace(case.pipe).recorder.wanted.weigh == "weights"
