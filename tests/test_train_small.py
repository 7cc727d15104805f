"""The small try-on model: its parts, what is saved of it, and its training, which goes on to the same bits where it was stopped."""

from __future__ import annotations

import json
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from test_small_model import HEADS, REAL, TINY, inputs, run, tiny
from torch import Tensor

from i2am import cli
from i2am.models import small
from i2am.models.small import train
from i2am.models.small.encoder import GarmentEncoder, patches, pictures
from i2am.models.small.pipeline import SmallTryOnPipeline
from i2am.models.small.places import PlacedLinear, tie, waves
from i2am.models.small.schedule import alphas_cumprod
from i2am.models.small.train import Options
from i2am.models.small.unet import small_unet
from i2am.synthetic import numbers
from i2am.synthetic.numbers import TRAINING

pytestmark = pytest.mark.usefixtures("on_the_cpu")
OPTIONS = Options(steps=3, batch=2, warmup=2)


# Parts


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


# Saving


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


# Training


@pytest.fixture
def small_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same training with a smaller model and smaller pictures."""
    monkeypatch.setattr(train, "small_unet", lambda: small_unet((32, 32), heads=HEADS, tokens=32, grid=TINY))
    monkeypatch.setattr(train, "GarmentEncoder", lambda: GarmentEncoder(TINY, channels=16, tokens=32, heads=HEADS))
    monkeypatch.setattr(train, "SIZE", (32, 24))


@pytest.fixture
def trained(small_world: None, tmp_path: Path) -> Path:
    assert train.train(tmp_path / "whole", OPTIONS, device="cpu") == tmp_path / "whole" / "weights"
    return tmp_path / "whole"


def interrupt(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Ctrl-C when a step begins."""
    original = train.batch_of

    def stopped(options: Options, step: int, device: torch.device) -> Any:
        if step == at:
            raise KeyboardInterrupt
        return original(options, step, device)

    monkeypatch.setattr(train, "batch_of", stopped)


def tensors(value: Any) -> list[Any]:
    """Everything a state holds, in its order."""
    if isinstance(value, dict):
        value = list(value.values())
    return [one for part in value for one in tensors(part)] if isinstance(value, (list, tuple)) else [value]


def equal(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, Tensor) else one == other


def test_a_stopped_training_goes_on_to_the_same_bits(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        interrupt(patch, at=2)
        with pytest.raises(KeyboardInterrupt):
            train.train(out, OPTIONS, device="cpu", save_every=1)
    assert torch.load(out / "state.pt")["step"] == 2
    torch.manual_seed(99)  # what else draws in between is nothing to it
    train.train(out, OPTIONS, device="cpu", save_every=1)
    whole, again = (torch.load(folder / "state.pt") for folder in (trained, out))
    assert len(whole["losses"]) == 3
    assert whole.pop("seconds") > 0
    assert again.pop("seconds") > 0
    assert list(whole) == list(again)
    assert all(equal(one, other) for one, other in zip(tensors(whole), tensors(again), strict=True))
    for path in ("unet", "garment_encoder"):
        name = f"weights/{path}/diffusion_pytorch_model.safetensors"
        assert (trained / name).read_bytes() == (out / name).read_bytes()


def test_training_learns_and_keeps_the_average(trained: Path) -> None:
    """The kept weights are neither the first ones nor the last ones of the optimizer."""
    state = torch.load(trained / "state.pt")
    last, average, _ = state["parts"]
    kept = load_file(trained / "weights/unet/diffusion_pytorch_model.safetensors")
    first = load_file(trained / "checkpoints/0/unet/diffusion_pytorch_model.safetensors")
    assert kept["conv_in.weight"].dtype == torch.float16
    assert torch.equal(kept["conv_in.weight"], average["unet.conv_in.weight"].half())
    assert not torch.equal(kept["conv_in.weight"], last["unet.conv_in.weight"].half())
    assert not torch.equal(kept["conv_in.weight"], first["conv_in.weight"])
    assert all(0.01 < loss < 10 for loss in state["losses"])


def test_a_training_leaves_pipelines_a_picture_and_an_account(trained: Path) -> None:
    assert sorted(path.name for path in (trained / "checkpoints").iterdir()) == ["0", "3"]
    for folder in ("checkpoints/0", "checkpoints/3", "weights"):
        pipe = SmallTryOnPipeline.from_pretrained(trained / folder).to(torch.float32)
        pipe.set_progress_bar_config(disable=True)
        assert run(pipe).isfinite().all()
        torch.testing.assert_close(pipe.scheduler.alphas_cumprod, alphas_cumprod().float(), rtol=1e-3, atol=1e-7)
    with Image.open(trained / "loss.png") as image:
        assert min(image.size) > 200
        assert len(image.convert("RGB").getcolors(100_000)) > 2
    about = json.loads((trained / "weights" / "training.json").read_text())
    assert about["options"]["steps"] == 3
    assert about["pairs"] == 6
    assert about["hours"] >= 0
    assert "threads" in about["device"]
    assert {"i2am", "torch", "diffusers"} <= set(about["versions"])


def test_other_options_than_the_stopped_ones_are_refused_by_name(trained: Path) -> None:
    before = (trained / "state.pt").read_bytes()
    for other, named in (({"rate": 1.0, "seed": 4}, r"rate 0.001 -> 1.0, seed 0 -> 4"), ({"steps": 2}, "3 steps already")):
        with pytest.raises(ValueError, match=rf"^i2am: .*state.pt must be a run with these options, got {named}"):
            train.train(trained, Options(**{"steps": 4, "batch": 2, "warmup": 2, **other}), device="cpu")
    assert (trained / "state.pt").read_bytes() == before
    train.train(trained, Options(steps=4, batch=2, warmup=2), device="cpu")
    assert torch.load(trained / "state.pt")["step"] == 4


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"steps": 2.0}, {"batch": 0}, {"warmup": 0}, {"seed": -1}, {"seed": 2**32}, {"rate": 0.0}, {"rate": float("inf")},
     {"rate": float("nan")}],
    ids=str,
)  # fmt: skip
def test_options_that_cannot_train_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=f"^i2am: {name} must be"):
        train.train(tmp_path / "new", Options(**wrong))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("device", ["", "foo", "meta", "cuda:99"])
def test_a_device_that_is_not_here_is_refused(tmp_path: Path, device: str) -> None:
    with pytest.raises(ValueError, match=rf"^i2am: device must be one that this machine has, got '{device}' \("):
        train.train(tmp_path / "new", OPTIONS, device=device)
    assert not (tmp_path / "new").exists()


def test_folders_of_other_things_and_damaged_states_are_left_alone(small_world: None, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"^i2am: out must be a new folder, or an earlier training's, got .*, which holds thesis\.tex"):
        train.train(tmp_path, OPTIONS, device="cpu")
    for content in (b"junk", b""):
        (tmp_path / "state.pt").write_bytes(content)
        with pytest.raises(ValueError, match=r"^i2am: .*state\.pt is damaged .* delete it to begin anew"):
            train.train(tmp_path, OPTIONS, device="cpu")
    torch.save({"step": 3}, tmp_path / "state.pt")
    with pytest.raises(ValueError, match=r"state\.pt is damaged \(KeyError\)"):
        train.train(tmp_path, OPTIONS, device="cpu")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state.pt", "thesis.tex"]


def test_the_rate_rises_stays_and_falls_to_nothing() -> None:
    options = Options(steps=1000, warmup=10)
    rates = [options.rate_at(step) for step in range(1001)]
    assert rates[0] == pytest.approx(1e-4)
    assert rates[10:750] == [1e-3] * 740
    assert rates[1000] == 0
    assert all(later < earlier for earlier, later in pairwise(rates[750:]))
    assert train.milestones(1000) == [0, 100, 200, 400, 800, 1000]
    assert [round(options.rich_at(step), 3) for step in (0, 3000, 6000, 9000)] == [0.6, 0.4, 0.2, 0.2]


def test_training_pairs_are_not_held_out_pairs() -> None:
    learned = {row.numpy().tobytes() for seed in (0, 1) for row in numbers(40, TRAINING + seed)}
    held = {row.numpy().tobytes(): (seed, i) for seed in range(6) for i, row in enumerate(numbers(40, seed))}
    assert len(learned) == 80
    assert len(held) == 240
    assert not learned & set(held)
    first = train.batch_of(Options(batch=2), 3, torch.device("cpu"))
    assert torch.equal(first.source, train.draw(numbers(2, TRAINING, 6), size=(128, 96), rich=0.6).source)


def test_the_command_trains_and_says_how_to_go_on(
    small_world: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train-small", "--out", str(tmp_path), "--steps", "3", "--batch", "1", "--rate", "0.01", "--seed", "5", "--device", "cpu"]
    with monkeypatch.context() as patch:
        interrupt(patch, at=1)
        assert cli.main(command) == 130
    assert "same command" in capsys.readouterr().err
    assert cli.main(command) == 0
    assert str(tmp_path / "weights") in capsys.readouterr().out
    about = json.loads((tmp_path / "weights" / "training.json").read_text())["options"]
    assert about | {"steps": 3, "batch": 1, "rate": 0.01, "seed": 5} == about
    assert about["shift"] == Options().shift
    assert cli.main([*command, "--batch", "2"]) == 2
    assert "batch 1 -> 2" in capsys.readouterr().err
