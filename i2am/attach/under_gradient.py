"""A denoiser's calls inside a pipeline, computed with gradient although pipelines switch it off: what guidance and relevance learn from."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from i2am.common.checks import refuse

SAMPLES = ("sample", "hidden_states", "x")  # what denoisers call what they are asked to clean
Done = Callable[[Tensor, Any], Any]  # (the sample, a leaf that carries gradient; the output) -> what the pipeline gets instead, or None


class UnderGradient:
    """Gives every call of a denoiser a sample that carries gradient, and `done` the output that was made of it.

    Hooks, so that whatever else hooks the denoiser sees the call as usual; enter it inside a trace, so that the maps are there when
    `done` is asked. The pipeline goes on with an output without gradient, and in the mode that it was in.
    """

    def __init__(self, denoiser: nn.Module, done: Done) -> None:
        self.denoiser, self.done = denoiser, done
        self.sample: Tensor | None = None
        self.mode: Any = None

    def enter(self, undo: ExitStack) -> None:
        undo.callback(self.restore)
        undo.callback(self.denoiser.register_forward_pre_hook(self.before, with_kwargs=True).remove)
        undo.callback(self.denoiser.register_forward_hook(self.after, always_call=True).remove)

    def before(self, module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        if torch.is_inference_mode_enabled():
            refuse("the pipeline's mode", "torch.no_grad(), or none", "torch.inference_mode()", "Nothing has a gradient there.")
        name = None if args else next((name for name in SAMPLES if isinstance(kwargs.get(name), Tensor)), None)
        if not args and name is None:
            refuse("the denoiser's call", f"with its sample first, or named one of {', '.join(SAMPLES)}", list(kwargs), "Wrap it.")
        self.sample = (args[0] if name is None else kwargs[name]).detach().requires_grad_()
        self.mode = torch.enable_grad()
        self.mode.__enter__()
        return ((self.sample, *args[1:]), kwargs) if name is None else (args, {**kwargs, name: self.sample})

    def after(self, module: nn.Module, args: Any, output: Any) -> Any:
        sample, changed = self.sample, None
        try:
            if sample is not None and output is not None:
                changed = self.done(sample, output)
        finally:
            self.restore()
        return tree_map(lambda x: x.detach() if isinstance(x, Tensor) else x, output if changed is None else changed)

    def restore(self) -> None:
        """The mode that the pipeline was in."""
        self.sample = None
        if self.mode is not None:
            self.mode.__exit__(None, None, None)
            self.mode = None
