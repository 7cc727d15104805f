"""The small try-on model: its parts, what is saved of it, and its training, which goes on to the same bits where it was stopped."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from small_model import HEADS, TINY, run
from torch import Tensor

from i2am.cli import main as cli
from i2am.data.synthetic import numbers
from i2am.data.synthetic.numbers import TRAINING
from i2am.models.small import train
from i2am.models.small.encoder import GarmentEncoder
from i2am.models.small.pipeline import WEIGHTS, SmallTryOnPipeline
from i2am.models.small.schedule import alphas_cumprod
from i2am.models.small.train import Options
from i2am.models.small.unet import small_unet
from i2am.models.training import milestones

pytestmark = pytest.mark.usefixtures("on_the_cpu")
OPTIONS = Options(steps=3, batch=2, warmup=2)
REFINING = Options(steps=3, batch=2, warmup=1, dcml=0.1, tv=0.01, cwg=20.0, loss_layers="up_blocks*attn2")


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


@pytest.mark.parametrize("losses", [False, True])
def test_a_stopped_training_goes_on_to_the_same_bits(losses: bool, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, options = tmp_path / "stopped", OPTIONS
    if losses:
        options = replace(REFINING, start=str(trained / "weights"))
        trained = tmp_path / "refined"
        train.train(trained, options, device="cpu")
    with monkeypatch.context() as patch:
        interrupt(patch, at=2)
        with pytest.raises(KeyboardInterrupt):
            train.train(out, options, device="cpu", save_every=1)
    assert torch.load(out / "state.pt")["step"] == 2
    torch.manual_seed(99)  # what else draws in between is nothing to it
    train.train(out, options, device="cpu", save_every=1)
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


def on_maps(folder: Path) -> float:
    """The losses on the maps of a folder's networks, of pairs that none was trained with."""
    model, pairs, kept = train.networks(str(folder)), train.batch_of(replace(REFINING, seed=9), 0, torch.device("cpu")), alphas_cumprod(6.0)
    with train.watched(model, REFINING) as run:
        both = train.loss_of(model, pairs, REFINING, 0, kept.float(), run)
    return (both - train.loss_of(model, pairs, REFINING, 0, kept.float())).item()


def test_losses_on_maps_fall_where_they_are_asked_for(trained: Path, tmp_path: Path) -> None:
    """Two trainings on the same pairs from the same weights."""
    start = trained / "weights"
    asked = replace(REFINING, start=str(start), steps=12)
    other = replace(asked, dcml=0.0, tv=0.0, cwg=0.0)
    first = on_maps(start)
    refined, plain = (on_maps(train.train(tmp_path / name, options, device="cpu")) for name, options in (("r", asked), ("p", other)))
    assert refined < first - 0.1 * abs(first)
    assert refined < plain - 0.1 * abs(first)


def test_a_training_begins_with_the_weights_it_is_given(trained: Path, tmp_path: Path) -> None:
    train.train(tmp_path / "on", replace(OPTIONS, steps=1, start=str(trained / "weights")), device="cpu")
    for path in ("unet", "garment_encoder"):
        begun, given = (load_file(folder / path / "diffusion_pytorch_model.safetensors")
                        for folder in (tmp_path / "on" / "checkpoints" / "0", trained / "weights"))  # fmt: skip
        assert all(torch.equal(begun[name], given[name]) for name in given)


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
     {"rate": float("nan")}, {"tv": -1.0}, {"cwg": float("nan")}, {"dcml": "much"}],
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
    assert milestones(1000) == [0, 100, 200, 400, 800, 1000]
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


def test_the_command_refines_from_other_weights(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, start = tmp_path / "refined", str(trained / "weights")
    command = ["train-small", "--out", str(out), "--steps", "2", "--batch", "2", "--warmup", "1", "--start", start, "--device", "cpu",
               "--losses", "dcml=0.1", "tv=1e-2", "--losses", "cwg=20", "--loss-layers", "up_blocks*attn2"]  # fmt: skip
    assert cli.main(command) == 0
    about = json.loads((out / "weights" / "training.json").read_text())["options"]
    asked = {"steps": 2, "warmup": 1, "start": start, "dcml": 0.1, "tv": 0.01, "cwg": 20.0, "loss_layers": "up_blocks*attn2"}
    assert about | asked == about
    capsys.readouterr()
    assert cli.main([*command, "--losses", "tv=0.1", "--warmup", "2"]) == 2
    assert "warmup 1 -> 2, tv 0.01 -> 0.1" in capsys.readouterr().err
    seen: list[Options] = []
    monkeypatch.setattr(train, "train", lambda out, options, device: seen.append(options))
    assert cli.main(["train-small", "--out", "new", "--start", "shipped"]) == 0
    assert seen == [Options(start=str(WEIGHTS))]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--losses", "tv"], "--losses must be dcml=WEIGHT or tv=WEIGHT or cwg=WEIGHT, got 'tv'. The paper's are dcml=0.01"),
        (["--losses", "tv=0.1", "warmth=1"], "got 'warmth=1'"),
        (["--losses", "cwg=much"], "got 'cwg=much'"),
        (["--losses", "=1"], "got '=1'"),
        (["--losses", "tv=-1"], "tv must be 0 or more, and finite, got -1.0"),
        (["--losses", "dcml=nan"], "dcml must be 0 or more, and finite"),
        (["--losses", "tv=1", "--loss-layers", "nowhere*"], "nowhere*"),
        (["--warmup", "0"], "warmup must be a whole number of at least 1"),
        (["--start", "missing"], "missing"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_words_that_cannot_be_meant_are_refused_by_name(
    small_world: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    command = ["train-small", "--out", str(tmp_path / "new"), "--steps", "1", "--batch", "1", "--device", "cpu", *words]
    assert cli.main(command) == 2
    error = capsys.readouterr().err
    assert error.startswith("i2am: ")
    assert said in error
    assert not (tmp_path / "new" / "weights").exists()
