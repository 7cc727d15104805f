"""Paint a chunk of pairs inside a trace, score it, and write what was asked for of each pair."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from i2am.attach.trace import trace
from i2am.common.checks import refuse
from i2am.common.outputs import write_whole
from i2am.evaluation.batches import in_parts, moved
from i2am.evaluation.options import Options
from i2am.evaluation.shards import Row
from i2am.evaluation.tryon import Batch, TryOn
from i2am.maps.layers import Layers
from i2am.maps.levels import AttributionMaps
from i2am.score import correspondence
from i2am.score.imacs import Convention, scores

LOOK = 256  # pixels high
Scorer = Callable[[Tensor, Tensor, Tensor], dict[str, Tensor]]  # images, truth, mask -> metric -> [B]


def seed_of(seed: int, name: str, cloth: str) -> int:
    """A pair's own seed: it does not depend on the batch, the order or the process."""
    return int.from_bytes(hashlib.sha256(f"{seed}\t{name}\t{cloth}".encode()).digest()[:7], "big")


@dataclass
class Painter:
    """One process's model at work. `most`: the largest batch that has not run out of memory."""

    model: TryOn
    options: Options  # settled
    out: Path
    device: torch.device
    scorer: Scorer
    keep_going: bool = False
    say: Callable[[str], None] = print
    most: int | None = None
    painted: int = 0
    scoring: float = 0.0  # seconds
    notes: list[str] = field(default_factory=list)

    def rows(self, batch: Batch) -> list[Row]:
        """Scores of every pair of a batch, in parts where it does not fit into memory at once."""

        def part(some: slice) -> list[Row]:
            return self.part({name: values[some] for name, values in batch.items()})

        return in_parts(len(batch["name"]), self.most, part, self.smaller, self.device)

    def smaller(self, size: int) -> None:
        """Memory ran out."""
        self.most = size
        self.notes.append(f"Out of memory: went on with batches of {size}.")
        self.say(self.notes[-1])

    def part(self, batch: Batch) -> list[Row]:
        names, options = batch["name"], self.options
        seeds = [seed_of(options.seed, name, cloth) for name, cloth in zip(names, batch["cloth"])]
        images, maps = self.paint(batch, seeds, options.steps or self.model.steps)
        lost = without_numbers(images, maps)
        if lost and not self.keep_going:
            refuse("the generated images and their maps", "finite", f"NaN or infinity in {', '.join(names[i] for i in lost)}",
                   "Half precision overflows in some models: use float32; or leave such pairs out with --keep-going.")  # fmt: skip
        began = time.perf_counter()
        rows: list[Row] = [
            {"index": int(index), "name": name, "cloth": cloth} for index, name, cloth in zip(batch["index"], names, batch["cloth"])
        ]
        whole = [slice(0, len(names))] if not lost else [slice(i, i + 1) for i in range(len(names)) if i not in lost]
        for some in whole:
            part = {name: values[some] for name, values in batch.items()}
            found = self.score(images[some].clamp(0, 1), maps[some] if lost else maps, part)
            for i, row in enumerate(rows[some]):
                row |= {"seed": seeds[some][i], "scores": {metric: values[i] for metric, values in found.items()}}
        for i, why in lost.items():
            rows[i]["failed"] = why
        self.scoring += time.perf_counter() - began
        self.painted += len(names)
        return rows

    def score(self, images: Tensor, maps: AttributionMaps, batch: Batch) -> dict[str, list[float | None]]:
        """The scores of some pairs, whose files are written."""
        how = self.convention
        garment_mask = None if how.g2r is None else batch["garment_mask"]
        found = scores(maps, batch["mask"], garment_mask, convention=how, layers=self.options.layers)
        if self.options.field:
            found |= correspondence.scores(maps, batch["mask"], batch["garment_mask"], layers=self.options.layers)
        found |= self.scorer(images, batch["person"], batch["mask"])
        self.keep(images, maps, batch)
        return {name: numbers(values) for name, values in found.items()}

    @property
    def convention(self) -> Convention:
        return Convention.of(self.options.convention or self.model.convention)

    def paint(self, batch: Batch, seeds: Sequence[int], steps: int) -> tuple[Tensor, AttributionMaps]:
        """The model's images [B, 3, H, W], float32 on the CPU, and their maps."""
        model, options = self.model, self.options
        weighed = {"generated_mask": batch["mask"]} if self.convention.weighed else {}
        scale = model.guidance_scale if options.guidance_scale is None else options.guidance_scale
        with trace(model.pipeline, **{"groups": options.groups, "field": bool(options.field), **weighed, **model.trace}) as run:
            generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
            images = model.paint(moved(batch, self.device), steps=steps, guidance_scale=scale, generators=generators)
        shape = batch["person"].shape
        if not isinstance(images, Tensor) or images.shape != shape:
            got = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
            way_out = 'Use output_type="pt", and the size of the data.'
            refuse("what paint returns", f"a tensor {tuple(shape)}, [batch, 3, height, width]", got, way_out)
        return images.detach().float().cpu(), run.maps

    def peak(self, pairs: Any, count: int) -> int:
        """The most memory that a GPU holds for a batch of this many, in bytes beyond what is there now; measured on a run of few steps."""
        batch = default_collate([pairs[i % len(pairs)] for i in range(count)])
        before = torch.cuda.memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        self.paint(batch, range(count), max(2, self.options.groups))
        return torch.cuda.max_memory_allocated(self.device) - before

    def keep(self, images: Tensor, maps: AttributionMaps, batch: Batch) -> None:
        """Each pair's files; they are on disk, whole, before the pair counts as done."""
        for folder in ("looks", *(["images"] if self.options.images else []), *(["maps"] if self.options.maps else [])):
            (self.out / folder).mkdir(exist_ok=True)
        looks = strips(images, maps, batch, self.convention, self.options.layers)
        for i, name in enumerate(batch["name"]):
            stem = Path(name).stem
            write_whole(self.out / "looks" / f"{stem}.jpg", partial(looks[i].save, format="JPEG", quality=88))
            if self.options.images:
                write_whole(self.out / "images" / f"{stem}.png", partial(picture(images[i]).save, format="PNG", compress_level=1))
            if self.options.maps:
                garments = {reference: [picture(batch["garment"][i])] for reference in maps.references}
                maps[i].with_pictures([picture(images[i])], garments).save(self.out / "maps" / f"{stem}.safetensors")


def without_numbers(images: Tensor, maps: AttributionMaps) -> dict[int, str]:
    """The images that hold NaN or infinity, or whose maps do, and what is said of them."""
    sums = [t for s in maps.sums for t in s.recorded.values()] if maps.broken else []
    lost = {i: "its maps are not finite" for i in range(len(images)) if not all(t[i].isfinite().all() for t in sums)}
    return lost | {i: "the image is not finite" for i, image in enumerate(images) if not image.isfinite().all()}


def numbers(score: Tensor) -> list[float | None]:
    """Floats, None where there is no score."""
    return [value if math.isfinite(value) else None for value in score.detach().float().cpu().tolist()]


def strips(images: Tensor, maps: AttributionMaps, batch: Batch, how: Convention, layers: Layers) -> list[Any]:
    """A look at each pair: the garment under its G2R, what was generated under its R2G, and the person's own picture.

    Where there is a field, the garment as attention moves it stands before the last, and where no layers were asked for the maps are of
    the heads that point, pair by pair.
    """
    height, width = images.shape[-2:]
    size = (max(1, round(LOOK * width / height)), LOOK)
    sets = {name: [picture(p).resize(size) for p in found] for name, found in
            (("g2r", batch["garment"]), ("r2g", images), ("person", batch["person"]))}  # fmt: skip
    if maps.has_field:
        moved = maps.field("g2r", layers=layers).warp(sets["g2r"], sets["r2g"])
        sets = {**{name: sets[name] for name in ("g2r", "r2g")}, "moved": moved, "person": sets["person"]}
    for direction in ("g2r", "r2g"):
        if direction == "g2r" and how.g2r is None:
            continue
        if maps.has_field and not layers:
            sets[direction] = [maps[i].overlay(one, direction, layers="pointing")[0] for i, one in enumerate(sets[direction])]
            continue
        names = maps.names(direction, layers) if layers else how.layers(direction, maps.names(direction))
        sets[direction] = maps.overlay(sets[direction], direction, layers=names)
    return [joined(row) for row in zip(*sets.values())]


def joined(pictures: Sequence[Any]) -> Any:
    """Side by side."""
    from PIL import Image

    whole = Image.new("RGB", (sum(p.width for p in pictures), pictures[0].height))
    for place, one in enumerate(pictures):
        whole.paste(one, (place * one.width, 0))
    return whole


def picture(image: Tensor) -> Any:
    """A PIL image of [3, H, W] in [0, 1]."""
    from PIL import Image

    return Image.fromarray((image * 255).round().byte().permute(1, 2, 0).cpu().numpy())


def read_look(path: Path) -> Tensor:
    """[3, H, W] in [0, 1] of a picture that was written here."""
    from PIL import Image

    with Image.open(path) as found:
        return torch.from_numpy(np.array(found.convert("RGB"))).permute(2, 0, 1) / 255
