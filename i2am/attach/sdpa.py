"""The way in: processors get a subclass of their own class, which says whose call is running; scaled_dot_product_attention listens.

Everything in diffusers ends in `torch.nn.functional.scaled_dot_product_attention`, which has the operator's contract. A subclass
keeps isinstance checks, state dicts, signatures, adapters and compilation working; nothing is copied from a model.
"""

from __future__ import annotations

import functools
import sys
from contextlib import ExitStack
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from i2am.attach.coverage import Others
from i2am.attach.projection import output_weight
from i2am.families.unet import adapter_order
from i2am.maps.buffers import Slot
from i2am.maps.relevant import RelevantSlot
from i2am.maps.weighing import Projection

SDPA = torch.nn.functional.scaled_dot_product_attention
ATTRIBUTE = "_i2am_tap"
# names in the code of processors that compute attention without SDPA
WITHOUT_SDPA = {"get_attention_scores": "scores that it stores", "memory_efficient_attention": "xFormers"}


class Watcher(Protocol):
    """Who asked for the tap: says what records a call, and whether calls are recorded now."""

    @property
    def active(self) -> bool: ...

    def slots(self, tap: Tap, place: int, query: Tensor, key: Tensor) -> list[Slot]: ...

    def reshaped(self, slot: Slot, query: Tensor, key: Tensor) -> None: ...


class Tap:
    """One attention module under a trace."""

    def __init__(self, name: str, module: nn.Module, trace: Watcher) -> None:
        self.name, self.module, self.trace = name, module, trace
        self.plan: dict[int, list[Slot]] = {}  # place of a call -> what records it
        self.images: dict[int, str] = {}  # place of a call -> the adapter's image
        self.projection = Projection()
        self.order: list[int] | None = None  # places of this forward's calls, where some may be left out
        self.calls = 0
        self.entered = False

    def enter(self, processor: Any, kwargs: dict[str, Any]) -> None:
        """A forward of the module begins."""
        self.calls = 0
        if not self.plan:
            self.entered = True
        if hasattr(processor, "to_k_ip"):
            self.order, self.images = adapter_order(processor, kwargs.get("ip_adapter_masks"))

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float, causal: bool,
               scale: float | None, grouped: bool) -> Tensor:  # fmt: skip
        """One attention call of this module."""
        place = self.calls if self.order is None else self.order[self.calls]
        self.calls += 1
        if place not in self.plan:
            self.plan[place] = self.trace.slots(self, place, query, key)
            for slot in self.plan[place]:
                if slot.weighs_values:
                    heads, size = query.shape[1], value.shape[3]
                    slot.factor = self.projection.of(output_weight(self.module, heads * size, value), self.name, heads, size)
        slots = self.plan[place]
        if not slots:
            return SDPA(query, key, value, mask, dropout, causal, scale=scale, enable_gqa=grouped)
        if dropout or causal:
            raise ValueError(f"i2am: {self.name} calls attention with dropout or a causal mask, which has no maps. Put the model in eval "
                             "mode, or leave the layer out with layers=.")  # fmt: skip
        for slot in slots:
            batch, _, generated, reference = slot.shape
            if query.shape[0] != batch or query.shape[2] != generated or key.shape[2] != reference:
                self.trace.reshaped(slot, query, key)
        order = slots[0].order
        if order is not None:
            query, key, value, mask = order.into(query, key, value, mask)
        out = slots[0].attend(query, key, value, mask, scale, grouped)
        for slot in slots[1:]:  # further references of the same call: their maps, at the price of one attention each
            if isinstance(slot, RelevantSlot):
                slot.keep(out, query, key, value, mask, scale, grouped)
            else:
                slot.attend(query, key, value, mask, scale, grouped)
        return out if order is None else order.out_of(out)


class State:
    """The tap whose processor is running; an object of a plain class, whose attributes torch.compile can follow."""

    current: Tap | None = None
    others: Others | None = None  # who else attends, in a run's first step


STATE = State()


def listening(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """scaled_dot_product_attention while a trace is on."""
    tap = STATE.current
    if tap is None and STATE.others is not None:
        STATE.others.heard(query, key, attn_mask)
    if tap is None or not tap.trace.active:
        return SDPA(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
    return tap.attend(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)


@functools.cache
def traced(cls: type) -> type:
    """The processor's class, which also says whose call is running."""
    original = cls.__call__

    @functools.wraps(original)
    def call(self: Any, attn: Any, *args: Any, **kwargs: Any) -> Any:
        tap = getattr(attn, ATTRIBUTE, None)
        if tap is None:
            return original(self, attn, *args, **kwargs)
        before = STATE.current
        STATE.current = tap
        tap.enter(self, kwargs)
        try:
            return original(self, attn, *args, **kwargs)
        finally:
            STATE.current = before

    return type(
        cls.__name__, (cls,), {"__call__": call, "__module__": cls.__module__, "__qualname__": cls.__qualname__, "_i2am_class": cls}
    )


def listen(undo: ExitStack) -> None:
    """Patch the symbol."""
    torch.nn.functional.scaled_dot_product_attention = listening

    def back() -> None:
        torch.nn.functional.scaled_dot_product_attention = SDPA
        STATE.current = STATE.others = None

    undo.callback(back)


def install(tap: Tap, undo: ExitStack) -> None:
    """Tap one module and its processor; called again when a pipeline replaced the processor."""
    module, processor = tap.module, tap.module.processor
    if getattr(module, ATTRIBUTE, None) is not tap:
        object.__setattr__(module, ATTRIBUTE, tap)
        undo.callback(vars(module).pop, ATTRIBUTE, None)
    if not hasattr(type(processor), "_i2am_class"):
        check_processor(tap.name, processor)
        cls: type = type(processor)
        processor.__class__ = traced(cls)
        undo.callback(restore, processor)
        use_native(processor, undo)


def restore(processor: Any) -> None:
    processor.__class__ = type(processor)._i2am_class


def check_processor(name: str, processor: Any) -> None:
    """Refuse by name what never calls SDPA."""
    names = getattr(getattr(type(processor).__call__, "__code__", None), "co_names", ())
    for symbol, what in WITHOUT_SDPA.items():
        if symbol in names:
            raise ValueError(
                f"i2am: {name} uses {type(processor).__name__}, which computes attention with {what} instead of "
                "scaled_dot_product_attention and cannot be traced. Call pipe.disable_attention_slicing() or "
                "pipe.disable_xformers_memory_efficient_attention(), or set AttnProcessor2_0; tracing needs no G x R memory either."
            )


def use_native(processor: Any, undo: ExitStack) -> None:
    """Flash, sage, flex and xFormers backends bypass SDPA: the native one serves while a trace is on."""
    dispatch = sys.modules.get("diffusers.models.attention_dispatch")
    if dispatch is None or not hasattr(processor, "_attention_backend"):
        return
    backend = processor._attention_backend
    if backend is None:
        backend = dispatch._AttentionBackendRegistry.get_active_backend()
        backend = backend[0] if isinstance(backend, tuple) else backend
    if str(getattr(backend, "value", backend)) == "native":
        return
    own = vars(processor).get("_attention_backend", undo)
    processor._attention_backend = dispatch.AttentionBackendName.NATIVE

    def back() -> None:
        if own is undo:  # it was the class's
            vars(processor).pop("_attention_backend", None)
        else:
            processor._attention_backend = own

    undo.callback(back)
