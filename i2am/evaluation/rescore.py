"""Score saved maps again, with other options and without the model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from i2am.common import outputs
from i2am.common.checks import refuse
from i2am.data.vitonhd import VitonHD, problems_in_words
from i2am.evaluation.options import FILE, Options
from i2am.evaluation.painter import numbers, seed_of
from i2am.evaluation.provenance import every_version, hardware
from i2am.evaluation.report import FILES, write
from i2am.maps.levels import load
from i2am.maps.tokens import Grid
from i2am.score import correspondence
from i2am.score.imacs import Convention, scores

PARTS = ("mask", "garment_mask")
SHARED = ("size", "paired", "split", "seed")  # what maps that are scored together have in common


def score_again(
    maps: str | Path | Sequence[str | Path],
    data: str | Path,
    out: str | Path | None = None,
    *,
    convention: str | Convention = "method",
    size: Grid | None = None,
    paired: bool | None = None,
    split: str | None = None,
    **choice: Any,
) -> Path:
    """IMACS of every file of maps, <person's stem>.safetensors; returns the path of report.html in `out`.

    What an evaluation's run.json beside the folder of maps says of size, paired and split holds where nothing else is given. choice:
    layers=, heads=, groups=, reference= and balance= as for maps.unified.
    """
    files = map_files([maps] if isinstance(maps, (str, Path)) else list(maps))
    was, how = of_one({beside(path) for path in files}), Convention.of(convention)
    out = report_folder(beside(files[0]) / f"imacs-{how.name}" if out is None else out)
    paired = was.get("paired", True) if paired is None else paired
    pairs = VitonHD(data, split or was.get("split", "test"), paired, size or tuple(was.get("size") or (512, 384)), PARTS)
    places = {Path(person).stem: index for index, (person, _) in enumerate(pairs.pairs)}
    strange = [path for path in files if path.stem not in places]
    if strange:
        few = ", ".join(str(path) for path in strange[:5]) + (f" and {len(strange) - 5:,} more" if len(strange) > 5 else "")
        refuse("--maps", f"named after persons of {data}", f"{few}, which are not", "Was another data set or split traced?")
    if len({path.stem for path in files}) < len(files):
        refuse("--maps", "one file per pair", f"{len(files)} files of {len({path.stem for path in files})} pairs", "Pass one folder.")
    chosen = [places[path.stem] for path in files]
    if problems := pairs.check(sorted(chosen)):
        raise ValueError(f"i2am: the data in {data} have problems, and nothing was scored.\n{problems_in_words(problems)}\nMend the copy.")
    rows: list[dict[str, Any]] = []
    for path in tqdm(sorted(files, key=lambda path: places[path.stem]), desc="scoring", unit="pair"):
        index = places[path.stem]
        found = score_one(path, pairs[index], how, choice)
        person, cloth = pairs.pairs[index]
        if rows and found.keys() != rows[0]["scores"].keys():
            refuse(str(path), "maps with the same sums as the others", f"scores {', '.join(found)}, before {', '.join(rows[0]['scores'])}",
                   "Score maps with and without the field apart.")  # fmt: skip
        seed = seed_of(was["seed"], person, cloth) if "seed" in was else None
        rows.append({"index": index, "name": person, "cloth": cloth, "seed": seed, "scores": found})
    out.mkdir(parents=True, exist_ok=True)
    left = len(pairs) - len(files)
    options = {**was, "data": str(data), "paired": paired, "maps": str(files[0].parent), **choice}
    options["model"] = was.get("model", "saved maps")
    facts = {"title": f"{options['model']}, {len(rows)} pairs, scored from saved maps", "options": options, "convention": asdict(how),
             "versions": every_version(), "hardware": hardware(torch.device("cpu")), "time": {}, "sets": {}, "settings": {},
             "pairs": {"asked": len(rows), "scored": len(rows), "failed": 0}, "failed": [],
             "notes": [f"{left:,} pairs of the data have no file of maps."] if left else []}  # fmt: skip
    return write(out, rows, facts)


def score_one(path: Path, pair: dict[str, Any], how: Convention, choice: dict[str, Any]) -> dict[str, float | None]:
    """One pair's scores."""
    maps = load(path)
    if len(maps) != 1:
        refuse(str(path), "the maps of one image", f"of {len(maps)}", "Save maps[i] of each image under its person's name.")
    if maps.broken:
        refuse(str(path), "maps of numbers", f"NaN or infinity in {len(maps.broken)} layers", "Leave the file out, or trace in float32.")
    garment_mask = None if how.g2r is None else pair["garment_mask"]
    found = scores(maps, pair["mask"], garment_mask, convention=how, **choice)
    if maps.has_field and garment_mask is not None:
        chosen = {name: value for name, value in choice.items() if name != "balance"}
        found |= correspondence.scores(maps, pair["mask"], garment_mask, **chosen)
    return {name: numbers(values)[0] for name, values in found.items()}


def map_files(paths: Sequence[str | Path]) -> list[Path]:
    """The files of maps in folders, and files."""
    found: list[Path] = []
    for path in map(Path, paths):
        inside = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
        if not inside or not inside[0].is_file():
            refuse("--maps", "a folder of .safetensors files, or files", str(path), "i2am evaluate --save-maps writes OUT/maps.")
        found += inside
    return found


def report_folder(out: str | Path) -> Path:
    """A folder for the report: new, or that of an earlier one of saved maps, but not an evaluation's own."""
    folder = outputs.folder(out)
    strange = sorted({path.name for path in folder.iterdir()} - set(FILES)) if folder.is_dir() else []
    if strange:
        refuse("out", "a new folder, or an earlier report's", f"{folder}, which holds {', '.join(strange[:5])}", "Choose another folder.")
    return folder


def beside(path: Path) -> Path:
    """The folder of the evaluation in whose maps/ a file lies."""
    folder = path.parent
    return (folder if folder.name not in ("", "..") else folder.resolve()).parent


def of_one(folders: Iterable[Path]) -> dict[str, Any]:
    """The options of the evaluation that made the maps; of several, these must be the same."""
    found = [(folder, was) for folder in sorted(folders) if (was := settings(folder / FILE))]
    for folder, other in found[1:]:
        first, was = found[0]
        if differ := [name for name in SHARED if other.get(name) != was.get(name)]:
            refuse("--maps", "of one evaluation", f"those of {first} and of {folder}, of another {', '.join(differ)}", "Score each alone.")
    return found[0][1] if found else {}


def settings(path: Path) -> dict[str, Any]:
    """The options of the evaluation that made the maps, if they are there."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["options"]
        names = set(Options.__dataclass_fields__) | {"model", "weights", "about"}
        return {name: value for name, value in found.items() if name in names - {"convention", "metrics", "layers"}}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"i2am: {path} is damaged ({error!r}). Delete it, and pass --size, --unpaired and --split yourself.") from error
