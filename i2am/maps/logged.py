"""Maps and fields beside somebody's training: pictures and two numbers into a TensorBoard writer, or whatever has its methods."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from i2am.common.checks import instance, refuse, said, whole_number
from i2am.maps.field import NEAR
from i2am.maps.levels import AttributionMaps
from i2am.maps.tokens import usual_frames

SIDE = 256  # pixels that the longer side of a picture has at least


def log(
    writer: Any, maps: AttributionMaps, step: int | None = None, *, images: Any = None, references: Any = None, tag: str = "i2am",
    most: int = 4,
) -> None:  # fmt: skip
    """Write unified maps and fields to a torch.utils.tensorboard.SummaryWriter, or anything with its add_scalar and add_images.

        tag/r2g, tag/g2r                where the reference acts, and what of it is used: over their pictures, or alone
        tag/wheel, tag/warp             where there is a field: its displacements as colours, and the reference as it moves it
        tag/spread/g2r, tag/spread/r2g  its mean spread, in fractions of the other picture; sqrt(1/6) looks everywhere
        tag/returned                    the share of patches that, followed to the reference and back, come home within one patch

    images, references: as in `maps.with_pictures`, where the maps carry none. most: images of the batch that are drawn, of videos their
    frames in a row; numbers are of all. Where a run has several references, their names follow the tag. Layers that are not finite are left
    out, and counted as tag/broken_layers, so that a training goes on.
    """
    draws = [name for name in ("add_images", "add_image") if callable(getattr(writer, name, None))]
    if not draws or not callable(getattr(writer, "add_scalar", None)):
        refuse("writer", "a SummaryWriter, or something with its add_scalar and add_images or add_image", said(writer),
               'Of accelerate it is accelerator.get_tracker("tensorboard", unwrap=True).')  # fmt: skip
    instance("maps", maps, AttributionMaps, "Pass run.maps.")
    step = None if step is None else whole_number("step", step, 0, "It counts the training's steps.")
    most = whole_number("most", most, 1, "It counts images of the batch.")
    if images is not None or references is not None:
        maps = maps.with_pictures(images, references)
    broken = maps.broken
    if broken:
        writer.add_scalar(f"{tag}/broken_layers", len(broken), step)
    for name in maps.references:
        label = tag if len(maps.references) == 1 else f"{tag}/{name}"
        whole = [s for s in maps.sums if s.source == name and s.layer not in broken]
        for direction, side in (("r2g", "generated_grid"), ("g2r", "reference_grid")):
            grids = {s.layer: grid for s in whole if direction in s.recorded and (grid := getattr(s, side))}
            frames = usual_frames(grids.values())
            placed = [layer for layer, grid in grids.items() if usual_frames([grid]) == frames]
            if placed:
                show(writer, f"{label}/{direction}", drawn(maps, direction, name, placed, most), step)
        pointed = [s.layer for s in whole if s.has_field]
        if pointed:
            log_field(writer, maps, label, {"reference": name, "layers": pointed}, step, most)


def drawn(maps: AttributionMaps, direction: str, reference: str, layers: list[str], most: int) -> list[Any]:
    """Overlays of the first images, or heats where their pictures are not there."""
    from i2am.show.pictures import heat, overlay, strip

    some = maps[:most] if len(maps) > most else maps
    unified = some.unified(direction, layers=layers, reference=reference)
    own = some.pictures and some.pictures.on(direction, reference, some.references)
    if own:
        return overlay(list(own), unified)
    height, width = unified.shape[-2:]
    factor = -(-SIDE // max(height, width))
    alone = strip if unified.ndim == 4 else heat
    return [alone(one, (factor * height, factor * width)) for one in unified]


def log_field(writer: Any, maps: AttributionMaps, label: str, choice: dict[str, Any], step: int | None, most: int) -> None:
    """Numbers of all images, pictures of the first."""
    there, back = (maps.field(direction, **choice) for direction in ("g2r", "r2g"))
    for field in (there, back):
        writer.add_scalar(f"{label}/spread/{field.direction}", float(field.spread.nanmean()), step)
    writer.add_scalar(f"{label}/returned", float((there.away(back) < NEAR).float().mean()), step)
    some = there[:most]
    h, w = some.positions.shape[1:3]
    factor = -(-SIDE // max(h, w))
    show(writer, f"{label}/wheel", some.wheel((factor * h, factor * w)), step)
    if some.reference:
        show(writer, f"{label}/warp", some.warp(size=None if some.generated else (factor * h, factor * w)), step)


def show(writer: Any, tag: str, pictures: list[Any], step: int | None) -> None:
    """As one batch where all have one size, else one by one."""
    arrays = [np.asarray(picture) for picture in pictures]
    if callable(getattr(writer, "add_images", None)) and len({array.shape for array in arrays}) == 1:
        writer.add_images(tag, torch.from_numpy(np.stack(arrays)), step, dataformats="NHWC")
        return
    for i, array in enumerate(arrays):
        one = torch.from_numpy(array.copy())
        if callable(getattr(writer, "add_image", None)):
            writer.add_image(f"{tag}/{i}", one, step, dataformats="HWC")
        else:
            writer.add_images(f"{tag}/{i}", one[None], step, dataformats="NHWC")
