"""A run under observation: its layers are found and tapped, its steps counted, its conditional rows known, and everything is restored."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from torch import Tensor

from i2am.attach import ldm, sdpa
from i2am.attach.coverage import Coverage, Others, covered
from i2am.attach.denoiser_calls import Calls
from i2am.attach.finder import Finder
from i2am.attach.guidance import final_layout, layout_before_run, parse
from i2am.attach.prompts import Listener
from i2am.attach.steps import count_steps
from i2am.common import notebook
from i2am.common.checks import counted, refuse
from i2am.families.family import several, unwritten, with_generated_grid
from i2am.maps.buffers import Slot, afford_groups
from i2am.maps.layers import Layers, chosen, listed
from i2am.maps.levels import AttributionMaps
from i2am.maps.recorder import Recorder
from i2am.maps.tokens import AnyGrid, Range, Seen, Tokens


class Trace:
    """A run under observation; `i2am.trace` makes one. `maps` holds the maps of the last call of the pipeline."""

    running: Trace | None = None  # the patched symbol is the process's, so there is one trace at a time
    _repr_html_ = notebook.html_of("finished")  # the viewer of the last call's maps

    def __init__(self, finder: Finder, recorder: Recorder, scheduler: Any, *, layers: Layers, words: bool | Sequence[str] | None,
                 guidance: str, reference_grid: AnyGrid | None, special: int) -> None:  # fmt: skip
        self.finder, self.recorder, self.scheduler = finder, recorder, scheduler
        self.only, self.words, self.reference_grid, self.special = layers, words, reference_grid, special
        self.declared_steps = recorder.steps
        self.calls = Calls(finder.denoisers, finder.owner, parse(guidance) or layout_before_run(finder.pipe))
        self.listener = Listener(finder.pipe, finder.family.written if finder.family else unwritten) if words else None
        self.taps: dict[str, sdpa.Tap] = {}
        self.coverage: Coverage | None = None  # of the last call: which attention was traced, and which was not
        self.finished: AttributionMaps | None = None
        self.taken = True  # whether the maps of the last call have been read
        self.full = False  # whether a new run began before: an error as soon as it attends

    def __repr__(self) -> str:
        """What it watches, or the maps of the last call."""
        name = type(self.finder.owner).__name__
        if self.finished is not None:
            return f"Trace of {name}, whose last call gave\n{self.finished!r}"
        if not self.taps:
            return f"Trace of {name}: nothing recorded"
        return f"Trace of {name}: {counted(len(self.taps), 'layer')} under observation, {counted(self.recorder.done, 'step')} so far"

    def __enter__(self) -> Trace:
        if Trace.running is not None:
            raise RuntimeError("i2am: another trace is running in this process. Leave its `with` block first.")
        self.undo = ExitStack()
        Trace.running = self
        try:
            self.undo.callback(self.close)
            sdpa.listen(self.undo)
            self.install()
            self.watch()
            self.listen_around()
            if self.listener is not None:
                self.listener.listen(self.undo)
        except BaseException:
            self.undo.close()
            raise
        return self

    def watch(self) -> None:
        """The steps, and the denoiser's calls in each."""
        count_steps(self.scheduler, self.finder.pipe, self.started, self.stepped, self.undo)
        self.calls.watch(self.undo)

    def __exit__(self, *error: object) -> None:
        try:
            if error[0] is None:
                self.leave()
        finally:
            self.undo.close()

    def leave(self) -> None:
        """The block ended in order: whatever was recorded is kept."""
        recorder = self.recorder
        if recorder.slots and not recorder.done:
            warnings.warn("i2am: attention was recorded, but no denoising step was counted, so there are no maps. Did the call fail, or "
                          "was pipe.scheduler replaced inside the block? Pass the one that steps: scheduler=...", stacklevel=3)  # fmt: skip
        if recorder.done and recorder.steps is not None and recorder.done < recorder.steps:
            warnings.warn(f"i2am: the run stopped after {recorder.done} of {recorder.steps} steps; its maps hold those.", stacklevel=3)
        self.finish()

    def close(self) -> None:
        """Last of all: nothing of the trace is left."""
        Trace.running = None
        self.recorder.clear()
        self.taps.clear()

    def install(self) -> None:
        """Tap the layers; processors that were replaced meanwhile are tapped again."""
        found = self.finder.layers(bool(self.words))
        for name in chosen(list(found), self.only):
            for number, module in enumerate(found[name]):
                key = f"{name} of denoiser {number + 1}" if number else name
                new = key not in self.taps
                if new:
                    self.taps[key] = sdpa.Tap(name, module, self)
                if not ldm.is_ldm(module):
                    sdpa.install(self.taps[key], self.undo)
                elif new:
                    ldm.install_ldm(self.taps[key], self.undo)

    @property
    def active(self) -> bool:
        """Whether the denoiser's call that is running is a conditional one."""
        return self.calls.active

    def started(self) -> None:
        """The scheduler was given its timesteps: a new call of the pipeline."""
        recorder = self.recorder
        if recorder.done and (recorder.steps is None or recorder.done >= recorder.steps):
            self.finish()
        elif recorder.done:
            warnings.warn(f"i2am: a call that stopped after {recorder.done} of {recorder.steps} steps is dropped.", stacklevel=4)
        self.full = not self.taken
        recorder.clear()
        recorder.steps = self.declared_steps
        for tap in self.taps.values():
            tap.plan.clear()
            tap.entered = False
        self.install()
        self.listen_around()
        self.calls.begin()
        self.calls.open()

    def stepped(self, images: int | None, steps: int | None, size: Range | None = None) -> None:
        """A denoising step is over; after the first one everything about the run is known."""
        if self.recorder.done == 0:
            self.calls.refuse_tiles(size)
            self.settle(images, steps)
        self.calls.refuse_missed()
        self.calls.count = 0
        self.recorder.step()

    def settle(self, images: int | None, steps: int | None) -> None:
        """After the first step: the conditional rows, the number of steps, room for every time group."""
        recorder = self.recorder
        recorder.steps = steps if recorder.steps is None else recorder.steps
        if not recorder.slots:
            self.finder.refuse_no_reference(self.taps)
        if self.words and not any(slot.tokens.words for slot in recorder.slots.values()):
            self.finder.refuse_no_words(self.words)
        recorder.check_steps()
        totals = {slot.shape[0] for slot in recorder.slots.values()}
        if len(totals) > 1:
            raise ValueError(f"i2am: layers were called with batches of {sorted(totals)} rows in one step. Leave some out with layers=.")
        total = totals.pop()
        if images is None:
            images = total // (self.calls.layout.blocks if self.calls.layout else 1)
        early = not hasattr(self.scheduler, "step")  # PLMS calls the model twice in its first step
        layout = final_layout(self.calls.layout, self.finder.owner, total, images, 1 if early else self.calls.count, self.calls.named)
        recorder.images = images
        afford_groups(recorder.slots.values(), images, recorder.groups)
        for slot in recorder.slots.values():
            slot.settle(layout.rows(total), recorder.groups)
        self.finder.refuse_silent(self.taps)
        self.cover()
        self.calls.settle(layout)
        if self.listener is not None:
            self.listener.forget()

    def listen_around(self) -> None:
        """Attention beside the taps is heard too, until the first step is over."""
        sdpa.STATE.others = Others(self.finder.denoisers)

    def cover(self) -> None:
        """After the first step: which attention of the model is traced, and which is not."""
        others, sdpa.STATE.others = sdpa.STATE.others, None
        if others is None:
            return
        self.coverage = covered(self.taps.values(), others, self.finder.attention)
        if self.coverage.unknown:
            warnings.warn(f"i2am: attention also runs in {counted(len(self.coverage.unknown), 'module')} of "
                          f"{type(self.finder.owner).__name__} that the tracer does not know, and is in no map. "
                          f"{listed(self.coverage.unknown)}", stacklevel=2)  # fmt: skip

    def slots(self, tap: sdpa.Tap, place: int, query: Tensor, key: Tensor) -> list[Slot]:
        """Decide, at its first call, what is recorded of an attention call."""
        if self.full:
            raise RuntimeError("i2am: this trace holds the maps of a call that were not read, and a new call would replace them. Read "
                               "run.maps after each call, or open a trace for each. Of a pipeline that makes its video in sections, read "
                               "them in callback_on_step_end at each section's last step, or ask for one section.")  # fmt: skip
        twin = next((other for other in self.taps.values() if other.name == tap.name and place in other.plan), None)
        if twin is not None:  # the layer in the denoiser that ran before
            return twin.plan[place]
        seen = Seen(tap.name, tap.module, place, query.shape[2], key.shape[2], self.calls.inputs, tap.images.get(place),
                    self.finder.denoiser, self.finder.pipe, self.calls.ahead)  # fmt: skip
        tokens = several(self.finder.rule(seen))
        if len({(one.query_order, one.key_order) for one in tokens}) > 1:
            refuse(f"the rule's answer for {tap.name}", "Tokens of one query_order and one key_order", "several", "A call has one order.")
        slots = []
        if sum(one.reference is not None for one in tokens) > 1:
            tokens = [one if one.reference is None else replace(one, shared=True) for one in tokens]
        for one in tokens:
            if not self.words:
                if one.reference is None:
                    continue
                one = replace(one, words=None)
            slots.append(self.open(tap.name, self.placed(one, seen), query, key))
        return slots

    def placed(self, tokens: Tokens, seen: Seen) -> Tokens:
        """The tokens with their grids: from the latent, and from what the user said of the reference."""
        start, stop = tokens.reference or (0, 0)
        if (self.reference_grid or self.special) and tokens.reference_grid is None and stop - start > 1:
            tokens = replace(tokens, reference_grid=self.reference_grid, special=self.special)
        return with_generated_grid(tokens, seen)

    def open(self, layer: str, tokens: Tokens, query: Tensor, key: Tensor) -> Slot:
        recorder = self.recorder
        if tokens.words is not None and self.listener is not None and not recorder.prompts:
            recorder.prompts, columns = self.listener.columns(tokens.words[1] - tokens.words[0], self.words or True)
            recorder.wanted = replace(recorder.wanted, columns=columns)
        if (layer, tokens.source) in recorder.slots:
            raise ValueError(f"i2am: two references of {layer} are both called {tokens.source!r}. Give Tokens different sources.")
        late = recorder.done > 0  # an adapter that was switched on during the run
        slot = recorder.slot(layer, tokens, query, key)
        rows, groups = (0, query.shape[0]), recorder.groups if late else 1
        if self.calls.layout is not None:
            rows = self.calls.layout.rows(query.shape[0])
        elif recorder.wanted.per_image:
            rows = self.calls.early(query.shape[0], self.finder.pipe)
        slot.open(rows, groups)
        if late:
            slot.turn(recorder.group)
        else:  # for one image at least; their number is known after the step
            afford_groups([*recorder.slots.values(), slot], 1, recorder.groups)
        recorder.slots[layer, tokens.source] = slot
        return slot

    def reshaped(self, slot: Slot, query: Tensor, key: Tensor) -> None:
        """A call's batch changed within a run: guidance was switched off on the way."""
        images = self.recorder.images
        if query.shape[2] == slot.shape[2] and key.shape[2] == slot.shape[3] and query.shape[0] == images:
            slot.resize(query.shape[0])
            return
        remedy = "One trace records calls of one size: use a trace for each."
        if images is not None and query.shape[0] == images < slot.shape[0]:  # the conditional rows, filled up before to the others' length
            remedy = "Guidance was switched off on the way, and its prompt is longer: leave it on, or give a shorter negative prompt."
        refuse(f"the call of {slot.layer}", f"[batch, generated, reference] = {(slot.shape[0], *slot.shape[2:])} as before",
               (query.shape[0], query.shape[2], key.shape[2]), remedy)  # fmt: skip

    def finish(self) -> None:
        """The maps of the call that ended."""
        recorder = self.recorder
        if recorder.done and recorder.slots:
            recorder.about["model"] = type(self.finder.owner).__name__
            tokenizer = None if self.listener is None else self.listener.tokenizer
            self.finished = replace(recorder.maps, tokenizer=tokenizer)
            self.taken = False
            recorder.clear()
            for tap in self.taps.values():
                tap.plan.clear()
            self.calls.begin()

    # What a user reads

    @property
    def maps(self) -> AttributionMaps:
        """The maps of every image of the last call."""
        if Trace.running is self and self.recorder.done:
            if self.recorder.steps is None or self.recorder.done >= self.recorder.steps:
                self.finish()
            else:  # asked on the way, from a callback
                return self.recorder.maps
        if self.finished is None:
            raise ValueError("i2am: nothing was recorded. Call the pipeline inside the `with` block; maps are read after it.")
        self.taken = True
        return self.finished

    @property
    def layers(self) -> list[str]:
        """The layers under observation."""
        if self.finished is not None and not self.taps:
            return self.finished.layers
        return list(dict.fromkeys(tap.name for tap in self.taps.values()))
