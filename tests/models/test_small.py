"""The embedded try-on pipeline with random weights: it behaves as diffusers' own do, keeps what the mask keeps, and can be traced."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import diffusers
import numpy as np
import oracle
import pytest
import torch
from families import close, single
from PIL import Image
from small_model import GROUPS, REAL, STEPS, TINY, inputs, run, tiny
from torch import Tensor
from torch.nn.functional import interpolate

import i2am
from i2am.models.pixels import patches
from i2am.models.small.pipeline import SmallTryOnPipeline

pytestmark = pytest.mark.usefixtures("on_the_cpu")


def answering(pipe: SmallTryOnPipeline, answer: Callable[..., Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Put a model in the place of the UNet's forward; returns what it is called with, [(channels, tokens), ...]."""
    seen = []

    def forward(sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> Any:
        seen.append((sample, encoder_hidden_states))
        return SimpleNamespace(sample=answer(sample))

    pipe.unet.forward = forward
    return seen


# Schedulers and guidance


def with_scheduler(name: str, **config: Any) -> SmallTryOnPipeline:
    pipe = tiny()
    pipe.scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config, **config)
    return pipe


SCHEDULERS = {
    "DDIMScheduler": ("sample", "epsilon", "v_prediction"),
    "DDPMScheduler": ("sample",),
    "DPMSolverMultistepScheduler": ("sample", "epsilon"),
    "UniPCMultistepScheduler": ("epsilon",),
    "EulerDiscreteScheduler": ("epsilon",),
    "EulerAncestralDiscreteScheduler": ("epsilon",),
    "HeunDiscreteScheduler": ("epsilon", "v_prediction"),
}


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name in SCHEDULERS for kind in SCHEDULERS[name]])
def test_every_scheduler_ends_at_the_picture_the_model_sees(name: str, kind: str) -> None:
    pipe, given = with_scheduler(name, prediction_type=kind), inputs(2)
    with i2am.trace(pipe, groups=GROUPS) as traced:
        found = run(pipe, given)
    assert found.isfinite().all()
    assert traced.maps.steps == len(pipe.scheduler.timesteps)
    clean = torch.rand(1, 3, 32, 24) * 1.8 - 0.9
    seen = answering(pipe, lambda sample: patches(clean).expand(2, -1, -1, -1))
    expected = torch.where(given["mask_image"] == 1, clean / 2 + 0.5, given["image"])
    torch.testing.assert_close(run(pipe, given, num_inference_steps=8), expected, rtol=0, atol=1e-5)
    assert len(seen) == len(pipe.scheduler.timesteps) >= 8


@pytest.mark.parametrize("options", [{"use_karras_sigmas": True}, {"timestep_spacing": "linspace"}], ids=str)
def test_timesteps_between_the_trained_ones_end_nearby(options: dict[str, Any]) -> None:
    pipe, given = with_scheduler("EulerDiscreteScheduler", prediction_type="epsilon", **options), inputs()
    answering(pipe, lambda sample: torch.zeros(1, 48, *TINY))
    inside = given["mask_image"].expand_as(given["image"]) == 1
    assert (run(pipe, given, num_inference_steps=8)[inside] - 0.5).abs().max() < 0.02
    assert (pipe.scheduler.timesteps % 1 != 0).any()


def test_guidance_doubles_the_batch_with_the_garments_behind() -> None:
    pipe, given = tiny(), inputs(2)
    said = torch.tensor([0.1, 0.1, 0.2, 0.2])[:, None, None, None].expand(4, 48, *TINY)
    seen = answering(pipe, lambda sample: said[: len(sample)])
    run(pipe, given, guidance_scale=1.0)
    plain, tokens = seen.pop(0)
    assert (len(plain), len(tokens), pipe.do_classifier_free_guidance) == (2, 2, False)
    seen.clear()
    found = run(pipe, given, guidance_scale=3.0)
    doubled, both = seen.pop(0)
    assert (len(doubled), len(both), pipe.do_classifier_free_guidance) == (4, 4, True)
    assert torch.equal(doubled[:2], doubled[2:])
    assert torch.equal(doubled[2:], plain)
    assert torch.equal(both[2:], tokens)
    assert torch.equal(both[:2], pipe.garment_encoder.nothing.expand_as(tokens))
    inside = given["mask_image"].expand_as(found) == 1
    torch.testing.assert_close(found[inside], torch.full_like(found[inside], (0.1 + 3 * 0.1) / 2 + 0.5), rtol=0, atol=1e-5)


# What goes in


def as_pil(given: Tensor) -> list[Image.Image]:
    return [Image.fromarray(one.squeeze()) for one in FORMS["bytes"](given)]


FORMS: dict[str, Callable[[Tensor], Any]] = {
    "PIL": as_pil,
    "one PIL": lambda t: as_pil(t)[0] if len(t) == 1 else as_pil(t),
    "bytes": lambda t: (t * 255).round().byte().movedim(1, -1).numpy(),
    "float array": lambda t: t.movedim(1, -1).numpy(),
    "list of tensors": list,
    "bare mask": lambda t: t if t.shape[1] == 3 else t[:, 0].bool(),
    "bare mask array": lambda t: t if t.shape[1] == 3 else t[:, 0].numpy(),
}


@pytest.mark.parametrize("form", FORMS)
def test_pictures_may_come_in_any_form(form: str) -> None:
    pipe, given = tiny(), inputs(2) | {"mask_image": inputs(1)["mask_image"]}
    assert torch.equal(run(pipe, {name: FORMS[form](one) for name, one in given.items()}), run(pipe, given))


def test_what_is_given_once_serves_every_image() -> None:
    pipe, given = tiny(), inputs(1) | {"garment": inputs(3)["garment"]}
    found = run(pipe, given)
    assert torch.equal(found, run(pipe, {name: one.expand(3, -1, -1, -1) for name, one in given.items()}))
    assert (found[0] - found[1])[given["mask_image"][0].expand(3, -1, -1) == 1].abs().max() > 1e-3


def test_large_pictures_are_scaled_down_with_antialiasing() -> None:
    pipe, large = tiny(), inputs(1, (64, 48))
    scaled = {name: interpolate(one, (32, 24), mode="bilinear", antialias=True) for name, one in large.items()}
    assert torch.equal(run(pipe, large), run(pipe, scaled))
    assert torch.equal(tiny(REAL).prepared(torch.ones(3, 1024, 768), "image"), torch.ones(1, 3, 128, 96))


def test_forms_that_come_out_are_the_same_picture() -> None:
    pipe, given = tiny(), inputs(2)
    tensor, array, images = (run(pipe, given, output_type=kind) for kind in ("pt", "np", "pil"))
    assert torch.equal(torch.from_numpy(array), tensor.movedim(1, -1))
    assert np.array_equal(np.stack([np.asarray(image) for image in images]), (array * 255).round().astype(np.uint8))
    kept = given["mask_image"][:, 0] == 0
    assert torch.equal(tensor.movedim(1, -1)[kept], given["image"].movedim(1, -1)[kept])
    assert torch.equal(run(pipe, given, return_dict=False), tensor)


def test_generators_and_latents_say_what_the_noise_is() -> None:
    pipe, given = tiny(), inputs(2)
    assert torch.equal(run(pipe, given, seed=1), run(pipe, given, seed=1))
    assert not torch.equal(run(pipe, given, seed=1), run(pipe, given, seed=2))
    each = [torch.Generator().manual_seed(seed) for seed in (5, 6)]
    noise = torch.cat([torch.randn(1, 48, *TINY, generator=torch.Generator().manual_seed(seed)) for seed in (5, 6)])
    assert torch.equal(run(pipe, given, generator=each), run(pipe, given, latents=noise))
    assert torch.equal(run(pipe, given, latents=noise.double()), run(pipe, given, latents=noise))


def test_callbacks_see_every_step_and_may_change_the_latents() -> None:
    pipe, seen = tiny(), []

    def blank(own: SmallTryOnPipeline, step: int, timestep: Tensor, values: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append((own is pipe, step, values["latents"].shape))
        return {"latents": torch.zeros_like(values["latents"])}

    given = inputs()
    found = run(pipe, given, callback_on_step_end=blank)
    assert seen == [(True, step, (1, 48, *TINY)) for step in range(STEPS)]
    assert (found[given["mask_image"].expand_as(found) == 1] == 0.5).all()


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "shape": ({"image": torch.rand(3, 32, 32)}, r"image must be 32 x 24 pixels .* got 32 x 32"),
    "channels": ({"garment": torch.rand(1, 32, 24)}, r"garment must be a picture of 3 channels, got \(1, 32, 24\)"),
    "mask channels": ({"mask_image": torch.rand(1, 3, 32, 24)}, r"mask_image must be a picture of 1 channels"),
    "bytes": ({"densepose": torch.full((3, 32, 24), 200, dtype=torch.uint8)}, r"densepose must be values between 0 and 1, got 200 to 200"),
    "negative": ({"image": -torch.ones(3, 32, 24)}, r"image must be values between 0 and 1, got -1 to -1"),
    "nan": ({"image": torch.full((3, 32, 24), torch.nan)}, r"image must be values between 0 and 1"),
    "empty mask": ({"mask_image": torch.tensor([1.0, 0.0])[:, None, None].expand(2, 32, 24)}, r"mask_image must be white somewhere"),
    "path": ({"garment": "cloth.jpg"}, r"garment must be a PIL image, .* got str"),
    "no pictures": ({"garment": []}, r"garment must be at least one picture"),
    "counts": ({"image": torch.rand(2, 3, 32, 24), "garment": torch.rand(3, 3, 32, 24)}, r"image must be 1 or 3, .* got 2"),
    "latents": ({"latents": torch.randn(1, 48, 6, 8)}, r"latents must be a tensor \(1, 48, 8, 6\), got \(1, 48, 6, 8\)"),
    "latents list": ({"latents": [0.0]}, r"latents must be .* got list"),
    "generators": ({"generator": [torch.Generator()] * 3}, r"generator must be one, or a list of 1, .* got 3"),
    "output": ({"output_type": "latent"}, r"output_type must be .* got 'latent'"),
    "steps": ({"num_inference_steps": 0}, r"num_inference_steps must be a whole number"),
    "too many steps": (
        {"num_inference_steps": 1001},
        r"num_inference_steps must be a whole number of at least 1 and at most 1000, got 1001",
    ),
    "guidance": ({"guidance_scale": float("nan")}, r"guidance_scale must be a number of at least 0, got nan"),
    "negative guidance": ({"guidance_scale": -1.0}, r"guidance_scale must be a number of at least 0, got -1.0"),
    "callback": ({"callback_on_step_end_tensor_inputs": ["image"]}, r"callback_on_step_end_tensor_inputs must be among \['latents'\]"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_painted_is_refused(wrong: str) -> None:
    options, message = WRONG[wrong]
    with pytest.raises(ValueError, match="^i2am: " + message):
        run(tiny(), inputs() | options)


def test_schedulers_of_another_kind_are_refused_by_name() -> None:
    for name in ("FlowMatchEulerDiscreteScheduler", "EDMEulerScheduler"):
        with pytest.raises(ValueError, match=rf"^i2am: the scheduler must be one of noise, .* got {name}"):
            run(with_scheduler(name))


# Traced


@pytest.mark.parametrize(("grid", "batch", "guided"), [(TINY, 1, False), (TINY, 3, True), (REAL, 1, True), (REAL, 3, False)], ids=str)
def test_maps_equal_the_stored_attention(grid: tuple[int, int], batch: int, guided: bool) -> None:
    """Nothing is said but the pipeline: layers, grid, special token and rows are its own declaration."""
    pipe = tiny(grid)
    watched = oracle.recorded(pipe.unet, pipe.scheduler, lambda name: name.endswith("attn2"))
    with i2am.trace(pipe, groups=GROUPS) as traced, watched as calls:
        run(pipe, inputs(batch, grid), guidance_scale=2.0 if guided else 1.0)
    maps = traced.maps
    assert maps.layers == oracle.layers(calls)
    assert (len(maps), len(maps.layers)) == (batch, 5)
    for sums in maps.sums:
        assert (sums.reference_grid, sums.special) == (grid, 1)
        assert sums.generated_grid == (grid if "up_blocks.1" in sums.layer else (grid[0] // 2, grid[1] // 2))
        stored = oracle.of(calls, sums.layer)
        where = {"rows": slice(batch if guided else 0, None), "groups": GROUPS, "steps": STEPS}
        (r2g, g2r), (r2g32, g2r32) = (oracle.truth(one, **where) for one in (stored, [single(call) for call in stored]))
        close(sums.r2g, r2g, r2g32, stored, f"r2g of {sums.layer}")
        close(sums.g2r, g2r[:, :, :, 0], g2r32[:, :, :, 0], stored, f"g2r of {sums.layer}")
    assert maps.unified("g2r").shape == maps.unified("r2g").shape == (batch, *grid)


@pytest.mark.parametrize(("name", "kind"), [("DDIMScheduler", "sample"), ("EulerAncestralDiscreteScheduler", "epsilon")])
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_a_trace_changes_no_bit(name: str, kind: str, guidance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the forward is the library's; schedulers that draw noise get the generator as they did."""
    monkeypatch.setattr("i2am_kernels.streaming.TILE_BYTES", 0)
    pipe, given = with_scheduler(name, prediction_type=kind), inputs(2)
    plain = run(pipe, given, guidance_scale=guidance)
    with i2am.trace(pipe, groups=GROUPS) as traced:
        assert torch.equal(run(pipe, given, guidance_scale=guidance), plain)
    assert len(traced.maps) == 2
    assert torch.equal(run(pipe, given, guidance_scale=guidance), plain)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_masks_of_each_image_weigh_its_maps(guidance: float) -> None:
    """Which rows are an image's must be known before the first step, from the pipeline's own word."""
    pipe, given, noise = tiny(), inputs(2), torch.randn(2, 48, *TINY)
    masks = torch.zeros(2, 32, 24)
    masks[0, :10], masks[1, 20:] = 1, 1

    def g2r(rows: slice, mask: Tensor) -> Tensor:
        with i2am.trace(pipe, groups=1, generated_mask=mask) as traced:
            run(pipe, {name: one[rows] for name, one in given.items()}, latents=noise[rows], guidance_scale=guidance)
        return traced.maps.unified("g2r")

    both = g2r(slice(None), masks)
    for image in range(2):
        torch.testing.assert_close(both[image : image + 1], g2r(slice(image, image + 1), masks[image]), rtol=1e-4, atol=0)
    assert (both - g2r(slice(None), masks.flip(0))).abs().max() > 1e-3 * both.max()
