"""Masks of words: for a prompt's picture and a word the pixels that show it; from castorini/daam's folders or COCO's format.

    DIR/<id>/<word>.gt.png               a picture with an alpha channel: the mask is where alpha is above 0
    DIR/<id>/<word>.<prefix>.pred.png    the same, by a model that segments
    DIR/<id>/composite.<prefix>.pred.png a picture of labels, each number a mask
    FILE.json                            COCO's instances: the image's file name without its suffix, or its id, is the prompt's id, and the
                                         category's name the word; objects of one word are united, with those that are "iscrowd"

Words are lower-cased and may have spaces. Only names and sizes are read at first, and every fault is named before anything is painted.
"""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from i2am.common.checks import as_path, cited, counted, is_size, refuse
from i2am.common.extras import need
from i2am.data.coco import Entries
from i2am.data.outlines import check_outline, inside
from i2am.maps.tokens import Grid

Source = Callable[[], Any]  # gives a mask, bool [H, W]
SUFFIX = ".gt.png"
MOST = 1 << 26  # pixels of a mask
QUOTED = 5  # faults in one error


@dataclass(frozen=True)
class WordMasks(Mapping[str, Mapping[str, Tensor]]):
    """masks["0007"]["traffic light"] is bool [H, W], read when it is asked for. `without`: prompts of the list that have no mask."""

    path: Path
    sizes: Mapping[str, Grid]
    sources: Mapping[str, Mapping[str, Sequence[Source]]]
    without: tuple[str, ...] = ()

    def __getitem__(self, id: str) -> Mapping[str, Tensor]:
        return Lazily(self.sources[id])

    def __iter__(self) -> Iterator[str]:
        return iter(self.sources)

    def __len__(self) -> int:
        return len(self.sources)

    def words(self) -> dict[str, list[str]]:
        """By id the words that have a mask."""
        return {id: list(found) for id, found in self.sources.items()}

    def only(self, ids: Sequence[str]) -> WordMasks:
        """Those of some of the list's prompts."""
        kept = set(ids)
        sizes, sources = ({id: one for id, one in part.items() if id in kept} for part in (self.sizes, self.sources))
        return WordMasks(self.path, sizes, sources, tuple(id for id in self.without if id in kept))  # type: ignore[arg-type]


class Lazily(Mapping[str, Tensor]):
    """The masks of one picture."""

    def __init__(self, sources: Mapping[str, Sequence[Source]]) -> None:
        self.sources = sources

    def __getitem__(self, word: str) -> Tensor:
        return torch.from_numpy(np.logical_or.reduce([source() for source in self.sources[word]]))

    def __iter__(self) -> Iterator[str]:
        return iter(self.sources)

    def __len__(self) -> int:
        return len(self.sources)


def read_masks(path: str | Path, ids: Sequence[str], *, size: Grid | None = None) -> WordMasks:
    """The masks of a folder or of a file, for the list of prompts with these ids. size: (height, width) of the pictures, where it is known.

    Refused, all of them named: ids that the list lacks, masks of other sizes than the picture or than each other, files that are no
    picture with an alpha channel. Prompts without any mask are in `without`.
    """
    path = as_path("truth", path, "A folder as castorini/daam has it, or COCO's instances as .json.")
    if size is not None and not is_size(size):
        refuse("size", "(height, width)", size, "The size of the pictures, in pixels.")
    if path.is_dir():
        need("a folder of masks", "PIL", "tqdm")
        return gathered(path, ids, size, *of_folder(path, SUFFIX))
    if path.suffix.lower() == ".json":
        need("a file of masks", "tqdm")
        return gathered(path, ids, size, *of_instances(path, ids))
    refuse("truth", "a folder, or a .json file", str(path) if path.exists() else f"{path}, which is not there",
           "DIR/<id>/<word>.gt.png, or COCO's instances.")  # fmt: skip


def read_predictions(path: str | Path, ids: Sequence[str], prefix: str, *, composite: bool = False, vocabulary: Sequence[str] = (),
                     size: Grid | None = None) -> WordMasks:  # fmt: skip
    """What a segmenting model found, in castorini/daam's folders. composite: one picture of labels for each; vocabulary: their names in the
    order of their numbers; without it, or beyond it, they are "label 7"."""
    path = as_path("predictions", path, "A folder as castorini/daam has it.")
    if not path.is_dir():
        refuse("predictions", "a folder", str(path), "DIR/<id>/<word>.<prefix>.pred.png.")
    need("a folder of masks", "PIL", "tqdm")
    if not composite:
        return gathered(path, ids, size, *of_folder(path, f".{prefix}.pred.png", but="composite"))
    return gathered(path, ids, size, *of_labels(path, f"composite.{prefix}.pred.png", vocabulary))


Found = tuple[dict[str, dict[str, list[Source]]], dict[str, list[tuple[str, Grid]]], list[str]]  # masks, sizes by file, faults


def gathered(path: Path, ids: Sequence[str], size: Grid | None, sources: Any, sizes: Any, faults: list[str]) -> WordMasks:
    """What was found, if nothing is wrong with it."""
    known, agreed = set(ids), dict[str, Grid]()
    faults = [*faults, *(f"{id}: no prompt of the list has this id" for id in sources if id not in known)]
    for id, found in sizes.items():
        own = Counter(one for _, one in found)
        agreed[id] = own.most_common(1)[0][0] if size is None else (size[0], size[1])
        whose = "the picture has" if size else "others of this picture have"
        faults += [f"{name}: {h} x {w} pixels, {whose} {agreed[id][0]} x {agreed[id][1]}" for name, (h, w) in found if (h, w) != agreed[id]]
    if faults:
        listed = "".join(f"\n  {one}" for one in faults[:QUOTED])
        more = f"\n  and {len(faults) - QUOTED:,} more" if len(faults) > QUOTED else ""
        refuse(str(path), "masks of the list's pictures, in their size", f"{counted(len(faults), 'fault')}:{listed}{more}",
               "Ask for pictures of the masks' size or resize the masks; rename folders or complete the list.")  # fmt: skip
    if not sources:
        refuse(str(path), "masks of at least one prompt of the list", f"none for {cited(list(ids))}",
               "DIR/<id>/<word>.gt.png, or an image in COCO's format whose name or number is the id.")  # fmt: skip
    order = [id for id in ids if id in sources]
    return WordMasks(
        path, {id: agreed[id] for id in order}, {id: sources[id] for id in order}, tuple(id for id in ids if id not in sources)
    )


def of_folder(path: Path, suffix: str, but: str | None = None) -> Found:
    """DIR/<id>/<word><suffix>; files of one word in other letters are united."""
    sources, sizes, faults = dict[str, dict[str, list[Source]]](), dict[str, list[tuple[str, Grid]]](), list[str]()
    for file in slowly(sorted(path.glob(f"*/*{suffix}"))):
        id, word = file.parent.name, file.name.removesuffix(suffix).lower()
        if not word or word == but:
            continue
        said = f"{id}/{file.name}"
        size, fault = headed(file, alpha=True)
        if size is None:
            faults.append(f"{said}: {fault}")
            continue
        sizes.setdefault(id, []).append((said, size))
        sources.setdefault(id, {}).setdefault(word, []).append(functools.partial(of_alpha, file))
    return sources, sizes, faults


def of_labels(path: Path, name: str, vocabulary: Sequence[str]) -> Found:
    """DIR/<id>/<name>, whose numbers are labels: these have to be read to know which there are."""
    sources, sizes, faults = dict[str, dict[str, list[Source]]](), dict[str, list[tuple[str, Grid]]](), list[str]()
    for file in slowly(sorted(path.glob(f"*/{name}"))):
        said, id = f"{file.parent.name}/{file.name}", file.parent.name
        size, fault = headed(file, alpha=False)
        if size is None:
            faults.append(f"{said}: {fault}")
            continue
        sizes[id] = [(said, size)]
        for label in np.unique(labels(file)).tolist():
            word = vocabulary[label].lower() if label < len(vocabulary) else f"label {label}"
            sources.setdefault(id, {}).setdefault(word, []).append(functools.partial(of_label, file, label))
    return sources, sizes, faults


def of_instances(path: Path, ids: Sequence[str]) -> Found:
    """COCO's format; every segmentation is checked, and drawn when it is asked for."""
    entries = Entries(path)
    categories, images = entries.categories(), entries.images()
    known, names, faults = set(ids), dict[int, str](), list[str]()
    for number, (file, _) in images.items():
        stem = Path(file).stem
        names[number] = stem if stem in known or str(number) not in known else str(number)
    for name, times in Counter(names.values()).items():
        if times > 1:
            faults.append(f"{name}: {times} images with this name or number")
    sources, sizes = dict[str, dict[str, list[Source]]](), dict[str, list[tuple[str, Grid]]]()
    for i in slowly(range(len(entries.parts["annotations"]))):
        number, category = entries.belongs(i, images, categories)
        size, what = images[number][1], f'"segmentation" of annotations[{i}] of {path}'
        outline = entries.read("annotations", i, "segmentation", lambda x: isinstance(x, (list, dict)), "polygons or run lengths")
        check_outline(outline, size, what)
        id = names[number]
        sizes.setdefault(id, [(images[number][0], size)])
        sources.setdefault(id, {}).setdefault(category.lower(), []).append(functools.partial(inside, outline, size, what))
    return sources, sizes, faults


def slowly(items: Sequence[Any]) -> Any:
    """With a bar, if it takes long."""
    from tqdm.auto import tqdm

    return tqdm(items, desc="masks", unit="mask", delay=2, leave=False)


def headed(file: Path, alpha: bool) -> tuple[Grid | None, str]:
    """A picture's size, or what is wrong with it; its pixels are not read."""
    from PIL import Image

    try:
        with Image.open(file) as picture:
            width, height = picture.size
            transparent = "A" in picture.getbands() or "transparency" in picture.info
            mode = picture.mode
            picture.verify()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return None, f"no picture that can be read ({error})"
    if width * height > MOST:
        return None, f"{height} x {width} pixels, above the {MOST:,} that a mask may have"
    if alpha and not transparent:
        return None, f"no alpha channel (mode {mode}): the mask is where a picture is not transparent"
    if not alpha and mode not in ("L", "P", "1", "I", "I;16"):
        return None, f"no labels (mode {mode}): one number for each pixel"
    return (height, width), ""


def of_alpha(file: Path) -> Any:
    from PIL import Image

    with reading(file), Image.open(file) as picture:
        return np.asarray(picture.convert("RGBA"))[..., 3] > 0


def labels(file: Path) -> Any:
    from PIL import Image

    with reading(file), Image.open(file) as picture:
        return np.asarray(picture).astype(np.int64)


def of_label(file: Path, label: int) -> Any:
    return labels(file) == label


@contextlib.contextmanager
def reading(file: Path) -> Iterator[None]:
    """A picture whose pixels cannot be read is named."""
    try:
        yield
    except (OSError, SyntaxError, ValueError) as error:
        refuse(str(file), "a picture that can be read", str(error), "Write it again.")
