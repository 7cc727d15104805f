"""A run under observation whose maps are weighed by gradient: each call of the denoiser runs with gradient, and a scalar is made of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from i2am.attach.run import Trace
from i2am.attach.under_gradient import UnderGradient
from i2am.common.checks import refuse, said
from i2am.maps.tokens import Range

Scalar = Callable[[Tensor], Tensor]  # the denoiser's prediction -> one number, or one a row


class RelevantTrace(Trace):
    """`i2am.trace(..., weigh="gradient", scalar=f)` makes one."""

    scalar: Scalar

    def watch(self) -> None:
        super().watch()
        RecordedCalls(self).enter(self.undo)

    def stepped(self, images: int | None, steps: int | None, size: Range | None = None) -> None:
        super().stepped(images, steps, size)
        self.calls.open()  # compiled models are not, in any of their calls


class RecordedCalls(UnderGradient):
    """The calls of a denoiser that are recorded; the others run as they are."""

    def __init__(self, trace: RelevantTrace) -> None:
        super().__init__(trace.finder.denoiser, self.weigh)
        self.trace = trace

    def before(self, module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        return super().before(module, args, kwargs) if self.trace.active else (args, kwargs)

    def weigh(self, sample: Tensor, output: Any) -> None:
        """The scalar of the prediction, and with it the maps of this call."""
        recorder = self.trace.recorder
        if not recorder.pending:
            return
        prediction = output if isinstance(output, Tensor) else output[0]
        if not isinstance(prediction, Tensor):
            refuse("the denoiser's output", "a tensor, or a tuple or output of diffusers that begins with one", said(output), "Wrap it.")
        with torch.enable_grad():
            recorder.weigh_by(self.trace.scalar(prediction))
