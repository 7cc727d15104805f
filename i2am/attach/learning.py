"""A denoiser under observation, whose maps carry gradient: each of its calls is a run of one step, and no scheduler is asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from i2am.attach.guidance import NONE, known_layout
from i2am.attach.run import Trace
from i2am.common.checks import refuse
from i2am.maps.levels import AttributionMaps

ITS_OWN = "Each call of the denoiser is recorded by itself."


class LearningTrace(Trace):
    """`i2am.trace(..., differentiable=True)` makes one. `maps` are those of the denoiser's last call."""

    in_pipeline = False  # whether the pipeline itself calls the denoiser, so that what it says of guidance is meant
    seen = 0  # calls of the denoiser

    def watch(self) -> None:
        for name, asked in (("groups", self.recorder.wanted.groups), ("steps", self.declared_steps)):
            if asked not in (None, 1):
                refuse(name, "left out with differentiable=True", asked, ITS_OWN)
        if self.listener is not None:
            refuse("words", "left out with differentiable=True", "words", "Trace them without gradient.")
        denoiser = self.finder.denoiser
        self.undo.callback(denoiser.register_forward_pre_hook(self.before).remove)
        self.calls.watch(self.undo)
        self.undo.callback(denoiser.register_forward_hook(self.after).remove)

    @property
    def calls_a_step(self) -> int:
        """How often a step calls the denoiser, as far as the user said so."""
        return 1 if self.calls.asked is None else self.calls.asked.calls

    def before(self, *_: Any) -> None:
        """A call begins. What was recorded before it is forgotten, unless it belongs to the same step."""
        calls = self.calls
        named, active = calls.named, calls.active
        if self.seen % self.calls_a_step or (named and not active):
            return
        self.recorder.clear()
        self.taken = True
        self.started()
        calls.named = named
        if calls.layout is None:
            calls.layout = self.layout()

    def layout(self) -> Any:
        """Where the conditional rows are, if the user has not said: all of them, or where a guided pipeline puts them."""
        guided = bool(getattr(self.finder.pipe, "do_classifier_free_guidance", False)) and not self.calls.named
        if guided and not self.in_pipeline:
            refuse("guidance", "stated with differentiable=True, as the pipeline was last run with guidance", '"auto"',
                   'Pass guidance="none" where you call the denoiser yourself, or trace the denoiser itself.')  # fmt: skip
        return known_layout(self.finder.owner, 2, 1) if guided else NONE

    def after(self, *_: Any) -> None:
        """A call is over; with the last of a step the maps are there."""
        self.seen += 1
        if self.seen % self.calls_a_step or not self.recorder.slots or self.recorder.done:
            return
        self.stepped(None, 1)
        self.calls.open()  # compiled models are not, in any of their calls
        self.recorder.about["model"] = type(self.finder.owner).__name__
        self.finished = replace(self.recorder.maps)

    def finish(self) -> None:
        """The maps are there already; the taps go on, as a backward may call the layers once more."""

    @property
    def maps(self) -> AttributionMaps:
        """The maps of every image of the denoiser's last call, with their gradient."""
        if self.finished is None:
            raise ValueError("i2am: nothing was recorded. Call the denoiser inside the `with` block.")
        return self.finished
