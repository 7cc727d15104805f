"""What the denoiser is called with, how often a step, and which of a step's calls is the conditional one."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_map

from i2am.attach.eager import eager
from i2am.attach.guidance import NONE, Layout, known_layout
from i2am.attach.steps import wrap
from i2am.common.checks import refuse
from i2am.families.family import latent
from i2am.maps.tokens import Range, Seen

AWAY = re.compile("uncond|neg")  # in the name of a call: not the prompt's; pred_cond_skip and the like leave layers out
STATIC = "force_nn_module_property_static_shapes"


class Calls:
    """Counts the denoisers' calls in each step, and keeps what one was called with in the first."""

    def __init__(self, denoisers: Sequence[nn.Module], owner: Any, asked: Layout | None) -> None:
        self.denoisers, self.owner, self.asked = denoisers, owner, asked
        self.active = True  # whether the call that is running is recorded
        self.hooks: list[Any] = []
        self.inside = False  # compiled models run uncompiled
        self.heard: list[dict[str, Any]] = []  # since the last run, or in this one's first step; sizes only
        self.begin()

    def begin(self) -> None:
        """A run begins."""
        self.layout = self.asked  # None until proved
        self.count = 0  # since the last step
        self.first = True  # the first step is running
        self.named = False  # whether the model names its calls (cache_context)
        self.active = True
        self.inputs: dict[str, Any] = {}
        self.ahead, self.heard = tuple(self.heard), []  # the denoiser was called with these before the run began

    def watch(self, undo: ExitStack) -> None:
        for denoiser in self.denoisers:
            if hasattr(denoiser, "cache_context") and self.asked is None:
                self.name_calls(denoiser, undo)
        self.open()
        undo.callback(self.close)
        config: Any = getattr(sys.modules.get("torch._dynamo"), "config", None)
        if hasattr(config, STATIC):  # else torch 2.6 compiles once more for every size of the buffers
            undo.enter_context(config.patch({STATIC: False}))

    def open(self) -> None:
        """Compiled models run the first step uncompiled, as it allocates, and are watched from inside."""
        if not self.inside:
            eager.begin()
            self.inside = True
        if not self.hooks:
            self.hooks = [denoiser.register_forward_pre_hook(self.before, with_kwargs=True) for denoiser in self.denoisers]

    def settle(self, layout: Layout) -> None:
        """The first step is over."""
        self.layout, self.first, self.active = layout, False, True
        module = self.inputs.pop("encoder_hid_proj", None)
        self.inputs = tree_map(lambda x: x.to("meta") if isinstance(x, Tensor) else x, self.inputs)  # sizes are kept
        self.inputs["encoder_hid_proj"] = module
        self.release()

    def early(self, total: int, pipe: Any) -> Range:
        """The conditional rows before the first step has shown them: by the pipeline's own word, which the step then checks."""
        guided = getattr(pipe, "do_classifier_free_guidance", None)
        if guided is None:
            refuse("guidance", "stated when masks differ from image to image", '"auto"',
                   'Pass guidance="none", "uncond-cond", "cond-uncond" ...')  # fmt: skip
        self.layout = NONE if not guided or self.named else known_layout(self.owner, 2, 1)
        return self.layout.rows(total)

    def refuse_tiles(self, size: Range | None) -> None:
        """The first step is over: a model that is shown a part of the latent at a time has no map of the whole."""
        part = latent(Seen("", None, 0, 0, 0, self.inputs))
        if size is not None and part is not None and (part[0] < size[0] or part[1] < size[1]):
            refuse(f"the latent of {type(self.owner).__name__}", f"shown to its model whole, {size[0]} x {size[1]}",
                   f"a tile of {part[0]} x {part[1]}, and {self.count} calls in a step",
                   "Let the pipeline work in one piece: with a larger tile size, or on a smaller picture.")  # fmt: skip

    def refuse_missed(self) -> None:
        """A step is over: one whose conditional call is not known would be missing in the maps."""
        if self.layout is not None and not self.named and 0 < self.count <= self.layout.call:
            refuse(f"the calls of {type(self.denoisers[0]).__name__} in a step", f"{self.layout.calls}, as guidance says", self.count,
                   "Guidance was switched off on the way, and whether the call that is left is the conditional one cannot be seen: "
                   "leave it on, or call the model with the prompt first.")  # fmt: skip

    def close(self) -> None:
        self.release()
        while self.hooks:
            self.hooks.pop().remove()
        self.inputs = {}

    def release(self) -> None:
        if self.inside:
            eager.end()
            self.inside = False

    def before(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """A call of the denoiser begins."""
        self.count += 1
        if self.first:
            self.inputs = dict(inspect.signature(module.forward).bind_partial(*args, **kwargs).arguments)
            self.heard.append({name: value.to("meta") for name, value in self.inputs.items() if isinstance(value, Tensor)})
            self.inputs["encoder_hid_proj"] = getattr(module, "encoder_hid_proj", None)
            if self.layout is None and self.count > 1 and not self.named:
                self.layout = known_layout(self.owner, 1, self.count)  # or says what to pass
        if self.layout is not None and not self.named:  # further calls look ahead, or guide by leaving layers out: not recorded
            self.active = self.count - 1 == self.layout.call

    def name_calls(self, denoiser: Any, undo: ExitStack) -> None:
        """Transformers that are called several times a step say which call it is."""
        original = denoiser.cache_context

        @contextmanager
        def cache_context(name: str, *args: Any, **kwargs: Any) -> Iterator[None]:
            self.named, self.active = True, name == "cond_uncond" or not (AWAY.search(name) or name.startswith("pred_cond_"))
            try:
                with original(name, *args, **kwargs):
                    yield
            finally:
                self.active = True

        wrap(denoiser, "cache_context", cache_context, undo)
