"""References in all their forms: several, switched off and on, one token, no canvas, masked; and batches of them."""

from __future__ import annotations

import gc
from typing import Any

import ldm
import oracle
import pipelines
import pytest
import torch
from families import FAMILIES, GROUPS, STEPS, close, layout, observed, rows, single
from live import live

import i2am


def test_images_per_prompt_have_their_own_maps() -> None:
    case = pipelines.ip_adapter("full")
    with i2am.trace(case.pipe, groups=1) as run:
        case(batch=2, images_per_prompt=2)
    maps = run.maps.unified("r2g")
    assert len(maps) == 4
    assert len({float(m.flatten()[5]) for m in maps}) == 4


@pytest.mark.parametrize("name", ["paint-by-example", "ip-adapter-full", "catvton", "flux-kontext"])
def test_images_do_not_depend_on_the_batch(name: str) -> None:
    family = FAMILIES[name]
    together = observed(family, 3, 0, True)[0]
    alone = observed(family, 1, 0, True)[0]
    torch.testing.assert_close(together[0].unified("r2g"), alone.unified("r2g"), rtol=1e-3, atol=1e-6)


def test_adapters_that_are_switched_off() -> None:
    """Scale 0 makes no attention call: the other adapter's maps stay with the other adapter."""
    family = FAMILIES["ip-adapter-second-of-two"]
    case = family.build()
    case.pipe.set_ip_adapter_scale([0.0, 0.6])
    with i2am.trace(case.pipe, groups=1) as run:
        case(batch=2)
    assert run.maps.references == ["adapter 2"]
    assert run.maps.sums[0].g2r.shape[-1] == case.facts["reference_tokens"][1]
    case.pipe.set_ip_adapter_scale([0.0, 0.0])
    with pytest.raises(ValueError, match="adapter's scale above 0"), i2am.trace(case.pipe, groups=1):
        case(batch=2)


def test_an_adapter_that_is_switched_on_during_the_run() -> None:
    case = pipelines.ip_adapter("plain", "full")

    def on(pipe: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        pipe.set_ip_adapter_scale([0.5, 0.6])
        return values

    case.pipe.set_ip_adapter_scale([0.5, 0.0])
    with i2am.trace(case.pipe, groups=2) as run:
        case.pipe(**case.kwargs(steps=4), callback_on_step_end=on)
    maps = run.maps
    assert maps.references == ["adapter 1", "adapter 2"]
    late = maps.buffer("r2g", maps.layers[0], reference="adapter 2").sum((-2, -1))
    torch.testing.assert_close(late[0], torch.tensor([[1.0], [2.0]]).expand_as(late[0]))
    with pytest.raises(ValueError, match=r"reference must be stated, as this run has 2"):
        maps.unified("r2g")


def test_a_resampler_has_no_canvas_and_says_so() -> None:
    case = pipelines.ip_adapter("plus")
    with i2am.trace(case.pipe, groups=1) as run:
        case()
    assert run.maps.unified("r2g").shape == (1, 16, 16)
    with pytest.raises(ValueError, match="no known place on a canvas"):
        run.maps.unified("g2r")
    assert run.maps.tokens("g2r", run.maps.layers[0]).shape[-1] == case.facts["reference_tokens"][0]


def test_warp_blocks_have_the_grid_of_their_level() -> None:
    maps, _, _ = observed(FAMILIES["stable-viton"], 2, 1, True)
    spatial = maps.names("g2r")
    assert len(spatial) == 9
    assert len(maps.names("r2g")) == len(maps.layers) == 9 + 16
    assert {maps.buffer("g2r", name).shape[-2:] for name in spatial} == {(16, 12), (8, 6), (4, 3)}
    assert maps.unified("g2r", size=(64, 48)).shape == (2, 64, 48)
    assert maps.unified("g2r", layers=spatial[4]).shape[-2:] == maps.buffer("g2r", spatial[4]).shape[-2:]


def test_one_token_references_have_no_map_of_themselves() -> None:
    case = pipelines.paint_by_example()
    with i2am.trace(case.pipe, groups=1, specific=[(0.5, 0.5)]) as run:
        case()
    for ask in (lambda: run.maps.unified("g2r"), lambda: run.maps.specific(0)):
        with pytest.raises(ValueError, match="one token"):
            ask()


@pytest.mark.parametrize("name", ["ip-adapter-full", "catvton", "flux-kontext"])
def test_masks_and_regions_weigh_the_maps(name: str) -> None:
    family = FAMILIES[name]
    inside = torch.zeros(3, 32, 32)
    inside[0, :16], inside[1, :, 8:20], inside[2, 20:] = 1, 1, 1
    box, point = (0.0, 0.25, 0.5, 0.75), (0.4, 0.9)
    maps, calls, _ = observed(family, 3, 1, True, generated_mask=inside, specific=[box, point, inside], guidance=layout(family, True))
    for sums in maps.sums:
        run = oracle.of(calls, sums.layer, family.number, 0)
        h, w = sums.generated_grid
        small = torch.nn.functional.interpolate(inside[:, None], (h, w), mode="nearest").flatten(1).double()
        centres = torch.cartesian_prod((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w)
        boxed = ((centres >= torch.tensor(box[:2])) & (centres < torch.tensor(box[2:]))).all(1).double()
        pointed = torch.zeros(h * w, dtype=torch.float64)
        pointed[int(point[0] * h) * w + int(point[1] * w)] = 1
        weight = torch.stack([small / (h * w), boxed.expand(3, -1), pointed.expand(3, -1), small], 1)
        where = {"rows": rows(family, run[0], 3), "generated": family.generated(run[0]), "reference": family.reference(run[0])}
        _, g2r = oracle.truth(run, **where, generated_weight=weight, groups=GROUPS, steps=STEPS)
        _, g2r32 = oracle.truth([single(call) for call in run], **where, generated_weight=weight, groups=GROUPS, steps=STEPS)
        close(sums.g2r, g2r[:, :, :, 0], g2r32[:, :, :, 0], run, sums.layer)
        close(sums.specific, g2r[:, :, :, 1:], g2r32[:, :, :, 1:], run, sums.layer)


def test_fifty_steps_stay_flat_in_memory() -> None:
    """StableVITON's layers, both directions: after the second step nothing alive grows."""
    case = ldm.stable_viton()
    alive: list[tuple[int, int]] = []
    with i2am.trace(case.denoiser, scheduler=case.sampler, guidance="cond|uncond", groups=5) as run:
        step = case.sampler.p_sample_ddim

        def counted(*args: Any, **kwargs: Any) -> Any:
            out = step(*args, **kwargs)
            alive.append(live())
            return out

        case.sampler.p_sample_ddim = counted
        gc.freeze()  # other tests' objects: a look at all of them takes longer than a step
        try:
            case(batch=2, steps=50)
        finally:
            gc.unfreeze()
            del case.sampler.p_sample_ddim
    assert len(alive) == 50
    counts, sizes = ({pair[i] for pair in alive[2:]} for i in (0, 1))
    assert max(counts) <= alive[1][0]
    assert max(sizes) <= alive[1][1]
    assert run.maps.time("r2g").shape[1] == 5
    assert len(run.maps.layers) == 25
