"""From a name to a pipeline: a folder, a function, or the reason why not."""

import sys
from types import SimpleNamespace

import pipelines
import pytest

from i2am.models.folder import pipeline_of

pytestmark = pytest.mark.usefixtures("on_the_cpu")


def test_a_function_of_ones_own_returns_the_pipeline(tmp_path, monkeypatch):
    (tmp_path / "my_pipe.py").write_text("def build():\n    return print\n\nnothing = None\n\ndef wrong():\n    return 7\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert pipeline_of("my_pipe:build") is print
    for name, said in {
        "my_pipe:nothing": "'nothing', which is not one",
        "my_pipe:wrong": "what my_pipe:wrong returns must be a pipeline, got 7",
        "no_such:build": "that can be imported from here",
        "folder/my_pipe:build": "without folder and .py",
        "nowhere": "model must be a folder with a model_index.json",
        "my_pipe:": "model must be a folder",
    }.items():
        with pytest.raises(ValueError, match=said.replace("(", r"\(")):
            pipeline_of(name)


def test_a_folder_is_loaded_in_the_type_asked_for_and_a_pipeline_is_itself(tmp_path):
    pipe = pipelines.sd15().pipe
    pipe.save_pretrained(tmp_path / "sd:15")  # a folder's name may look like a function
    assert str(pipeline_of(tmp_path / "sd:15", "float16").unet.dtype) == "torch.float16"
    assert pipeline_of(pipe) is pipe
    with pytest.raises(ValueError, match="dtype must be one of float32"):
        pipeline_of(tmp_path, "int8")
    with pytest.raises(ValueError, match="model must be a pipeline"):
        pipeline_of(7)
    with pytest.raises(ValueError, match="model must be a pipeline"):
        pipeline_of(type(pipe))


def test_names_of_the_world_of_words_are_its_weights(monkeypatch, tmp_path):
    scenes = SimpleNamespace(WEIGHTS="free", WEIGHTS_BOUND="bound", load=lambda folder: folder)
    monkeypatch.setitem(sys.modules, "i2am.models.scenes", scenes)
    assert pipeline_of("scenes") == "free"
    assert pipeline_of("scenes-bound") == "bound"
    assert pipeline_of(f"scenes:{tmp_path}") == tmp_path
