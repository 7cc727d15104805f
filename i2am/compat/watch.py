"""An LDM network watched without its sampler: steps, conditional rows and time groups are read off the calls themselves.

A step is a timestep: they fall during a run, and a call with the timestep of the call before belongs to the same step. LDM's
schedules are evenly spaced down to 1, t = 1 + stride * i, so the first two timesteps say how many there will be.
Guidance: two calls in the first step are the conditional one and the other, as the release's sampler makes them; one call whose
rows are the same latents twice, at both of the first two steps, is [uncond, cond], as every other LDM sampler stacks them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any
from weakref import ReferenceType, WeakKeyDictionary, ref

import torch
from torch import Tensor, nn

from i2am.attach.guidance import NONE, Layout, parse
from i2am.attach.ldm import install_ldm, is_ldm
from i2am.attach.sdpa import Tap
from i2am.common.checks import is_whole, refuse
from i2am.families.family import with_generated_grid
from i2am.families.unet import context
from i2am.maps.buffers import Slot
from i2am.maps.layer_sums import LayerSums
from i2am.maps.layers import Layers, chosen
from i2am.maps.levels import AttributionMaps
from i2am.maps.recorder import Recorder
from i2am.maps.regions import Region
from i2am.maps.tokens import Grid, Seen, Tokens, plane

Patches = Callable[[str, Grid], Sequence[Region]]  # layer and its generated grid -> the regions to tell apart there
GUIDED = 'Say how the model is called: take_module(model, guidance="none"), "uncond-cond", "cond-uncond", "cond|uncond".'


WATCHED: WeakKeyDictionary[nn.Module, ReferenceType[Watch]] = WeakKeyDictionary()  # attention -> who listens


class Watch:
    """Adds up every cross-attention of a network until `maps` is read; `remove` gives the network back."""

    def __init__(self, model: nn.Module, *, groups: int, steps: int | None = None, guidance: str = "auto", layers: Layers = None,
                 patches: Patches | None = None) -> None:  # fmt: skip
        if steps is not None and not is_whole(steps, 1):
            refuse("steps", "a whole number of at least 1", repr(steps), "Leave it out: an even schedule tells its length.")
        self.groups, self.declared, self.stated, self.patches = groups, steps, parse(guidance), patches
        self.denoiser = next((m for m in model.modules() if hasattr(m, "output_blocks")), None)
        inside = set() if self.denoiser is None else set(self.denoiser.modules())
        found = {name: m for name, m in model.named_modules() if m in inside and name.endswith("attn2") and is_ldm(m)}
        if self.denoiser is None or not found:
            refuse("model", "an LDM network with output_blocks and attn2 layers", type(model).__name__,
                   "Pass sampler.model.model.diffusion_model; diffusers' models are traced by i2am.trace(pipe).")  # fmt: skip
        found = {name: found[name] for name in chosen(list(found), layers)}
        for module in found.values():
            if (listener := watch_of(module)) is not None:
                listener.remove()
        self.taps = [Tap(name, module, self) for name, module in found.items()]
        self.finished: AttributionMaps | None = None
        self.clear()
        self.undo = ExitStack()
        self.undo.callback(self.denoiser.register_forward_pre_hook(self.before, with_kwargs=True).remove)
        for tap in self.taps:
            install_ldm(tap, self.undo)
            WATCHED[tap.module] = ref(self)

    def remove(self) -> None:
        """The network is as it was; maps that were recorded stay readable."""
        self.undo.close()
        for tap in self.taps:
            if watch_of(tap.module) is self:
                del WATCHED[tap.module]

    def clear(self) -> None:
        """Forget everything."""
        self.finished = None
        self.begin()

    def begin(self) -> None:
        """Wait for a run."""
        self.recorder = Recorder(groups=self.groups)
        self.layout = self.stated
        self.timesteps: list[float] = []
        self.count = 0  # calls in the step that is running
        self.twins = True  # whether the latents were stacked twice in every step looked at
        self.active = True  # whether the call that is running is recorded
        self.inputs: dict[str, Any] = {}  # of the call that is running: its latents, whose size tells the layers' grids
        for tap in self.taps:
            tap.plan.clear()

    def before(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """A call of the network begins."""
        given = inspect.signature(module.forward).bind_partial(*args, **kwargs).arguments
        latents, timesteps = given.get("x"), given.get("timesteps", given.get("t"))
        if not isinstance(latents, Tensor) or timesteps is None:
            refuse(f"the call of {type(module).__name__}", "made with x and timesteps", list(given), "Use i2am.Recorder in such a loop.")
        self.inputs = {"x": latents}
        timestep = float(torch.as_tensor(timesteps).flatten()[0])
        if self.timesteps and timestep == self.timesteps[-1]:
            self.count += 1
        else:
            if self.timesteps and timestep > self.timesteps[-1]:
                raise RuntimeError(f"i2am: timestep {timestep:g} came after {self.timesteps[-1]:g}: a new run, and the maps of the one "
                                   "before were not read. Call make_attention_maps(...) after each, or clear().")  # fmt: skip
            if len(self.timesteps) < 2:
                self.twins = self.twins and same_twice(latents)
            if self.timesteps:
                self.step(timestep)
            self.timesteps.append(timestep)
            self.count = 1
        self.active = self.count - 1 == (self.layout.call if self.layout is not None else 0)

    def step(self, coming: float | None) -> None:
        """The running step is over; after the first one, everything about the run is known."""
        recorder = self.recorder
        if recorder.done == 0:
            self.settle(coming)
        if recorder.steps is not None and recorder.done >= recorder.steps:
            recorder.done += 1  # more than promised: `read` sees it
        else:
            recorder.step()

    def settle(self, coming: float | None) -> None:
        """Keep the conditional rows of the first step and make room for the time groups of the rest."""
        recorder = self.recorder
        if self.layout is None:
            if self.count > 2:
                refuse("guidance", f"stated for a model that is called {self.count} times a step", '"auto"', GUIDED)
            self.layout = Layout(0, 2, 0, 1) if self.count == 2 else Layout(0, 1, 1, 2) if self.twins else NONE
        if self.layout.calls != self.count:
            refuse("guidance", f"a layout of {self.count} calls a step", f"{self.layout.calls} calls", GUIDED)
        recorder.steps = self.declared or promised(self.timesteps[0], coming)
        wanted = min(self.groups, recorder.steps) if recorder.steps is not None else 1
        recorder.wanted = replace(recorder.wanted, groups=wanted)
        for slot in recorder.slots.values():
            slot.settle(self.layout.rows(slot.shape[0]), wanted)

    @property
    def maps(self) -> AttributionMaps:
        """The maps of the run so far, which is then over."""
        if self.recorder.slots:
            self.step(None)
            self.finished = self.read()
            self.begin()
        if self.finished is None:
            raise ValueError("i2am: nothing was recorded. Run the sampler after take_module(model). If it ran: was the model another one, "
                             "or did a later hook take it over?")  # fmt: skip
        return self.finished

    def read(self) -> AttributionMaps:
        """The recorder's maps, in one time group where the steps were not as many as the groups were cut for."""
        maps = self.recorder.maps
        if self.recorder.done == self.recorder.steps:
            return maps
        return replace(maps, sums=tuple(groups_summed(sums) for sums in maps.sums))

    # What a tap asks of a trace

    def slots(self, tap: Tap, place: int, query: Tensor, key: Tensor) -> list[Slot]:
        """Decide, at its first call, what is recorded of a layer."""
        seen = Seen(tap.name, tap.module, place, query.shape[2], key.shape[2], self.inputs)
        found = context(seen)
        if not isinstance(found, Tokens):
            return []
        tokens, recorder = with_generated_grid(found, seen), self.recorder
        if recorder.done:
            refuse(f"the first call of {tap.name}", "in the first step", f"one in step {recorder.done + 1}", "Use i2am.trace.")
        regions = self.patches(tap.name, plane(tokens.generated_grid)) if self.patches and tokens.generated_grid else ()
        if regions:
            recorder.wanted = replace(recorder.wanted, regions=regions)
        slot = Slot(tap.name, tokens, query, key, replace(recorder.wanted, regions=regions))
        slot.open((0, query.shape[0]), 1)
        recorder.slots[tap.name, tokens.source] = slot
        return [slot]

    def reshaped(self, slot: Slot, query: Tensor, key: Tensor) -> None:
        """A call of another size within a run."""
        refuse(f"the call of {slot.layer}", f"[batch, generated, reference] = {(slot.shape[0], *slot.shape[2:])} as before",
               (query.shape[0], query.shape[2], key.shape[2]), "Read the maps of a run before the next begins.")  # fmt: skip


def watch_of(module: nn.Module) -> Watch | None:
    """Who listens to this attention."""
    found = WATCHED.get(module)
    return None if found is None else found()


def same_twice(latents: Tensor) -> bool:
    """Whether these rows are the same ones twice."""
    return len(latents) % 2 == 0 and torch.equal(*latents.chunk(2))


def promised(first: float, second: float | None) -> int | None:
    """The steps of an even schedule that ends at 1 and begins like this; None if it is another one."""
    if second is None:
        return 1
    steps, rest = divmod(first - 1, first - second)
    return None if rest else int(steps) + 1


def groups_summed(sums: LayerSums) -> LayerSums:
    """All time groups in one."""
    added = {name: t.sum(1, keepdim=True) for name in ("r2g", "g2r", "specific") if (t := getattr(sums, name)) is not None}
    return replace(sums, **added)
