"""The release's hook, over our operator: change the import, keep the script.

    from i2am.compat.i2am_release import CrossAttentionHook        # was: from hook import CrossAttentionHook

Both flavours: StableVITON's with its five arguments, Paint-by-Example's with none. One image gives what the release gives: return
types, shapes, numbers, files. What is different, because there the release is wrong or stops ("the release | here"):

- batches: one row, the second image's or nobody's | every image's; maps [B, h, w], scores [B], files idx-..-0, idx-..-1
- guidance in two calls: both are added up, the steps counted twice, failure at step 25 | the conditional call, once a step
- guidance in one call of 2B rows: row 1, for B > 1 not conditional | rows B to 2B, or take_module(model, guidance="cond-uncond")
- steps: 50, cut after every tenth | any number, cut evenly; an uneven schedule says take_module(model, steps=30)
- PLMS's look-ahead: one step more, at which it fails | one call for each timestep
- SRAM: maps pile up over images | each run's own; its small picture shows the dark half of the image too
- another hook on the same network: all compute for ever | the newest alone; `remove()`, or `with hook:`
- a run before the last one's maps were read: added to them | refused
- one run: one direction, one level | the level asked for, and `hook.maps` with every level of both directions
- several blocks in a transformer: all read the first one's input | each its own
- IMACS of the warp blocks' R2G: against the garment | against the inpainting mask, on whose canvas it lies
- IMACS of an empty mask: 0 or NaN, by the branch | NaN
- sizes: 64x48, 32x24, 512x384; 64x64, 512x512 | the latent's, the warp block's, the picture's own
- memory: every token's map, on the GPU; the block's beginning and its self-attention computed again | a sum per layer, head and time
  group, made in the layer's own attention; levels come on the CPU

SRAM keeps a map for every patch of warp block 4, so its run has one time group. We clamp after the mean over tokens, the release
before it: the same where the reference is one token or the layer has the map's own grid, which at its sizes is everywhere. Only
Paint-by-Example's TLAM, whose steps it clamps one by one, is different, by bicubic undershoot: up to 3% of the peak on maps of noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from i2am.common.checks import refuse
from i2am.compat.release_pictures import as_picture, bicubic, heated, minmax, write
from i2am.compat.watch import GUIDED, Watch
from i2am.maps.layers import Layers
from i2am.maps.levels import AttributionMaps
from i2am.maps.regions import Region, as_mask, cells, per_image
from i2am.maps.tokens import Grid

PATCHED = "warp_flow_blks.4."  # the warp block that StableVITON's published G2R maps and all SRAM maps are of
THRESHOLD, PENALTY = 0.4, 3.0


class Patch(tuple[Tensor, tuple[int, int]]):
    """(map, (row, column)) of one patch, as the release returns it, and which image of the batch it belongs to."""

    image: int

    def __new__(cls, map: Tensor, place: tuple[int, int], image: int) -> Patch:
        self = super().__new__(cls, (map, place))
        self.image = image
        return self


class CrossAttentionHook:
    """The release's class; see the module for what is different."""

    def __init__(
        self,
        generated_image: bool | None = None,
        per_time_step: bool = False,
        per_attention_head: bool = False,
        controlnet: bool = False,
        new_attention_map: bool = False,
    ) -> None:
        self.example = generated_image is None  # Paint-by-Example's hook takes no arguments
        self.generated_image = generated_image is not False
        self.per_time_step, self.per_attention_head = per_time_step, per_attention_head
        self.controlnet, self.new_attention_map = controlnet, new_attention_map
        if new_attention_map and (self.generated_image or not controlnet):
            refuse("new_attention_map", "with controlnet=True and generated_image=False, as SRAM maps lie on the reference",
                   f"controlnet={controlnet}, generated_image={generated_image}", "Say both, or leave it out.")  # fmt: skip
        self.time_division = 5
        self.height = self.width = 0
        self.cal_IMACS_scores = False
        self.watch: Watch | None = None

    # Recording

    def take_module(self, model: nn.Module, *, guidance: str = "auto", steps: int | None = None, layers: Layers = None) -> None:
        """Listen to the cross-attentions of `sampler.model.model.diffusion_model`, or of what holds it, until `remove`.

        guidance: "auto", or the layout of the model's calls as in `i2am.trace`. steps: only for schedules that are not even.
        layers: names or patterns, to listen to some alone; the default is every one, for both directions.
        """
        self.remove()
        self.watch = Watch(model, groups=1 if self.new_attention_map else self.time_division, steps=steps, guidance=guidance, layers=layers,
                           patches=every_patch if self.new_attention_map else None)  # fmt: skip

    def remove(self) -> None:
        """The network's own attention is back; recorded maps stay."""
        if self.watch is not None:
            self.watch.remove()

    def __enter__(self) -> CrossAttentionHook:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()

    def clear(self) -> None:
        """Forget what was recorded."""
        if self.watch is not None:
            self.watch.clear()

    @property
    def maps(self) -> AttributionMaps:
        """Every level of both directions of the last run, for every image."""
        if self.watch is None:
            raise ValueError("i2am: the hook listens to no network. Call take_module(sampler.model.model.diffusion_model) before sampling.")
        return self.watch.maps

    # Levels

    def make_attention_maps(self, agn_mask: Tensor | None = None) -> Any:
        """The level this hook was made for: a map; {time group: map}; a map per head; or [(map, (row, column))] of the patches
        where agn_mask [B, H, W, 1] is 0. A map is [h, w] for one image and [B, h, w] for several."""
        maps = self.maps
        if agn_mask is not None and len(agn_mask) != len(maps):
            refuse("the recorded images", f"{len(agn_mask)}, as agn_mask has", len(maps), GUIDED)
        direction = "r2g" if self.generated_image else "g2r"
        layers = self.layers(maps)
        if self.new_attention_map:
            return self.patches(maps, layers, agn_mask)
        if self.per_time_step:
            if maps.groups == 1 < self.time_division and maps.steps > 1:
                refuse("the steps of the run", "evenly spaced, or told", f"{maps.steps} others", f"take_module(model, steps={maps.steps}).")
            found = maps.time(direction, layers=layers)
            if self.example:  # the mean over a group's steps, not their sum
                taken = [sum(step * maps.groups // maps.steps == group for step in range(maps.steps)) for group in range(maps.groups)]
                found = found / torch.tensor(taken)[:, None, None]
            return {group: plain(map) for group, map in enumerate(found.unbind(1))}
        if self.per_attention_head:
            return [plain(map) for map in maps.head(direction, layers=layers).unbind(1)]
        return plain(maps.unified(direction, layers=layers))

    def layers(self, maps: AttributionMaps) -> list[str]:
        """The release's layers: those outside the middle block, or with `controlnet` the published warp block (TLAM: of its grid)."""
        if not self.controlnet:
            return [name for name in maps.layers if "middle_block" not in name and "warp_flow_blks" not in name]
        grids = {s.layer: s.generated_grid for s in maps.sums if "warp_flow_blks" in s.layer}
        main = [name for name in grids if PATCHED in name]
        if not main:
            refuse("the recorded layers", f"those of StableVITON, with {PATCHED}*", maps.layers[:3], "Pass controlnet=False.")
        return [name for name in grids if grids[name] == grids[main[0]]] if self.per_time_step else main

    def patches(self, maps: AttributionMaps, layers: list[str], agn_mask: Tensor | None) -> list[Patch]:
        """The maps on the garment of every patch that is painted anew, image by image."""
        if agn_mask is None:
            refuse("agn_mask", "given for SRAM maps", None, "0 where the picture is painted anew, [B, H, W, 1].")
        self.height, self.width = grid = next(s.generated_grid for s in maps.sums if s.layer in layers and s.generated_grid)
        painted = F.interpolate(1.0 - agn_mask.permute(0, 3, 1, 2).float(), size=grid, mode="nearest").flatten(1) != 0
        found = maps.level("specific", layers=layers)  # [B, patches, h, w]
        return [Patch(found[b, i], (i // self.width, i % self.width), b) for b, i in painted.cpu().nonzero().tolist()]

    # Scores and pictures

    def cal_IMACS(self, attention_maps: np.ndarray, agn_mask: Tensor | None, cloth_mask: Tensor | None) -> np.ndarray:
        """IMACS of maps that are inverted and cut off as `make_images` draws them; masks [B, H, W, 1], agn_mask 0 inside."""
        x = torch.as_tensor(1.0 - attention_maps)
        given = agn_mask if self.generated_image else cloth_mask
        name = "agn_mask" if self.generated_image else "cloth_mask"
        if given is None:
            refuse(name, "given to score this map", None, "Pass the batch's masks.")
        x = x[None] if x.ndim == 2 else x
        m = per_image(as_mask(given[..., 0], name), len(x), name)
        inside = 1.0 - m if self.generated_image else m
        score = (x * inside).sum((1, 2)) / inside.sum((1, 2)) - PENALTY * (x * (1 - inside)).sum((1, 2)) / (1 - inside).sum((1, 2))
        return score.numpy() if attention_maps.ndim == 3 else score.numpy()[0]

    def make_images(
        self,
        input_image: Tensor,
        cloth: Tensor,
        attention_maps: Tensor,
        save_dir: str | Path,
        batch_idx: object,
        agn_mask: Tensor | None = None,
        cloth_mask: Tensor | None = None,
    ) -> np.ndarray | None:
        """Write each image's map and heat map; with cal_IMACS_scores return its score instead (an array for several images)."""
        maps = batched(attention_maps)
        if cloth_mask is not None and not self.generated_image:  # the published scores forgive what lies beside the garment
            maps = maps * bicubic(cloth_mask[..., 0].cpu(), (maps.shape[-2], maps.shape[-1]))
        maps = minmax(maps)
        if self.cal_IMACS_scores:
            mask = agn_mask if self.generated_image else cloth_mask
            size = (512, 384) if mask is None else (mask.shape[1], mask.shape[2])
            levels = self.drawn(maps, size, self.controlnet)
            return self.cal_IMACS((levels if attention_maps.ndim == 3 else levels[0]).numpy(), agn_mask, cloth_mask)
        channels_last = not self.generated_image and not self.example
        photos = cloth if not self.generated_image else input_image
        suffix = "" if self.example else f"_controlNet-{self.controlnet}"
        for i, name in names(batch_idx, len(maps)):
            photo = as_picture(photos[i] if channels_last else photos[i].permute(1, 2, 0))
            size = photo.shape[:2]
            level = self.drawn(maps[i : i + 1], size, self.controlnet)[0]
            small = bicubic(maps[i : i + 1], size)[0] if self.controlnet else 1.0 - maps[i]
            base = f"{name}_{{}}_generated_image-{self.generated_image}{suffix}.png"
            write(torch.where(small <= THRESHOLD, 0.0, small), Path(save_dir, base.format("attention_map")))
            write(heated(photo, level), Path(save_dir, base.format("heatmap")))
        return None

    def new_make_images(self, input_image: Tensor, cloth: Tensor, attention_maps: Patch, save_dir: str | Path, batch_idx: object) -> None:
        """Write one patch's map, where it lies on the generated image, and where on the garment it comes from."""
        map, place = attention_maps
        image = getattr(attention_maps, "image", 0)
        level = minmax(batched(map))
        base, suffix = f"idx-{batch_idx}_attention_map_generated_image", f"_controlNet-{self.controlnet}.png"
        write(torch.where(level <= THRESHOLD, 0.0, level)[0], Path(save_dir, f"{base}-{self.generated_image}{suffix}"))
        small = F.interpolate(input_image[image : image + 1].float().cpu(), size=tuple(map.shape), mode="bicubic")[0].permute(1, 2, 0)
        write(as_picture(small), Path(save_dir, "new", f"{base}{suffix}"), place)
        photo = as_picture(cloth[image])
        write(heated(photo, self.drawn(level, photo.shape[:2], True)[0]), Path(save_dir, "new", f"idx-{batch_idx}_cloth.png"))

    def drawn(self, maps: Tensor, size: Grid, inverted: bool) -> Tensor:
        """Maps [B, h, w] between 0 and 1 at the size of a picture, with the release's cut of what is weak."""
        level = minmax(bicubic(maps, size))
        level = 1.0 - level if inverted else level
        return torch.where(level >= 1 - THRESHOLD, 1.0, level)


def every_patch(layer: str, grid: Grid) -> Sequence[Region]:
    """SRAM: each patch of the published warp block, as the mask comes only after the run."""
    return cells(*grid) if PATCHED in layer else ()


def plain(map: Tensor) -> Tensor:
    """One image's map as [h, w]."""
    return map[0] if len(map) == 1 else map


def batched(maps: Tensor) -> Tensor:
    """[B, h, w] on the CPU."""
    return (maps[None] if maps.ndim == 2 else maps).detach().float().cpu()


def names(batch_idx: object, images: int) -> list[tuple[int, str]]:
    """The files' beginnings: the release's own for one image."""
    return [(i, f"idx-{batch_idx}" if images == 1 else f"idx-{batch_idx}-{i}") for i in range(images)]
