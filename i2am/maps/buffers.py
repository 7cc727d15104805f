"""The running float32 sums of one layer's reference, and the weights that go with them."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from i2am.common.checks import afford, fields_said, is_whole, refuse, said
from i2am.maps.regions import Region, images_of, on_grid, per_image, regions_on_grid
from i2am.maps.tokens import Grid, Range, Tokens, check_grid
from i2am_kernels import bi_attention

CPU: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}
LESS = "Its sums are float32 [images, groups, heads, regions or words, tokens]: ask for fewer regions, layers (layers=), groups or images."


@dataclass(frozen=True, eq=False)
class LayerSums:
    """What one run added up for one reference of one layer: float32, on the CPU."""

    layer: str
    source: str
    generated_grid: Grid | None
    reference_grid: Grid | None
    special: int  # leading reference tokens without a place on the canvas
    r2g: Tensor | None = None  # [B, groups, heads, G]
    g2r: Tensor | None = None  # [B, groups, heads, R]
    specific: Tensor | None = None  # [B, groups, heads, n, R]
    words: Tensor | None = None  # [B, groups, heads, n, G]
    __repr__ = fields_said

    def __post_init__(self) -> None:
        shapes = [t.shape[:3] for t in (self.r2g, self.g2r, self.specific, self.words) if t is not None]
        if len(set(shapes)) != 1 or 0 in shapes[0]:
            refuse(f"the sums of {self.layer}", "of the same images, groups and heads", [tuple(s) for s in shapes], "Do not mix runs.")
        for side, grid, special, ours in (("generated", self.generated_grid, 0, (self.r2g, self.words)),
                                          ("reference", self.reference_grid, self.special, (self.g2r, self.specific))):  # fmt: skip
            for tensor in ours:
                if tensor is None:
                    continue
                count = tensor.shape[-1]
                if not is_whole(special) or special >= count:
                    refuse("special", f"fewer than the {count} {side} tokens of {self.layer}", said(special), "A CLS token counts 1.")
                if grid is not None:
                    check_grid(f"{self.layer}'s {side}", grid, count - special, f"{count} tokens, {special} of them special")

    @cached_property
    def broken(self) -> tuple[str, ...]:
        """The maps that hold NaN or infinity."""
        there = {name: t for name in ("r2g", "g2r", "specific", "words") if (t := getattr(self, name)) is not None and t.numel()}
        return tuple(name for name, t in there.items() if not all(end.isfinite() for end in t.aminmax()))


@dataclass(frozen=True)
class Wanted:
    """What a recorder was asked to weigh, the same for every layer."""

    groups: int | None  # None: what fits the run
    generated_mask: Tensor | None = None  # [m, h, w]
    reference_mask: Tensor | None = None
    regions: Sequence[Region] = ()
    columns: Sequence[int] | None = None  # which word tokens; None means every one
    backend: str = "auto"
    __repr__ = fields_said

    @property
    def per_image(self) -> bool:
        """Whether some weight speaks of single images, so that their number must be known before the first call."""
        masks = [mask for mask in (self.generated_mask, self.reference_mask, *self.regions) if mask is not None]
        return any(images_of(mask) > 1 for mask in masks)


def count_numbers(shapes: dict[str, tuple[int, ...]]) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


def afford_groups(slots: Collection[Slot], images: int, groups: int) -> None:
    """Refuse sums whose first time group is in memory and whose others will not be: untouched memory is not taken yet."""
    need = 4 * (groups - 1) * sum(count_numbers(slot.shapes(images)) for slot in slots)
    afford(f"what is recorded of {len(slots)} layers", need, LESS, next(iter(slots)).device)


def of_layer(layer: str, error: ValueError) -> ValueError:
    """The operator's refusal in the words of who traces or records: they know layers."""
    return ValueError(f"i2am: layer {layer}: {str(error).removeprefix('bi_attention: ')}")


def as_sizes(*sizes: int) -> Tensor:
    """Numbers for the hot path, as the sizes of a tensor without memory: torch.compile would take plain ones for constants of the model."""
    return torch.empty_strided(sizes, [0] * len(sizes), device="meta")


class Slot:
    """One layer's reference: buffers and weights, ready to be handed to the operator.

    Every attribute the hot path reads is a tensor or the same for all layers of a kind, so that torch.compile keeps one graph:
    a new time group only swaps the views, and another size of the picture finds the sizes of all of them to be symbols.
    """

    def __init__(self, layer: str, tokens: Tokens, query: Tensor, key: Tensor, wanted: Wanted) -> None:
        self.layer, self.tokens, self.wanted = layer, tokens, wanted
        self.backend, self.device = wanted.backend, query.device
        self.call = as_sizes(*query.shape[:3], key.shape[2])
        for name, part, size in (("generated", tokens.generated, query.shape[2]), ("reference", tokens.reference, key.shape[2]),
                                 ("words", tokens.words, key.shape[2])):  # fmt: skip
            if part is not None and not 0 <= part[0] < part[1] <= size:
                refuse(f"{name} of {layer}", f"(start, stop) with 0 <= start < stop <= {size}", part, "Count the call's own tokens.")
        self.generated: Range = tokens.generated or (0, query.shape[2])
        self.keys: Range = tokens.keys
        if tokens.generated_grid is not None:  # Tokens has checked the reference's
            count = self.generated[1] - self.generated[0]
            check_grid(f"{layer}'s generated", tokens.generated_grid, count, f"{count} tokens")
        self.at((0, 0))
        self.sums: dict[str, Tensor] = {}  # each [groups, B', H, ...]
        # views of the sums: the time group that is being added to
        self.r2g: Tensor | None = None
        self.g2r: Tensor | None = None
        self.word_maps: Tensor | None = None
        self.generated_weight: Tensor | None = None  # [B', 1 + n, G']
        self.reference_weight: Tensor | None = None  # [B', R']
        self.word_weight: Tensor | None = None  # [B', R', n]

    @property
    def shape(self) -> tuple[int, ...]:
        """B, H, G, R of the call."""
        return tuple(self.call.shape)

    def at(self, rows: Range) -> None:
        """These rows of the call have maps."""
        self.rows = rows
        self.ranges = as_sizes(*rows, *self.generated, *self.keys)

    def resize(self, images: int) -> None:
        """The call holds the conditional rows alone from now on."""
        self.call = as_sizes(images, *self.shape[1:])
        self.at((0, images))

    def open(self, rows: Range, groups: int) -> None:
        """Make room for the images in `rows`."""
        self.at(rows)
        images = rows[1] - rows[0]
        shapes = self.shapes(images)
        weights = images * len(self.wanted.regions) * shapes["r2g"][-1] if "g2r" in shapes else 0
        afford(f"what is recorded of {self.layer}", 4 * (groups * count_numbers(shapes) + weights), LESS, self.device)
        if "r2g" in shapes:
            self.reference_weight = self._reference_weight(images)
        if "g2r" in shapes:
            self.generated_weight = self._generated_weight(images)
        if "words" in shapes:
            self.word_weight = self._word_weight(images)
        with torch.inference_mode(False):  # steps in and out of inference mode may alternate
            self.sums = {name: torch.zeros(groups, *shape, dtype=torch.float32, device=self.device) for name, shape in shapes.items()}
        self.turn(0)

    def shapes(self, images: int) -> dict[str, tuple[int, ...]]:
        """Of one time group's sums."""
        tokens, wanted, heads = self.tokens, self.wanted, self.shape[1]
        canvas, keys = self.generated[1] - self.generated[0], self.keys[1] - self.keys[0]
        shapes: dict[str, tuple[int, ...]] = {}
        if tokens.reference is not None:
            shapes["r2g"] = (images, heads, canvas)
            if tokens.reference[1] - tokens.reference[0] > 1:
                weighed = wanted.generated_mask is not None or len(wanted.regions) > 0
                shapes["g2r"] = (images, heads, *([1 + len(wanted.regions)] if weighed else []), keys)
        if tokens.words is not None:
            shapes["words"] = (images, heads, len(self.columns), canvas)
        return shapes

    def settle(self, rows: Range, groups: int) -> None:
        """Keep the rows that turned out to be the conditional ones, and make room for all time groups."""
        before, start = self.sums, rows[0] - self.rows[0]
        self.open(rows, groups)
        for name, sums in self.sums.items():
            sums[0] = before[name][0, start : start + rows[1] - rows[0]]

    @property
    def columns(self) -> Sequence[int]:
        """The recorded word tokens."""
        assert self.tokens.words is not None
        return range(self.tokens.words[1] - self.tokens.words[0]) if self.wanted.columns is None else self.wanted.columns

    def turn(self, group: int) -> None:
        """Add to this time group from now on."""
        self.r2g, self.g2r, self.word_maps = (self.sums[name][group] if name in self.sums else None for name in ("r2g", "g2r", "words"))

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None) -> Tensor:
        """The layer's own output; its maps are added up beside it."""
        first, last, start, stop, before, behind = self.ranges.shape
        try:
            return bi_attention(
                query, key, value, r2g=self.r2g, g2r=self.g2r, token_maps=self.word_maps,
                generated_weight=self.generated_weight, reference_weight=self.reference_weight, token_weight=self.word_weight,
                attn_mask=mask, scale=scale, rows=(first, last), generated=(start, stop), reference=(before, behind), backend=self.backend,
            )  # fmt: skip
        except ValueError as error:
            raise of_layer(self.layer, error) from error

    def finished(self) -> LayerSums:
        """The sums as they stand, on the CPU, images first."""
        tokens = self.tokens
        sums = {name: tensor.detach().to("cpu", copy=True).transpose(0, 1) for name, tensor in self.sums.items()}
        if "g2r" in sums and tokens.reference is not None:
            start = tokens.reference[0] - self.keys[0]
            sums["g2r"] = sums["g2r"][..., start : start + tokens.reference[1] - tokens.reference[0]]
            if sums["g2r"].ndim == 5:
                sums["g2r"], sums["specific"] = sums["g2r"][:, :, :, 0], sums["g2r"][:, :, :, 1:]
                if sums["specific"].shape[3] == 0:
                    del sums["specific"]
        sums = {name: tensor.contiguous() for name, tensor in sums.items()}
        return LayerSums(self.layer, tokens.source, tokens.generated_grid, tokens.reference_grid, tokens.special, **sums)

    def _generated_weight(self, images: int) -> Tensor | None:
        """[B', 1 + n, G']: the inpainting mask over G first, then one 0/1 row per declared region."""
        wanted, grid = self.wanted, self.tokens.generated_grid
        if wanted.generated_mask is None and not wanted.regions:
            return None
        if grid is None:
            refuse(f"the generated grid of {self.layer}", "known to place a mask or region", "none", "Pass generated_grid=(height, width).")
        size = grid[0] * grid[1]
        whole = torch.ones(1, size, **CPU) if wanted.generated_mask is None else on_grid(wanted.generated_mask, grid)
        first = per_image(whole / size, images, "generated_mask")
        return torch.cat([first[:, None], regions_on_grid(wanted.regions, grid, images)], 1).to(self.device)

    def _reference_weight(self, images: int) -> Tensor | None:
        """[B', R']: 1/R, or the reference mask over R, and nothing for keys that are not the reference."""
        tokens, mask = self.tokens, self.wanted.reference_mask
        assert tokens.reference is not None
        if mask is None and self.keys == tokens.reference:
            return None
        start, stop = (x - self.keys[0] for x in tokens.reference)
        weight = torch.zeros(images, self.keys[1] - self.keys[0], **CPU)
        weight[:, start:stop] = 1 / (stop - start)
        if mask is not None and stop - start > 1:
            if tokens.reference_grid is None:
                refuse(f"the reference grid of {self.layer}", "known to place reference_mask", "none",
                       "Pass reference_grid=(height, width), or leave the mask out.")  # fmt: skip
            weight[:, start : start + tokens.special] = 0
            weight[:, start + tokens.special : stop] *= per_image(on_grid(mask, tokens.reference_grid), images, "reference_mask")
        return weight.to(self.device)

    def _word_weight(self, images: int) -> Tensor:
        """[B', R', n]: one column per recorded word token."""
        assert self.tokens.words is not None
        (first, last), columns = self.tokens.words, self.columns
        if len(columns) == 0 or max(columns) >= last - first:
            refuse(f"the words of {self.layer}", f"among its {last - first} text tokens", list(columns), "Shorten the prompt.")
        weight = torch.zeros(images, self.keys[1] - self.keys[0], len(columns), **CPU)
        for n, column in enumerate(columns):
            weight[:, first - self.keys[0] + column, n] = 1
        return weight.to(self.device)
