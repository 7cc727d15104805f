"""The running float32 sums of one layer's reference, and the weights that go with them."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from i2am.common.checks import afford, refuse
from i2am.maps import sides
from i2am.maps.layer_sums import LayerSums
from i2am.maps.orders import Order
from i2am.maps.tokens import Range, Tokens, check_grid, plane
from i2am.maps.wanted import Wanted
from i2am.maps.weighing import norms
from i2am_kernels import bi_attention, moments
from i2am_kernels.fields import MOMENTS

LESS = "Its sums are float32 [images, groups, heads, regions or words, tokens]: ask for fewer regions, layers (layers=), groups or images."


def count_numbers(shapes: dict[str, tuple[int, ...]]) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


def afford_groups(slots: Collection[Slot], images: int, groups: int) -> None:
    """Refuse sums whose first time group is in memory and whose others will not be: untouched memory is not taken yet."""
    need = 4 * (groups - 1) * sum(count_numbers(slot.shapes(images)) for slot in slots)
    afford(f"what is recorded of {len(slots)} layers", need, LESS, next(iter(slots)).device)


def of_layer(layer: str, error: ValueError) -> ValueError:
    """The operator's refusal in the words of who traces or records: they know layers."""
    return ValueError(f"i2am: layer {layer}: {str(error).removeprefix('bi_attention: ')}")


def in_backward() -> bool:
    """Whether a backward is running, which makes layers once more where a forward kept too little (gradient checkpointing)."""
    return torch._C._current_graph_task_id() != -1


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
        self.order = Order.of(layer, tokens, query.shape[2], key.shape[2], query.device)
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
        self.token_maps: Tensor | None = None  # of the words, and the field's moments behind them
        self.column_maps: Tensor | None = None
        self.generated_weight: Tensor | None = None  # [B', 1 + n, G']
        self.reference_weight: Tensor | None = None  # [B', R']
        self.token_weight: Tensor | None = None  # [B', R', n]
        self.column_weight: Tensor | None = None  # [B', 6, G']
        self.factor: Tensor | None = None  # of the output projection, where values are weighed

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
        scratch = 0 if self.wanted.weigh == "weights" else count_numbers(shapes)  # others add a call up by itself first
        afford(f"what is recorded of {self.layer}", 4 * (groups * count_numbers(shapes) + weights + scratch), LESS, self.device)
        layer, tokens, wanted = self.layer, self.tokens, self.wanted
        if "r2g" in shapes:
            self.reference_weight = self.placed(sides.of_reference(layer, tokens, wanted, images))
        if "g2r" in shapes:
            self.generated_weight = self.placed(sides.of_generated(layer, tokens, wanted, images))
        if "token_maps" in shapes:
            field = "token_maps" in self.moments
            self.token_weight = self.placed(sides.of_tokens(layer, tokens, self.columns, self.has_mass, field, images))
        if "column_maps" in shapes and self.tokens.generated_grid is not None:
            self.column_weight = moments(plane(self.tokens.generated_grid), device=self.device).expand(images, -1, -1)
        with torch.inference_mode(False):  # steps in and out of inference mode may alternate
            self.sums = {name: torch.zeros(groups, *shape, dtype=torch.float32, device=self.device) for name, shape in shapes.items()}
        self.turn(0)

    def placed(self, weight: Tensor | None) -> Tensor | None:
        """Where the layer is."""
        return None if weight is None else weight.to(self.device)

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
        count = len(self.columns) + self.has_mass + MOMENTS * ("token_maps" in self.moments)
        if count:
            shapes["token_maps"] = (images, heads, count, canvas)
        if "column_maps" in self.moments:
            shapes["column_maps"] = (images, heads, MOMENTS, keys)
        return shapes

    @property
    def moments(self) -> list[str]:
        """The buffers that hold the field's sums; positions in a video have none."""
        found = {"token_maps": self.tokens.reference_grid, "column_maps": self.tokens.generated_grid}
        video = any(grid is not None and len(grid) == 3 for grid in found.values())
        return [name for name, grid in found.items() if self.has_field and grid is not None and not video]

    @property
    def has_mass(self) -> bool:
        """Whether the reference's part of the attention is recorded: it has one where the softmax holds more than it."""
        tokens = self.tokens
        return tokens.reference is not None and (tokens.shared or (self.wanted.shares and tokens.reference != (0, self.shape[3])))

    @property
    def has_field(self) -> bool:
        """Whether a field was asked for and there are parts of the reference to tell apart."""
        return self.wanted.field and self.tokens.reference is not None and self.tokens.reference[1] - self.tokens.reference[0] > 1

    @property
    def weighs_values(self) -> bool:
        """Whether a reference token counts with the size of what it brings along."""
        return self.wanted.weigh == "values"

    def settle(self, rows: Range, groups: int) -> None:
        """Keep the rows that turned out to be the conditional ones, and make room for all time groups."""
        before, start = self.sums, rows[0] - self.rows[0]
        self.open(rows, groups)
        for name, sums in self.sums.items():
            sums[0] = before[name][0, start : start + rows[1] - rows[0]]

    @property
    def columns(self) -> Sequence[int]:
        """The recorded word tokens."""
        if self.tokens.words is None:
            return ()
        return range(self.tokens.words[1] - self.tokens.words[0]) if self.wanted.columns is None else self.wanted.columns

    def turn(self, group: int) -> None:
        """Add to this time group from now on."""
        views = {name: sums[group] for name, sums in self.sums.items()}
        self.r2g, self.g2r, self.token_maps = views.get("r2g"), views.get("g2r"), views.get("token_maps")
        self.column_maps = views.get("column_maps")

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None, grouped: bool = False) -> Tensor:
        """The layer's own output; its maps are added up beside it. grouped: query heads may share key heads."""
        how = {"attn_mask": mask, "scale": scale, "enable_gqa": grouped,
               "generated_weight": self.generated_weight, "column_weight": self.column_weight}  # fmt: skip
        if self.weighs_values:
            return self.weighed(query, key, value, how)
        return self.call_of(query, key, value, how, self.g2r, self.column_maps, self.reference_weight, self.token_weight)

    def weighed(self, query: Tensor, key: Tensor, value: Tensor, how: dict[str, Any]) -> Tensor:
        """The same where reference token j of head h counts with n_hj: sums over j weigh by it, a map of the j is multiplied by it."""
        count, reference_weight, token_weight = self.counted(value, query.shape[1])
        broken = 0 * count.sum(-1, keepdim=True)  # [B', H, 1]: NaN where a value overflowed
        g2r, column_maps = (None if sums is None else torch.zeros_like(sums) for sums in (self.g2r, self.column_maps))
        out = self.call_of(query, key, value, how, g2r, column_maps, None if self.r2g is None else reference_weight, token_weight)
        for sums, these in ((self.g2r, g2r), (self.column_maps, column_maps)):
            if sums is not None and these is not None:
                sums.addcmul_(these, count if sums.ndim == 3 else count[:, :, None])
        for sums in (self.r2g, self.token_maps):
            if sums is not None:
                sums.add_(broken if sums.ndim == 3 else broken[..., None])
        return out

    def counted(self, value: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """n [B', H, R'], and the weights of the reference and of the words with it, for every head.

        The operator takes no weights that are no numbers; a value that overflowed is told when the maps are read, as in a plain run.
        """
        first, last, _, _, before, behind = self.ranges.shape
        count = norms(value[first:last, :, before:behind], self.factor, heads)
        finite = count.nan_to_num(0.0, 0.0, 0.0)
        reference_weight = finite / (behind - before) if self.reference_weight is None else finite * self.reference_weight[:, None]
        return count, reference_weight, None if self.token_weight is None else finite[..., None] * self.token_weight[:, None]

    def call_of(self, query: Tensor, key: Tensor, value: Tensor, how: dict[str, Any], g2r: Tensor | None, column_maps: Tensor | None,
                reference_weight: Tensor | None, token_weight: Tensor | None) -> Tensor:  # fmt: skip
        """One call of the operator with the slot's ranges; refusals name the layer."""
        first, last, start, stop, before, behind = self.ranges.shape
        try:
            return bi_attention(
                query, key, value, r2g=self.r2g, g2r=g2r, token_maps=self.token_maps, column_maps=column_maps,
                reference_weight=reference_weight, token_weight=token_weight,
                rows=(first, last), generated=(start, stop), reference=(before, behind), backend=self.backend, **how,
            )  # fmt: skip
        except ValueError as error:
            raise of_layer(self.layer, error) from error

    def taken(self) -> dict[str, Tensor]:
        """A copy of the sums on the CPU."""
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in self.sums.items()}

    def finished(self) -> LayerSums:
        """The sums as they stand, images first."""
        tokens = self.tokens
        sums: dict[str, Any] = {name: tensor.transpose(0, 1) for name, tensor in self.taken().items()}
        if tokens.reference is not None:
            sums |= {name: sums[name][..., self.tokens.reference_part] for name in ("g2r", "column_maps") if name in sums}
        if "token_maps" in sums:
            words, mass, field = (len(self.columns), int(self.has_mass), MOMENTS if "token_maps" in self.moments else 0)
            found = zip(("words", "mass", "field_g2r"), sums.pop("token_maps").split([words, mass, field], 3))
            sums |= {name: one[:, :, :, 0] if name == "mass" else one for name, one in found if one.shape[3]}
        if "column_maps" in sums:
            sums["field_r2g"] = sums.pop("column_maps")
        if "g2r" in sums and sums["g2r"].ndim == 5:
            sums["g2r"], sums["specific"] = sums["g2r"][:, :, :, 0], sums["g2r"][:, :, :, 1:]
            if sums["specific"].shape[3] == 0:
                del sums["specific"]
        sums = {name: tensor.contiguous() for name, tensor in sums.items()}
        return LayerSums(self.layer, tokens.source, tokens.generated_grid, tokens.reference_grid, tokens.special, **sums)
