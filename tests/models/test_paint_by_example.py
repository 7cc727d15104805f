"""Paint-by-Example's and DCI-VTON's checkpoints as a folder of diffusers, held against diffusers' own conversion."""

from __future__ import annotations

import hashlib
import importlib
import json
import re
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from checkpoints import Malicious
from checkpoints import shapes as stableviton_shapes
from evaluated import tree
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import default_collate

from benchmarks.parity.stableviton import weights
from i2am.cli.main import main
from i2am.data.vitonhd import VitonHD
from i2am.evaluation import resolve
from i2am.models import paint_by_example
from i2am.models.paint_by_example import LEFT_OUT, convert, parts, prefixes
from i2am.models.stableviton import ImageEncoder
from i2am.models.stableviton.convert import fill, read_tensors
from i2am.models.stableviton.names import left_out, renamed

__all__ = ["tree"]
pytestmark = pytest.mark.usefixtures("on_the_cpu")

SMALL: dict[str, int] = {"width": 32, "tokens": 32, "vae_width": 32, "hidden": 64, "layers": 5}
FIRST = "model.diffusion_model.input_blocks.0.0.weight"
QKV = "cond_stage_model.mapper.resblocks.0.attn.c_qkv.weight"
CLIP = "cond_stage_model.transformer.vision_model."
ADDED = ("control_model.", "lastzc.", "model.diffusion_model.warp_")
# of the 1390 lines "name shape", sorted, recorded from the code of Paint-by-Example at 52a7e37; those of DCI-VTON at 5baa6d1 are the same
ORIGINAL = "fa96a43a3cd79535b04e99fefbeeec7982800de7ad00625ea9dab160af20458b"
DEPTHS = (2, 2, 4, 4, 4)  # convolutions of VGG19, block by block


@cache
def full() -> dict[str, list[int]]:
    """The original's names and shapes: StableVITON's without what it adds."""
    names = {name: shape for name, shape in stableviton_shapes("full").items() if not name.startswith(ADDED)}
    return {**names, FIRST: [320, 9, 3, 3], CLIP + "embeddings.position_ids": [1, 257]}


@cache
def small() -> dict[str, list[int]]:
    """The same, narrower, with 5 of CLIP's 24 layers and so 1 of the mapper's 5."""
    deep = tuple(f"{CLIP}encoder.layers.{i}." for i in range(5, 24)) + tuple(f"cond_stage_model.mapper.resblocks.{i}." for i in range(1, 5))
    unit = {"model": (320, 32), "first_stage_model": (128, 32)}
    found = {}
    for name, shape in full().items():
        large, little = unit.get(name.split(".")[0], (1024, 64))
        narrow = [{768: 32}.get(n, n // large * little if n % large == 0 else n) for n in shape]
        if not name.startswith(deep):
            found[name] = narrow if "." in name or name == "learnable_vector" else shape
    return found


@cache
def checkpoint() -> dict[str, Tensor]:
    return weights(small())


def vgg() -> dict[str, Tensor]:
    found = {}
    for block, depth in enumerate(DEPTHS, 1):
        for i in range(1, depth + 1):
            found |= {f"vgg.conv{block}_{i}.{kind}": torch.zeros(1) for kind in ("weight", "bias")}
    return found


def hollow(sizes: dict[str, int] = SMALL) -> dict[str, Any]:
    """Parts without weights."""
    with torch.device("meta"):
        return parts(**sizes)


@cache
def refusing() -> dict[str, Any]:
    """Parts that no test fills."""
    return hollow()


def put(models: dict[str, Any], state: dict[str, Tensor], release: str = "paint-by-example") -> dict[str, Any]:
    fill(models, state, release, prefixes(models["image_encoder"]), LEFT_OUT[release])
    return models


@cache
def filled() -> dict[str, Any]:
    return put(hollow(), checkpoint())


def test_every_tensor_of_the_original_has_a_place() -> None:
    """At the release's widths nothing is computed: names and shapes, on the meta device."""
    own = {name: shape for name, shape in full().items() if not left_out(name)}
    assert hashlib.sha256("\n".join(f"{name} {shape}" for name, shape in sorted(own.items())).encode()).hexdigest() == ORIGINAL
    models = hollow({})
    with torch.device("meta"):
        put(models, {name: torch.empty(shape) for name, shape in full().items()})
    table = prefixes(models["image_encoder"])
    places = {(part, place) for part, found in (renamed(name, table) for name in own) for place in found}
    assert len(places) == len(own) + 2 * 2 * 5  # what is cut in three: weights and biases of 5 blocks
    assert places == {(part, place) for part, model in models.items() for place in model.state_dict()}


def test_the_schedule_and_averages_are_left_out() -> None:
    averages = {"model_ema.decay", "model_ema.num_updates", "model_ema.diffusion_modelinput_blocks00weight"}
    state = checkpoint() | {name: torch.zeros(1) for name in averages}
    put(hollow(), state)
    needless = {name for name in state if left_out(name, LEFT_OUT["paint-by-example"])}
    assert needless == averages | {name for name in full() if "." not in name and name != "learnable_vector"} | {
        CLIP + "embeddings.position_ids"
    }
    assert len(needless) == 3 + 13 + 1


def test_dci_vton_is_paint_by_example_and_a_loss() -> None:
    state = checkpoint() | vgg()
    assert len(vgg()) == 32
    one, other = filled(), put(hollow(), state, "dci-vton")
    for part, model in one.items():
        assert all(torch.equal(tensor, other[part].state_dict()[name]) for name, tensor in model.state_dict().items())
    with pytest.raises(ValueError, match=r"^i2am: the checkpoint is not one of paint-by-example's release\. Tensors 32 unexpected: vgg\."):
        put(refusing(), state)
    with pytest.raises(ValueError, match=r"^i2am: .* of dci-vton's release\. Tensors 1 unexpected: vgg\.conv6_1\.weight\.$"):
        put(refusing(), state | {"vgg.conv6_1.weight": torch.zeros(1)}, "dci-vton")


WRONG: dict[str, tuple[Callable[[], dict[str, Tensor]], str]] = {
    "unexpected": (lambda: checkpoint() | {"model_ema.x.y": torch.zeros(1), "lastzc.bias": torch.zeros(1)},
                   r"2 unexpected: model_ema\.x\.y, lastzc\.bias\.$"),
    "missing": (lambda: {k: v for k, v in checkpoint().items() if k not in (QKV, "learnable_vector")},
                r"4 missing: .*image_encoder\.uncond_vector.*to_q\.weight, .*to_k\.weight, .*to_v\.weight\.$"),
    "shape": (lambda: checkpoint() | {FIRST: torch.zeros(32, 4, 3, 3)},
              r"1 of another shape: .*input_blocks\.0\.0\.weight \[32, 4, 3, 3\] \(for unet\.conv_in\.weight \[32, 9, 3, 3\]\)\.$"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_every_wrong_tensor_is_named(wrong: str) -> None:
    state, message = WRONG[wrong]
    with pytest.raises(ValueError, match=f"^i2am: .*paint-by-example's release.*{message}"):
        put(refusing(), state())


# Held against others


def theirs(module: str, name: str) -> Any:
    """A function of the installed diffusers."""
    try:
        return getattr(importlib.import_module(f"diffusers.{module}"), name)
    except (ImportError, AttributeError) as error:
        pytest.skip(f"diffusers {diffusers.__version__} has no {module}.{name}: {error}")


@pytest.mark.parametrize("part", ["unet", "vae"])
@pytest.mark.parametrize("module", ["pipelines.stable_diffusion.convert_from_ckpt", "loaders.single_file_utils"])
def test_diffusers_own_conversion_says_the_same(module: str, part: str) -> None:
    model = filled()[part]
    their = theirs(module, f"convert_ldm_{part}_checkpoint")(dict(checkpoint()), dict(model.config))
    ours = model.state_dict()
    assert their.keys() == ours.keys()
    assert all(torch.equal(tensor.reshape(ours[name].shape), ours[name]) for name, tensor in their.items())


def test_diffusers_own_conversion_of_the_image_encoder_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    module = "pipelines.stable_diffusion.convert_from_ckpt"
    convert_theirs, known = theirs(module, "convert_paint_by_example_checkpoint"), theirs(module, "CLIPVisionConfig")
    encoder = filled()["image_encoder"]
    monkeypatch.setattr(known, "from_pretrained", classmethod(lambda cls, *args, **options: encoder.config))
    prefix = CLIP if hasattr(encoder.model, "vision_model") else CLIP.removesuffix("vision_model.")  # it knows transformers 4 alone
    state = {name.replace(CLIP, prefix): tensor for name, tensor in checkpoint().items() if not name.endswith("position_ids")}
    their, ours = convert_theirs(state).state_dict(), encoder.state_dict()
    assert their.keys() == ours.keys()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in their.items())


def test_the_image_encoder_says_what_stableviton_s_does() -> None:
    """Which was held against the original's numbers."""
    other = ImageEncoder(hidden_size=64, intermediate_size=256, num_hidden_layers=5, num_attention_heads=1, mapper_layers=1, tokens=32)
    fill({"image_encoder": other}, {k: v for k, v in checkpoint().items() if k.startswith(("cond_", "proj_out", "learnable"))})
    encoder = parts(**SMALL)["image_encoder"].eval()
    encoder.load_state_dict(filled()["image_encoder"].state_dict())
    pictures = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        token, nothing = encoder(pictures, return_uncond_vector=True)
        torch.testing.assert_close(torch.cat([nothing.expand_as(token), token]), other.eval()(pictures, guided=True))
    assert (token[0] - token[1]).abs().max() > 1e-3


# The folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, on_the_cpu: None) -> Path:
    place = tmp_path_factory.mktemp("pbe")
    torch.save({"state_dict": checkpoint(), "global_step": 5}, place / "model.ckpt")
    return convert(place / "model.ckpt", place / "out", models=hollow())


def test_the_evaluation_paints_with_it(folder: Path, tree: Path) -> None:
    model = resolve(f"paint-by-example:{folder}", size="64x48")
    pipe = model.pipeline
    for part, wanted in filled().items():
        found = getattr(pipe, part).state_dict()
        assert found.keys() == wanted.state_dict().keys()
        assert all(torch.equal(found[name], one) for name, one in wanted.state_dict().items())
    pipe.set_progress_bar_config(disable=True)
    data = VitonHD(tree, size=(64, 48))

    def painted(**changed: Tensor) -> Tensor:
        batch = default_collate([{**data[0], **changed}])
        return model.paint(batch, steps=2, guidance_scale=5.0, generators=[torch.Generator("cpu").manual_seed(0)])

    first = painted()
    assert first.shape == (1, 3, 64, 48)
    assert not torch.allclose(painted(garment=data[1]["garment"]), first, atol=1e-4)
    # what the notice says of DCI-VTON, which shows its UNet a warped garment there
    assert torch.equal(painted(person=torch.where(data[0]["mask"] > 0, 1 - data[0]["person"], data[0]["person"])), first)


def test_the_files_are_those_of_the_published_folder(folder: Path) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    assert index["_class_name"] == "PaintByExamplePipeline"
    assert index["safety_checker"] == [None, None]
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {"vae", "unet", "image_encoder", "scheduler", "feature_extractor"}
    assert not list(folder.rglob("*.bin"))
    schedule = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    known = {"_class_name": "PNDMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
             "num_train_timesteps": 1000, "clip_sample": False, "set_alpha_to_one": False, "skip_prk_steps": True,
             "steps_offset": 1, "trained_betas": None}  # fmt: skip
    assert schedule == {**schedule, **known}
    extractor = json.loads((folder / "feature_extractor" / "preprocessor_config.json").read_text())
    assert extractor["image_mean"] == [0.48145466, 0.4578275, 0.40821073]
    assert extractor["crop_size"] == {"height": 224, "width": 224}


def test_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(paint_by_example, "parts", partial(parts, **SMALL))
    save_file(checkpoint() | vgg(), tmp_path / "viton512.safetensors")
    main(["convert", "dci-vton", str(tmp_path / "viton512.safetensors"), str(tmp_path / "out")])
    assert "these are its weights, not its way of painting" in capsys.readouterr().out
    assert (tmp_path / "out" / "model_index.json").is_file()
    with pytest.raises(ValueError, match=r"^i2am: release must be one of paint-by-example, dci-vton, got 'cat-vton'"):
        convert(tmp_path / "viton512.safetensors", tmp_path / "other", "cat-vton")


# Pickles


def test_a_checkpoint_that_would_run_something_is_refused(tmp_path: Path) -> None:
    file, trace = tmp_path / "model.ckpt", tmp_path / "was-run"
    torch.save({"state_dict": checkpoint(), "callbacks": Malicious(trace)}, file)
    with pytest.raises(ValueError, match=r"^i2am: .*model\.ckpt cannot be read as tensors alone .*GLOBAL \w+\.mkdir"):
        convert(file, tmp_path / "out", models=refusing())
    assert not trace.exists()
    assert not (tmp_path / "out").exists()


def test_what_a_training_files_beside_the_tensors_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Lightning 1 did: a class for a key, numbers of NumPy; when the file is read nothing is imported for it."""
    names = ["pytorch_lightning", "pytorch_lightning.callbacks", "pytorch_lightning.callbacks.model_checkpoint"]
    for name in names:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    kind = type("ModelCheckpoint", (), {"__module__": names[-1]})
    monkeypatch.setattr(sys.modules[names[-1]], "ModelCheckpoint", kind, raising=False)
    trained = {"state_dict": {FIRST: checkpoint()[FIRST]}, "callbacks": {kind: {"best": kind(), "rate": np.float64(0.5)}}}
    torch.save(trained, tmp_path / "a.ckpt", _use_new_zipfile_serialization=False)
    for name in names:
        monkeypatch.delitem(sys.modules, name)
    written = (tmp_path / "a.ckpt").read_bytes()
    for core in (b"numpy.core.", b"numpy._core."):
        (tmp_path / "a.ckpt").write_bytes(re.sub(rb"numpy\._?core\.", core, written))
        found = read_tensors(tmp_path / "a.ckpt")
        assert list(found) == [FIRST]
        assert torch.equal(found[FIRST], checkpoint()[FIRST])
    assert not any(name in sys.modules for name in names)
