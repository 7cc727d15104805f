"""What a run added up for one reference of one layer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from torch import Tensor

from i2am.common.checks import fields_said, is_whole, refuse, said
from i2am.maps.kept_calls import KeptCall
from i2am.maps.tokens import AnyGrid, check_grid

SUMS = ("r2g", "g2r", "mass", "specific", "words", "field_g2r", "field_r2g")  # what may be added up of a layer's reference


@dataclass(frozen=True, eq=False)
class LayerSums:
    """What one run added up for one reference of one layer: float32, on the CPU; of a differentiable run on the model's device, with its
    gradient and the calls themselves."""

    layer: str
    source: str
    generated_grid: AnyGrid | None
    reference_grid: AnyGrid | None
    special: int  # leading reference tokens without a place on the canvas
    r2g: Tensor | None = None  # [B, groups, heads, G]
    g2r: Tensor | None = None  # [B, groups, heads, R]
    specific: Tensor | None = None  # [B, groups, heads, n, R]
    words: Tensor | None = None  # [B, groups, heads, n, G]
    field_g2r: Tensor | None = None  # [B, groups, heads, 6, G], moments on the reference of what each generated token attends to
    field_r2g: Tensor | None = None  # [B, groups, heads, 6, R], moments on the generated image of where each reference token acts
    mass: Tensor | None = None  # [B, groups, heads, G], the attention that each generated token gives to this reference in all
    calls: tuple[KeptCall, ...] = field(default=(), repr=False)  # a differentiable run's, in their order; no file holds them
    __repr__ = fields_said

    def __post_init__(self) -> None:
        shapes = [t.shape[:3] for t in self.recorded.values()]
        if len(set(shapes)) != 1 or 0 in shapes[0]:
            refuse(f"the sums of {self.layer}", "of the same images, groups and heads", [tuple(s) for s in shapes], "Do not mix runs.")
        sides = (("generated", self.generated_grid, 0, (self.r2g, self.mass, self.words, self.field_g2r)),
                 ("reference", self.reference_grid, self.special, (self.g2r, self.specific, self.field_r2g)))  # fmt: skip
        for side, grid, special, ours in sides:
            for tensor in ours:
                if tensor is None:
                    continue
                count = tensor.shape[-1]
                if not is_whole(special) or special >= count:
                    refuse("special", f"fewer than the {count} {side} tokens of {self.layer}", said(special), "A CLS token counts 1.")
                if grid is not None:
                    check_grid(f"{self.layer}'s {side}", grid, count - special, f"{count} tokens, {special} of them special")

        videos = [grid for grid in (self.generated_grid, self.reference_grid) if grid is not None and len(grid) == 3]
        if videos and (self.field_g2r is not None or self.field_r2g is not None):
            refuse(f"the field of {self.layer}", "of pictures", f"a grid of {videos[0]}", "Positions are (y, x) in one picture.")

    @property
    def recorded(self) -> dict[str, Tensor]:
        """The sums there are, by their names."""
        return {name: sums for name in SUMS if (sums := getattr(self, name)) is not None}

    @property
    def has_field(self) -> bool:
        """Whether the field was recorded both ways."""
        return self.field_g2r is not None and self.field_r2g is not None

    def of_heads(self, heads: list[int]) -> LayerSums:
        """The sums of some heads alone."""
        return self.cut(slice(None), slice(None), heads)

    def cut(self, *parts: Any) -> LayerSums:
        """The sums of some images, groups and heads, and the calls; of some groups alone no calls, as they do not say whose they are."""
        cut: dict[str, Any] = {name: sums[parts] for name, sums in self.recorded.items()}
        images, groups, heads = [*parts, slice(None), slice(None)][:3]
        calls = tuple(call.cut(images, heads) for call in self.calls) if groups == slice(None) else ()
        return replace(self, calls=calls, **cut)

    @cached_property
    def broken(self) -> tuple[str, ...]:
        """The maps that hold NaN or infinity."""
        return tuple(name for name, t in self.recorded.items() if t.numel() and not all(end.isfinite() for end in t.aminmax()))
