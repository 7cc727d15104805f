"""Maps of a denoiser's calls that carry gradient, in trainings and inside pipelines: the right rows and gradient, nothing left behind."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import ldm
import pipelines
import pytest
import torch
from small_model import TINY, inputs, tiny
from tolerance import alike
from torch import Tensor
from tracing import footprint
from trainings import adapter, warp

import i2am
from i2am.attach.under_gradient import UnderGradient

pytestmark = pytest.mark.usefixtures("on_the_cpu")
PLACED: dict[str, Any] = {"reference_grid": TINY, "special": 1}


def batch(count: int = 2, seed: int = 0) -> dict[str, Tensor]:
    made = torch.Generator().manual_seed(seed)
    return {"sample": torch.randn(count, 145, *TINY, generator=made), "timestep": torch.tensor(500),
            "encoder_hidden_states": torch.randn(count, 1 + TINY[0] * TINY[1], 32, generator=made)}  # fmt: skip


def slope(unet: Any, maps: i2am.AttributionMaps) -> dict[str, Tensor]:
    """Of a number that reads both maps of all layers, by every weight in front of one."""
    loss = sum(sums.r2g.square().sum() + sums.g2r.square().sum() for sums in maps.sums)
    names, weights = zip(*unet.named_parameters())
    found = torch.autograd.grad(loss, weights, allow_unused=True, retain_graph=True)
    return {name: grad for name, grad in zip(names, found) if grad is not None}


def test_a_training_step_learns_through_its_maps():
    """The maps are those of an ordinary trace of the same call, the gradient that of stored attention, the output the model's own."""
    unet, given = tiny().unet, batch()
    plain = unet(**given).sample
    slopes = []
    for backend in ("auto", "reference"):
        with i2am.trace(unet, differentiable=True, backend=backend, **PLACED) as run:
            out = unet(**given).sample
            slopes.append(slope(unet, run.maps))
        torch.testing.assert_close(out, plain, rtol=1e-4, atol=1e-5)
    assert slopes[0].keys() == slopes[1].keys()
    assert len(slopes[0]) > 50
    for name, ours in slopes[0].items():
        right = slopes[1][name]
        alike(ours, right, 1000, 10, size=max(right.abs().max().item(), 1e-6))


def test_each_call_is_a_run_of_its_own():
    unet = tiny().unet
    with i2am.trace(unet, differentiable=True, **PLACED) as run:
        seen = []
        for seed, count in ((0, 2), (1, 3)):  # the last batch of an epoch is of another size
            unet(**batch(count, seed))
            seen.append(run.maps)
        assert [len(maps) for maps in seen] == [2, 3]
        unet(**batch(2, 0))
        for one, other in zip(run.maps.sums, seen[0].sums):
            assert torch.equal(one.g2r, other.g2r)
        slope(unet, seen[0])  # an earlier call's graph is its owner's
    assert run.maps.steps == 1
    assert "1 step in 1 time group" in repr(run)


def test_layers_and_masks():
    unet = tiny().unet
    mask = torch.zeros(2, *TINY)
    mask[:, 2:5] = 1
    with i2am.trace(unet, differentiable=True, layers="up_blocks.1*", generated_mask=mask, **PLACED) as run:
        unet(**batch())
    assert len(run.maps.layers) == 2
    assert all(layer.startswith("up_blocks.1") for layer in run.maps.layers)
    assert run.maps.sums[0].field_g2r.requires_grad


def test_gradient_checkpointing_inside_the_block():
    """The layers run once more during the backward: the same gradient, and the maps of the call stay as they were."""
    unet = tiny().unet.train()
    grads = []
    for checkpointing in (False, True):
        if checkpointing:
            unet.enable_gradient_checkpointing()
        with i2am.trace(unet, differentiable=True, **PLACED) as run:
            out = unet(**batch()).sample
            before = [sums.g2r.clone() for sums in run.maps.sums]
            loss = out.square().mean() + sum(sums.r2g.square().sum() + sums.g2r.square().sum() for sums in run.maps.sums)
            loss.backward()
            assert all(torch.equal(one, sums.g2r) for one, sums in zip(before, run.maps.sums))
        grads.append({name: p.grad for name, p in unet.named_parameters() if p.grad is not None})
        unet.zero_grad()
    assert grads[0].keys() == grads[1].keys()
    for name in grads[0]:
        torch.testing.assert_close(grads[0][name], grads[1][name], rtol=1e-4, atol=1e-7)


TRAININGS = {
    "IP-Adapter": (adapter, "up_blocks*", i2am.losses.total),
    "StableVITON": (warp, "warp_flow_blks.4.*", lambda maps, mask: (i2am.losses.tv(maps, mask, preset="stableviton"), {})),
}


@pytest.mark.parametrize("name", TRAININGS)
def test_a_few_steps_of_a_training_lower_the_loss_on_maps(name):
    """On one batch, with no other loss: what falls fell through the maps."""
    build, layers, loss_of = TRAININGS[name]
    training, seen = build(), []
    optimizer = torch.optim.AdamW(training.own, lr=2e-3)
    with i2am.trace(training.unet, differentiable=True, layers=layers) as run:
        for _ in range(6):
            training.unet(**training.asked)
            loss, _ = loss_of(run.maps, training.named["mask"])
            seen.append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert all(later < earlier for earlier, later in pairwise(seen))
    assert seen[0] - seen[-1] > 0.1 * abs(seen[0])


def test_a_bare_unet_with_an_adapter_has_the_maps_of_its_pipeline():
    """The text is no reference of a UNet that has an adapter, whoever holds it."""
    case = pipelines.ip_adapter("full")
    found = []
    for traced in (case.pipe, case.pipe.unet):
        with i2am.trace(traced, differentiable=True, guidance="uncond-cond") as run:
            case(batch=2, steps=1)
        found.append(run.maps)
    assert found[0].layers == found[1].layers
    for one, other in zip(found[0].sums, found[1].sums):
        assert (other.source, other.reference_grid, other.special) == ("reference", (16, 16), 1)
        assert torch.equal(one.g2r, other.g2r)


FAMILIES = {
    "IP-Adapter": (lambda: pipelines.ip_adapter("full"), "auto"),
    "Flux Kontext": (lambda: pipelines.flux_kontext(distilled=False), "cond|uncond"),
    "Kandinsky": (pipelines.kandinsky22, "auto"),
    "Paint-by-Example": (pipelines.paint_by_example, "uncond-cond"),
}  # what tells a guided run's rows: the pipeline itself, or who traces it


def slopes_in_pipeline(case: Any, backend: str, guidance: str, options: dict[str, Any]) -> tuple[list[Tensor], i2am.AttributionMaps]:
    """Of all maps by the sample, in each call that is recorded."""
    found: list[Tensor] = []
    samples: list[Tensor] = []
    seen: list[i2am.AttributionMaps] = []
    with i2am.trace(case.pipe, differentiable=True, backend=backend, guidance=guidance) as run, ExitStack() as undo:
        run.in_pipeline = True

        def done(sample: Tensor, output: Any) -> None:
            samples.append(sample)
            if run.finished is not None and not any(run.finished is one for one in seen):
                seen.append(run.maps)
                loss = sum(sums.r2g.square().sum() + (0 if sums.g2r is None else sums.g2r.square().sum()) for sums in run.maps.sums)
                found.extend(one for one in torch.autograd.grad(loss, samples, allow_unused=True) if one is not None)
                samples.clear()

        UnderGradient(run.finder.denoiser, done).enter(undo)
        case(**options)
    return found, run.maps


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("guided", [False, True])
def test_families_inside_their_pipelines(name, guided):
    """One call of the denoiser after the other, the conditional rows; gradients as those of stored attention."""
    build, layout = FAMILIES[name]
    layout = layout if guided else "auto"
    case, options = build(), {"batch": 2, "steps": 2, "guided": guided}
    before = footprint(case.pipe)
    ours, maps = slopes_in_pipeline(case, "auto", layout, options)
    right, _ = slopes_in_pipeline(case, "reference", layout, options)
    assert footprint(case.pipe) == before
    assert len(ours) == len(right) == 2
    for one, other in zip(ours, right):
        alike(one, other, 1000, 10, size=other.abs().max().item())
    assert len(maps) == 2
    with i2am.trace(case.pipe, groups=2) as run:
        case(**options)
    last = run.maps
    assert maps.layers == last.layers
    for one, other in zip(maps.sums, last.sums):  # of two steps, each its own group, the last
        alike(one.r2g[:, 0], other.r2g[:, 1], 1000, 10)


def test_an_ldm_module():
    case = ldm.ldm_paint_by_example()
    with i2am.trace(case.denoiser, differentiable=True, guidance="uncond-cond") as run, torch.enable_grad():
        case(batch=2)
    assert len(run.maps) == 2


def test_rows_are_stated_where_the_model_is_called_by_hand():
    unet = tiny().unet
    with i2am.trace(unet, differentiable=True, guidance="uncond-cond", **PLACED) as run:
        unet(**batch(4))
        both = run.maps
    with i2am.trace(unet, differentiable=True, **PLACED) as run:
        unet(**batch(4))
    assert len(both) == 2
    alike(both.sums[0].r2g, run.maps.sums[0].r2g[2:], 200, 10)


def test_a_pipeline_that_was_guided_asks_what_is_meant():
    pipe = tiny()
    pipe(**inputs(), num_inference_steps=1, guidance_scale=2.0)
    with i2am.trace(pipe, differentiable=True), pytest.raises(ValueError, match="guidance must be stated"):
        pipe.unet(**batch())
    with i2am.trace(pipe, differentiable=True, guidance="none") as run:
        pipe.unet(**batch())
    assert len(run.maps) == 2


def test_inside_a_pipeline_maps_carry_no_gradient_and_losses_say_so():
    pipe = tiny()
    with i2am.trace(pipe, differentiable=True) as run:
        pipe(**inputs(), num_inference_steps=2)
    with pytest.raises(ValueError, match=r"maps must be ones that carry gradient.*enable_grad"):
        i2am.losses.tv(run.maps, inputs()["mask_image"][:, 0])


def test_an_exception_leaves_nothing_behind():
    pipe = tiny()
    before = footprint(pipe)

    def done(*_: Any) -> None:
        raise RuntimeError("stop")

    with i2am.trace(pipe, differentiable=True), ExitStack() as undo:
        UnderGradient(pipe.unet, done).enter(undo)
        with pytest.raises(RuntimeError, match="stop"):
            pipe(**inputs(), num_inference_steps=2)
    assert footprint(pipe) == before
    assert torch.is_grad_enabled()
    with torch.no_grad():
        pipe(**inputs(), num_inference_steps=1)
        assert not torch.is_grad_enabled()


def test_a_compiled_denoiser_runs_uncompiled():
    unet, given = tiny().unet, batch()
    with i2am.trace(unet, differentiable=True, **PLACED) as run:
        unet(**given)
    expected = run.maps
    torch._dynamo.reset()
    compiled = torch.compile(unet, backend="eager")
    with i2am.trace(compiled, differentiable=True, **PLACED) as run:
        for _ in range(2):
            compiled(**given)
    for one, other in zip(run.maps.sums, expected.sums):
        assert torch.equal(one.g2r, other.g2r)
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"groups": 5}, "groups must be left out"), ({"steps": 3}, "steps must be left out"), ({"words": True}, "words must be left out"),
     ({"differentiable": 1}, "differentiable must be True or False")],
)  # fmt: skip
def test_refused(options, message):
    pipe = tiny()
    before = footprint(pipe)
    with pytest.raises(ValueError, match=message), i2am.trace(pipe, **{"differentiable": True, **options}):
        pass
    assert footprint(pipe) == before


def test_nothing_recorded():
    with i2am.trace(tiny(), differentiable=True) as run:
        pass
    with pytest.raises(ValueError, match="nothing was recorded"):
        _ = run.maps
