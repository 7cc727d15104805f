"""StableVITON: the numbers of the original on the same random weights, the habits of a pipeline of diffusers, and its maps."""

from __future__ import annotations

from functools import cache
from typing import Any

import diffusers
import numpy as np
import oracle
import pytest
import torch
from addresses import displace
from checkpoints import NUMBERS
from families import close, single
from stableviton import tiny
from torch import Tensor, nn

import i2am
from benchmarks.parity.stableviton import FULL, SMALL, TOLERANCE, errors, inputs, numbers, ours
from i2am.attach.finder import Finder
from i2am.models.stableviton import StableVITONPipeline
from i2am.models.stableviton.release import scheduler
from i2am.score.imacs import convention, scores

pytestmark = pytest.mark.usefixtures("on_the_cpu")

GRID, STEPS, GROUPS = SMALL.grid, 2, 2
SIZE = (8 * GRID[0], 8 * GRID[1])
WARPS = [f"warp_flow_blks.{i}.transformer_blocks.0.attn2" for i in range(9)]


@cache
def pair() -> dict[str, Tensor]:
    given = inputs(SMALL, 2)
    given["mask_image"] = torch.stack([given["mask_image"][0], given["mask_image"][1].flip(1)])
    return given


def given(count: int = 1) -> dict[str, Tensor]:
    return {name: one[:count] for name, one in pair().items()}


def run(pipe: StableVITONPipeline, pictures: dict[str, Any] | None = None, **options: Any) -> Any:
    settings = {"num_inference_steps": STEPS, "output_type": "latent"}
    return pipe(**{**settings, **(given() if pictures is None else pictures), **options}).images


@cache
def usual(count: int = 1) -> Tensor:
    """What comes out without a word."""
    return run(tiny(), given(count))


def near(found: Tensor, right: Tensor, tolerance: float = 1e-4) -> None:
    assert found.shape == right.shape
    assert (found - right).abs().max() <= tolerance * right.abs().max()


# The original's numbers


def test_every_result_is_the_original_s() -> None:
    """Features of every level, one call, whole runs with and without guidance, and pictures: recorded by benchmarks.parity.stableviton."""
    pipe = tiny("PNDMScheduler")
    with np.load(NUMBERS) as recorded:
        right = {name: recorded[name] for name in recorded if name != "names"}
    found = errors(numbers(ours(pipe, SMALL)), right)
    assert len(found) == 19
    assert {name: error for name, error in found.items() if error > TOLERANCE} == {}


@torch.no_grad()
def test_every_warp_block_is_heard() -> None:
    """So that the agreement above is not one of blocks that say nothing: row i + 1 of the batch does without features i."""
    pipe, generator = tiny(), torch.Generator().manual_seed(0)
    sample, garment, token = (torch.randn(shape, generator=generator) for shape in ((1, 13, *GRID), (1, 4, *GRID), (1, 1, SMALL.tokens)))
    features = [one.repeat(10, 1, 1, 1) for one in pipe.spatial_encoder(sample, garment, 500, token)]
    for i, one in enumerate(features):
        one[i + 1] = 0
    said = pipe.unet(sample.expand(10, -1, -1, -1), 500, token.expand(10, -1, -1), features).sample
    assert ((said[1:] - said[:1]).abs().amax((1, 2, 3)) > 1e-2 * said[0].abs().max()).all()
    with pytest.raises(ValueError, match=r"^i2am: garment must be 9 feature maps, got 8"):
        pipe.unet(sample, 500, token, features[:8])


def test_the_release_s_grids_layers_and_norms() -> None:
    with torch.device("meta"):
        models = FULL.parts()
        seen: dict[int, tuple[int, ...]] = {}
        for i, block in enumerate(models["unet"].warp_flow_blks):
            block.register_forward_hook(lambda module, args, output, i=i: seen.update({i: tuple(output[0].shape)}))
        sample, token, time = torch.empty(1, 13, 64, 48), torch.empty(1, 1, 768), torch.tensor(5)
        features = models["spatial_encoder"](sample, torch.empty(1, 4, 64, 48), time, token)
        assert models["unet"](sample, time, token, features).sample.shape == (1, 4, 64, 48)
    assert [seen[i][2:] for i in range(9)] == [(16, 12)] * 3 + [(32, 24)] * 3 + [(64, 48)] * 3
    assert seen[4] == (1, 640, 32, 24)
    norms = [item for part in ("unet", "spatial_encoder") for item in models[part].named_modules() if isinstance(item[1], nn.GroupNorm)]
    assert all(norm.eps == (1e-6 if name.endswith(".norm") else 1e-5) for name, norm in norms)  # less than the numbers' tolerance
    names = list(Finder(StableVITONPipeline(**models, scheduler=scheduler()), "auto").layers(False))
    how = convention("stableviton")
    assert len(names) == 16 + 9
    assert how.layers("g2r", names) == [WARPS[4]]
    heard = how.layers("r2g", names)
    assert len(heard) == 15
    assert all("blocks" in name and "warp" not in name for name in heard)


# A pipeline like others


def test_a_batch_is_its_images() -> None:
    both, options = given(2), {"guidance_scale": 3.0}
    together = run(tiny(), both, **options)
    for i in range(2):
        near(run(tiny(), {name: one[i : i + 1] for name, one in both.items()}, **options), together[i : i + 1])
    assert (together[0] - together[1]).abs().max() > 0.1
    assert (together - usual(2)).abs().max() > 0.1


def test_seeds_say_what_the_noise_is() -> None:
    pipe, pictures = tiny(), {name: one for name, one in given(2).items() if name != "latents"}

    def seeded(*seeds: int) -> Any:
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    first = run(pipe, pictures, generator=seeded(1, 2))
    assert torch.equal(run(pipe, pictures, generator=seeded(1, 2)), first)
    near(run(pipe, {name: one[1:] for name, one in pictures.items()}, generator=seeded(2)), first[1:])
    assert (first - usual(2)).abs().max() > 0.1


def test_what_is_given_once_serves_every_image() -> None:
    both = given(2)
    once = both | {name: both[name][:1] for name in ("image", "agnostic", "densepose", "mask_image")}
    near(run(tiny(), once), run(tiny(), both | {name: one.expand_as(both[name]) for name, one in once.items()}))


@pytest.mark.parametrize("name", ["EulerDiscreteScheduler", "DPMSolverMultistepScheduler", "DDPMScheduler"])
def test_other_schedulers(name: str) -> None:
    pipe = tiny(name)
    assert not getattr(pipe.scheduler.config, "clip_sample", False)
    with i2am.trace(pipe, groups=1) as traced:
        found = run(pipe, generator=torch.Generator().manual_seed(0), guidance_scale=2.0)
    assert found.isfinite().all()
    assert traced.maps.steps == STEPS


def test_saved_read_and_halved(tmp_path: Any) -> None:
    tiny("PNDMScheduler").save_pretrained(tmp_path)
    read = StableVITONPipeline.from_pretrained(tmp_path)
    read.scheduler = diffusers.DDIMScheduler.from_config(read.scheduler.config)
    assert torch.equal(run(read), usual())
    half = run(read.to(torch.bfloat16))
    assert half.dtype == torch.float32
    assert 0 < (half - usual()).abs().max() < 0.2 * usual().abs().max()


def test_weights_at_odd_addresses_paint_the_same_bits() -> None:
    right, pipe = usual(), tiny()
    for part in (pipe.unet, pipe.spatial_encoder, pipe.image_encoder, pipe.vae):
        displace(part, 24)
    assert torch.equal(run(pipe), right)


def test_pictures_that_go_in_and_out() -> None:
    pipe, pictures = tiny(), given()
    tensor, images = (run(pipe, pictures, output_type=kind) for kind in ("pt", "pil"))
    assert tensor.shape == (1, 3, *SIZE)
    assert np.array_equal(np.stack([np.asarray(image) for image in images]), (tensor.movedim(1, -1) * 255).round().byte().numpy())
    mask = pictures["mask_image"].expand_as(tensor) == 1
    painted = run(pipe, pictures, output_type="pt", repaint=True)
    assert torch.equal(painted, torch.where(mask, tensor, pictures["image"]))
    large = {name: one if name == "latents" else one.repeat_interleave(2, -2).repeat_interleave(2, -1) for name, one in pictures.items()}
    near(run(pipe, large), usual())


def test_pictures_of_another_size() -> None:
    square = {name: one[..., :8, :] if name == "latents" else one[..., 32:96, :] for name, one in given().items()}
    assert run(tiny(), square, height=64, width=64).shape == (1, 4, 8, 8)


def test_what_is_left_out_is_made_as_the_release_does() -> None:
    pipe, pictures = tiny(), given()
    grey = torch.where(pictures["mask_image"] == 1, torch.tensor(128 / 255), pictures["image"])
    bare = {name: one for name, one in pictures.items() if name != "agnostic"}
    near(run(pipe, bare), run(pipe, pictures | {"agnostic": grey}))
    other = pictures | {"image": 1 - pictures["image"]}
    assert torch.equal(run(pipe, pictures, start_from_image=False), run(pipe, other, start_from_image=False))
    assert (usual() - run(pipe, other)).abs().max() > 1e-3


def test_callbacks_see_every_step_and_may_change_the_latents() -> None:
    seen = []

    def blank(own: StableVITONPipeline, step: int, timestep: Tensor, values: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append((step, values["latents"].shape))
        return {"latents": torch.zeros_like(values["latents"])}

    assert (run(tiny(), callback_on_step_end=blank) == 0).all()
    assert seen == [(step, (1, 4, *GRID)) for step in range(STEPS)]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "size": ({"height": 100}, r"height and width must be multiples of 64, got \(100, 64\)"),
    "shape": ({"garment": torch.rand(3, 64, 64)}, r"garment must be 128 x 64 pixels .* got 64 x 64"),
    "empty mask": ({"mask_image": torch.zeros(1, 128, 64)}, r"mask_image must be white somewhere"),
    "no pictures": ({"densepose": []}, r"densepose must be at least one picture"),
    "output": ({"output_type": "jpg"}, r"output_type must be .* got 'jpg'"),
    "steps": ({"num_inference_steps": 0}, r"num_inference_steps must be a whole number"),
    "too many steps": (
        {"num_inference_steps": 1001},
        r"num_inference_steps must be a whole number of at least 1 and at most 1000, got 1001",
    ),
    "guidance": ({"guidance_scale": float("nan")}, r"guidance_scale must be a number of at least 0, got nan"),
    "negative guidance": ({"guidance_scale": -1.0}, r"guidance_scale must be a number of at least 0, got -1.0"),
    "callback": ({"callback_on_step_end_tensor_inputs": ["image"]}, r"callback_on_step_end_tensor_inputs must be among \['latents'\]"),
    "counts": ({"image": torch.rand(2, 3, 128, 64), "garment": torch.rand(3, 3, 128, 64)}, r"image must be 1 or 3, .* got 2"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_painted_is_refused(wrong: str) -> None:
    options, message = WRONG[wrong]
    with pytest.raises(ValueError, match="^i2am: " + message):
        run(tiny(), **options)


def test_schedulers_of_another_kind_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^i2am: the scheduler must be one of noise .* got FlowMatchEulerDiscreteScheduler"):
        run(tiny("FlowMatchEulerDiscreteScheduler"))


# Traced


@pytest.mark.parametrize(("batch", "guided"), [(1, False), (2, True)])
def test_maps_equal_the_stored_attention(batch: int, guided: bool) -> None:
    """Nothing is said but the pipeline: the UNet's layers have one key and R2G alone, the warp blocks both on their level's grid."""
    pipe = tiny()
    watched = oracle.recorded(pipe.unet, pipe.scheduler, lambda name: name.endswith("attn2"))
    with i2am.trace(pipe, groups=GROUPS) as traced, watched as calls:
        run(pipe, given(batch), guidance_scale=2.0 if guided else 1.0)
    maps = traced.maps
    assert maps.layers == oracle.layers(calls)
    assert len(maps.layers) == 25
    for sums in maps.sums:
        stored = oracle.of(calls, sums.layer)
        where = {"rows": slice(batch if guided else 0, None), "groups": GROUPS, "steps": STEPS}
        (r2g, g2r), (r2g32, g2r32) = (oracle.truth(one, **where) for one in (stored, [single(call) for call in stored]))
        close(sums.r2g, r2g, r2g32, stored, f"r2g of {sums.layer}")
        if sums.layer not in WARPS:
            assert sums.g2r is None
            continue
        close(sums.g2r, g2r[:, :, :, 0], g2r32[:, :, :, 0], stored, f"g2r of {sums.layer}")
        level = 2 - WARPS.index(sums.layer) // 3
        assert sums.reference_grid == sums.generated_grid == (GRID[0] >> level, GRID[1] >> level)


def test_the_release_s_scores_of_a_run() -> None:
    """Its sampler, its layers, its way of scoring; sums stay what softmaxes add up to."""
    pipe, pictures = tiny("PNDMScheduler"), given(2)
    with i2am.trace(pipe, groups=GROUPS) as traced:
        found = run(pipe, pictures, guidance_scale=2.0)
    near(run(pipe, pictures, guidance_scale=2.0), found)
    maps, mask = traced.maps, pictures["mask_image"][:, 0]
    assert (len(maps), maps.steps) == (2, STEPS + 1)
    for sums in maps.sums:
        for one in (sums.r2g, sums.g2r):
            if one is not None:
                torch.testing.assert_close(one.sum((1, 3)), torch.full_like(one.sum((1, 3)), STEPS + 1), rtol=1e-4, atol=0)
    both = scores(maps, mask, mask, convention="stableviton")
    assert both["imacs_g"].isfinite().all()
    assert both["imacs_r"].isfinite().all()
