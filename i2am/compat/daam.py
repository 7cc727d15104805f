"""DAAM's interface over `i2am.trace(words=True)`: change the import, keep the script.

    from i2am.compat.daam import trace        # was: from daam import trace

    with trace(pipe) as tc:
        images = pipe("a dog runs across the field").images
        tc.compute_global_heat_map().compute_word_heat_map("dog").plot_overlay(images[0])

Square, guided runs of one prompt give DAAM's numbers. What it refuses or gets wrong ("DAAM | here"):

- several prompts or images: refused | compute_global_heat_map(image=2)
- images that are not square: fail, or are transposed by expand_as | maps on their own grid, (height, width)
- no guidance: half of the heads are dropped | all of them
- SD3, Flux and others with words: no UNet blocks to hook | every traced layer
- layers whose `factor` is 8 or no power of two: left out in silence | the same by default, with a warning; factors={3, 8} takes them
- a word inside another ("cat" in "catalog"): found | whole words and phrases only
- expand_as(absolute=True): keeps what bicubic makes of 0 | nothing below 0
- a parser's token that is part of a word: found where its pieces stand in the prompt | left out, and named in a warning
- saved experiments: pickles, executed when loaded | safetensors, the rest of the folder as there

Attention is not stored, so load_heads and save_heads are refused: `i2am.hold` holds it fixed. Everything that DAAM exports can be imported
from here; classes that patch modules refuse to be made and say what to do instead.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from i2am.attach.finder import Finder
from i2am.attach.steps import wrap
from i2am.attach.trace import Trace
from i2am.common.checks import is_whole, refuse
from i2am.compat.daam_classes import (
    COCO80_INDICES,
    COCO80_LABELS,
    COCO80_ONTOLOGY,
    COCO80_TO_27,
    COCOSTUFF27_LABELS,
    UNUSED_LABELS,
    build_word_list_coco80,
)
from i2am.compat.daam_evaluate import MeanEvaluator, UnsupervisedEvaluator, compute_ioa, compute_iou, load_mask
from i2am.compat.daam_experiment import GenerationExperiment
from i2am.compat.daam_maps import GlobalHeatMap, gathered, placed
from i2am.compat.daam_parts import (
    AggregateHooker,
    ModuleLocator,
    ObjectHooker,
    RawHeatMapCollection,
    UNetCrossAttentionLocator,
    auto_autocast,
    auto_device,
    cache_dir,
    compute_token_merge_indices,
    set_seed,
)
from i2am.compat.daam_syntax import ParsedHeatMap, SyntacticHeatMapPair, cached_nlp
from i2am.compat.daam_words import WordHeatMap, plot_mask_heat_map, plot_overlay_heat_map
from i2am.maps.canvas import picture
from i2am.maps.levels import AttributionMaps
from i2am.maps.prompt import Prompt
from i2am.maps.recorder import Recorder
from i2am.maps.tokens import Grid

__all__ = [
    "COCO80_INDICES", "COCO80_LABELS", "COCO80_ONTOLOGY", "COCO80_TO_27", "COCOSTUFF27_LABELS", "UNUSED_LABELS", "AggregateHooker",
    "DiffusionHeatMapHooker", "GenerationExperiment", "GlobalHeatMap", "MeanEvaluator", "ModuleLocator", "ObjectHooker", "ParsedHeatMap",
    "RawHeatMapCollection", "SyntacticHeatMapPair", "UNetCrossAttentionLocator", "UnsupervisedEvaluator", "WordHeatMap", "auto_autocast",
    "auto_device", "build_word_list_coco80", "cache_dir", "cached_nlp", "compute_ioa", "compute_iou", "compute_token_merge_indices",
    "load_mask", "plot_mask_heat_map", "plot_overlay_heat_map", "set_seed", "trace",
]  # fmt: skip

__version__ = "0.2.0"  # of the interface
FACTORS = (0, 1, 2, 4, 16, 32, 64)  # what DAAM records and aggregates; it never records 8


class LastCall(Trace):
    """A trace that keeps the maps of the last call, as DAAM does, whether those of the call before were read or not."""

    def finish(self) -> None:
        super().finish()
        self.taken = True


class DiffusionHeatMapHooker:
    """DAAM's class; `trace` is its other name. low_memory: the first attention of each block alone."""

    def __init__(self, pipeline: Any, low_memory: bool = False, load_heads: bool = False, save_heads: bool = False,
                 data_dir: str | Path | None = None) -> None:  # fmt: skip
        if load_heads or save_heads:
            refuse("load_heads and save_heads", "left out", (load_heads, save_heads),
                   "Attention is not stored: i2am.hold holds the first picture's fixed in the others of a batch.")  # fmt: skip
        self.pipe, self.low_memory = pipeline, low_memory
        self.hooked, self.time_idx = False, 0
        self.run: Trace | None = None
        self.images: list[Any] = []

    def __enter__(self) -> DiffusionHeatMapHooker:
        return self.hook()

    def __exit__(self, *error: Any) -> None:
        self.hooked = False
        self.undo.__exit__(*error)

    def hook(self) -> DiffusionHeatMapHooker:
        """What entering the block does; `unhook` is leaving it."""
        if self.hooked:
            refuse("hook", "called once", "a second call", "Call unhook() first.")
        self.undo = ExitStack()
        self.run = LastCall(Finder(self.pipe, "auto"), Recorder(groups=1), self.pipe.scheduler, layers=self.takes, words=True,
                            guidance="auto", reference_grid=None, special=0)  # fmt: skip
        self.undo.enter_context(self.run)
        processor = getattr(self.pipe, "image_processor", None)
        if processor is not None:
            postprocess = processor.postprocess

            def keep(*args: Any, **kwargs: Any) -> Any:
                out = postprocess(*args, **kwargs)
                self.images = list(out)
                return out

            wrap(processor, "postprocess", keep, self.undo)
        self.hooked = True
        return self

    def unhook(self) -> DiffusionHeatMapHooker:
        if not self.hooked:
            refuse("unhook", "called after hook", "nothing that is traced", "Call hook() first.")
        self.__exit__(None, None, None)
        return self

    def time_callback(self, *args: Any, **options: Any) -> None:
        """For a pipeline's `callback`: counts steps in `time_idx`."""
        self.time_idx += 1

    def takes(self, layer: str) -> bool:
        """DAAM hooks the up and down blocks."""
        return "mid_block" not in layer and (not self.low_memory or ".attentions.0.transformer_blocks.0." in layer)

    @property
    def maps(self) -> AttributionMaps:
        """The maps of the last call: every head, layer and image."""
        if self.run is None:
            raise ValueError("i2am: nothing was traced. Call the pipeline inside `with trace(pipe) as tc:`.")
        return self.run.maps

    @property
    def layer_names(self) -> list[str]:
        """The layers in DAAM's order, which layer_idx counts: up blocks, then down blocks."""
        return sorted(self.maps.names("words"), key=lambda name: ("up_blocks" not in name, "down_blocks" not in name))

    @property
    def last_prompt(self) -> str:
        return self.maps.prompts[-1].text if self.maps.prompts else ""

    @property
    def last_image(self) -> Any:
        """The last picture that the pipeline made."""
        return self.images[-1] if self.images else None

    def compute_global_heat_map(
        self,
        prompt: str | None = None,
        factors: Iterable[int] | None = None,
        head_idx: int | None = None,
        layer_idx: int | None = None,
        normalize: bool = False,
        image: int | None = None,
    ) -> GlobalHeatMap:
        """The prompt's maps: the mean over heads and layers of the sum over steps, for one image.

        factors: which layers, by how many times coarser than the latent they are; head_idx, layer_idx: one head, one of `layer_names`;
        normalize: shares of the prompt's tokens; image: which of the batch, where there are several.
        """
        maps = self.maps
        if image is None and len(maps) > 1:
            refuse("image", f"stated, as the run has {len(maps)}", None, "Pass image=0, 1 ...")
        maps = maps[image or 0]
        if prompt is None and not maps.prompts:
            refuse("prompt", "given for a run that saw embeddings alone", None, 'compute_global_heat_map("a dog ...").')
        tokens = maps.prompts[0] if prompt is None else Prompt.of(prompt, maps.tokenizer)
        size, area = self.canvas(maps)
        names = self.layer_names
        if layer_idx is not None:
            if not is_whole(layer_idx) or layer_idx >= len(names):
                refuse("layer_idx", f"below {len(names)}", repr(layer_idx), "See tc.layer_names.")
            names = [names[layer_idx]]
        names = self.of_factors(maps, names, area, None if factors is None else set(factors))
        heads = {s.layer: s.words.shape[2] for s in maps.sums if s.words is not None}
        if head_idx is not None:
            names = [name for name in names if head_idx < heads[name]]
            if not is_whole(head_idx) or not names:
                refuse("head_idx", f"below {max(heads.values())}", repr(head_idx), "Heads are counted from 0.")
        return gathered(maps.level("words", "unified", size, layers=names, heads=head_idx)[0], maps.columns, tokens, normalize)

    @property
    def all_heat_maps(self) -> RawHeatMapCollection:
        """Each head's sum over steps, on its layer's grid, of a run of one image: the tokens of the prompt and one on each side."""
        maps, found = self.maps, RawHeatMapCollection()
        if len(maps) > 1 or not maps.prompts:
            refuse("the run", "of one image and a prompt", f"{len(maps)} images, {len(maps.prompts)} prompts", "See tc.maps[i].sums.")
        _, area = self.canvas(maps)
        sums = {s.layer: s for s in maps.sums if s.words is not None}
        for layer, name in enumerate(self.layer_names):
            words, grid = sums[name].words, picture(sums[name], "words", "DAAM's maps")
            assert words is not None
            _, at = placed(words.shape[3], maps.columns, maps.prompts[0])
            for head, map in enumerate(words[0].sum(0)[:, at]):
                found.update(math.isqrt(area // (grid[0] * grid[1])), layer, head, map.view(-1, *grid))
        return found

    def canvas(self, maps: AttributionMaps) -> tuple[Grid, int]:
        """The maps' grid, DAAM's 64 or 96 squared for square images and the largest layer's for others, and what it calls latent_hw."""
        grids = [picture(s, "words", "DAAM's canvas") for s in maps.sums if s.generated_grid is not None]
        largest = max(grids, key=lambda g: g[0] * g[1])
        unet = getattr(self.pipe, "unet", None)
        if unet is None:
            return largest, largest[0] * largest[1]
        pixels = np.max(unet.config.sample_size or 0) * self.pipe.vae_scale_factor
        side = 64 if pixels in (512, 1024) else 96
        return ((side, side) if largest[0] == largest[1] else largest), side * side

    def of_factors(self, maps: AttributionMaps, names: list[str], area: int, factors: set[int] | None) -> list[str]:
        """The layers of these factors; None: what DAAM takes of square images, all layers of others."""
        grids = {s.layer: s.generated_grid or (1, 1) for s in maps.sums}
        found = {name: math.isqrt(area // (grids[name][0] * grids[name][1])) for name in names}
        if factors is not None:
            kept = [name for name in names if found[name] in factors]
            if not kept:
                refuse("factors", f"some of {sorted(set(found.values()))}", sorted(factors), "None takes DAAM's own choice.")
            return kept
        square = all(grids[name][0] == grids[name][1] for name in names)
        kept = [name for name in names if found[name] in FACTORS] if square else names
        if kept and len(kept) < len(names):
            left = sorted({found[name] for name in names} - set(FACTORS))
            warnings.warn(f"i2am: like DAAM, this leaves out the layers of factors {left}; pass factors= to take them.", stacklevel=3)
        return kept or names

    def to_experiment(self, path: str | Path, seed: int | None = None, id: str = ".", subtype: str = ".",
                      **options: Any) -> GenerationExperiment:  # fmt: skip
        """The last image with its maps, ready to `save`; options as for compute_global_heat_map."""
        if not self.images:
            refuse("the pipeline's images", "seen on their way out", "none", 'Call it inside the block, without output_type="latent".')
        image = self.images[options.get("image") or 0]
        if not hasattr(image, "save"):
            refuse("the pipeline's images", "pictures", type(image).__name__, 'Call it with output_type="pil".')
        heat, words = self.compute_global_heat_map(**options), getattr(self.pipe, "tokenizer", None)
        return GenerationExperiment(image, heat.heat_maps, heat.prompt, seed, id, Path(path), subtype=subtype, tokenizer=words, heat=heat)


trace = DiffusionHeatMapHooker
