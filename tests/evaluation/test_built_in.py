"""Models that an evaluation knows by name, read from folders as users have them: Paint-by-Example and IP-Adapters, small and random."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pipelines
import pytest
import torch
from adapters import adapter, vision
from evaluated import tree
from parts import autoencoder, clip_text, clip_tokenizer, ddim, ready, unet
from pipelines import image_processor
from safetensors.torch import save_file
from stableviton import tiny
from torch.utils.data import default_collate

from i2am.data.synthetic import write_vitonhd
from i2am.data.vitonhd import VitonHD
from i2am.evaluation import TryOn, evaluate, resolve
from i2am.evaluation.built_in import pixels
from i2am.score.correspondence import NAMES

__all__ = ["tree"]
pytestmark = pytest.mark.usefixtures("on_the_cpu")
SIZE = "64x48"


@pytest.fixture(scope="module")
def paint_by_example(tmp_path_factory: pytest.TempPathFactory, on_the_cpu: None) -> Path:
    pipe = pipelines.paint_by_example().pipe
    pipe.register_modules(feature_extractor=image_processor())
    pipe.save_pretrained(folder := tmp_path_factory.mktemp("pbe"))
    return Path(folder)


@pytest.fixture(scope="module")
def inpainting(tmp_path_factory: pytest.TempPathFactory, on_the_cpu: None) -> Path:
    """An inpainting model with its image encoder, and beside it the files of three adapters."""
    from diffusers import StableDiffusionInpaintPipeline

    torch.manual_seed(0)
    pipe = StableDiffusionInpaintPipeline(
        vae=autoencoder(), text_encoder=clip_text(32), tokenizer=clip_tokenizer(), unet=unet(in_channels=9), scheduler=ddim(),
        safety_checker=None, feature_extractor=image_processor(), image_encoder=vision(), requires_safety_checker=False,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("inpainting")
    ready(pipe).save_pretrained(folder / "base")
    for variant in ("plain", "plus", "full"):
        found = adapter(variant, pipe.unet)
        save_file(
            {f"{part}.{name}": tensor for part, named in found.items() for name, tensor in named.items()}, folder / f"{variant}.safetensors"
        )
    return Path(folder)


@pytest.fixture(scope="module")
def stableviton(tmp_path_factory: pytest.TempPathFactory, on_the_cpu: None) -> Path:
    tiny().save_pretrained(folder := tmp_path_factory.mktemp("stableviton"))
    return Path(folder)


def test_stableviton_from_a_folder(stableviton: Path, tmp_path: Path) -> None:
    """The release's convention by itself: R2G of the UNet as 1 - A, G2R of one warp block, forced."""
    height, width = tiny().size
    tree = write_vitonhd(tmp_path / "data", 2, seed=3, size=(height, width))
    data = VitonHD(tree, size=(height, width))
    model = resolve(f"stableviton:{stableviton}", size=f"{height}x{width}")
    together = painted(model, [data[i] for i in range(2)], 1.0)
    assert torch.allclose(together[1], painted(model, [data[1]], 1.0)[0], atol=1e-4)
    noisy = resolve(f"stableviton:{stableviton}", size=f"{height}x{width}", start_from_image="no")
    assert not torch.allclose(painted(noisy, [data[1]], 1.0)[0], together[1], atol=1e-4)
    evaluate(tree, model, out=tmp_path / "out", steps=2)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert list(report["metrics"]) == ["imacs_g", "imacs_r", *NAMES]
    assert report["convention"]["name"] == "stableviton"
    assert all(found["count"] == 2 for found in report["metrics"].values())


def with_adapter(folder: Path, variant: str) -> TryOn:
    words = {"adapter": str(folder), "subfolder": "", "weight_name": f"{variant}.safetensors", "image_encoder_folder": "", "size": SIZE}
    return resolve(f"ip-adapter:{folder / 'base'}", **words)


def painted(model: TryOn, pairs: list[dict[str, Any]], guidance_scale: float = 5.0) -> torch.Tensor:
    model.pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator("cpu").manual_seed(pair["index"]) for pair in pairs]
    return model.paint(default_collate(pairs), steps=2, guidance_scale=guidance_scale, generators=generators)


@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
@pytest.mark.parametrize("name", ["paint-by-example", "plain", "full"])
def test_a_batch_paints_what_single_pairs_do(
    name: str, guidance_scale: float, tree: Path, paint_by_example: Path, inpainting: Path
) -> None:
    """Each pair its own garment: with diffusers' way of passing adapters' images all rows would get all of them."""
    by_name = name == "paint-by-example"
    model = resolve(f"{name}:{paint_by_example}", size=SIZE) if by_name else with_adapter(inpainting, name)
    data = VitonHD(tree, size=(64, 48))
    pairs = [data[i] for i in range(3)]
    together = painted(model, pairs, guidance_scale)
    assert together.shape == (3, 3, 64, 48)
    for i, pair in enumerate(pairs):
        alone = painted(model, [pair], guidance_scale)[0]
        assert torch.allclose(together[i], alone, atol=1e-4)
        other = painted(model, [{**pair, "garment": pairs[i - 1]["garment"]}], guidance_scale)[0]
        assert not torch.allclose(other, alone, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "scores", "convention"),
    [
        ("paint-by-example", ["imacs_g"], "paint-by-example"),
        ("plus", ["imacs_g"], "method"),
        ("full", ["imacs_g", "imacs_r", *NAMES], "method"),
    ],
)
def test_they_are_evaluated(
    name: str, scores: list[str], convention: str, tree: Path, paint_by_example: Path, inpainting: Path, tmp_path: Path
) -> None:
    by_name = name == "paint-by-example"
    model = resolve(f"{name}:{paint_by_example}", size=SIZE) if by_name else with_adapter(inpainting, name)
    evaluate(tree, model, out=tmp_path, limit=3, steps=2, batch_size=2)
    report = json.loads((tmp_path / "report.json").read_text())
    assert list(report["metrics"]) == scores
    assert all(found["count"] == 3 and -3 <= found["mean"] <= 1 for found in report["metrics"].values())
    assert report["convention"]["name"] == convention
    assert report["convention"]["r2g"]["invert"] is by_name


@pytest.mark.parametrize("name", ["paint-by-example", "full"])
def test_the_whole_garment_is_seen(name: str, tree: Path, paint_by_example: Path, inpainting: Path) -> None:
    """Its top rows as well: a picture that is not square would be cut to its middle."""
    by_name = name == "paint-by-example"
    model = resolve(f"{name}:{paint_by_example}", size=SIZE) if by_name else with_adapter(inpainting, name)
    pair = VitonHD(tree, size=(64, 48))[0]
    changed = {**pair, "garment": pair["garment"].clone()}
    changed["garment"][:, :6] = 0
    assert not torch.allclose(painted(model, [changed]), painted(model, [pair]), atol=1e-5)


def test_what_they_need_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("paint-by-example", "ip-adapter", "stableviton"):
        with pytest.raises(ValueError, match="the folder "):
            resolve(name)
        with pytest.raises(ValueError, match=r"cannot be read from \S*empty \(.*Give a folder that diffusers wrote"):
            resolve(f"{name}:{tmp_path / 'empty'}")
    for scale in ("abc", "nan"):
        with pytest.raises(ValueError, match="scale must be a number"):
            resolve("ip-adapter:nowhere", scale=scale)
    with pytest.raises(ValueError, match="dtype must be one of float32"):
        resolve("small", dtype="int8")
    assert pixels("512x384") == (512, 384)
    for wrong in ("512", "512x", "0x3", "512*384", "999999x999999"):
        with pytest.raises(ValueError, match="HEIGHTxWIDTH"):
            pixels(wrong)
