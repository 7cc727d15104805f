"""Ctrl-C: every command ends alike, and says what is kept and how to go on."""

import json

import pytest
from viewed import known

from i2am.cli import main as cli

pytest.importorskip("diffusers")
COMMANDS = {  # command -> where the work is, what is said
    "explain pipe": ("i2am.cli.explain.loaded", "Nothing was written."),
    "families": ("i2am.cli.families.wrapped", "Nothing was written."),
    "view run.safetensors --no-open": ("i2am.viewer.html.within_size", "No page was written"),
    "demo --out new": ("i2am.cli.demo_pictures.paint", "What new may hold is not whole. The same command begins anew."),
    "evaluate --data data --out new --cpu": ("i2am.evaluation.run.VitonHD", "The same command goes on from what new holds."),
    "words --prompts prompts.txt --out new --cpu": ("i2am.studies.run.pipeline_of", "The same command goes on from what new holds."),
    "imacs --maps run.safetensors --data data --out new": ("i2am.evaluation.rescore.VitonHD", "No report was written."),
    "detect --maps run.safetensors --boxes boxes.json": ("i2am.maps.levels.load", "No report was written."),
    "convert stableviton model.ckpt new": ("torch.load", "Nothing is left in new."),
    "syntax --prompts list.txt --out new --conllu x.conllu": ("i2am.studies.syntax.read_conllu", "The same command goes on from what new"),
    "prompts pairs --count 2 --out new.csv": ("i2am.language.making.pairs", "No list was written."),
    "words --prompts prompts.txt --out new": ("i2am.studies.words.paint", "The same command goes on from what new holds."),
    "entangle pairs --count 4 --out new": ("i2am.studies.pairs.paint", "The same command goes on from what new holds."),
    "train-scenes --out new --device cpu": ("i2am.models.scenes.train.Model", "The same command goes on from what new last saved."),
    "train-small --out new --device cpu": ("i2am.models.small.train.Model", "The same command goes on from what new last saved."),
}


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_how_to_go_on(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    known(1).save(tmp_path / "run.safetensors")
    (tmp_path / "prompts.txt").write_text("a red circle\n")
    (tmp_path / "model.ckpt").write_bytes(b"x")
    (tmp_path / "list.txt").write_text("a dog\n")
    image, box = {"id": 1, "file_name": "run.jpg", "height": 9, "width": 9}, {"image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5]}
    content = {"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "x"}]}
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    work, said = COMMANDS[command]
    monkeypatch.setattr(work, interrupt)
    assert cli.main(command.split()) == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"i2am: stopped. {said}")
    assert not (tmp_path / "run.html").exists()


def test_no_command_is_left_out():
    assert {command.split()[0] for command in COMMANDS} == {add.__name__[4:].replace("_", "-") for add in cli.COMMANDS}
