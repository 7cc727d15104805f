"""The published checkpoint (one file of the LDM code base) as a folder that `StableVITONPipeline.from_pretrained` reads.

Nothing in the file is executed, and no tensor goes missing in silence: what is known to be needed nowhere is listed in
`names.LEFT_OUT`; any other tensor without a place, a place without a tensor and a wrong shape are errors with every name.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from i2am.common import outputs
from i2am.common.checks import refuse
from i2am.models.stableviton.names import LEFT_OUT, PREFIXES, Rule, left_out, renamed
from i2am.models.stableviton.pipeline import StableVITONPipeline
from i2am.models.stableviton.release import parts, scheduler


def convert(checkpoint: str | Path, out: str | Path, models: Mapping[str, Any] | None = None) -> Path:
    """Write the folder `out` from `checkpoint`, a .ckpt (read with weights_only) or .safetensors file; returns `out`.

    models: `release.parts(...)` of other widths, for a checkpoint that is not the release's; they are filled.
    """
    state = checked_tensors(checkpoint, out)
    if models is None:
        with torch.device("meta"):
            models = parts()
    fill(models, state)
    with outputs.whole_folder(Path(out)):
        StableVITONPipeline(**models, scheduler=scheduler()).save_pretrained(out)
    return Path(out)


def checked_tensors(checkpoint: str | Path, out: str | Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, once there is a place for what is made of them and their noise schedule is the known one."""
    folder = outputs.folder(out, "the output folder")
    if folder.exists() and any(folder.iterdir()):
        refuse("the output folder", "new or empty", folder, "Choose another, or move what is in it.")
    state = read_tensors(Path(checkpoint))
    known = scheduler().alphas_cumprod
    schedule = state.get("alphas_cumprod", known)
    if schedule.shape != known.shape or not torch.allclose(schedule.float(), known, rtol=1e-4):
        refuse("alphas_cumprod", "the release's noise schedule", list(schedule.shape), "The checkpoint is of another model.")
    return state


class Unread:
    """In the place of what a training files beside the tensors: made of anything, holds and does nothing."""

    def __new__(cls, *args: Any, **options: Any) -> Unread:
        return super().__new__(cls)

    def __init__(self, *args: Any, **options: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


# what Lightning 1 files there: its callbacks by their class, and rates as numbers of NumPy 1 or 2
BOOKKEEPING = (
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
)


def unread(path: str) -> type[Unread]:
    """A stand-in under another's name; the class of that name is neither imported nor called."""
    module, _, name = path.rpartition(".")
    return type(name, (Unread,), {"__module__": module, "__qualname__": name})


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name."""
    if not path.is_file():
        refuse("the checkpoint", "a file", path, "It is the published one, .ckpt or .safetensors.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals([unread(name) for name in BOOKKEEPING]):
            found: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (OSError, MemoryError):
        raise
    except Exception as error:  # what is no pickle may raise anything
        # one line of torch's many: never the one that recommends what would execute the file
        lines = [line.strip() for line in str(error).splitlines() if line.strip() and ("GLOBAL" in line or "weights_only" not in line)]
        said = ": ".join([type(error).__name__, *sorted(lines, key=lambda line: "GLOBAL" not in line)[:1]])
        raise ValueError(
            f"i2am: {path} cannot be read as tensors alone ({said}). Whatever else it holds is not "
            "executed: get the file again, or save its state dict alone where you trust it."
        ) from error
    found = found.get("state_dict", found) if isinstance(found, dict) else found
    if not isinstance(found, dict) or not all(isinstance(name, str) and isinstance(one, Tensor) for name, one in found.items()):
        refuse("the checkpoint", "tensors by name, or those under state_dict", type(found).__name__, "Save the model's state dict.")
    return found


def fill(
    models: Mapping[str, nn.Module],
    state: Mapping[str, Tensor],
    release: str = "StableVITON",
    prefixes: Mapping[str, tuple[str, Rule]] = PREFIXES,
    needless: Mapping[str, str] = LEFT_OUT,
) -> None:
    """Put the tensors of a checkpoint into the parts; they may be on the meta device. prefixes, needless: tables as in `names`."""
    wanted = {part: model.state_dict() for part, model in models.items()}
    filled: dict[str, dict[str, Tensor]] = {part: {} for part in models}
    unexpected, misshapen = [], []
    for name, tensor in state.items():
        if left_out(name, needless):
            continue
        part, places = renamed(name, prefixes) or ("", [])
        if not places or not all(place in wanted[part] for place in places):
            unexpected.append(name)
            continue
        for place, piece in zip(places, tensor.chunk(len(places))):
            want = wanted[part][place].shape
            if piece.ndim == 4 and len(want) == 2:  # attention as a convolution of one pixel
                piece = piece.flatten(1)
            if piece.shape != want:
                misshapen.append(f"{name} {list(tensor.shape)} (for {part}.{place} {list(want)})")
            filled[part][place] = piece.clone() if len(places) > 1 else piece  # a file holds no two views of one storage
    if not any(filled.values()):
        few = ", ".join(list(state)[:5]) + (f" and {len(state) - 5} more" if len(state) > 5 else "") or "nothing"
        refuse("the checkpoint", f"one of {release}'s release", f"none of its tensors, but {few}", "Is it another file?")
    missing = [f"{part}.{place}" for part, places in wanted.items() for place in places if place not in filled[part]]
    problems = {"unexpected": unexpected, "missing": missing, "of another shape": misshapen}
    if any(problems.values()):
        told = "; ".join(f"{len(names)} {kind}: {', '.join(names)}" for kind, names in problems.items() if names)
        raise ValueError(f"i2am: the checkpoint is not one of {release}'s release. Tensors {told}.")
    for part, model in models.items():
        model.load_state_dict(filled[part], assign=True)
