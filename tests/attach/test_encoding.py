"""Maps of pictures that exist already: the denoiser sees the noised picture, and its maps are those of the stored attention."""

from __future__ import annotations

import functools
from typing import Any

import diffusers
import joint
import oracle
import pipelines
import pytest
import torch
from families import close, single
from torch import Tensor
from tracing import footprint

import i2am
from i2am.attach.latents import clean_latents


def picture(size: tuple[int, int], images: int = 1) -> Tensor:
    return torch.rand(images, 3, *size, generator=torch.Generator().manual_seed(5))


def seen_by(case: Any, photo: Tensor, **options: Any) -> tuple[i2am.AttributionMaps, list[Tensor]]:
    """The maps, and the latents of each call of the denoiser."""
    given: list[Tensor] = []
    name = "sample" if hasattr(case.pipe, "unet") else "hidden_states"
    hook = case.denoiser.register_forward_pre_hook(
        lambda module, args, kwargs: given.append(kwargs[name] if name in kwargs else args[0]), with_kwargs=True
    )
    maps = i2am.encode(case.pipe, photo, **options)
    hook.remove()
    return maps, given


def replayed(case: Any, given: list[Tensor], **options: Any) -> list[oracle.Call]:
    """The attention of a run without us whose steps end where `given` says."""
    scheduler, images = case.pipe.scheduler, given[0].shape[0] // (2 if options["guided"] else 1)
    original, following = scheduler.step, iter([*(latents[:images] for latents in given[1:]), given[-1][:images]])

    def step(*args: Any, **kwargs: Any) -> Any:
        out = original(*args, **kwargs)
        moved = next(following)
        if type(scheduler).__name__.startswith("Euler"):  # its latents are those that the model sees, scaled back
            moved = moved * float((scheduler.sigmas[scheduler.step_index] ** 2 + 1) ** 0.5)
        return (moved, *out[1:])

    scheduler.step = functools.wraps(original)(step)
    with oracle.recorded(case.denoiser, scheduler) as calls:
        case(**options)
    del scheduler.step
    return calls


@pytest.mark.parametrize("name", ["ddim", "euler"])
@pytest.mark.parametrize("guided", [False, True])
def test_a_unet_sees_the_noised_picture(name: str, guided: bool) -> None:
    from diffusers import EulerDiscreteScheduler

    case = pipelines.ip_adapter("full")
    if name == "euler":
        case.pipe.scheduler = EulerDiscreteScheduler.from_config(case.pipe.scheduler.config)
    size = case.sizes[1]
    photo = picture(size, 2)
    ask = {"batch": 2, "size": size, "guided": guided, "steps": 10}
    options = {key: value for key, value in case.kwargs(**ask).items() if key != "output_type"}
    before = footprint(case.pipe)
    maps, given = seen_by(case, photo, timesteps=(700, 300), **options)
    assert footprint(case.pipe) == before
    calls = replayed(case, given, **ask)
    clean = case.pipe.vae.encode(2 * photo - 1).latent_dist.mode() * case.pipe.vae.config.scaling_factor
    noise = given[0][:2].double() * (1 if name == "ddim" else float((case.pipe.scheduler.sigmas[0] ** 2 + 1) ** 0.5))
    noise = noise / float(case.pipe.scheduler.init_noise_sigma)
    alphas = case.pipe.scheduler.alphas_cumprod.double()
    for step, t in enumerate(case.pipe.scheduler.timesteps):
        if step:
            near = alphas[int(t)] if name == "ddim" else 1 / (1 + case.pipe.scheduler.sigmas[step].double() ** 2)
            expected = near.sqrt() * clean.double() + (1 - near).sqrt() * noise
            torch.testing.assert_close(given[step][:2].double(), expected, rtol=1e-4, atol=1e-5)
    chosen = [float(t) for t in maps.about["timesteps"].split()]
    schedule = [float(t) for t in case.pipe.scheduler.timesteps]
    assert len(chosen) == 2
    assert abs(chosen[0] - 700) <= 50
    assert abs(chosen[1] - 300) <= 50
    rows = slice(2, 4) if guided else slice(0, 2)
    for sums in maps.sums:
        run = [call for call in oracle.of(calls, sums.layer, 1, 0) if schedule[call.step] in chosen]
        assert len(run) == 2
        for group, call in enumerate(run):
            truth, truth32 = (oracle.truth([one], rows=rows, steps=call.step + 1, groups=1) for one in (call, single(call)))
            close(sums.r2g[:, group : group + 1], truth[0], truth32[0], [call], f"r2g of {sums.layer}")
            close(sums.g2r[:, group : group + 1], truth[1][:, :, :, 0], truth32[1][:, :, :, 0], [call], f"g2r of {sums.layer}")


@pytest.mark.parametrize("build", [joint.flux_kontext, joint.qwen_image_edit])
def test_packed_latents_of_a_flow_are_mixed_with_the_noise(build: Any) -> None:
    case = build()
    size = case.sizes[1]
    options = case.kwargs(batch=1, size=size, guided=False, steps=8)
    maps, given = seen_by(case, picture(size), timesteps=(600, 200), **options)
    count = maps.sums[0].r2g.shape[-1]
    noise, sigmas = given[0][:, :count], case.pipe.scheduler.sigmas
    clean = (given[4][:, :count] - sigmas[4] * noise) / (1 - sigmas[4])
    assert float(clean.std()) > 0.05
    for step in range(1, 8):
        torch.testing.assert_close(given[step][:, :count], sigmas[step] * noise + (1 - sigmas[step]) * clean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(clean_latents(case.pipe, picture(size), noise, size), clean, rtol=1e-3, atol=1e-3)
    assert maps.groups == 2
    assert maps.time("r2g").shape[1] == 2


@pytest.mark.parametrize("name", ["HeunDiscreteScheduler", "PNDMScheduler", "UniPCMultistepScheduler", "LCMScheduler"])
def test_timesteps_that_repeat_and_steps_of_second_order(name: str) -> None:
    """Whatever a scheduler makes of a step, the model sees the picture at the noise level of the timestep that it is told."""
    case = pipelines.sd15(getattr(diffusers, name).from_config(pipelines.sd15().pipe.scheduler.config))
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    told: list[float] = []
    hook = case.denoiser.register_forward_pre_hook(lambda module, args: told.append(float(args[1])))
    maps, given = seen_by(case, latents, timesteps=(700, 300), trace={"words": ["cat"]}, **case.kwargs(steps=8, guided=False))
    hook.remove()
    alphas = case.pipe.scheduler.alphas_cumprod.double()
    levels = ((1 - alphas) / alphas).sqrt().log()  # between whole timesteps a straight line
    parts = []
    for t in told:
        level = torch.lerp(levels[int(t)], levels[min(int(t) + 1, 999)], t - int(t)).exp()
        parts.append((1 / (1 + level**2).sqrt(), level / (1 + level**2).sqrt()))
    noise = (given[1].double() - parts[1][0] * latents) / parts[1][1]
    for seen, (kept, noised) in list(zip(given, parts))[2:]:
        torch.testing.assert_close(seen.double(), kept * latents + noised * noise, rtol=1e-3, atol=1e-3)
    chosen = [float(t) for t in maps.about["timesteps"].split()]
    assert [min(told[1:], key=lambda t: abs(t - wanted)) for wanted in (700, 300)] == pytest.approx(chosen, abs=0.01)


def test_the_latents_are_the_mode_of_what_the_autoencoder_finds() -> None:
    """Inpainting pipelines would draw a sample of it, another at each call."""
    components = pipelines.sd15().pipe.components
    pipe = diffusers.StableDiffusionInpaintPipeline(**components, requires_safety_checker=False)
    photo, like = picture((64, 48)), torch.zeros(1, 4, 16, 12)
    before = footprint(pipe)
    found = clean_latents(pipe, photo, like, (64, 48))
    assert footprint(pipe) == before
    assert "encode" not in vars(pipe.vae)
    torch.testing.assert_close(found, pipe.vae.encode(2 * photo - 1).latent_dist.mode() * pipe.vae.config.scaling_factor)


def test_a_picture_that_the_call_starts_from_is_no_part_of_the_noise() -> None:
    pipe = diffusers.StableDiffusionImg2ImgPipeline(**pipelines.sd15().pipe.components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    maps = []
    for shade in (0.0, 1.0):
        start = torch.full((1, 3, 64, 64), shade)
        maps.append(i2am.encode(pipe, picture((64, 64)), timesteps=(700,), trace={"words": True}, num_inference_steps=4, prompt="a cat",
                                image=start, generator=torch.Generator().manual_seed(1)))  # fmt: skip
    assert torch.equal(maps[0].sums[0].words, maps[1].sums[0].words)  # type: ignore[arg-type]


def test_schedulers_that_lay_no_noise_are_refused() -> None:
    case = pipelines.sd15()
    config, options = case.pipe.scheduler.config, case.kwargs(steps=4, guided=False)
    for name, why in (
        ("KDPM2DiscreteScheduler", "the scheduler must be .* whose every second step lies between two of its noise levels"),
        ("IPNDMScheduler", "the scheduler must be .* which cannot lay noise over a picture"),
        ("EDMEulerScheduler", "timesteps must be of the schedule of EDMEulerScheduler"),
    ):
        case.pipe.scheduler = getattr(diffusers, name).from_config(config)
        with pytest.raises(ValueError, match=why):
            i2am.encode(case.pipe, picture((64, 64)), timesteps=(700,), trace={"words": True}, **options)
        assert "step" not in vars(case.pipe.scheduler)


def test_latents_may_be_given_and_options_reach_the_trace() -> None:
    case = pipelines.sd15()
    clean = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    maps, given = seen_by(case, clean, timesteps=(10,), trace={"words": ["cat"]}, **case.kwargs(steps=50, guided=False))
    torch.testing.assert_close(given[-1], clean, rtol=0, atol=0.4)
    assert maps.words()["cat"].shape == (1, 16, 16)
    assert maps.groups == 1


def test_what_cannot_be_encoded_is_refused() -> None:
    case = pipelines.sd15()
    options = case.kwargs(steps=4, guided=False)
    for timesteps in ((), (5, 5), (1200,), ("now",)):
        with pytest.raises(ValueError, match="timesteps must be"):
            i2am.encode(case.pipe, picture((64, 64)), timesteps=timesteps, trace={"words": True}, **options)
    with pytest.raises(ValueError, match="timesteps must be each nearest to another step"):
        i2am.encode(case.pipe, picture((64, 64)), timesteps=(500, 501), trace={"words": True}, **options)
    with pytest.raises(ValueError, match=r"num_inference_steps must be more than the 4 timesteps, got 4"):
        i2am.encode(case.pipe, picture((64, 64)), trace={"words": True}, **options)
    with pytest.raises(ValueError, match="trace must be options of"):
        i2am.encode(case.pipe, picture((64, 64)), trace={"groups": 2}, **options)
    with pytest.raises(ValueError, match="the pictures must be 1 or as many as the 3 images, got 2"):
        i2am.encode(case.pipe, picture((64, 64), 2), timesteps=(500,), trace={"words": True}, **case.kwargs(batch=3, steps=4, guided=False))
    case.pipe.image_processor = None
    with pytest.raises(ValueError, match=r"the picture for .* must be latents"):
        i2am.encode(case.pipe, picture((64, 64)), timesteps=(500,), trace={"words": True}, **options)
    assert "step" not in vars(case.pipe.scheduler)
