"""The true masks of a study, how words are scored against them, and whether they fit the pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from i2am.common.checks import cited, counted, refuse
from i2am.data.coco80 import CLASSES
from i2am.data.prompts import Asked
from i2am.data.word_masks import WordMasks, read_masks, read_predictions
from i2am.maps.tokens import Grid
from i2am.score.segmentation import Protocol
from i2am.studies.painted import Painted


@dataclass(frozen=True)
class Truth:
    """The masks of a list, how they are scored, and by name what segmenting models predicted for the same pictures."""

    masks: WordMasks
    protocol: Protocol = field(default_factory=Protocol)
    predictions: Mapping[str, WordMasks] = field(default_factory=dict)
    seed: int = 0  # of the random boxes

    @classmethod
    def read(cls, path: str | Path, asked: Sequence[Asked], *, size: Grid | None = None, protocol: Protocol = Protocol(),
             predictions: Mapping[str, tuple[str | Path, bool]] | None = None, seed: int = 0) -> Truth:  # fmt: skip
        """From disk, for a list of prompts. size: the pictures', if it is asked for. predictions: by prefix, castorini/daam's folder and
        whether each picture has one composite of labels."""
        ids = [one.id for one in asked]
        vocabulary = CLASSES if protocol.nouns == "coco80" else ()
        found = {
            prefix: read_predictions(folder, ids, prefix, composite=composite, vocabulary=vocabulary, size=size)
            for prefix, (folder, composite) in (predictions or {}).items()
        }
        masks = read_masks(path, ids, size=size)
        for prefix, others in found.items():
            wrong = {id: own for id, own in others.sizes.items() if id in masks.sizes and own != masks.sizes[id]}
            if wrong:
                listed = [
                    f"{id}: {own[0]} x {own[1]}, the true ones {masks.sizes[id][0]} x {masks.sizes[id][1]}" for id, own in wrong.items()
                ]
                refuse(f"what {prefix} predicted", "of the true masks' size", f"{counted(len(wrong), 'picture')} of another: "
                       f"{cited(listed, 5)}", "Resize its masks.")  # fmt: skip
        return cls(masks, protocol, found, seed)

    def words(self) -> dict[str, list[str]]:
        """By id what the prompts must have, so that every mask that counts has a map; nothing where they may lack it."""
        how = self.protocol
        if how.missing != "refuse" or how.matching != "labelled":
            return {}
        return {id: [word for word in words if how.counts(how.name(word))] for id, words in self.masks.words().items()}

    def fits(self, asked: Sequence[Asked]) -> Callable[[Asked, Grid], None]:
        """What refuses a picture of another size than its masks, before the others are painted."""
        alike = {one.id for one in asked if one.image is None}

        def seen(one: Asked, size: Grid) -> None:
            ids = {one.id} if one.image is not None else alike
            wrong = {id: own for id, own in self.masks.sizes.items() if id in ids and tuple(own) != tuple(size)}
            refuse_sizes(wrong, dict.fromkeys(wrong, size), self.masks.path)

        return seen


def refuse_sizes(masks: Mapping[str, Grid], pictures: Mapping[str, Grid], path: Path) -> None:
    if masks:
        listed = [f"{id}: {own[0]} x {own[1]}, the picture {pictures[id][0]} x {pictures[id][1]}" for id, own in masks.items()]
        refuse(f"the masks of {path}", "of their pictures' size", f"{counted(len(masks), 'picture')} of another: {cited(listed, 5)}",
               "Paint at the masks' size (--size HEIGHTxWIDTH, into another folder), or resize the masks.")  # fmt: skip


def check_sizes(masked: Sequence[Painted], truth: Truth) -> None:
    """Masks against the pictures themselves, whose headers say their size."""
    from PIL import Image

    pictures, wrong = dict[str, Grid](), dict[str, Grid]()
    for one in masked:
        with Image.open(one.image) as found:
            pictures[one.asked.id] = (found.height, found.width)
        if tuple(truth.masks.sizes[one.asked.id]) != pictures[one.asked.id]:
            wrong[one.asked.id] = truth.masks.sizes[one.asked.id]
    refuse_sizes(wrong, pictures, truth.masks.path)
