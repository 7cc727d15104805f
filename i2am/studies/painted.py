"""One picture of a study, as it lies on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from i2am.common.checks import refuse
from i2am.data.prompts import Asked
from i2am.maps.levels import AttributionMaps, load
from i2am.maps.words import WordMaps


@dataclass(frozen=True)
class Painted:
    """A prompt's picture and word maps. reference: the file of where the model's reference acted, where it has one in its attention."""

    asked: Asked
    image: Path
    maps: Path
    seed: int = 0
    reference: Path | None = None

    def picture(self) -> Any:
        """The PIL image."""
        from PIL import Image

        try:
            with Image.open(self.image) as found:
                return found.convert("RGB")
        except OSError as error:
            refuse("a painted picture", "one that can be read", f"{self.image} ({error})", "Delete it, and the command that painted it "
                   "paints it again.")  # fmt: skip

    def words(self) -> WordMaps:
        """The maps of its words, [1, h, w] each."""
        return WordMaps.load(self.maps)

    def beside(self) -> AttributionMaps | None:
        """The maps of its reference, condensed: what `joint` reads."""
        return None if self.reference is None else load(self.reference)


def files(out: Path, asked: Asked) -> dict[str, Path]:
    """Where a prompt's files lie."""
    return {
        "image": out / "images" / f"{asked.id}.png",
        "maps": out / "words" / f"{asked.id}.safetensors",
        "reference": out / "reference" / f"{asked.id}.safetensors",
    }
