"""`i2am words`: a list painted from a folder, a look at each picture, and errors before anything is painted."""

from __future__ import annotations

import json
from pathlib import Path

import pipelines
import pytest
from PIL import Image

from i2am.cli.main import main
from i2am.maps.words import WordMaps

pytestmark = pytest.mark.usefixtures("on_the_cpu")
COMMAND = "words --prompts prompts.csv --model sd15 --out out --size 64x48 --steps 2 --argument eta=0.5 --layers *attn2 --cpu"


def test_a_list_is_painted_and_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    pipelines.sd15().pipe.save_pretrained("sd15")
    Path("prompts.csv").write_text("id,prompt,seed\none,a red shirt on the cat,3\ntwo,the and a,\n")
    assert main([*COMMAND.split(), "--words", "cat"]) == 2
    said = capsys.readouterr().err
    assert "i2am: 1 prompt of 2 cannot be painted, and nothing was painted." in said
    assert "  two: it has no 'cat': 'the and a'" in said
    assert not Path("out").exists()
    assert main(COMMAND.split()) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Look at out/looks"
    options = json.loads(Path("out/run.json").read_text())["options"]
    assert (options["arguments"], options["layers"], options["size"], options["prompts"]) == ({"eta": 0.5}, ["*attn2"], [64, 48], 2)
    assert Image.open("out/images/one.png").size == (48, 64)
    assert list(WordMaps.load("out/words/two.safetensors")) == ["the", "and", "a"]
    looks = {name: Image.open(f"out/looks/{name}.jpg").size for name in ("one", "two")}
    assert looks["one"][0] == looks["two"][0]  # red, shirt and cat; a prompt of function words shows all of them
    assert main([*COMMAND.split(), "--limit", "1", "--seed", "1"]) == 2
    assert "seed: 0 there, 1 now" in capsys.readouterr().err


def test_a_folder_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prompts.txt").write_text("a cat\n")
    for words, said in (
        ("--model nowhere", "model must be a folder with a model_index.json"),
        ("--model nowhere --argument prompt=x", "arguments must be of the pipeline's call, but not what a study decides"),
        ("--model nowhere --parts 7", "7"),
        ("--prompts none.txt --model nowhere", "none.txt"),
    ):
        assert main(["words", "--prompts", "prompts.txt", "--out", "out", *words.split()]) == 2
        assert said in capsys.readouterr().err
    assert not Path("out").exists()
