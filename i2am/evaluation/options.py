"""Everything that the numbers of a run depend on, beside the machine; a folder holds the results of one set of them."""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from i2am.common import outputs
from i2am.common.checks import is_size, is_whole, refuse
from i2am.common.outputs import write_whole
from i2am.evaluation.tryon import TryOn
from i2am.maps.tokens import Grid
from i2am.score.imacs import Convention
from i2am.score.imacs import convention as by_name

FILE = "run.json"
WHOLE = (
    ("limit", 1, "Leave it out to score every pair."),
    ("steps", 1, "Leave it out for the model's own."),
    ("groups", 1, "1 sums up all steps."),
    ("seed", 0, "0 is the default."),
)
SAMPLE = 64  # values of each parameter that go into a model's fingerprint


@dataclass(frozen=True)
class Options:
    """What is asked of an evaluation. None: the model's own. limit: the first pairs alone."""

    paired: bool = True
    split: str = "test"
    limit: int | None = None
    size: Grid | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    seed: int = 0
    convention: str | Convention | None = None
    layers: tuple[str, ...] | None = None
    groups: int = 1
    metrics: tuple[str, ...] = ()
    repaint: bool = False
    images: bool = False
    maps: bool = False
    field: bool | None = None  # None: where there are maps on the garment

    def __post_init__(self) -> None:
        for name, least, remedy in WHOLE:
            value = getattr(self, name)
            if not is_whole(value, least) and not (value is None and name in ("limit", "steps")):
                refuse(name, f"a whole number of at least {least}", repr(value), remedy)
        if self.size is not None and not is_size(self.size):
            refuse("size", "(height, width)", repr(self.size), "VITON-HD is 1024 x 768; most models take (512, 384).")
        if self.guidance_scale is not None and not 0 <= self.guidance_scale < math.inf:
            refuse("guidance_scale", "a number of at least 0", repr(self.guidance_scale), "Up to 1 the model paints without guidance.")
        if self.convention is not None:
            by_name(self.convention)
        if self.field is not None and not isinstance(self.field, bool):
            refuse("field", "True or False", repr(self.field), "True also scores whether attention corresponds.")

    def settled(self, model: TryOn) -> Options:
        """With the model's own values where none was asked for."""
        steps = model.steps if self.steps is None else self.steps
        most = getattr(getattr(getattr(model.pipeline, "scheduler", None), "config", None), "num_train_timesteps", steps)
        if steps > most:
            refuse("steps", f"at most {most}, those of the model's training", repr(steps), "50 are usual.")
        if self.groups > steps:
            refuse("groups", f"at most the {steps} steps", repr(self.groups), "Ask for fewer groups, or more steps.")
        return replace(
            self,
            size=model.size if self.size is None else self.size,
            steps=steps,
            guidance_scale=model.guidance_scale if self.guidance_scale is None else float(self.guidance_scale),
            convention=(how := by_name(model.convention if self.convention is None else self.convention)),
            field=how.g2r is not None if self.field is None else self.field,
            images=self.images or bool({"fid", "kid"} & set(self.metrics)),  # they compare whole sets, at the end
        )


def described(options: Options, model: TryOn, name: str, pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """The options as JSON, with fingerprints of the model and of the list of pairs."""
    listing = hashlib.sha256("".join(f"{person}\t{cloth}\n" for person, cloth in pairs).encode()).hexdigest()[:16]
    about = {"model": name, "about": model.about, "weights": fingerprint(model.pipeline), "pairs": len(pairs), "list": listing}
    found = {name: value for name, value in asdict(options).items() if name != "limit"}  # more of the same pairs may follow
    return json.loads(json.dumps({**found, **about}))


def fingerprint(pipeline: Any) -> str:
    """A hash of some values of every parameter, of the scheduler's settings, and of which parts there are."""
    parts = getattr(pipeline, "components", None) or vars(pipeline)
    digest = hashlib.sha256()
    for name, part in sorted(parts.items()):
        if isinstance(part, torch.nn.Module):
            for key, tensor in part.state_dict().items():
                flat = tensor.detach().flatten()
                some = flat[:: max(1, flat.numel() // SAMPLE)][:SAMPLE].double().cpu().contiguous()
                digest.update(f"{name}.{key} {tuple(tensor.shape)}".encode() + some.numpy().tobytes())
        elif hasattr(part, "set_timesteps"):
            config = {k: v for k, v in dict(getattr(part, "config", {})).items() if not k.startswith("_")}
            digest.update(f"{name} {type(part).__name__} {sorted(config.items(), key=str)}".encode())
    return digest.hexdigest()[:16]


def write_options(folder: Path, asked: dict[str, Any]) -> None:
    """Write the options of a new folder; refuse those that would mix other results into an old one."""
    path = folder / FILE
    if path.is_file():
        compare(path, asked)
        return
    folder.mkdir(parents=True, exist_ok=True)
    write(path, asked)


def results_folder(out: str | Path, whose: str = "evaluation") -> Path:
    """A folder for results: new, or an earlier evaluation's or study's."""
    folder = outputs.folder(out)
    begun = (FILE, f"{FILE}.part")  # the latter alone where the first moment of an evaluation was its last
    if folder.is_dir() and not (folder / FILE).is_file() and any(path.name not in begun for path in folder.iterdir()):
        refuse("out", f"a new folder, or an earlier {whose}'s", f"{folder}, which holds other things", "Choose another folder.")
    return folder


def compare(path: Path, asked: dict[str, Any]) -> None:
    try:
        was = dict(json.loads(path.read_text(encoding="utf-8"))["options"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"i2am: {path} is damaged ({error!r}). Choose another folder for --out.") from error
    names = sorted(n for n in was.keys() | asked.keys() if was.get(n) != asked.get(n))
    if names:
        differ = [f"{n}: {json.dumps(was.get(n))} there, {json.dumps(asked.get(n))} now" for n in names]
        refuse("out", "results of the same options", f"those of {path.parent}: {'; '.join(differ)}", "Choose another folder.")


def write(path: Path, asked: dict[str, Any]) -> None:
    text = json.dumps({"options": asked}, indent=1, allow_nan=False) + "\n"

    def synced(part: Path) -> None:
        part.write_text(text, encoding="utf-8")
        with part.open("rb") as file:
            os.fsync(file.fileno())

    write_whole(path, synced)
