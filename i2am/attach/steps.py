"""Counting denoising steps: `set_timesteps` and `step` of a scheduler, or the per-step method of an LDM sampler, are wrapped."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from torch import Tensor

from i2am.common.checks import refuse, said
from i2am.maps.tokens import Range

LDM_STEPS = ("p_sample_ddim", "p_sample_plms", "p_sample")


def wrap(owner: Any, name: str, wrapper: Callable[..., Any], undo: ExitStack) -> None:
    """Replace a method on this instance alone; the signature stays, pipelines look at it."""
    original = getattr(owner, name)
    own = name in vars(owner)
    object.__setattr__(owner, name, functools.wraps(original)(wrapper))

    def back() -> None:
        if own:
            object.__setattr__(owner, name, original)
        else:
            vars(owner).pop(name, None)

    undo.callback(back)


def rows_of(value: Any) -> int | None:
    """How many images a step's sample holds."""
    while isinstance(value, (tuple, list)) and value:
        value = value[0]
    return value.shape[0] if isinstance(value, Tensor) and value.ndim else None


def size_of(value: Any) -> Range | None:
    """The (height, width) of a step's sample, where it is a batch of pictures."""
    return (value.shape[-2], value.shape[-1]) if isinstance(value, Tensor) and value.ndim == 4 else None


Stepped = Callable[[int | None, int | None, "Range | None"], None]


def count_steps(scheduler: Any, pipe: Any, started: Callable[[], None], stepped: Stepped, undo: ExitStack) -> None:
    """Call started() when a run begins and stepped(images, steps in all, size of the latent) after every step."""
    if hasattr(scheduler, "step") and hasattr(scheduler, "set_timesteps") and not isinstance(scheduler, type):
        count_steps_of_scheduler(scheduler, pipe, started, stepped, undo)
        return
    name = next((name for name in LDM_STEPS if hasattr(scheduler, name)), None)
    if name is None or isinstance(scheduler, type):
        got = said(scheduler) if isinstance(scheduler, type) else type(scheduler).__name__
        refuse("scheduler", "a diffusers scheduler (set_timesteps, step) or an LDM sampler (p_sample_ddim, p_sample_plms)",
               got, "Use i2am.Recorder for a loop of another kind.")  # fmt: skip
    original = getattr(scheduler, name)

    def sample(*args: Any, **kwargs: Any) -> Any:
        out = original(*args, **kwargs)
        steps = getattr(scheduler, "ddim_timesteps", None)
        stepped(rows_of(out), None if steps is None else len(steps), None)
        return out

    wrap(scheduler, name, sample, undo)
    if hasattr(scheduler, "make_schedule"):
        schedule = scheduler.make_schedule

        def make_schedule(*args: Any, **kwargs: Any) -> Any:
            started()
            return schedule(*args, **kwargs)

        wrap(scheduler, "make_schedule", make_schedule, undo)


def count_steps_of_scheduler(scheduler: Any, pipe: Any, started: Callable[[], None], stepped: Stepped, undo: ExitStack) -> None:
    set_timesteps, step = scheduler.set_timesteps, scheduler.step
    signature = inspect.signature(step)
    count = Count(pipe)

    def wrapped_set_timesteps(*args: Any, **kwargs: Any) -> Any:
        started()
        count.forget()
        return set_timesteps(*args, **kwargs)

    def wrapped_step(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        steps = count.read(scheduler, given.get("timestep"))  # before the step moves the scheduler's own counters
        out = step(*args, **kwargs)
        stepped(rows_of(given.get("sample")), steps, size_of(given.get("sample")))
        return out

    wrap(scheduler, "set_timesteps", wrapped_set_timesteps, undo)
    wrap(scheduler, "step", wrapped_step, undo)


class Count:
    """How many steps a run will take, asked at its first one: the pipeline's own count, which an earlier call may have left behind."""

    def __init__(self, pipe: Any) -> None:
        self.pipe, self.first, self.old = pipe, True, None

    def forget(self) -> None:
        """A run begins."""
        self.first, self.old = True, vars(self.pipe).get("_num_timesteps") if self.pipe is not None else None
        if self.old is not None:
            self.pipe._num_timesteps = None

    def read(self, scheduler: Any, timestep: Any) -> int | None:
        if not self.first:
            return None
        self.first = False
        steps = total_steps(scheduler, self.pipe, timestep)
        if self.old is not None and self.pipe._num_timesteps is None:
            self.pipe._num_timesteps = self.old
        return steps


def total_steps(scheduler: Any, pipe: Any, timestep: Any) -> int | None:
    """The pipeline's own count, or the scheduler's timesteps from this one on."""
    counted = vars(pipe).get("_num_timesteps") if pipe is not None else None
    if isinstance(counted, int) and counted > 0:
        return counted
    timesteps = getattr(scheduler, "timesteps", None)
    if timesteps is None:
        return None
    begin = getattr(scheduler, "begin_index", None)
    if begin is None and timestep is not None:
        values = [float(t) for t in timesteps]
        begin = values.index(float(timestep)) if float(timestep) in values else 0
        if values.count(float(timestep)) > 1 and hasattr(scheduler, "index_for_timestep"):
            begin = scheduler.index_for_timestep(timestep)  # second-order schedulers write each timestep twice
    return len(timesteps) - int(begin or 0)
