"""What the drop-in finds out by itself, steps, rows and time groups, equals what a trace is told; runs and hooks are kept apart."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import ldm
import pytest
import torch

import i2am
from benchmarks.evaluation import release_hook
from i2am.compat.i2am_release import CrossAttentionHook

pytestmark = pytest.mark.usefixtures("on_the_cpu")

RUNS = {
    "two calls": (ldm.stable_viton, {"guided": True}, "cond|uncond"),
    "stacked": (ldm.ldm_paint_by_example, {"guided": True}, "uncond-cond"),
    "plain": (ldm.ldm_paint_by_example, {"guided": False}, "none"),
}


@pytest.mark.parametrize(
    ("name", "images", "steps"),
    [("two calls", 2, 3), ("two calls", 1, 1), ("stacked", 1, 7), ("stacked", 2, 3), ("stacked", 2, 1), ("plain", 2, 3), ("plain", 1, 1)],
)
def test_the_hook_finds_rows_steps_and_groups_by_itself(name, images, steps):
    build, how, guidance = RUNS[name]
    case = build()
    options = {"batch": images, "size": (16, 12), "steps": steps, **how}
    plain = case(**options)
    with i2am.trace(case.denoiser, scheduler=case.sampler, guidance=guidance) as run:
        case(**options)
    with CrossAttentionHook(True, False, False, False, False) as hook:
        hook.take_module(case.denoiser)
        torch.testing.assert_close(case(**options), plain, rtol=1e-4, atol=1e-4)
        maps = hook.maps
    assert (len(maps), maps.steps, maps.groups, maps.layers) == (images, steps, run.maps.groups, run.maps.layers)
    for ours, theirs in zip(maps.sums, run.maps.sums):
        assert torch.equal(ours.r2g, theirs.r2g)
        assert (ours.g2r is None) == (theirs.g2r is None)
        assert ours.g2r is None or torch.equal(ours.g2r, theirs.g2r)
    hook.per_time_step = True
    assert list(hook.make_attention_maps(None)) == list(range(min(5, steps)))


def test_identical_noise_without_guidance_is_not_taken_for_guidance():
    case = ldm.ldm_paint_by_example()
    given = case.kwargs(batch=2, size=(16, 12), guided=False, steps=3)
    given["x_T"] = given["x_T"][:1].expand(2, -1, -1, -1).clone()  # two references, one noise
    hook = CrossAttentionHook()
    hook.take_module(case.denoiser)
    case.sampler.sample(**given)
    assert len(hook.maps) == 2
    hook.take_module(case.denoiser, guidance="uncond-cond")
    case.sampler.sample(**given)
    assert len(hook.maps) == 1


def test_an_uneven_schedule_is_told():
    case = ldm.ldm_paint_by_example()
    make, later = case.sampler.make_schedule, torch.tensor([1, 300, 700, 981])

    def schedule(**options: Any) -> None:
        make(**options)
        case.sampler.ddim_timesteps = later

    case.sampler.make_schedule = schedule
    hook = CrossAttentionHook(True, True, False, False, False)
    hook.take_module(case.denoiser)
    case(steps=4)
    with pytest.raises(ValueError, match=r"steps of the run must be evenly spaced, or told, got 4 others\. take_module\(model, steps=4\)"):
        hook.make_attention_maps(None)
    whole = hook.maps
    assert whole.steps == 4
    hook.take_module(case.denoiser, steps=4)
    case(steps=4)
    assert list(hook.make_attention_maps(None)) == [0, 1, 2, 3]
    for ours, theirs in zip(hook.maps.sums, whole.sums):
        torch.testing.assert_close(ours.r2g.sum(1), theirs.r2g[:, 0])
    hook.take_module(case.denoiser, steps=3)  # not true
    case(steps=4)
    with pytest.raises(ValueError, match=r"take_module\(model, steps=4\)"):
        hook.make_attention_maps(None)


def test_a_network_is_given_back_and_taken_over():
    case = ldm.stable_viton()
    first, second = CrossAttentionHook(True, False, False, False, False), CrossAttentionHook(False, False, False, True, False)
    first.take_module(case.denoiser)
    second.take_module(case.denoiser, layers="warp_flow_blks*")
    case(size=(16, 12), guided=False)
    assert second.make_attention_maps(None).shape == (8, 6)
    assert all("warp" in name for name in second.maps.layers)
    second.remove()
    assert not any("forward" in vars(module) for module in case.model.modules())
    assert not case.denoiser._forward_pre_hooks
    with pytest.raises(ValueError, match=r"nothing was recorded.*later hook"):
        first.make_attention_maps(None)
    first.take_module(case.denoiser)
    with pytest.raises(ZeroDivisionError), first:
        _ = 1 / 0
    assert not any("forward" in vars(module) for module in case.model.modules())
    first.take_module(case.denoiser)
    network = weakref.ref(case.denoiser)
    del first, second, case
    gc.collect()
    assert network() is None  # nothing keeps a network that nobody uses


def test_runs_are_kept_apart():
    case = ldm.ldm_paint_by_example()
    hook = CrossAttentionHook()
    hook.take_module(case.denoiser)
    case(batch=2, seed=1)
    with pytest.raises(RuntimeError, match="timestep 501 came after 1: a new run"):
        case(batch=3, seed=2)
    hook.clear()
    case(batch=3, seed=2)
    again = hook.make_attention_maps()
    assert torch.equal(again, hook.make_attention_maps())  # until the next run
    case(batch=1, seed=2)
    torch.testing.assert_close(hook.make_attention_maps(), again[0])


def test_what_is_wrong_is_said():
    case = ldm.ldm_paint_by_example()
    hook = CrossAttentionHook(True, False, False, True, False)
    with pytest.raises(ValueError, match="listens to no network"):
        hook.make_attention_maps(None)
    with pytest.raises(ValueError, match=r"model must be an LDM network with output_blocks.*got Linear.*i2am\.trace\(pipe\)"):
        hook.take_module(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"new_attention_map must be with controlnet=True and generated_image=False"):
        CrossAttentionHook(True, False, False, True, True)
    with pytest.raises(ValueError, match="steps must be a whole number"):
        hook.take_module(case.denoiser, steps=0)
    hook.take_module(case.denoiser)
    case(batch=2)
    with pytest.raises(ValueError, match=r"recorded images must be 3, as agn_mask has, got 2\. Say how the model is called"):
        hook.make_attention_maps(torch.ones(3, 32, 24, 1))
    with pytest.raises(ValueError, match=r"recorded layers must be those of StableVITON"):
        hook.make_attention_maps(None)
    hook.controlnet, hook.cal_IMACS_scores = False, True
    with pytest.raises(ValueError, match=r"agn_mask must be given to score this map"):
        hook.make_images(None, None, hook.make_attention_maps(None), "nowhere", 0)
    hook.take_module(case.denoiser, guidance="cond|uncond")
    with pytest.raises(ValueError, match=r"guidance must be a layout of 1 calls a step, got 2 calls"):
        case(batch=2)


def test_the_benchmark_s_runners_agree(monkeypatch):
    section = release_hook.Section((16, 16, 16, 16), (16, 16), 1, 1, heads=2)
    loop = release_hook.Loop(section, torch.device("cpu"))
    torch.testing.assert_close(loop.eager("r2g", 1), loop.dropped(release_hook.SAME, "r2g", 1))
    monkeypatch.setattr(release_hook, "CASES", ("g2r",))
    rows = list(release_hook.measure("tiny", loop, section))
    assert [row["runner"] for row in rows] == ["eager_hook", "drop_in", "same_layers"]
    for row in rows:
        assert not row["red"]
        assert row["error_of"]["unified"] < 1e-5
        assert {"ms", "untraced_ms", "overhead_ms", "extra_mb"} <= set(row)
        assert ("times_smaller" in row) == (row["runner"] != "eager_hook")
        assert release_hook.line(row)
    assert rows[1]["extra_mb"] < rows[0]["extra_mb"]
    with pytest.raises(ValueError, match="--rounds must be 1 or more, got 0"):
        release_hook.main(["--rounds", "0"])
