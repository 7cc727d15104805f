"""VITON-HD from disk: pairs of a person and a garment as tensors, and everything that is wrong with a copy, before hours are spent.

    <root>/test_pairs.txt                       person.jpg cloth.jpg, one pair a line
    <root>/test/image/person.jpg                "person"
    <root>/test/cloth/cloth.jpg                 "garment"
    <root>/test/agnostic-mask/person_mask.png   "mask", white where the garment is painted
    <root>/test/cloth-mask/cloth.jpg            "garment_mask", white on the garment
    <root>/test/agnostic-v3.2/person.jpg        "agnostic", the person without the garment
    <root>/test/image-densepose/person.jpg      "densepose"

Names in the list are file names: one with a folder in it is never opened. Links on disk are followed, wherever they lead: copies are
put together with them, and a download cache consists of nothing else.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from i2am.common.checks import as_path, index_of, is_size, refuse, said
from i2am.maps.tokens import Grid

try:
    from PIL import Image, ImageOps, UnidentifiedImageError
    from tqdm.auto import tqdm
except ImportError as error:
    raise ImportError("i2am: VitonHD needs Pillow and tqdm. pip install 'i2am[pictures]'") from error

PLACES = {
    "person": "image",
    "garment": "cloth",
    "mask": "agnostic-mask",
    "garment_mask": "cloth-mask",
    "agnostic": "agnostic-v3.2",
    "densepose": "image-densepose",
}
PARTS = tuple(PLACES)
MASKS = ("mask", "garment_mask")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")  # whatever the name ends in; none of them runs another program
STRETCH = 0.01  # up to this much between the sides, a shape is rounding
HALF = 127.5 - 1e-3  # of 255: half a pixel's area is white, also where float32 rounds
SHOWN = 3  # problems of one kind that `problems_in_words` names


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: of a pair, or of the copy (index None). what: the kind, then in parentheses what is special about it."""

    index: int | None
    path: Path
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}" if self.index is None else f"pair {self.index}, {self.path}: {self.what}"


def problems_in_words(problems: Sequence[Problem]) -> str:
    """The problems for a terminal: a few of each kind in each folder, and how many more there are."""
    kinds: dict[tuple[Path, str], list[Problem]] = {}
    for problem in problems:
        place = problem.path if problem.index is None else problem.path.parent
        kinds.setdefault((place, problem.what.split(" (")[0]), []).append(problem)
    lines = ["no problems" if not problems else f"{len(problems):,} problem{'s' if len(problems) > 1 else ''}:"]
    for found in kinds.values():
        lines += [f"  {problem}" for problem in found[:SHOWN]]
        lines += [f"  … and {len(found) - SHOWN:,} more like this"] if len(found) > SHOWN else []
    return "\n".join(lines)


class VitonHD(Dataset[dict[str, Any]]):
    """A split of VITON-HD. `dataset[i]`, which torch's default_collate takes:

        {"index": i, "name": person's file, "cloth": garment's file,
         "person", "garment", "agnostic", "densepose": float32 [3, H, W] in [0, 1],
         "mask", "garment_mask": float32 [H, W] of 0 and 1 (white on disk is 1)}

    paired: the garment that the person wears, of the same name; otherwise the one the list names. size: (height, width) of what is
    read. parts: what is read and checked; folders of other parts may be missing. pairs: (person's file, garment's file) of every
    index, in the list's order; a line that is no pair, or the same pair again, is left out with a warning.

    Shrunk by whole factors, a pixel is the mean of those it covers, which the StableVITON release has at half of 1024 x 768 too; other
    sizes are bicubic, antialiased. A mask so resized is 1 where it is at least half white. Pictures are turned as their EXIF says; what
    is transparent is white in a picture and black in a mask. Shapes are not looked at here: `check` names what would be stretched.
    """

    def __init__(
        self, root: str | Path, split: str = "test", paired: bool = True, size: Grid = (512, 384), parts: Sequence[str] = PARTS
    ) -> None:
        if not isinstance(split, str) or not is_name(split):
            refuse("split", '"test" or "train"', said(split), "The list is <split>_pairs.txt, the pictures are in <split>/.")
        if not isinstance(paired, bool):
            refuse("paired", "True or False", said(paired), "False takes the garments that the list names.")
        if not is_size(size):
            refuse("size", "(height, width)", said(size), "VITON-HD is 1024 x 768; most models take (512, 384).")
        known = isinstance(parts, (list, tuple, set)) and all(isinstance(part, str) and part in PARTS for part in parts)
        if not known or not parts or len({*parts}) < len(parts):
            refuse("parts", f"some of {', '.join(PARTS)}", said(parts), "Name each once.")
        self.root, self.split, self.paired = as_path("root", root, "Pass the folder that holds the list and the pictures."), split, paired
        self.size, self.parts = (int(size[0]), int(size[1])), tuple(parts)
        self.folder, self.listing = self.root / split, self.root / f"{split}_pairs.txt"
        if not self.listing.is_file() or not self.folder.is_dir():
            refuse("root", f"a folder with {self.listing.name} and {split}/", f"{self.root}, {contents(self.root)}",
                   "Pass the folder that holds both, or another split.")  # fmt: skip
        self.pairs, self._listed = self._read_list()
        if not self.pairs:
            got = problems_in_words(self._listed) if self._listed else "an empty file"
            refuse(str(self.listing), "a list of pairs: person.jpg cloth.jpg", got, "Take VITON-HD's own list.")
        left_out = [problem for problem in self._listed if problem.index is None]
        if left_out:
            warnings.warn(f"i2am: lines were left out. {problems_in_words(left_out)}", stacklevel=2)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = self._whole(index)
        name, cloth = self.pairs[index]
        item: dict[str, Any] = {"index": index, "name": name, "cloth": cloth}
        for part in self.parts:
            path = self.path(index, part)
            try:
                picture = read_upright(path, part)
            except Unreadable as error:
                got = error if path.parent.is_dir() else f"no folder {path.parent}"
                refuse(f"{part} of {self._called(index)}", f"a picture in {path}", got, "check() lists everything that is wrong.")
            item[part] = as_tensor(resized(picture, self.size))
        return item

    def path(self, index: int, part: str) -> Path:
        """The file of one part of a pair."""
        index = self._whole(index)
        if part not in PARTS:
            refuse("part", f"one of {', '.join(PARTS)}", said(part), "Parts are named as in dataset[0].")
        name = self._name(index, part)
        if not is_name(name):
            refuse(f"{part} of {self._called(index)}", "a file name without folders", said(name), f"Mend {self.listing}.")
        return self.folder / PLACES[part] / (f"{PurePosixPath(name).stem}_mask.png" if part == "mask" else name)

    def check(self, indices: Iterable[int] | None = None, progress: bool = True) -> list[Problem]:
        """Everything wrong with these pairs (None: with all), each file of `parts` read in full; empty where all is well.

        Lines of the list that are no pairs and missing folders come first, with index None and once each; then pair by pair, in
        order, files that are missing or no pictures, shapes that `size` would stretch, sizes that differ within a pair, and masks
        that are empty or full at `size`.
        """
        chosen = range(len(self)) if indices is None else list(dict.fromkeys(self._whole(index) for index in indices))
        found: dict[int | None, list[Problem]] = {None: [], **{index: [] for index in chosen}}
        for problem in self._listed:
            if problem.index in found:
                found[problem.index].append(problem)
        places = {part: self.folder / PLACES[part] for part in self.parts}
        absent = {part: place for part, place in places.items() if not place.is_dir()}
        found[None] += [Problem(None, place, f'no such folder (it holds "{part}")') for part, place in absent.items()]
        parts = [part for part in self.parts if part not in absent]
        pool = ThreadPoolExecutor()  # decoding leaves Python's lock to the others
        try:
            wrong = pool.map(partial(self._wrong, parts=parts), chosen)
            for more, index in zip(tqdm(wrong, total=len(chosen), unit="pair", desc="checking", disable=not progress), chosen):
                found[index] += more
        finally:
            pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the other pairs
        return [problem for index in (None, *chosen) for problem in found[index]]

    def _wrong(self, index: int, parts: Sequence[str]) -> list[Problem]:
        """What is wrong with the files of one pair."""
        found: list[Problem] = []
        first = None
        height, width = self.size
        wanted = f"{height}x{width}"
        for part in parts:
            if not is_name(self._name(index, part)):
                continue  # the list's problem
            path = self.path(index, part)
            try:
                picture = read_upright(path, part)
            except Unreadable as error:
                found.append(Problem(index, path, str(error)))
                continue
            on_disk = f"{picture.height}x{picture.width}"
            if abs(picture.height * width / (picture.width * height) - 1) > STRETCH:
                found.append(Problem(index, path, f"a picture that {wanted} would stretch ({on_disk} on disk)"))
            elif on_disk != (first := first or on_disk):
                found.append(Problem(index, path, f"another size than the pair's other pictures ({on_disk}, not {first})"))
            if part in MASKS:
                white = np.asarray(resized(picture, self.size)) >= HALF  # numpy: torch would start its own threads in each of ours
                low, high = picture.getextrema()
                if not white.any():
                    found.append(Problem(index, path, f"an empty mask at {wanted} (the brightest pixel is {high} of 255)"))
                if white.all():
                    found.append(Problem(index, path, f"a full mask at {wanted} (the darkest pixel is {low} of 255)"))
        return found

    def _read_list(self) -> tuple[list[tuple[str, str]], list[Problem]]:
        """The pairs, and what is wrong with the list: index None for lines that make no pair."""
        lines: dict[tuple[str, str], int] = {}
        found: list[tuple[int | None, str]] = []
        for number, line in enumerate(self.listing.read_text(encoding="utf-8-sig", errors="replace").split("\n"), 1):
            names = line.split()
            if len(names) != 2:
                found += [(None, f"a line that is not two file names (line {number}: {line.strip()[:80]!r})")] if names else []
                continue
            pair = (names[0], names[0] if self.paired else names[1])
            if pair in lines:
                found.append((None, f"the same pair again (line {number} as line {lines[pair]}: {' '.join(pair)})"))
                continue
            bad = [name for name in dict.fromkeys(names) if not is_name(name)]
            found += [(len(lines), f"a name that is no file name (line {number}: {name[:80]!r})") for name in bad]
            lines[pair] = number
        return list(lines), [Problem(index, self.listing, what) for index, what in found]

    def _whole(self, index: Any) -> int:
        return index_of("index", index, len(self), "pairs", "torch.utils.data.Subset(dataset, range(8)) is a slice.")

    def _name(self, index: int, part: str) -> str:
        return self.pairs[index][1 if part in ("garment", "garment_mask") else 0]

    def _called(self, index: int) -> str:
        return f"pair {index} ({' with '.join(self.pairs[index])})"


class Unreadable(Exception):
    """Why a file gives no picture, as words that follow "got"."""


def read_upright(path: Path, part: str) -> Image.Image:
    """The whole picture, upright: RGB, or L for a mask."""
    try:
        if not path.is_file():
            raise FileNotFoundError
        with Image.open(path, formats=FORMATS) as file:
            picture = ImageOps.exif_transpose(file)
        if picture.mode[0] in "IF":
            picture = bytes_of(picture)
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            ground = Image.new("RGBA", picture.size, "black" if part in MASKS else "white")
            picture = Image.alpha_composite(ground, picture)
        return picture.convert("L" if part in MASKS else "RGB")
    except FileNotFoundError:
        raise Unreadable("a link to nothing" if path.is_symlink() else "no such file") from None
    except UnidentifiedImageError:
        raise Unreadable(f"no picture ({path.stat().st_size} bytes)") from None
    except Exception as error:  # Pillow's readers raise OSError, SyntaxError, ValueError, struct.error and more
        raise Unreadable(f"a broken picture ({str(error) or type(error).__name__})") from error


def bytes_of(picture: Image.Image) -> Image.Image:
    """A grey picture of 16 bits as one of 8, which Pillow would cut at 255."""
    values = np.asarray(picture)
    if picture.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise ValueError(f"mode {picture.mode} does not say what is white")
    return Image.fromarray(((values.astype(np.int64) + 128) // 257).astype(np.uint8))


def resized(picture: Image.Image, size: Grid) -> Image.Image:
    """At (height, width). A mask's mean is kept unrounded (mode F), so that half is half."""
    height, width = size
    whole = picture.height % height == 0 == picture.width % width  # at other factors Pillow's box takes or leaves whole pixels
    picture = picture.convert("F") if picture.mode == "L" else picture
    return picture.resize((width, height), Image.Resampling.BOX if whole else Image.Resampling.BICUBIC)


def as_tensor(picture: Image.Image) -> Tensor:
    """[3, H, W] in [0, 1], or a mask [H, W] of 0 and 1."""
    values = torch.from_numpy(np.array(picture))
    return (values >= HALF).float() if values.ndim == 2 else values.movedim(-1, 0).contiguous() / 255


def is_name(name: str) -> bool:
    """Whether it stays in its folder, on every system."""
    return name not in ("", ".", "..") and "\0" not in name and PurePosixPath(name).name == PureWindowsPath(name).name == name


def contents(folder: Path) -> str:
    """What is in a folder, in a few words."""
    if not folder.is_dir():
        return "which is no folder" if folder.exists() else "which is not there"
    names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in folder.iterdir())
    more = f" and {len(names) - 12:,} more" if len(names) > 12 else ""
    return f"which holds {', '.join(names[:12])}{more}" if names else "which is empty"
