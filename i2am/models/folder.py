"""From what a user writes to a pipeline: a folder of diffusers', a name of ours, or a function of one's own."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from i2am.common.checks import refuse, said
from i2am.common.extras import need

DTYPES = ("float32", "float16", "bfloat16")
SCENES = "i2am.models.scenes"
WRITTEN = 'a folder with a model_index.json, as save_pretrained writes it, "scenes", or package.module:function that returns a pipeline'


def pipeline_of(model: Any, dtype: str = "float32", what: str = "model") -> Any:
    """The pipeline of a folder, of "scenes", "scenes:FOLDER" or "scenes-bound", or of "package.module:function"; a pipeline as it is.

    dtype: of a folder's weights; a function decides by itself. what: the user's name of the option.
    """
    if dtype not in DTYPES:
        refuse("dtype", f"one of {', '.join(DTYPES)}", said(dtype), "float32 is the default.")
    if not isinstance(model, (str, Path)):
        if not callable(model) or isinstance(model, type):
            refuse(what, f"a pipeline, {WRITTEN}", said(model), "Load the pipeline, or name its folder.")
        return model
    name, _, rest = str(model).partition(":")
    if (Path(model) / "model_index.json").is_file():
        return from_folder(model, dtype)
    if name in ("scenes", "scenes-bound"):
        need(f"the model {name}", "diffusers", "transformers")
        scenes = importlib.import_module(SCENES)
        return scenes.load(Path(rest) if rest else scenes.WEIGHTS if name == "scenes" else scenes.WEIGHTS_BOUND)
    if not rest.isidentifier():
        refuse(what, WRITTEN, said(str(model)), "Name a pipeline's folder; nothing is downloaded.")
    found = imported(str(model), name, rest)()
    if not callable(found) or isinstance(found, type):
        refuse(f"what {model} returns", "a pipeline", said(found), "It is called without arguments.")
    return found


def from_folder(folder: str | Path, dtype: str) -> Any:
    """What DiffusionPipeline.from_pretrained finds; nothing is downloaded."""
    need("a pipeline's folder", "diffusers", "transformers")
    import torch
    from diffusers import DiffusionPipeline

    try:
        return DiffusionPipeline.from_pretrained(folder, torch_dtype=getattr(torch, dtype), local_files_only=True)
    except (OSError, ValueError, AttributeError, ImportError, KeyError, TypeError) as error:
        raise ValueError(f"i2am: the pipeline in {folder} could not be loaded: {type(error).__name__}: {error}") from error


def imported(model: str, module: str, name: str) -> Callable[..., Any]:
    """A function of somebody's module, which may lie in the folder one works in."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    if not all(part.isidentifier() for part in module.split(".")):
        refuse("model", "package.module:function", repr(model), "Write a file's name as Python imports it: without folder and .py.")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        refuse("model", "package.module:function that can be imported from here", f"{model!r} ({error})", "Install it, or change folder.")
    if not callable(found):
        refuse("model", f"a function of {module}", f"{name!r}, which is not one", "Write package.module:function.")
    return found
