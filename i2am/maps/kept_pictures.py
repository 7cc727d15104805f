"""The pictures that maps belong to, kept beside them so that one file is enough to look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch
from torch import Tensor

from i2am.common.checks import fields_said, is_whole, refuse, said

Set = tuple[Tensor, ...]  # uint8 [3, h, w] each, of a video [frames, 3, h, w]: one per image of the batch, or one for all; empty: none
Frames = Callable[[str | None], int | None]  # of a reference's canvas, or of the generated one; None: a picture
PREFIX = "pictures."


@dataclass(frozen=True, eq=False)
class Pictures:
    """The generated images, and the pictures of each reference by its name. Sizes may differ."""

    generated: Set = ()
    references: dict[str, Set] = field(default_factory=dict)
    __repr__ = fields_said

    def __post_init__(self) -> None:
        for picture in [picture for found in (self.generated, *self.references.values()) for picture in found]:
            if picture.dtype != torch.uint8 or picture.ndim not in (3, 4) or picture.shape[-3] != 3 or 0 in picture.shape:
                refuse("a picture", "uint8 [3, height, width] or [frames, 3, height, width]", said(picture), "Use maps.with_pictures.")

    def __getitem__(self, images: list[int]) -> Pictures:
        """Those of some images of the batch."""
        references = {name: picked_from(found, images) for name, found in self.references.items()}
        return Pictures(picked_from(self.generated, images), references)

    def check(self, images: int, references: Sequence[str]) -> None:
        """One for all, or one per image; of references that there are."""
        for name, found in (("images", self.generated), *((f"the pictures of {name!r}", found) for name, found in self.references.items())):
            if len(found) not in (0, 1, images):
                refuse(name, f"one, or as many as there are images ({images})", len(found), "Pass the batch that the maps were traced on.")
        if unknown := [name for name in self.references if name not in references]:
            refuse("references", f"among {list(references)}", unknown, "See maps.references.")

    def on(self, direction: str, reference: int | str | None, references: Sequence[str]) -> Set:
        """The pictures that a map of this direction lies on."""
        if direction == "g2r":
            reference = 0 if reference is None and len(references) == 1 else reference
            name = references[reference] if isinstance(reference, int) and 0 <= reference < len(references) else reference
            return self.references.get(str(name), ())
        return self.generated

    def to_file(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors by name, and their description."""
        about = {"generated": len(self.generated), "references": [[name, len(found)] for name, found in self.references.items()]}
        return dict(zip(tensor_names(about), (p for found in (self.generated, *self.references.values()) for p in found))), about

    @classmethod
    def from_file(cls, about: dict[str, Any], tensors: dict[str, Tensor]) -> Pictures:
        counts = [about["generated"], *(count for _, count in about["references"])]
        if not all(is_whole(count) for count in counts) or len(dict(about["references"])) != len(about["references"]):
            raise ValueError(f"pictures {about}")
        found = iter([tensors[name] for name in tensor_names(about)])
        generated = tuple(next(found) for _ in range(about["generated"]))
        return cls(generated, {str(name): tuple(next(found) for _ in range(count)) for name, count in about["references"]})


def picked_from(found: Set, images: Sequence[int]) -> Set:
    """Those of some images of the batch; one may serve all."""
    return found if len(found) < 2 else tuple(found[i] for i in images)


def tensor_names(about: dict[str, Any]) -> list[str]:
    """The names of the tensors in the file."""
    sets = [("generated", about["generated"]), *((f"references.{i}", count) for i, (_, count) in enumerate(about["references"]))]
    return [f"{PREFIX}{name}.{i}" for name, count in sets for i in range(count)]


def with_new(before: Pictures | None, images: Any, references: Any, count: int, known: Sequence[str], frames: Frames) -> Pictures:
    """What is there already, with new images, new references or both."""
    before = before or Pictures()
    if references is None:
        sets: dict[str, Any] = {}
    elif isinstance(references, Mapping):
        sets = dict(references)
    elif len(known) == 1:
        sets = {known[0]: references}
    else:
        advice = f"Write references={{{known[0]!r}: ...}}." if known else "Words alone were traced."
        refuse("references", f"a dict by name for {list(known)}", said(references), advice)
    generated = before.generated if images is None else as_set(images, frames(None))
    pictures = Pictures(generated, {**before.references, **{name: as_set(found, frames(name)) for name, found in sets.items()}})
    pictures.check(count, known)
    return pictures


def as_set(images: Any, frames: int | None) -> Set:
    """Whatever `i2am.show.pictures.overlay` takes."""
    import numpy as np

    from i2am.show.drawing import as_images
    from i2am.show.videos import videos_of

    def of(picture: Any) -> Tensor:
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()

    if frames is None:
        return tuple(of(picture) for picture in as_images(images))
    return tuple(torch.stack([of(picture) for picture in video]) for video in videos_of(images, frames))


def refuse_missing(direction: str) -> NoReturn:
    refuse("images", f"given for {direction}", "none, and these maps carry none", "Keep them with maps.with_pictures(images, references).")
