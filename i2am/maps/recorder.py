"""The recorder: attention calls in, maps out. The tracer drives one; so can any loop of your own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from i2am.common.checks import counted, is_range, is_whole, refuse, said
from i2am.maps.buffers import Slot, afford_groups, of_layer
from i2am.maps.learning import LearningSlot
from i2am.maps.levels import AttributionMaps
from i2am.maps.prompt import Prompt
from i2am.maps.regions import Region, as_regions, as_weight, default_cells, split
from i2am.maps.relevant import RelevantSlot, weigh_all
from i2am.maps.run_sums import with_warning
from i2am.maps.tokens import AnyGrid, Range, Tokens
from i2am.maps.wanted import Wanted
from i2am.maps.weighing import Projection, checked_weighing
from i2am_kernels.check import DTYPES, check_operands

GROUPS = 5  # the paper's time groups


class Recorder:
    """Adds up the maps of every layer, time group and head while a model runs.

        recorder = i2am.Recorder(groups=5, steps=10)
        out = recorder.attend("block4", query, key, value, generated_grid=(32, 24), reference_grid=(32, 24))
        recorder.step()                                   # after each denoising step
        recorder.maps.unified("g2r", size=(32, 24))

    groups: time groups, which cut the `steps` steps evenly (step s belongs to group s * groups // steps). Default: five, or as many as
    there are steps where there are fewer; one where `steps` is not said.
    generated_mask, reference_mask: masks of any size, one or one per image; they weigh G2R and R2G. Of a video also one per frame.
    specific: points (y, x), boxes (top, left, bottom, right), in fractions of the image, and masks; or "grid", about 8 x 8 cells
    that cover the image, 4 x 4 of each frame of a video, where (frame, y, x) and (frame, top, left, bottom, right) lie in one frame.
    Each adds one map on the reference: float32 [B, groups, heads, R] a layer, about what G2R itself takes, in the same visit to the
    scores; "grid" therefore takes some 50 times G2R's memory and small products.
    field: six sums a token and direction more, of which `maps.field` makes where every token comes from and where it goes.
    weigh: what a reference token counts with: "weights", its attention alone, "values", times the norm of what it brings along, or
    "gradient", times what that adds to a scalar: call the model with gradient, then `weigh_by(scalar)`, then `step()`.
    shares: how much of each generated token's attention the reference takes, for `maps.shares`, where its softmax holds other keys too.
    differentiable: the maps carry gradient to what was attended with, and stay on its device; for `i2am.losses`. The field's sums
    are among them. Read them after each step() that a loss is taken of, and clear(): the graph of all that was recorded is kept.
    """

    def __init__(
        self,
        *,
        groups: int | None = None,
        steps: int | None = None,
        generated_mask: Any = None,
        reference_mask: Any = None,
        specific: Sequence[Region] | str | None = None,
        field: bool = False,
        weigh: str = "weights",
        shares: bool = False,
        differentiable: bool = False,
        backend: str = "auto",
    ) -> None:
        for name, number in (("groups", groups), ("steps", steps)):
            if number is not None and not is_whole(number, 1):
                refuse(name, "a whole number of at least 1", repr(number), "groups=1 keeps time in one piece.")
        for name, wish in (("field", field), ("shares", shares), ("differentiable", differentiable)):
            if not isinstance(wish, bool):
                refuse(name, "True or False", said(wish), "The docstring says what it adds.")
        weigh = checked_weighing(weigh)
        if weigh == "gradient" and differentiable:
            refuse("differentiable", 'left out with weigh="gradient"', True, "These maps are made of a gradient and carry none.")
        self.regions = as_regions(specific)
        self.wanted = Wanted(
            groups,
            None if generated_mask is None else as_weight(generated_mask, "generated_mask", frames=True),
            None if reference_mask is None else as_weight(reference_mask, "reference_mask", frames=True),
            self.regions or (),
            None,
            backend,
            field or differentiable,
            weigh,
            shares,
            differentiable,
        )
        self.field = field  # asked for by name
        self.steps = steps
        self.about: dict[str, str] = {} if weigh == "weights" else {"weigh": weigh}
        self.projections: dict[str, Projection] = {}
        self.clear()

    def __repr__(self) -> str:
        """How far it is."""
        steps = counted(self.done, "step") if self.steps is None else f"{self.done} of {counted(self.steps, 'step')}"
        images = "" if self.images is None else f", {counted(self.images, 'image')}"
        layers = len({layer for layer, _ in self.slots})
        return f"Recorder: {steps} in {counted(self.groups, 'time group')}, {counted(layers, 'layer')}{images}"

    def clear(self) -> None:
        """Forget everything recorded; the next call starts a new run."""
        self.slots: dict[tuple[str, str], Slot] = {}
        self.done = 0  # steps
        self.images: int | None = None  # known once the first step is over
        self.prompts: tuple[Prompt, ...] = ()
        self.wanted = replace(self.wanted, columns=None, regions=self.regions or ())

    def attend(
        self,
        layer: str,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        generated_grid: AnyGrid | None = None,
        reference_grid: AnyGrid | None = None,
        special: int = 0,
        generated: Range | None = None,
        reference: Range | None = None,
        words: Range | None = None,
        rows: Range | None = None,
        attn_mask: Tensor | None = None,
        scale: float | None = None,
        source: str = "reference",
        output_weight: Tensor | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """scaled_dot_product_attention's output [B, heads, generated tokens, D]; the layer's maps are added up beside it.

        generated_grid, reference_grid: (height, width), of a video (frames, height, width), the tokens of its first frame first.
        special: leading reference tokens (CLS) without a place on the canvas. generated, reference, words: ranges of tokens, where
        the call holds others too (default: all queries; all keys are the reference). rows: the conditional rows of the batch.
        output_weight: [C, heads * Dv], the layer's output projection, for weigh="values": without it the values' own norms count.
        enable_gqa: key and value have fewer heads, each of which a group of query heads reads; maps are those of query heads.
        """
        slot = self.slots.get((layer, source))
        if slot is None:
            if not isinstance(layer, str):
                refuse("layer", "its name", said(layer), "Maps are chosen by it: maps.unified(..., layers=name).")
            try:
                check_operands(query, key, value, DTYPES, enable_gqa)
            except ValueError as error:
                raise of_layer(layer, error) from error
            if rows is not None and not is_range(rows):
                refuse("rows", "a range of the batch, (start, stop)", said(rows), "They are the conditional rows: (2, 4) is two of four.")
        if reference is None and words is None:
            reference = (0, key.shape[2])
        tokens = Tokens(reference, words, generated, generated_grid, reference_grid, special, source)
        if self.steps is not None and self.done >= self.steps:
            refuse(f"the call of {layer}", f"within the {self.steps} steps declared", "one after the last", "Start a new run with clear().")
        new = slot is None
        if slot is None:
            self.check_steps()
            slot = self.slot(layer, tokens, query, key)
            slot.open(rows or (0, query.shape[0]), self.groups)
            slot.turn(self.group)
            images = slot.rows[1] - slot.rows[0]
            afford_groups([*self.slots.values(), slot], images, self.groups - self.group)
            if self.images not in (None, images):
                refuse(f"the images of {layer}", f"{self.images}, as of the layers before", images, "Pass rows=, the conditional ones.")
        elif slot.shape != (*query.shape[:3], key.shape[2]):
            refuse(f"the call of {layer}", f"[batch, heads, generated, reference] = {slot.shape} as at the first step",
                   (*query.shape[:3], key.shape[2]), "Give layers of different shapes different names.")  # fmt: skip
        elif slot.tokens != tokens or slot.rows != (rows or (0, query.shape[0])):
            refuse(f"the call of {layer}", f"as at the first step, {slot.tokens}, rows {slot.rows}", f"{tokens}, rows {rows}",
                   "Give different parts of a layer different sources.")  # fmt: skip
        if slot.weighs_values:
            projection = self.projections.setdefault(layer, Projection())
            slot.factor = projection.of(output_weight, layer, query.shape[1], value.shape[3])
        out = slot.attend(query, key, value, attn_mask, scale, enable_gqa)
        if new:
            self.slots[layer, source], self.images = slot, slot.rows[1] - slot.rows[0]
        return out

    def slot(self, layer: str, tokens: Tokens, query: Tensor, key: Tensor) -> Slot:
        """A new slot, not yet open and not yet kept."""
        if self.regions is None and not self.wanted.regions:
            if tokens.generated_grid is None:
                refuse(f"the generated grid of {layer}", 'known for specific="grid"', "none", "Pass generated_grid=(height, width).")
            self.wanted = replace(self.wanted, regions=default_cells(tokens.generated_grid))
        if self.field and any(grid is not None and len(grid) == 3 for grid in (tokens.generated_grid, tokens.reference_grid)):
            grids = f"{layer}'s grids are {tokens.generated_grid} and {tokens.reference_grid}"
            refuse("field", "left out for a video: its positions are (y, x) in one picture", grids, "The maps of every level have frames.")
        kind = LearningSlot if self.wanted.differentiable else RelevantSlot if self.wanted.weigh == "gradient" else Slot
        return kind(layer, tokens, query, key, self.wanted)

    @property
    def groups(self) -> int:
        """Time groups: as many as were asked for, else what fits the run."""
        return min(GROUPS, self.steps or 1) if self.wanted.groups is None else self.wanted.groups

    def check_steps(self) -> None:
        """Time groups need the number of steps."""
        if self.steps is None and self.groups > 1:
            refuse("steps", "the number of denoising steps, to cut them into groups", None, "Pass steps=..., or groups=1.")
        if self.steps is not None and self.groups > self.steps:
            refuse("groups", f"at most the {self.steps} denoising steps", self.groups, f"Pass groups={self.steps} or fewer.")

    @property
    def group(self) -> int:
        """The time group of the step that is running."""
        return 0 if self.steps is None else self.done * self.groups // self.steps

    @property
    def pending(self) -> list[RelevantSlot]:
        """Where calls wait for their scalar."""
        return [slot for slot in self.slots.values() if isinstance(slot, RelevantSlot) and slot.kept]

    def weigh_by(self, scalar: Tensor) -> None:
        """Weigh the calls since the last scalar by its gradient: one number, or one a row of the batch, made of the model's output.

        For weigh="gradient", after each call of the model that is recorded; its graph is used up.
        """
        if self.wanted.weigh != "gradient":
            refuse("weigh", '"gradient" for weigh_by', repr(self.wanted.weigh), 'Record with Recorder(weigh="gradient").')
        if not self.pending:
            refuse("weigh_by", "called after attention was recorded", "no call since the last scalar", "Run the model first.")
        weigh_all(self.pending, scalar)

    def step(self) -> None:
        """A denoising step is over."""
        if self.pending:
            refuse("the step", 'over after weigh_by(scalar) with weigh="gradient"', f"calls of {self.pending[0].layer} without a scalar",
                   "Call recorder.weigh_by(scalar) after each call of the model.")  # fmt: skip
        if self.steps is not None and self.done >= self.steps:
            refuse("the run", f"{self.steps} steps long, as declared", f"step {self.done + 1}", "Pass the right steps=..., or clear().")
        before = self.group
        if self.field and not self.done and self.slots and not any("token_maps" in slot.moments for slot in self.slots.values()):
            refuse("field", "left out where no layer knows where its tokens lie", f"layers such as {next(iter(self.slots))[0]}",
                   "Say it: reference_grid=(height, width), special=1 for a leading CLS token. One token has no field.")  # fmt: skip
        self.done += 1
        if self.group != before and self.done != self.steps:
            for slot in self.slots.values():
                slot.turn(self.group)

    @property
    def maps(self) -> AttributionMaps:
        """The maps of the steps so far, on the CPU; differentiable ones where the model is."""
        if not self.slots:
            raise ValueError("i2am: no attention call was recorded yet. Run the model first; maps are read after it.")
        return with_warning(AttributionMaps(
            tuple(slot.finished() for slot in self.slots.values()),
            steps=self.done,
            regions=tuple(describe(region) for region in self.wanted.regions),
            columns=tuple(self.wanted.columns) if self.wanted.columns is not None else None,
            prompts=self.prompts,
            about=self.about,
        ))  # fmt: skip


def describe(region: Region) -> str:
    """A region in words, for files and messages."""
    if isinstance(region, Tensor):
        return "mask " + "x".join(map(str, region.shape))
    frame, place = split(region)
    return "".join(f"frame {i} " for i in frame) + ("point " if len(place) == 2 else "box ") + " ".join(f"{x:g}" for x in place)
