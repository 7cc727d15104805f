"""Steered runs: maps go where a loss is low, each image by itself, and nothing is left behind."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import diffusers
import joint
import pipelines
import pytest
import torch
from small_model import inputs, run, tiny
from torch import Tensor
from tracing import footprint

import i2am
from i2am.data.synthetic import draw, unit
from i2am.losses import mass_outside
from i2am.models.small import load

pytestmark = pytest.mark.usefixtures("on_the_cpu")
POINTS = "up_blocks.1.attentions.1*"  # the shipped model's layer that points
Loss = Callable[[i2am.AttributionMaps], Tensor]


@cache
def world() -> tuple[Any, dict[str, Any]]:
    pipe = load()
    pipe.set_progress_bar_config(disable=True)
    pairs = draw(2, seed=3, size=pipe.size)
    pictures = {"image": unit(pairs.person), "mask_image": pairs.mask[:, None].float(), "garment": unit(pairs.garment)}
    return pipe, {**pictures, "densepose": unit(pairs.densepose), "num_inference_steps": 5, "output_type": "pt"}


def half(height: int, width: int, right: bool = False) -> Tensor:
    """The left half of a picture, or its right one."""
    inside = torch.zeros(1, height, width)
    inside[..., width // 2 :] = right
    inside[..., : width // 2] = not right
    return inside


def outside(region: Tensor, direction: str) -> Loss:
    return lambda maps: mass_outside(maps, region, direction)


def shares(region: Tensor, direction: str, loss: Loss | None = None, scheduler: Any = None, **options: Any) -> Tensor:
    """[steps] the share of the mass inside of a region in a run that is steered into it, or by another loss: the mean over images."""
    pipe, given = world()
    measured = outside(region, direction)
    seen = []

    def both(maps: i2am.AttributionMaps) -> Tensor:
        seen.append(1 - measured(maps).detach().mean())
        return (measured if loss is None else loss)(maps)

    before, pipe.scheduler = pipe.scheduler, pipe.scheduler if scheduler is None else scheduler.from_config(pipe.scheduler.config)
    try:
        with i2am.steer(pipe, both, layers=POINTS, **options):
            pipe(**given, generator=noise(2))
    finally:
        pipe.scheduler = before
    return torch.stack(seen)


def noise(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(count)]


# Where the maps go


@pytest.mark.parametrize("direction", ["g2r", "r2g"])
def test_the_mass_goes_into_the_region_and_not_into_its_opposite(direction: str) -> None:
    pipe, _ = world()
    region, opposite = half(*pipe.size), half(*pipe.size, right=True)
    plain = shares(region, direction, strength=0.0)
    there = shares(region, direction, strength=0.5)
    away = shares(region, direction, outside(opposite, direction), strength=0.5)
    assert there[0] == pytest.approx(plain[0].item(), abs=1e-6)  # the first step's maps are of the noise
    assert (there[1:] > plain[1:]).all()
    assert there[-1] > plain[-1] + 0.02
    assert away[-1] < plain[-1] - 0.02


@pytest.mark.parametrize("scheduler", ["UniPCMultistepScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler"])
def test_solvers_that_look_back_are_steered_as_well(scheduler: str) -> None:
    """UniPC takes its last step again, Heun's second stage starts where its first one did, Euler's latents have the noise's size."""
    pipe, _ = world()
    solver = getattr(diffusers, scheduler)
    plain, there = (shares(half(*pipe.size), "r2g", scheduler=solver, strength=strength) for strength in (0.0, 0.5))
    assert there[-1] > plain[-1] + 0.02


def test_more_strength_goes_further_and_none_gives_the_same_picture() -> None:
    pipe = tiny()
    plain = run(pipe)
    found = []
    for strength in (0.0, 0.2, 1.0):
        with i2am.steer(pipe, outside(half(32, 24), "r2g"), strength=strength) as steered:
            found.append((run(pipe), steered.losses))
    assert (found[0][0] - plain).abs().max() < 1e-4
    assert [len(losses) for _, losses in found] == [3, 3, 3]
    assert found[0][1][-1] > found[1][1][-1] > found[2][1][-1]


def test_a_step_moves_the_latents_by_its_share_of_their_norm_against_the_gradient() -> None:
    pipe, given = tiny(), inputs(2)
    latents: dict[float, list[Tensor]] = {}
    for strength in (0.0, 0.6):
        latents[strength] = []

        def keep(pipe: Any, step: int, timestep: Any, held: dict[str, Tensor], kept: list[Tensor] = latents[strength]) -> dict[str, Tensor]:
            kept.append(held["latents"].clone())
            return {}

        with i2am.steer(pipe, outside(half(32, 24), "g2r"), strength=strength, steps=(0.0, 0.4)):
            run(pipe, given, callback_on_step_end=keep)
    moved = (latents[0.6][0] - latents[0.0][0]).flatten(1).norm(dim=1) / latents[0.0][0].flatten(1).norm(dim=1)
    torch.testing.assert_close(moved, torch.full((2,), 0.6 / 3), atol=1e-4, rtol=0)


def test_only_the_share_of_the_steps_is_steered() -> None:
    pipe = tiny()
    losses = {}
    for steps in ((0.0, 1.0), (0.5, 1.0)):
        with i2am.steer(pipe, outside(half(32, 24), "r2g"), strength=0.5, steps=steps) as steered:
            run(pipe, num_inference_steps=4)
        losses[steps] = torch.stack(steered.losses)[:, 0]
    late, always = losses[0.5, 1.0], losses[0.0, 1.0]
    assert late[0] == always[0]
    assert (late[1:] > always[1:]).all()
    with i2am.steer(pipe, outside(half(32, 24), "r2g"), strength=0.5, steps=(0.75, 1.0)):  # the last step alone
        assert (run(pipe, num_inference_steps=4) - run(tiny(), num_inference_steps=4)).abs().max() < 1e-4


def test_images_are_steered_by_themselves() -> None:
    """Two at once are as each alone, also where the loss is one number."""
    pipe, given = tiny(), inputs(2)
    region = half(32, 24)
    for loss in (outside(region, "g2r"), lambda maps: mass_outside(maps, region, "g2r").mean()):
        with i2am.steer(pipe, loss, strength=0.5):
            together = run(pipe, given, generator=noise(2))
            alone = [run(pipe, {name: x[i : i + 1] for name, x in given.items()}, generator=noise(2)[i]) for i in range(2)]
        torch.testing.assert_close(together, torch.cat(alone), atol=1e-4, rtol=0)


@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_how_large_a_loss_is_does_not_matter(scale: float) -> None:
    pictures = []
    for factor in (1.0, scale):
        pipe = tiny()
        with i2am.steer(pipe, lambda maps: factor * mass_outside(maps, half(32, 24), "r2g"), strength=0.5):  # noqa: B023
            pictures.append(run(pipe))
    torch.testing.assert_close(*pictures, atol=1e-4, rtol=0)


def test_several_runs_in_one_block_and_guided_ones() -> None:
    pipe = tiny()
    with i2am.steer(pipe, outside(half(32, 24), "r2g"), strength=0.5) as steered:
        first, again = run(pipe), run(pipe)
        assert torch.equal(first, again)
        plain, guided = steered.losses, run(pipe, guidance_scale=3.0)
        assert len(plain) == len(steered.losses) == 3
        assert plain[0] == pytest.approx(steered.losses[0].item(), abs=1e-5)  # of the conditional rows
    assert guided.shape == first.shape
    assert not torch.equal(guided, first)
    assert "3 steps" in repr(steered)


# Other pipelines


CASES: dict[str, tuple[Callable[[], Any], dict[str, Any], dict[str, Any]]] = {
    "IP-Adapter": (pipelines.ip_adapter, {"batch": 2, "images_per_prompt": 2}, {}),
    "Paint-by-Example": (pipelines.paint_by_example, {}, {"guidance": "uncond-cond"}),
    "Kontext": (joint.flux_kontext, {"guided": False}, {}),
    "Kontext, two calls": (joint.flux_kontext, {}, {"guidance": "cond|uncond"}),
    "Qwen-Image-Edit": (joint.qwen_image_edit, {}, {}),
}


@pytest.mark.parametrize("name", CASES)
def test_diffusers_pipelines_are_steered(name: str) -> None:
    build, options, asked = CASES[name]
    case = build()
    plain = case(steps=3, **options)
    before = footprint(case.pipe)
    losses = {}
    for strength in (0.0, 0.5):
        with i2am.steer(case.pipe, outside(half(8, 8), "r2g"), strength=strength, **asked) as steered:
            found = case(steps=3, **options)
        losses[strength] = torch.stack(steered.losses)
        if not strength:
            assert (found - plain).abs().max() < 1e-3
    assert losses[0.5].shape == (3, options.get("batch", 1) * options.get("images_per_prompt", 1))
    if name != "Paint-by-Example":  # whose only token says nothing of a place after two random layers
        assert (losses[0.5][1:] < losses[0.0][1:]).all()
    assert footprint(case.pipe) == before


# What is left, and what is refused


@pytest.mark.filterwarnings("error")
def test_everything_is_restored_after_an_error_anywhere() -> None:
    pipe = tiny()
    before = footprint(pipe)

    def failing(maps: i2am.AttributionMaps) -> Tensor:
        raise KeyError("of the user's")

    def stop(*_: Any) -> dict[str, Tensor]:
        raise InterruptedError

    with pytest.raises(KeyError, match="of the user's"), i2am.steer(pipe, failing):
        run(pipe)
    with pytest.raises(InterruptedError), i2am.steer(pipe, outside(half(32, 24), "r2g")):
        run(pipe, callback_on_step_end=stop)
    with i2am.steer(pipe, outside(half(32, 24), "r2g")), pytest.raises(RuntimeError, match="another trace"), i2am.trace(pipe):
        pass
    assert footprint(pipe) == before
    assert torch.is_grad_enabled()
    with i2am.trace(pipe) as traced:
        run(pipe)
    assert traced.maps.steps == 3


LOSSES: dict[str, tuple[Loss, str]] = {
    "a number": (lambda maps: 0.5, "the loss must be a tensor: one number, or one for each of 1 images, got 0.5"),  # type: ignore[arg-type, return-value]
    "too many": (lambda maps: mass_outside(maps, half(32, 24), "r2g").repeat(3), "for each of 1 images"),
    "NaN": (lambda maps: mass_outside(maps, half(32, 24), "r2g") * math.nan, "the loss must be finite"),
    "detached": (lambda maps: mass_outside(maps, half(32, 24), "r2g").detach(), "without gradient"),
    "of something else": (lambda maps: torch.ones(1, requires_grad=True), "without gradient"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_that_cannot_steer_are_refused(name: str) -> None:
    pipe = tiny()
    before = footprint(pipe)
    loss, words = LOSSES[name]
    with pytest.raises(ValueError, match=words), i2am.steer(pipe, loss):
        run(pipe)
    assert footprint(pipe) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"loss": "r2g"}, "loss must be a function"),
        ({"strength": -1}, "strength must be 0 or more"),
        ({"strength": math.inf}, "strength must be .* finite, got inf"),
        ({"strength": True}, "strength must be"),
        ({"steps": 0.5}, "steps must be the .begin, end."),
        ({"steps": (0.5, 0.5)}, "steps must be"),
        ({"steps": (0, math.nan)}, "steps must be"),
        ({"scheduler": diffusers.DDIMScheduler}, "scheduler must be one of diffusers' kind.*the class DDIMScheduler"),
        ({"scheduler": object()}, "scheduler must be one of diffusers' kind"),
        ({"guidance": "cond-cond"}, "guidance must be"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        i2am.steer(tiny(), **{"loss": outside(half(32, 24), "r2g"), **options})


def test_no_scheduler_is_refused() -> None:
    with pytest.raises(ValueError, match="scheduler must be given or the pipeline's own, got none"):
        i2am.steer(tiny().unet, outside(half(32, 24), "r2g"))


def test_inference_mode_is_refused() -> None:
    pipe = tiny()
    with torch.inference_mode(), pytest.raises(ValueError, match="inference_mode"), i2am.steer(pipe, outside(half(32, 24), "r2g")):
        run(pipe)


def test_calls_and_rows_that_nobody_stated_are_refused() -> None:
    case = joint.flux_kontext()
    with pytest.raises(ValueError, match="several calls, or steps of another scheduler"), i2am.steer(case.pipe, outside(half(8, 8), "r2g")):
        case(steps=2)
    case = pipelines.paint_by_example()
    for strength in (0.0, 0.5):
        with (
            pytest.raises(ValueError, match=r"2 rows for latents of 1, got maps of 2 images.*uncond-cond"),
            i2am.steer(case.pipe, outside(half(8, 8), "r2g"), strength=strength),
        ):
            case(steps=2)
    pipe = tiny()
    other = diffusers.DDIMScheduler.from_config(pipe.scheduler.config)
    with pytest.raises(ValueError, match="another scheduler"), i2am.steer(pipe, outside(half(32, 24), "r2g"), scheduler=other):
        run(pipe)
