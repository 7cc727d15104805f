"""A layer's sums that carry gradient, and the attention calls they came from: what losses on maps learn through.

New tensors are made at every call instead of adding in place, and they stay on the model's device. A forward that is made again during the
backward, as gradient checkpointing does, computes the same and records nothing.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from i2am.maps.buffers import Slot, in_backward, of_layer
from i2am.maps.kept_calls import KeptCall
from i2am.maps.layer_sums import LayerSums
from i2am.maps.tokens import Range
from i2am_kernels import bi_attention_maps


class LearningSlot(Slot):
    """One layer's reference, where gradients flow through what is recorded."""

    def open(self, rows: Range, groups: int) -> None:
        super().open(rows, groups)
        self.learned = {name: list(sums) for name, sums in self.sums.items()}  # one tensor a time group
        self.calls: list[KeptCall] = []

    def settle(self, rows: Range, groups: int) -> None:
        before, calls, part = self.learned, self.calls, slice(rows[0] - self.rows[0], rows[1] - self.rows[0])
        self.open(rows, groups)
        for name, sums in self.learned.items():
            sums[0] = before[name][0][part]
        self.calls = [call.cut(part, slice(None)) for call in calls]

    def turn(self, group: int) -> None:
        self.group = group

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None, grouped: bool = False) -> Tensor:
        first, last, start, stop, before, behind = self.ranges.shape
        count, reference_weight, token_weight = None, self.reference_weight, self.token_weight
        if self.weighs_values:
            count, reference_weight, token_weight = self.counted(value, query.shape[1])
        try:
            found = bi_attention_maps(
                query, key, value, r2g="r2g" in self.learned, g2r="g2r" in self.learned,
                generated_weight=self.generated_weight, reference_weight=reference_weight if "r2g" in self.learned else None,
                token_weight=token_weight, column_weight=self.column_weight, attn_mask=mask, scale=scale,
                rows=(first, last), generated=(start, stop), reference=(before, behind), backend=self.backend, enable_gqa=grouped,
            )  # fmt: skip
        except ValueError as error:
            raise of_layer(self.layer, error) from error
        if in_backward():
            return found.output
        for name, sums in self.learned.items():
            maps = getattr(found, name)
            if count is not None:
                of_tokens = name in ("g2r", "column_maps")  # of the reference; the others weigh by it already, unless it is no number
                factor = count if of_tokens else 1 + 0 * count.sum(-1, keepdim=True)
                maps = maps * (factor if maps.ndim == 3 else factor[:, :, None])
            sums[self.group] = sums[self.group] + maps
        if self.tokens.reference is not None:
            scale = query.shape[-1] ** -0.5 if scale is None else scale
            kept = None if mask is None else mask[(None,) * (4 - mask.ndim)]
            kept = kept if kept is None or kept.shape[0] == 1 else kept[first:last]
            kept = kept if kept is None or kept.shape[2] == 1 else kept[:, :, start:stop]
            part, group = slice(*self.tokens.reference), query.shape[1] // key.shape[1]
            self.calls.append(KeptCall(query[first:last, :, start:stop], key[first:last], kept, scale, part, group))
        return found.output

    def taken(self) -> dict[str, Tensor]:
        return {name: torch.stack(sums) for name, sums in self.learned.items()}

    def finished(self) -> LayerSums:
        return replace(super().finished(), calls=tuple(self.calls))
