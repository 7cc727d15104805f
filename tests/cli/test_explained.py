"""`i2am explain`: a pipeline from a folder, printed, or an error that says what to give."""

from __future__ import annotations

from pathlib import Path

import pipelines
import pytest
from PIL import Image

import i2am
from i2am.cli.explain import given, value_of
from i2am.cli.main import main

pytestmark = pytest.mark.usefixtures("on_the_cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pipelines")
    pipelines.sd15().pipe.save_pretrained(path / "sd15")
    pipelines.instruct_pix2pix().pipe.save_pretrained(path / "pix2pix")
    Image.new("RGB", (48, 64), "grey").save(path / "picture.png")
    return path


def test_a_folder_is_loaded_run_and_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(folder / "sd15"), "--prompt", "a cat", "--size", "64x48"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("StableDiffusionPipeline: works with an IP-Adapter loaded")
    assert "words: keys 0:77; generated: queries 0:192 on 16 x 12" in printed
    assert "conditional: rows 1:2 of 2" in printed
    call = {"prompt": "a cat", "height": 64, "width": 48}
    assert printed == f"{i2am.explain(pipelines.sd15().pipe, **call)!r}\n"


def test_pictures_and_arguments_are_the_calls(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pix2pix = ["explain", str(folder / "pix2pix"), "--image", str(folder / "picture.png")]
    assert main([*pix2pix, "--argument", "image_guidance_scale=1.5"]) == 0
    printed = capsys.readouterr().out
    assert "conditional: rows 0:1 of 3" in printed
    assert "float32 [3, 8, 16, 12]" in printed
    assert main([*pix2pix, "--argument", "guidance_scale=1"]) == 0
    assert "conditional: rows 0:1 of 1" in capsys.readouterr().out


def test_errors_say_what_to_give(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(folder)]) == 2
    assert "FOLDER must be a folder with a model_index.json" in capsys.readouterr().err
    assert main(["explain", str(folder / "sd15"), "--argument", "colour=red"]) == 2
    assert "a parameter of StableDiffusionPipeline must be one of prompt, height" in capsys.readouterr().err
    assert main(["explain", str(folder / "sd15"), "--argument", "colour"]) == 2
    assert "--argument must be NAME=VALUE" in capsys.readouterr().err
    assert main(["explain", str(folder / "sd15"), "--reference", "elsewhere"]) == 2
    assert 'reference must be "auto"' in capsys.readouterr().err
    assert main(["explain", str(folder / "sd15"), "--argument", "output_type=latent", "--argument", "callback_on_step_end=no"]) == 2
    printed = capsys.readouterr()
    assert "words: keys 0:77" in printed.out  # what was seen until it failed
    assert "i2am: the call of StableDiffusionPipeline failed: TypeError" in printed.err
    (folder / "broken").mkdir()
    (folder / "broken" / "model_index.json").write_text('{"_class_name": "NoSuchPipeline", "_diffusers_version": "0.42.1"}')
    assert main(["explain", str(folder / "broken")]) == 2
    assert "could not be loaded" in capsys.readouterr().err


def test_values_are_read_as_one_means_them() -> None:
    texts = ("7", "7.5", "true", "False", "none", "a cat", "1e-3")
    assert [value_of(text) for text in texts] == [7, 7.5, True, False, None, "a cat", 0.001]
    assert given(["a=1", "b=x=y"], "--argument") == {"a": "1", "b": "x=y"}
    assert given(["file.png", "mask_image=m.png"], "--image", "image") == {"image": "file.png", "mask_image": "m.png"}
