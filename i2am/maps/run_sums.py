"""What a run recorded: the running sums of its layers, and what they are sums of. The levels are made from it in `levels`."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from i2am.common.checks import cited, counted, index_of, refuse
from i2am.maps.canvas import NOT_FINITE
from i2am.maps.kept_pictures import Pictures
from i2am.maps.layer_sums import LayerSums
from i2am.maps.prompt import Prompt
from i2am.maps.tokens import usual_frames

Some = TypeVar("Some", bound="Recorded")


@dataclass(frozen=True, eq=False)
class Recorded:
    """Sums, a layer's reference each, with the names of the regions, prompts and pictures that belong to them."""

    sums: tuple[LayerSums, ...]
    steps: int
    regions: tuple[str, ...] = ()
    columns: tuple[int, ...] | None = None  # the text tokens that the word sums belong to; None: all, in order
    prompts: tuple[Prompt, ...] = ()
    about: dict[str, str] = field(default_factory=dict)
    tokenizer: Any = field(default=None, repr=False)
    pictures: Pictures | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return next(t.shape[0] for t in (self.sums[0].r2g, self.sums[0].words) if t is not None)

    def __getitem__(self: Some, index: int | slice) -> Some:
        """The maps of one image, or of several."""
        images = range(len(self))
        if isinstance(index, slice):
            part = list(images[index])
        else:
            part = [index_of("the images asked for", index, len(self), "images", "maps[0], maps[2:4].")]
        if not part:
            refuse("the images asked for", f"among {len(self)}", index, "A batch of no images has no maps.")

        sums = (s.cut(part) for s in self.sums)
        per = len(self) // max(1, len(self.prompts))
        prompts = tuple(self.prompts[i // per] for i in part) if self.prompts else ()
        return replace(self, sums=tuple(sums), prompts=prompts, pictures=self.pictures and self.pictures[part])

    @property
    def layers(self) -> list[str]:
        """The recorded layers, in the order the model calls them."""
        return list(dict.fromkeys(s.layer for s in self.sums))

    @property
    def references(self) -> list[str]:
        """The references: one, unless several adapters or images have maps of their own."""
        return list(dict.fromkeys(s.source for s in self.sums if s.r2g is not None))

    def frames(self, reference: str | None = None) -> int | None:
        """How many frames most layers' canvases of this reference have, or those of the generated video; None for pictures."""
        return usual_frames(s.generated_grid if reference is None else s.reference_grid for s in self.sums if reference in (None, s.source))

    @property
    def size_said(self) -> str:
        """How many images, or videos of how many frames."""
        frames = self.frames()
        return counted(len(self), "image") if frames is None else f"{counted(len(self), 'video')} of {counted(frames, 'frame')}"

    @property
    def has_field(self) -> bool:
        """Whether some layer recorded its field both ways."""
        return any(s.has_field for s in self.sums)

    @property
    def groups(self) -> int:
        """Time groups; group 0 is the noisiest."""
        tensor = next(t for t in (self.sums[0].r2g, self.sums[0].words) if t is not None)
        return tensor.shape[1]

    @property
    def broken(self) -> list[str]:
        """The layers whose sums hold NaN or infinity. Levels refuse them; the others are layers=lambda name: name not in maps.broken."""
        return list(dict.fromkeys(s.layer for s in self.sums if s.broken))


def with_warning(maps: Some) -> Some:
    """The maps, with a warning where some of them are no numbers."""
    if maps.broken:
        warnings.warn(f"i2am: {len(maps.broken)} of {len(maps.layers)} layers hold NaN or infinity: {cited(maps.broken)}. {NOT_FINITE}",
                      stacklevel=4)  # fmt: skip
    return maps
