"""Steering: after every step the latents of each image are moved against the gradient of a loss on the step's maps.

    x' = scheduler.step(denoiser(x), x) - strength / steps * |scheduler.step(denoiser(x), x)| * g / |g|,    g = d loss(maps(x)) / d x

The latents move, not the denoiser's prediction, as they are the same thing in every model: the same strength in a prediction of the noise
and in one of the clean picture are moves that differ by the noise level, and in the small world both turned maps away from where they
were asked beyond some strength. |g| is divided out, as losses on maps of few or many cells have gradients of any size. After the last step
nothing looks at the latents any more, so they stay.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from i2am.attach.learning import LearningTrace
from i2am.attach.parts import scheduler_of
from i2am.attach.steps import Count, wrap
from i2am.attach.trace import trace
from i2am.attach.under_gradient import UnderGradient
from i2am.common.checks import is_floating, number, refuse, said
from i2am.maps.layers import Layers
from i2am.maps.levels import AttributionMaps
from i2am.maps.tokens import AnyGrid

Loss = Callable[[AttributionMaps], Tensor]
CORRECTORS = ("multistep_uni_c_bh_update", "stochastic_adams_moulton_update")  # of UniPC and SA-Solver: they take the last step again
SCALE = 1024.0  # half precision would round small gradients to 0; dividing by the norm takes it out again
AGAIN = "Guide less: a smaller strength, or fewer of the steps."


def steer(
    pipe: Any,
    loss: Loss,
    *,
    strength: float = 0.1,
    steps: tuple[float, float] = (0.0, 1.0),
    layers: Layers = None,
    field: bool = False,
    guidance: str = "auto",
    reference: Any = "auto",
    reference_grid: AnyGrid | None = None,
    special: int = 0,
    scheduler: Any = None,
) -> Steering:
    """Push a diffusers pipeline's attribution maps where a loss is low, while it generates inside the `with` block.

        with i2am.steer(pipe, lambda maps: i2am.losses.mass_outside(maps, mask, "r2g"), strength=0.1) as steered:
            images = pipe(...).images
        steered.losses

    loss: a function of a step's `AttributionMaps`, which carry gradient: one number, or one per image.
    strength: how far a run moves the latents, each step by strength / steps of their norm; 0 leaves them as they are. What is won costs
        the picture: `docs/guidance.md` has numbers.
    steps: the share of the run during which the latents are moved, (0.0, 0.5) for its first half.
    field: whether the maps have the field's sums, which some losses need.
    layers, guidance, reference, reference_grid, special, scheduler: as for `i2am.trace`. The pipeline needs memory for the gradient of one
        call of its denoiser.
    """
    if not callable(loss):
        refuse("loss", "a function of the maps", said(loss), 'Such as lambda maps: i2am.losses.mass_outside(maps, mask, "r2g").')
    strength = number("strength", strength, "0 or more, and finite", lambda x: 0 <= x < math.inf, "To push away, return the loss negated.")
    good = isinstance(steps, (tuple, list)) and len(steps) == 2 and all(isinstance(end, (int, float)) for end in steps)
    if not good or not 0 <= steps[0] < steps[1] <= 1:
        refuse("steps", "the (begin, end) of a share of the run, 0 <= begin < end <= 1", said(steps), "(0.0, 0.5) is its first half.")
    scheduler = scheduler_of(pipe) if scheduler is None else scheduler
    if isinstance(scheduler, type) or not (hasattr(scheduler, "step") and hasattr(scheduler, "set_timesteps")):
        refuse("scheduler", "one of diffusers' kind (set_timesteps, step)", said(scheduler) if isinstance(scheduler, type) else
               type(scheduler).__name__, "In a loop of your own, use i2am.trace(denoiser, differentiable=True).")  # fmt: skip
    run = trace(pipe, layers=layers, field=field, differentiable=True, guidance=guidance, reference=reference,
                reference_grid=reference_grid, special=special)  # fmt: skip
    assert isinstance(run, LearningTrace)
    return Steering(run, scheduler, loss, strength, (float(steps[0]), float(steps[1])))


class Steering:
    """A pipeline whose runs are steered; `i2am.steer` makes one. `losses` holds those of the last run, a tensor a step."""

    def __init__(self, run: LearningTrace, scheduler: Any, loss: Loss, strength: float, share: tuple[float, float]) -> None:
        self.run, self.scheduler, self.loss, self.strength, self.share = run, scheduler, loss, strength, share
        self.losses: list[Tensor] = []  # [B] each, or [1] of a loss that is one number; before the step's own move
        self.undo = ExitStack()
        self.seen: AttributionMaps | None = None  # the maps whose loss is known
        self.begin()

    def __repr__(self) -> str:
        first_last = f": {said(self.losses[0].tolist())} to {said(self.losses[-1].tolist())}" if self.losses else ""
        return f"Steering of {type(self.run.finder.owner).__name__}, {len(self.losses)} steps so far{first_last}"

    def __enter__(self) -> Steering:
        self.undo = ExitStack()
        try:
            self.undo.enter_context(self.run)
            self.run.in_pipeline = True
            UnderGradient(self.run.finder.denoiser, self.called).enter(self.undo)
            self.watch()
        except BaseException:
            self.undo.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.begin()
        self.undo.__exit__(*error)  # type: ignore[arg-type]
        self.run.finished = self.seen = None  # their graph

    def begin(self) -> None:
        """A run begins."""
        self.samples: list[Tensor] = []  # what the denoiser was called with since the last step
        self.pull: Tensor | None = None  # the gradient on them
        self.shape: torch.Size | None = None  # of the denoiser's sample, once a loss waits for its step
        self.moved: Tensor | None = None  # by what the last step's latents were moved
        self.step = self.steps = 0

    def watch(self) -> None:
        """The scheduler's methods, on this instance alone."""
        scheduler, count = self.scheduler, Count(self.run.finder.pipe)
        set_timesteps, step = scheduler.set_timesteps, scheduler.step
        signature = inspect.signature(step)

        def wrapped_set_timesteps(*args: Any, **kwargs: Any) -> Any:
            count.forget()
            self.begin()
            self.losses = []
            return set_timesteps(*args, **kwargs)

        def wrapped_step(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind(*args, **kwargs).arguments
            self.steps = count.read(scheduler, given.get("timestep")) or self.steps
            if not self.steps:
                refuse(
                    "scheduler", "one whose number of steps can be known", type(scheduler).__name__, "It has timesteps, as diffusers' have."
                )
            pull = self.pulled(given["sample"])  # asked before the step moves the scheduler's own counters
            out = step(*args, **kwargs)  # whose corrector takes away what the last step was moved by
            self.moved = None if pull is None else self.move(out[0], pull)
            self.step, self.samples, self.pull, self.shape = self.step + 1, [], None, None
            return out if self.moved is None else with_sample(out, out[0] - self.moved)

        wrap(scheduler, "set_timesteps", wrapped_set_timesteps, self.undo)
        wrap(scheduler, "step", wrapped_step, self.undo)
        for name in CORRECTORS:
            if hasattr(scheduler, name):
                wrap(scheduler, name, self.corrected(getattr(scheduler, name)), self.undo)

    def corrected(self, corrector: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """A corrector makes the latents anew from those before the last step, where they had not been moved."""

        def wrapped(*args: Any, **kwargs: Any) -> Tensor:
            found = corrector(*args, **kwargs)
            return found if self.moved is None else found - self.moved

        return wrapped

    # A denoiser's call

    def called(self, sample: Tensor, output: Any) -> None:
        """The denoiser was called; with the call that is recorded come the loss and its gradient."""
        run = self.run
        self.samples.append(sample)
        if run.finished is None or run.finished is self.seen:
            return
        if self.shape is not None:
            refuse("guidance", "a layout of the denoiser's calls in one step", "several calls, or steps of another scheduler",
                   'Pass guidance="cond|uncond" or the like, or the scheduler that steps: scheduler=...')  # fmt: skip
        self.seen, self.shape = run.finished, sample.shape
        loss = self.checked(self.loss(run.finished))
        self.losses.append(loss.detach().reshape(-1))
        if self.acts:
            found = torch.autograd.grad(SCALE * loss.sum(), self.samples, allow_unused=True)
            parts = [part for part in found if part is not None]
            if not parts:
                self.refuse_no_gradient()
            self.pull = sum(parts[1:], parts[0])
        self.samples = []

    @property
    def images(self) -> int:
        """How many images the maps are of."""
        return self.run.recorder.images or 0

    @property
    def acts(self) -> bool:
        """Whether this step's latents will be moved; before the first step their number is not known yet."""
        if self.ahead or not self.strength:
            return False
        begin, end = self.share
        return not self.steps or begin * self.steps <= self.step < min(end * self.steps, self.steps - 1)

    @property
    def ahead(self) -> bool:
        """Whether a solver of second order only looks ahead in this step: it starts again from where it was, and would go the other way."""
        return bool(getattr(self.scheduler, "state_in_first_order", False))

    def checked(self, loss: Any) -> Tensor:
        """What the user's loss gave."""
        if not isinstance(loss, Tensor) or not is_floating(loss, 0, 1) or (loss.ndim and len(loss) != self.images):
            refuse("the loss", f"a tensor: one number, or one for each of {self.images} images", said(loss), "Return it from the function.")
        if not loss.isfinite().all():
            refuse("the loss", "finite", said(loss), f"It is step {self.step}'s, from 0. {AGAIN}")
        if not loss.requires_grad:
            self.refuse_no_gradient()
        return loss

    def refuse_no_gradient(self) -> None:
        refuse("the loss", "made of the maps that it was given", "a tensor without gradient to the denoiser's sample",
               "Use torch's operations on maps, as i2am.losses do; .detach(), .item() and numpy lose the gradient.")  # fmt: skip

    # A scheduler's step

    def pulled(self, sample: Tensor) -> Tensor | None:
        """The gradient on the scheduler's sample: over the rows of an image, of what lies in front in the denoiser's own sample."""
        if self.shape is None:
            return None
        rows, latents, pull = len(sample), list(sample.shape), self.pull
        if rows != self.images:
            refuse("guidance", f"stated where the denoiser has {self.shape[0]} rows for latents of {rows}", f"maps of {self.images} images",
                   'Pass guidance="uncond-cond", "cond-uncond" ...')  # fmt: skip
        if len(self.shape) != len(latents) or self.shape[0] % rows or any(a < b for a, b in zip(self.shape, latents)):
            refuse("the denoiser's sample", f"the latents {latents} in rows, with whatever else behind them", list(self.shape),
                   "Trace the denoiser with differentiable=True in a loop of your own.")  # fmt: skip
        if pull is None or not self.acts:
            return None
        for axis in range(1, sample.ndim):
            pull = pull.narrow(axis, 0, latents[axis])
        pull = pull.float().unflatten(0, (-1, rows)).sum(0)
        if not pull.isfinite().all():
            refuse("the loss's gradient", "finite", said(pull), f"It is step {self.step}'s, from 0. {AGAIN}")
        return pull

    def move(self, sample: Tensor, pull: Tensor) -> Tensor:
        """What is taken from each image's latents; nothing where the loss is flat."""
        lengths = [x.float().flatten(1).norm(dim=1).view(-1, *[1] * (x.ndim - 1)) for x in (sample, pull)]
        order = 2 if hasattr(self.scheduler, "state_in_first_order") else 1  # of which a step is half a step
        share = self.strength * order / self.steps * lengths[0]
        direction = torch.where(lengths[1] > 0, pull / lengths[1], 0.0)
        return (share * direction).to(sample)


def with_sample(out: Any, sample: Tensor) -> Any:
    """A scheduler's output, a tuple or diffusers' kind, with another sample of the step before."""
    if isinstance(out, tuple):
        return (sample, *out[1:])
    out.prev_sample = sample
    return out
