"""The small try-on model: its parts, and what is saved of it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
from small_model import REAL, TINY, inputs, run, tiny

from i2am.models import small
from i2am.models.pixels import patches, pictures
from i2am.models.small.pipeline import SmallTryOnPipeline
from i2am.models.small.positions import PlacedLinear, tie, waves
from i2am.models.small.schedule import alphas_cumprod
from i2am.models.small.train import Options

pytestmark = pytest.mark.usefixtures("on_the_cpu")


def test_folding_loses_nothing_and_keeps_a_patch_together() -> None:
    given = torch.rand(2, 3, 12, 8)
    folded = patches(given)
    assert torch.equal(folded[:, :, 1, 0], given[:, :, 4:8, 0:4].flatten(1))
    assert torch.equal(pictures(folded), given)


@pytest.mark.parametrize("query_grid", [(8, 6), (16, 12), (32, 24)], ids=str)
@pytest.mark.parametrize("channels", [96, 128])
def test_tied_places_attend_to_the_same_place_of_another_grid(query_grid: tuple[int, int], channels: int) -> None:
    """Grids as coarse as, and two and four times coarser than the key's; with the numbers of channels of the shipped model."""
    query, key = PlacedLinear(7, channels, query_grid), PlacedLinear(5, channels, REAL)
    tie(query, key)
    count = query_grid[0] * query_grid[1]
    score = query(torch.zeros(1, count, 7))[0] @ key(torch.zeros(1, 1 + 768, 5))[0].T
    best = score[:, 1:].argmax(1)
    at = torch.stack([best // 24, best % 24], 1)
    own = torch.cartesian_prod(*(torch.arange(n) for n in query_grid))
    away = (own + 0.5) / torch.tensor(query_grid) - (at + 0.5) / torch.tensor(REAL)
    assert (away.abs() <= 0.5 / torch.tensor(REAL) + 1e-6).all()
    assert score[:, 0].abs().max() == 0
    assert score[:, 1:].max() > 5 * score[:, 1:].abs().mean()


def test_special_tokens_have_no_place() -> None:
    layer = PlacedLinear(5, 96, TINY)
    torch.nn.init.normal_(layer.place)
    tokens = torch.randn(2, 2 + 48, 5)
    plain = tokens @ layer.weight.T
    torch.testing.assert_close(layer(tokens)[:, :2], plain[:, :2])
    torch.testing.assert_close(layer(tokens)[:, 2:], plain[:, 2:] + waves(TINY) @ layer.place.T)
    with pytest.raises(AssertionError, match="47 tokens for 48 places"):
        layer(tokens[:, :47])


def test_the_encoder_gives_one_token_a_patch_behind_one_of_the_whole() -> None:
    encoder = tiny().garment_encoder
    garments = torch.rand(2, 3, 32, 24) * 2 - 1
    tokens = encoder(garments)
    assert tokens.shape == (2, 1 + 48, 32)
    torch.testing.assert_close(encoder(garments[1:]), tokens[1:])
    guided = encoder(garments, True)
    assert torch.equal(guided[2:], tokens)
    assert torch.equal(guided[:2], encoder.nothing.expand(2, 49, 32))


def test_the_schedule_falls_and_is_the_pipelines() -> None:
    kept = alphas_cumprod()
    assert (kept.diff() < 0).all()
    torch.testing.assert_close(tiny().scheduler.alphas_cumprod, kept.float(), rtol=1e-3, atol=1e-7)


def test_saved_pipelines_come_back_to_the_bit(tmp_path: Path) -> None:
    pipe = tiny()
    pipe.save_pretrained(tmp_path)
    again = SmallTryOnPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert torch.equal(run(again, guidance_scale=2.0), run(pipe, guidance_scale=2.0))
    assert (again.size, again.reference_tokens) == ((32, 24), (TINY, 1))
    for name in ("unet", "garment_encoder"):
        old, new = getattr(pipe, name).state_dict(), getattr(again, name).state_dict()
        assert list(old) == list(new)
        assert all(torch.equal(old[key], new[key]) for key in old)


@pytest.mark.filterwarnings("ignore:.*torch_dtype.*:FutureWarning")  # dtype= is not known to older versions
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_near_and_keeps_the_person_exactly(tmp_path: Path, dtype: torch.dtype) -> None:
    pipe, given = tiny(), inputs(2)
    pipe.save_pretrained(tmp_path)
    half = SmallTryOnPipeline.from_pretrained(tmp_path, torch_dtype=dtype)
    half.set_progress_bar_config(disable=True)
    assert half.unet.dtype == half.garment_encoder.dtype == dtype
    full, found = run(pipe, given, guidance_scale=1.5), run(half, given, guidance_scale=1.5)
    assert found.dtype == torch.float32
    kept = given["mask_image"].expand_as(found) == 0
    assert torch.equal(found[kept], given["image"][kept])
    assert 0 < (found - full).abs().max() < 40 * torch.finfo(dtype).eps


def test_missing_and_damaged_weights_are_refused_with_the_way_to_them(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^i2am: the weights of the small model must be .*train-small"):
        small.load(tmp_path)
    tiny().save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert small.load(tmp_path).unet.dtype == torch.float32
    assert small.load(tmp_path, torch_dtype=torch.bfloat16).unet.dtype == torch.bfloat16
    stored = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    stored.write_bytes(stored.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"^i2am: the model in .* cannot be read .*train-small"):
        small.load(tmp_path)


def test_the_shipped_weights_are_small_enough_and_load() -> None:
    assert sum(path.stat().st_size for path in small.WEIGHTS.rglob("*") if path.is_file()) <= 12_000_000
    pipe = small.load()
    assert (pipe.size, pipe.unet.dtype) == ((128, 96), torch.float32)
    assert json.loads((small.WEIGHTS / "training.json").read_text())["options"]["steps"] == Options().steps


def test_weights_that_are_elsewhere_are_brought_for_the_call() -> None:
    """accelerate's offloading takes them away between two calls of a module, the tokens of no garment included."""
    accelerate = pytest.importorskip("accelerate")
    pipe, expected = tiny(), run(tiny(), guidance_scale=2.0)
    accelerate.cpu_offload(pipe.unet, torch.device("cpu"))
    assert pipe.unet.conv_in.weight.device.type == "meta"
    assert torch.equal(run(pipe, guidance_scale=2.0), expected)
    assert "garment_encoder" in pipe._exclude_from_cpu_offload
    accelerate.cpu_offload(pipe.garment_encoder, torch.device("cpu"), preload_module_classes=["TransformerEncoderLayer"])
    assert pipe.garment_encoder.nothing.device.type == "meta"
    assert torch.equal(run(pipe, guidance_scale=2.0), expected)
