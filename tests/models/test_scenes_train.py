"""Training the small text-to-image model: it goes on to the same bits, takes other sizes' weights, and learns the world it is asked to."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import scene_model
import torch
from safetensors.torch import load_file

from i2am.cli import main as cli
from i2am.data.scenes import draw_scenes
from i2am.data.synthetic.numbers import TRAINING
from i2am.models.scenes import SceneTextEncoder, load, train
from i2am.models.scenes.pipeline import WEIGHTS
from i2am.models.scenes.text import tokenizer
from i2am.models.scenes.train import Options
from i2am.models.scenes.unet import scene_unet
from i2am.models.small.schedule import alphas_cumprod

pytestmark = pytest.mark.usefixtures("on_the_cpu")
OPTIONS = Options(steps=3, batch=2, warmup=2, size=scene_model.SIZE)


@pytest.fixture(autouse=True)
def smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "scene_unet", lambda grid: scene_unet((16, 16), heads=2, tokens=32, grid=grid))
    monkeypatch.setattr(train, "SceneTextEncoder", lambda: SceneTextEncoder(channels=16, heads=2))


def interrupt(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    original = train.batch_of

    def stopped(options: Options, step: int) -> Any:
        if step == at:
            raise KeyboardInterrupt
        return original(options, step)

    monkeypatch.setattr(train, "batch_of", stopped)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: one for part in ("unet", "text_encoder")
            for name, one in load_file(folder / part / "diffusion_pytorch_model.safetensors").items()}  # fmt: skip


def test_a_stopped_training_goes_on_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train.train(tmp_path / "whole", OPTIONS, device="cpu")
    with monkeypatch.context() as patch:
        interrupt(patch, at=2)
        with pytest.raises(KeyboardInterrupt):
            train.train(tmp_path / "stopped", OPTIONS, device="cpu", save_every=1)
    assert train.train(tmp_path / "stopped", OPTIONS, device="cpu", save_every=1) == tmp_path / "stopped" / "weights"
    whole, again, first = (weights(tmp_path / name) for name in ("whole/weights", "stopped/weights", "whole/checkpoints/0"))
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert not torch.equal(whole["conv_in.weight"], first["conv_in.weight"])
    assert not torch.equal(whole["word.weight"], first["word.weight"])
    about = json.loads((tmp_path / "whole" / "weights" / "training.json").read_text())
    assert (about["scenes"], about["options"]["bound"], about["options"]["shift"]) == (6, False, Options.shift)
    assert about["final_loss"] > 0
    assert (tmp_path / "whole" / "loss.png").is_file()
    painted = scene_model.run(load(tmp_path / "whole" / "weights"))
    assert painted.shape == (1, 3, *scene_model.SIZE)


def test_weights_of_another_size_are_where_it_begins(tmp_path: Path) -> None:
    """Places are parts of the canvas, so that they hold on every grid."""
    small = train.train(tmp_path / "small", replace(OPTIONS, steps=1), device="cpu")
    larger = train.train(tmp_path / "larger", replace(OPTIONS, steps=1, size=(48, 64), start=str(small)), device="cpu")
    begun = weights(tmp_path / "larger" / "checkpoints" / "0")
    assert all(torch.equal(begun[name], one) for name, one in weights(small).items())
    assert load(larger).size == (48, 64)


def test_a_batch_is_of_the_training_seeds_and_the_world_that_was_asked_for() -> None:
    for bound in (False, True):
        scenes = train.batch_of(replace(OPTIONS, bound=bound, seed=5), 7)
        expected = draw_scenes(2, seed=TRAINING + 5, first=14, size=scene_model.SIZE, bound=bound)
        assert scenes.prompts == expected.prompts
        assert torch.equal(scenes.pictures, expected.pictures)


def test_things_count_more_than_the_ground() -> None:
    """A loss with its weight on things is the plain one and twice that of the things' share."""
    model, scenes, kept, words = scene_model.networks(), train.batch_of(OPTIONS, 0), alphas_cumprod(16.0).float(), tokenizer()
    plain, twice, three = (train.loss_of(model, scenes, words, replace(OPTIONS, things=share), 0, kept, torch.device("cpu")).item()
                           for share in (0.0, 1.0, 2.0))  # fmt: skip
    assert plain < twice
    assert three - twice == pytest.approx(twice - plain, rel=1e-4)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"seed": -1}, {"rate": 0.0}, {"size": (20, 24)}, {"size": 8}], ids=str)
def test_options_that_cannot_train_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=f"^i2am: {name} must be"):
        train.train(tmp_path / "new", replace(OPTIONS, **wrong))
    assert not (tmp_path / "new").exists()


def test_the_command_asks_for_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train-scenes", "--out", str(tmp_path / "new"), "--steps", "1", "--batch", "1", "--size", "24", "32", "--bound",
               "--device", "cpu"]  # fmt: skip
    assert cli.main(command) == 0
    about = json.loads((tmp_path / "new" / "weights" / "training.json").read_text())["options"]
    assert about | {"steps": 1, "batch": 1, "size": [24, 32], "bound": True} == about
    capsys.readouterr()
    assert cli.main([*command[:-3], "--device", "cpu"]) == 2
    assert "bound True -> False" in capsys.readouterr().err
    seen: list[Options] = []
    monkeypatch.setattr(train, "train", lambda out, options, device: seen.append(options))
    assert cli.main(["train-scenes", "--out", "new", "--start", "shipped", "--shift", "8", "--cooldown", "0"]) == 0
    assert seen == [Options(start=str(WEIGHTS), shift=8.0, cooldown=0.0)]
