"""The networks of LPIPS, FID and KID: where their weights are to be had, and how they are read without executing anything."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from i2am.common.checks import refuse

FEATURES = 2048


@dataclass(frozen=True)
class Weights:
    """A file of weights: where it is to be had, and the names it goes by, which end in the first digits of its SHA-256."""

    metrics: tuple[str, ...]
    build: Callable[[dict[str, Any], Path], torch.nn.Module]
    url: str
    names: tuple[str, ...]

    def find(self, folders: Sequence[Path]) -> Path | None:
        return next((path for folder in folders for name in self.names if (path := folder / name).is_file()), None)

    def load(self, path: Path) -> torch.nn.Module:
        """The network on the CPU; nothing that the file might hold is executed."""
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            with torch.device("cpu"):
                return self.build(state, path)
        except Exception as error:  # a damaged or other file may raise anything
            got = f"something else ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
            refuse(str(path), f"the weights {self.names[0]}", got, f"Replace it by {self.url}.")

    def about(self, path: Path) -> dict[str, Any]:
        digest = sha256(path)
        return {"weights": path.name, "sha256": digest, "published": digest.startswith(path.stem.rsplit("-", 1)[1])}


def alexnet(state: dict[str, Any], _: Path) -> torch.nn.Module:
    from torchmetrics.functional.image.lpips import _NoTrainLpips

    net = _NoTrainLpips(net="alex", pnet_rand=True)  # with its linear heads; else it would download the backbone
    for part in net.net.children():  # whose layers go by their numbers in AlexNet
        part.load_state_dict({name: state[f"features.{name}"] for name in part.state_dict()})
    return net


def inception(_: dict[str, Any], path: Path) -> torch.nn.Module:
    from torchmetrics.image.fid import NoTrainInceptionV3

    return NoTrainInceptionV3("inception-v3-compat", [str(FEATURES)], str(path))  # it reads what was found harmless once more


ALEXNET = Weights(("lpips",), alexnet, "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth", ("alexnet-owt-7be5be79.pth",))
INCEPTION = Weights(
    ("fid", "kid"),
    inception,
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    ("weights-inception-2015-12-05-6726825d.pth", "pt_inception-2015-12-05-6726825d.pth"),  # torch-fidelity's name and pytorch-fid's
)


@cache
def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
