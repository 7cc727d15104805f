"""A layer's sums where a reference token counts with what it adds to a scalar: gradient times attention.

    n_ij = max(dO_i . v_j, 0)        dO the gradient of the scalar by this attention call's output, v_j the token's values

Every map is a sum of n_ij P_ij, R2G and the field's way back as well: they are built on P, where maps of weights and values take C. The
scalar is known when the denoiser is done, so a call is kept until `weigh` is told its gradient. The output is attention's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from i2am.common.checks import is_floating, refuse, said
from i2am.maps.buffers import Slot, in_backward, of_layer
from i2am.maps.tokens import Range
from i2am_kernels import bi_attention, relevance

EXAMPLE = "scalar=lambda prediction: (prediction * mask).square().flatten(1).sum(1)"


class Weighable(NamedTuple):
    """One call of a layer, and its output, which carries gradient."""

    query: Tensor  # [B, H, G, D]
    key: Tensor  # [B, H, R, D]
    value: Tensor  # [B, H, R, Dv]
    mask: Tensor | None
    scale: float | None
    output: Tensor  # [B, H, G, Dv]
    grouped: bool  # whether query heads may share key heads


class RelevantSlot(Slot):
    """One layer's reference, weighed by gradient."""

    def open(self, rows: Range, groups: int) -> None:
        super().open(rows, groups)
        self.kept: list[Weighable] = []  # since the last scalar

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None, grouped: bool = False) -> Tensor:
        try:
            out = bi_attention(query, key, value, attn_mask=mask, scale=scale, enable_gqa=grouped)
        except ValueError as error:
            raise of_layer(self.layer, error) from error
        if in_backward():
            return out
        if not torch.is_grad_enabled() or torch.is_inference_mode_enabled():
            refuse(f"the call of {self.layer}", 'made with gradient for weigh="gradient"', "one under torch.no_grad() or inference_mode()",
                   "Call the model inside `with torch.enable_grad():`.")  # fmt: skip
        out = out if out.requires_grad else out.requires_grad_()  # gradient has to reach no further
        self.keep(out, query, key, value, mask, scale, grouped)
        return out

    def keep(self, out: Tensor, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None, grouped: bool) -> None:
        """A call that is made, for when the scalar is known."""
        if not in_backward():
            self.kept.append(Weighable(query.detach(), key.detach(), value.detach(), mask, scale, out, grouped))

    def weigh(self, call: Weighable, d_output: Tensor) -> None:
        """Add a call up, now that the scalar's gradient by its output is known."""
        first, last, start, stop, before, behind = self.ranges.shape
        left, right = self.sides(last - first, stop - start, behind - before)
        found = relevance(
            call.query, call.key, call.value, d_output.to(call.query.dtype), generated_weight=left, reference_weight=right,
            attn_mask=call.mask, scale=call.scale, enable_gqa=call.grouped,
            rows=(first, last), generated=(start, stop), reference=(before, behind),
        )  # fmt: skip
        for maps, pair in ((found.g2r, (self.g2r, self.column_maps)), (found.r2g, (self.r2g, self.token_maps))):
            for sums in pair:  # side by side, as their weights are
                if sums is not None:
                    sums += maps[:, :, 0] if sums.ndim == 3 else maps[:, :, : sums.shape[2]]
                    maps = maps[:, :, 1 if sums.ndim == 3 else sums.shape[2] :]

    def sides(self, images: int, canvas: int, tokens: int) -> tuple[Tensor, Tensor]:
        """What the maps weigh, side by side: of the generated tokens [B', n, G'], of the reference's [B', R', n]."""

        def even(size: int) -> Tensor:
            return torch.full((), 1 / size, device=self.device).expand(images, size)

        left, right = [], []
        if self.g2r is not None:
            left.append(even(canvas)[:, None] if self.generated_weight is None else self.generated_weight)
        if self.column_maps is not None and self.column_weight is not None:
            left.append(self.column_weight)
        if self.r2g is not None:
            right.append((even(tokens) if self.reference_weight is None else self.reference_weight)[..., None])
        if self.token_maps is not None and self.token_weight is not None:
            right.append(self.token_weight)
        return torch.cat(left or [even(canvas)[:, None]], 1), torch.cat(right, 2)


def weigh_all(slots: Sequence[RelevantSlot], scalar: Any) -> None:
    """Add up the calls that the slots keep, by the gradient of one scalar, and forget them and the graph."""
    if not isinstance(scalar, Tensor) or not is_floating(scalar, scalar.ndim) or scalar.ndim > 1:
        refuse("the scalar", "a floating tensor: one number, or one a row", said(scalar), f"For example {EXAMPLE}.")
    if not scalar.requires_grad:
        refuse("the scalar", "made of the denoiser's output, with its gradient", f"{said(scalar)} without one",
               f"Do not detach it, and take what the function is given. For example {EXAMPLE}.")  # fmt: skip
    calls = [(slot, call) for slot in slots for call in slot.kept]
    outputs = [call.output for _, call in calls]
    found = torch.autograd.grad(scalar.sum(), outputs, allow_unused=True)
    for slot in slots:
        slot.kept.clear()
    for (slot, call), d_output in zip(calls, found):
        if d_output is None:
            refuse("the scalar", f"made of the output of {slot.layer}, too", "one that does not depend on it",
                   "Leave the layer out, or use the output that attend() returned.")  # fmt: skip
        with torch.no_grad():
            slot.weigh(call, d_output)
