"""Sums -> maps: the I2AM levels (unified ULAM, time TLAM, head HLAM, layer LLAM, specific SRAM) and DAAM's word maps.

Aggregation: sum over the steps -> resize each (layer, head) map to the output size, bicubic without antialias -> clamp at 0 -> mean
over what the level reduces. Layers are not renormalised: a 16x12 layer's R2G averages 1/192 a step, a 64x48 layer's 1/3072, so
coarse layers dominate, as in the paper; balance=True multiplies each layer by its number of tokens instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from i2am.common import notebook
from i2am.common.checks import cited, counted, is_whole, refuse, said
from i2am.maps.canvas import (
    SIDES,
    canvas,
    check_finite,
    check_level,
    check_room,
    checked_size,
    common_frames,
    grid,
    picked,
    resize,
    squashed,
)
from i2am.maps.drawn import animated, overlaid
from i2am.maps.field import BACK, Field, combined, pointing, with_home
from i2am.maps.files import read, write
from i2am.maps.kept_pictures import with_new
from i2am.maps.layer_sums import LayerSums
from i2am.maps.layers import Layers, chosen, listed
from i2am.maps.prompt import Prompt
from i2am.maps.run_sums import Recorded, with_warning
from i2am.maps.shares import NO_SHARES, shares
from i2am.maps.shown import png_of_maps
from i2am.maps.tokens import AnyGrid, Grid, plane
from i2am.maps.words import WordMaps

if TYPE_CHECKING:
    from PIL.Image import Image

NO_FIELD = "Trace with field=True; layers of videos, of tokens without a known grid (reference_grid=, special=) or of one token have none."


@dataclass(frozen=True, eq=False)
class AttributionMaps(Recorded):
    """The maps of every image of a batch, from one run. maps[0] holds one image's, len(maps) is the number of images.

    r2g lies on the generated image (where the reference acts), g2r on the reference (which parts of it are used). Every level takes
    size=(height, width), None for the largest layer's grid; layers= names, patterns or a function; heads= and groups= indices;
    reference= where a run has several; balance=True to weigh layers equally. Levels return float32 on the CPU. `field` leads from each
    patch of one picture to the other. Where a canvas is a video, of layers whose grid is (frames, height, width), its maps are
    [..., frames, H, W]: frames are resized one by one and stay as many as the layers have.
    """

    def __repr__(self) -> str:
        """Images, steps, groups, layers and references, whatever their number."""
        heads = sorted({t.shape[2] for s in self.sums for t in (s.r2g, s.words) if t is not None})
        layers = f"{counted(len(self.layers), 'layer')} of {' or '.join(map(str, heads))} heads"
        maker = f", from {self.about['model']}" if "model" in self.about else ""
        maker += f", weighed by {self.about['weigh']}" if "weigh" in self.about else ""
        time = f"{counted(self.steps, 'step')} in {counted(self.groups, 'time group')}"
        lines = [f"AttributionMaps of {self.size_said}: {time}, {layers}{maker}"]
        more = {"specific": f" ({counted(len(self.regions), 'region')})", "words": f" ({counted(len(self.prompts), 'prompt')})"}
        of = {name: sum(getattr(s, name) is not None for s in self.sums) for name in ("r2g", "g2r", "specific", "words")}
        lines.append("  sums: " + ", ".join(f"{name} of {n}{more.get(name, '')}" for name, n in of.items() if n))
        pictures = self.pictures and [*(["the images"] if self.pictures.generated else []), *self.pictures.references]
        lines.append(f"  references: {cited(self.references)}" + (f"; pictures of {cited(pictures)}" if pictures else ""))
        return "\n".join(lines) + (f"\n  not finite: {cited(self.broken)}" if self.broken else "")

    def buffer(self, direction: str, layer: str, *, reference: int | str | None = None) -> Tensor:
        """One layer's raw sums [B, groups, heads, h, w]; for "specific" and "words" [B, groups, heads, n, h, w]."""
        return canvas(self._one(direction, layer, reference), direction)

    def tokens(self, direction: str, layer: str, *, reference: int | str | None = None) -> Tensor:
        """One layer's raw sums [B, groups, heads, tokens], special tokens included; needs no grid."""
        return getattr(self._one(direction, layer, reference), direction)

    def with_grid(
        self, *, generated: AnyGrid | None = None, reference: AnyGrid | None = None, special: int | None = None, layers: Layers = None
    ) -> AttributionMaps:
        """The same sums, with the grids of the layers declared afterwards."""
        names = set(chosen(self.layers, layers))
        changed = []
        for sums in self.sums:
            if sums.layer in names:
                lead = sums.special if special is None else special
                sums = replace(sums, special=lead, generated_grid=generated or sums.generated_grid,
                               reference_grid=reference or sums.reference_grid)  # fmt: skip
            changed.append(sums)
        return replace(self, sums=tuple(changed))

    # The levels

    def unified(self, direction: str, size: Grid | None = None, **choice: Any) -> Tensor:
        """[B, H, W], the mean over heads and layers of the sum over steps (ULAM)."""
        return self.level(direction, "unified", size, **choice)

    def time(self, direction: str, size: Grid | None = None, **choice: Any) -> Tensor:
        """[B, groups, H, W], one map per time group, the noisiest first (TLAM)."""
        return self.level(direction, "time", size, **choice)

    def head(self, direction: str, size: Grid | None = None, **choice: Any) -> Tensor:
        """[B, heads, H, W], one map per head, for layers with the same number of heads (HLAM)."""
        return self.level(direction, "head", size, **choice)

    def layer(self, direction: str, size: Grid | None = None, **choice: Any) -> Tensor:
        """[B, layers, H, W], one map per layer in the order of `names(direction)` (LLAM)."""
        return self.level(direction, "layer", size, **choice)

    def specific(self, region: int = 0, size: Grid | None = None, *, level: str = "unified", **choice: Any) -> Tensor:
        """[B, H, W], the map on the reference of the region declared at this place (SRAM); level= as for the others."""
        if not self.regions:
            refuse("specific maps", "declared before the run", "a run without regions", "Pass specific=[...] to trace or Recorder.")
        whole = isinstance(region, Integral) and not isinstance(region, bool)
        if not whole or not -len(self.regions) <= region < len(self.regions):
            refuse("region", f"one of the {len(self.regions)} declared regions", said(region), "They are counted from 0.")
        return self.level("specific", level, size, item=region % len(self.regions), **choice)

    def field(
        self, direction: str = "g2r", size: Grid | None = None, *, level: str = "unified", layers: Layers = None,
        heads: Sequence[int] | int | None = None, groups: Sequence[int] | int | None = None,
        reference: int | str | None = None, weigh: str = "return",
    ) -> Field:  # fmt: skip
        """Where each patch of the generated image comes from on the reference ("g2r"), or goes from there ("r2g"), and how widely it
        attends: positions [B, H, W, 2], (y, x) in fractions, and spread [B, H, W]; with level= as for the others. A field draws itself:
        `field.warp()`, `.arrows()`, `.matches()`, `.wheel()`.

        weigh: "return" lets each head of each layer count by whether the way there and back leads home: of the head the squared share of
        patches for which it does, within one patch, and of the patch 1 / (distance^2 + 1/4); "spread" by its inverse variance there;
        "evenly" by its attention's mass alone.
        """
        if direction not in ("g2r", "r2g"):
            refuse("direction", 'one of "g2r", "r2g"', said(direction), '"g2r" leads from the generated image to the reference.')
        sums = f"field_{direction}"
        parts = self.parts(sums, layers, reference)
        check_level(level, parts, sums, layers)
        found = combined(parts, sums, None if size is None else checked_size(size), level, heads, groups, weigh)
        if level == "unified" and all(BACK[sums] in s.recorded for s in parts):
            found = with_home(found, combined(parts, BACK[sums], None, level, heads, groups, weigh))
        sides = {d: self.pictures.on(d, reference, self.references) for d in ("r2g", "g2r")} if self.pictures else {}
        return replace(found, generated=sides.get("r2g", ()), reference=sides.get("g2r", ()))

    def words(self, prompt: str | Sequence[str] | None = None, size: Grid | None = None, **choice: Any) -> WordMaps:
        """DAAM's maps, word -> [B, H, W], for the prompt of the run, or one prompt per image."""
        maps = self.level("words", "unified", size, **choice)  # [B, n, H, W]
        prompts = self.prompts
        texts = [] if prompt is None else [prompt] if isinstance(prompt, str) else prompt
        if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
            refuse("the prompt", "a text, or one for each image", said(prompt), "Leave it out: the run knows its prompts.")
        if not prompts and texts and self.tokenizer is not None:
            prompts = tuple(Prompt.of(text, self.tokenizer) for text in texts)
        elif texts and (
            len(prompts) % len(texts)
            or not all(squashed(texts[i * len(texts) // len(prompts)]).startswith(squashed(p.text)) for i, p in enumerate(prompts))
        ):
            refuse("the prompt", f"the one of the run, {[p.text for p in prompts]}", texts, "Leave it out: the run knows its prompts.")
        if not prompts:
            refuse("the prompt", "known", "a run that saw embeddings alone, and no text", "Pass it as text: maps.words(prompt).")
        return WordMaps(prompts, range(maps.shape[1]) if self.columns is None else self.columns, maps)

    def shares(self, size: Grid | None = None, *, of: str = "references", **choice: Any) -> Tensor:
        """[B, references, H, W], which reference each patch took from, in the order of `references`: its part of the attention that the
        patch gives to all of them, or, of="attention", of all its attention in the run, to text and to the picture itself as well."""
        return shares(self.level, self, size, of, choice)

    def names(self, direction: str, layers: Layers = None, reference: int | str | None = None) -> list[str]:
        """The layers that have this map; a reference of one token has no g2r."""
        return [s.layer for s in self.parts(direction, layers, reference)]

    # Pictures and files

    def with_pictures(self, images: Any = None, references: Any = None) -> AttributionMaps:
        """The same maps with their generated images and references, for overlay, files and the viewer: pictures, arrays or tensors,
        one or one per image; references= by name, as in maps.references, where there are several. None keeps what is there. Of a video
        a picture for each frame of the maps: pipe(...).frames, every n-th where a frame of the model stands for n."""
        return replace(self, pictures=with_new(self.pictures, images, references, len(self), self.references, self.frames))

    def overlay(self, images: Any = None, direction: str = "r2g", **options: Any) -> list[Image]:
        """The unified map over each image: the generated images for r2g, the references for g2r; None takes the maps' own pictures. Of a
        video a row of its frames, or of frames=."""
        return overlaid(self, images, direction, options)

    def animate(self, path: str | Path, images: Any = None, direction: str = "r2g", **options: Any) -> Path:
        """A looping GIF or WebP: of a video its unified map over frame by frame, of pictures their time groups; options as for `overlay`
        and `i2am.show.pictures.animate`."""
        return animated(self, path, images, direction, options)

    def _repr_html_(self) -> str | None:
        """The viewer, in a notebook."""
        return notebook.html("maps", self)

    def _repr_png_(self) -> bytes | None:
        return notebook.png(lambda: png_of_maps(self))

    def save(self, path: str | Path) -> Path:
        """Write everything to one safetensors file."""
        return write(self, path)

    def parts(self, direction: str, layers: Layers, reference: int | str | None) -> list[LayerSums]:
        """The sums of the chosen layers that have this map."""
        if not isinstance(direction, str) or direction not in SIDES:
            expected = 'one of "r2g", "g2r" (or "specific", "words" for raw sums)'
            refuse("direction", expected, said(direction), "The last letter is the canvas.")
        there = [s for s in self.sums if direction in s.recorded]
        if direction != "words":
            there = self._of_reference(there, reference)
        if not there:
            absent = {
                "g2r": "The reference is one token in every layer, so there is nothing to distinguish on its canvas: use r2g.",
                "specific": "The reference is one token in every layer: there are no parts of it to tell apart.",
                "words": "Trace with words=True (or a list of words).",
                "r2g": "Only words were traced.",
                "mass": NO_SHARES,
                "field_g2r": NO_FIELD,
                "field_r2g": NO_FIELD,
            }
            raise ValueError(f"i2am: this run has no {direction} maps. {absent[direction]}")
        if isinstance(layers, str) and layers == "pointing":
            heads = pointing(self.sums if reference is None else self._of_reference(list(self.sums), reference))
            return [s.of_heads(heads[key]) for s in there if (key := (s.layer, s.source)) in heads]
        names = set(chosen([s.layer for s in there], layers))
        return [s for s in there if s.layer in names]

    def _one(self, direction: str, layer: str, reference: int | str | None) -> LayerSums:
        found = self.parts(direction, layer, reference)
        if len(found) > 1:
            refuse("layer", "the name of one layer", f"{said(layer)}, which means {len(found)}", listed([s.layer for s in found]))
        return found[0]

    def _of_reference(self, sums: list[LayerSums], reference: int | str | None) -> list[LayerSums]:
        names = self.references
        if reference is None:
            if len(names) > 1:
                refuse("reference", f"stated, as this run has {len(names)}", None, f"Pass reference=0 ... or a name: {', '.join(names)}.")
            return sums
        if is_whole(reference) and int(reference) < len(names):
            reference = names[int(reference)]
        if reference not in names:
            refuse("reference", f"below {len(names)} or one of {names}", said(reference), "See maps.references.")
        return [s for s in sums if s.source == reference]

    def level(
        self,
        direction: str,
        level: str = "unified",
        size: Grid | None = None,
        *,
        layers: Layers = None,
        heads: Sequence[int] | int | None = None,
        groups: Sequence[int] | int | None = None,
        reference: int | str | None = None,
        balance: bool = False,
        item: int | None = None,
    ) -> Tensor:
        """Any of them by its name: [B, (groups, heads or layers,) (n,) H, W]; "specific" and "words" have a map for each of n regions
        or tokens, unless `item` picks one."""
        parts = self.parts(direction, layers, reference)
        counts = check_level(level, parts, direction, layers)
        grids = [grid(s, direction) for s in parts]
        check_finite(parts, direction)
        frames = common_frames(parts, direction)
        size = plane(max(grids, key=math.prod)) if size is None else checked_size(size)
        if item is not None:
            picked(item, getattr(parts[0], direction).shape[3] if direction in ("specific", "words") else 0, f"item of {direction}")
        check_room(parts, direction, level, (*frames, *size), item)
        maps = []
        total = 0
        for s in parts:
            sums = canvas(s, direction)  # [B, groups, heads, (n,) h, w]
            if item is not None:
                sums = sums[:, :, :, item]
            if groups is not None:
                sums = sums[:, picked(groups, sums.shape[1], "groups")]
            if heads is not None:
                sums = sums[:, :, picked(heads, sums.shape[2], "heads")]
            if balance:
                sums = sums * math.prod(grid(s, direction))
            sums = sums if level == "time" else sums.sum(1, keepdim=True)
            resized = resize(sums, size, keep_heads=level == "head")
            maps.append(resized[:, :, 0] if level == "time" else resized[:, 0] if level == "head" else resized[:, 0, 0])
            total += 1 if level == "head" else sums.shape[2]
        if level == "layer":
            return torch.stack([m / getattr(s, direction).shape[2] if heads is None else m / len(picked(heads, counts[s.layer], "heads"))
                                for m, s in zip(maps, parts)], 1)  # fmt: skip
        return torch.stack(maps).sum(0) / total


def load(path: str | Path) -> AttributionMaps:
    """Read maps that `maps.save` wrote."""
    return with_warning(read(path, AttributionMaps))
