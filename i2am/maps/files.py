"""Maps on disk: one safetensors file, whose metadata says in JSON all that is needed to read it in ten years.

Tensors are named "<place of the layer in the metadata>.<name of the sums>", pictures "pictures.generated.<image>" and
"pictures.references.<place>.<image>"; loading reads numbers and JSON, and never runs anything.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from i2am.common import outputs
from i2am.common.checks import as_path, refuse, said
from i2am.maps.kept_pictures import PREFIX, Pictures
from i2am.maps.kept_pictures import tensor_names as picture_names
from i2am.maps.layer_sums import SUMS, LayerSums
from i2am.maps.prompt import Prompt
from i2am.maps.run_sums import Recorded, Some
from i2am_kernels.fields import MOMENTS

FORMAT = "i2am maps 1"


def versions() -> dict[str, str]:
    """What the maps were made with."""
    found = {}
    for package in ("i2am", "torch", "diffusers", "triton"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def versions_in(path: str | Path) -> dict[str, str]:
    """What a file's maps were made with, as far as it says."""
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        found = json.loads(file.metadata()["i2am"]).get("versions")
    return {str(name): str(number) for name, number in found.items()} if isinstance(found, dict) else {}


def write(maps: Recorded, path: str | Path) -> Path:
    """Write the maps; the file appears whole or not at all."""
    from safetensors.torch import save_file

    path = outputs.file(path, "path", (".safetensors",))
    tensors = {f"{i}.{name}": sums.contiguous() for i, s in enumerate(maps.sums) for name, sums in s.recorded.items()}
    pictures, shown = (maps.pictures or Pictures()).to_file()
    about = {
        "format": FORMAT,
        "axes": {"r2g": "image group head generated", "g2r": "image group head reference", "mass": "image group head generated",
                 "specific": "image group head region reference", "words": "image group head token generated",
                 "field_g2r": "image group head moment generated", "field_r2g": "image group head moment reference"},
        "layers": [{**{f.name: getattr(s, f.name) for f in fields(s) if f.name not in (*SUMS, "calls")},
                    "maps": list(s.recorded)} for s in maps.sums],
        "steps": maps.steps,
        "groups": maps.groups,
        "regions": maps.regions,
        "columns": maps.columns,
        "prompts": [prompt.to_json() for prompt in maps.prompts],
        "about": maps.about,
        "versions": versions(),
        **({"pictures": shown} if pictures else {}),
    }  # fmt: skip
    outputs.write_whole(path, lambda part: save_file({**tensors, **pictures}, part, metadata={"i2am": json.dumps(about)}))
    return path


def read(path: str | Path, kind: type[Some]) -> Some:
    """Read maps that `maps.save` wrote."""
    about, tensors = opened(path, FORMAT, "maps", "maps.save")
    with fitting(path, "maps.save"):
        return rebuilt(about, tensors, kind)


def opened(path: str | Path, form: str, what: str, save: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The description and the tensors of a file of this form, which `save` writes."""
    from safetensors import SafetensorError, safe_open

    path = as_path("path", path, f"{what.capitalize()} are written by {save}(path).")
    if not path.is_file():
        refuse("path", f"a file of {what}", f"{path}, {instead(path)}", f"{what.capitalize()} are written by {save}(path).")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"i2am: {path} is damaged or no safetensors file ({error}). Write it again with {save}.") from error
    try:
        about = json.loads(metadata.get("i2am", "null"))
    except (ValueError, RecursionError):
        about = None
    if not isinstance(about, dict) or about.get("format") != form:
        came = about.get("format") if isinstance(about, dict) else f"no description of {what}"
        refuse(
            str(path), f'a file with the description "{form}"', repr(came), "Read it with the version of i2am that wrote it, if one did."
        )
    return about, tensors


@contextlib.contextmanager
def fitting(path: str | Path, save: str) -> Iterator[None]:
    """Whatever goes wrong inside is the file's fault: its description does not fit its tensors."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise ValueError(f"i2am: the description in {path} does not fit its tensors ({error!r}). Write it again with {save}.") from error


def instead(path: Path) -> str:
    """What is there where no file is."""
    if not path.is_dir():
        return "which is not there"
    names = sorted(found.name for found in path.glob("*.safetensors"))
    return f"which is a folder with {said(names)[1:-1]}" if names else "which is a folder without .safetensors files"


def rebuilt(about: dict[str, Any], tensors: dict[str, Tensor], kind: type[Some]) -> Some:
    """Maps from a file's description and tensors; anything that does not fit is an error."""
    sums = []
    regions, prompts = tuple(map(str, about["regions"])), tuple(Prompt.from_json(prompt) for prompt in about["prompts"])
    columns = None if about["columns"] is None else tuple(map(int, about["columns"]))
    shown = about.get("pictures")  # files of before pictures have none
    names = {f"{i}.{name}" for i, layer in enumerate(about["layers"]) for name in layer["maps"]}
    if not names or names | set(picture_names(shown) if shown else ()) != set(tensors):
        raise ValueError(f"tensors {sorted(tensors)}, described {sorted(names)}")
    for i, layer in enumerate(about["layers"]):
        found = {name: tensors[f"{i}.{name}"] for name in layer["maps"]}
        for name, tensor in found.items():
            if tensor.dtype != torch.float32 or tensor.ndim != (4 if name in ("r2g", "g2r", "mass") else 5):
                raise ValueError(f"{i}.{name} is {tensor.dtype} {tuple(tensor.shape)}")
            count = {
                "specific": len(regions), "words": None if columns is None else len(columns), "field_g2r": MOMENTS, "field_r2g": MOMENTS,
            }.get(name)  # fmt: skip
            if tensor.shape[1] != about["groups"] or (count is not None and tensor.shape[3] != count):
                raise ValueError(f"{i}.{name} is {tuple(tensor.shape)}, not of {about['groups']} time groups and {count} maps")
        grids: dict[str, Any] = {side: None if layer[side] is None else tuple(layer[side]) for side in ("generated_grid", "reference_grid")}
        sums.append(LayerSums(str(layer["layer"]), str(layer["source"]), special=layer["special"], **{**grids, **found}))
    pictures = Pictures.from_file(shown, tensors) if shown else None
    maps = kind(tuple(sums), int(about["steps"]), regions, columns, prompts, dict(about["about"]), pictures=pictures)
    images = {tensor.shape[0] for name, tensor in tensors.items() if not name.startswith(PREFIX)}
    if len(images) != 1 or maps.steps < 0 or (prompts and len(maps) % len(prompts)):
        raise ValueError(f"{sorted(images)} images, {len(prompts)} prompts, {maps.steps} steps")
    if pictures is not None:
        pictures.check(len(maps), maps.references)
    return maps
