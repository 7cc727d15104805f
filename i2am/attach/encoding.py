"""Maps of pictures that exist already: `i2am.encode` shows a pipeline's denoiser the noised picture at chosen timesteps.

    x_t = the scheduler's own mixture of the picture's latents and the call's noise at timestep t      add_noise, or scale_noise

The pipeline runs as ever, prompts, references, guidance and all; after every step the latents are put back onto the picture's own path, so
that no step sees what another made. Its first step only settles what the run is.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from i2am.attach.finder import Finder
from i2am.attach.latents import clean_latents
from i2am.attach.parts import placed_reference, scheduler_of
from i2am.attach.prompts import asked
from i2am.attach.run import Trace
from i2am.attach.steps import wrap
from i2am.common.checks import is_whole, number, refuse, said
from i2am.maps.levels import AttributionMaps
from i2am.maps.recorder import Recorder
from i2am.maps.tokens import Range

STEPS = 20
OPTIONS = ("layers", "generated_mask", "reference_mask", "specific", "words", "field", "weigh", "shares", "guidance", "backend",
           "reference", "reference_grid", "special")  # fmt: skip


class Encoding(Trace):
    """A trace whose steps see a given picture, and which records those nearest to the timesteps asked for."""

    picture: Any
    timesteps: Sequence[float]
    size: tuple[int, int] | None
    given_noise: Tensor | None

    def watch(self) -> None:
        super().watch()
        self.listen_to_noise()
        original = self.scheduler.step
        signature = inspect.signature(original)

        def step(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind(*args, **kwargs).arguments
            if self.number == 0:
                self.begin(given["sample"], given["timestep"])
            number = self.number
            out = original(*args, **kwargs)
            return self.moved(out, number)

        wrap(self.scheduler, "step", step, self.undo)

    def started(self) -> None:
        super().started()
        self.number, self.kept, self.given_noise = 0, set[int](), None

    def listen_to_noise(self) -> None:
        """A pipeline that starts from a picture under noise hands both to the scheduler: the call's noise is what it said there."""
        original = getattr(self.scheduler, self.mixing)
        signature = inspect.signature(original)

        def mix(*args: Any, **kwargs: Any) -> Tensor:
            if self.number == 0:
                self.given_noise = signature.bind(*args, **kwargs).arguments.get("noise")
            return original(*args, **kwargs)

        wrap(self.scheduler, self.mixing, mix, self.undo)

    @property
    def mixing(self) -> str:
        """The scheduler's method that lays noise over a picture."""
        return "scale_noise" if hasattr(self.scheduler, "scale_noise") else "add_noise"

    @property
    def active(self) -> bool:
        return self.calls.active and (self.number == 0 or self.number in self.kept)

    def begin(self, sample: Tensor, timestep: Any) -> None:
        """Before the first step is taken: which steps are recorded, the picture's latents, and the noise."""
        schedule = [float(t) for t in self.scheduler.timesteps]
        first = schedule.index(float(timestep)) if float(timestep) in schedule else 0
        self.schedule = self.scheduler.timesteps[first:]
        later = schedule[first + 1 :]
        if len(later) < len(self.timesteps):
            refuse("num_inference_steps", f"more than the {len(self.timesteps)} timesteps", len(later) + 1, "The first step records none.")
        gap = max(abs(a - b) for a, b in pairwise(schedule))
        far = [t for t in self.timesteps if not min(schedule) - gap <= t <= max(schedule) + gap]
        if far:
            refuse("timesteps", f"of the schedule of {type(self.scheduler).__name__}, from {max(schedule):g} to {min(schedule):g}", far,
                   "They are the scheduler's own.")  # fmt: skip
        nearest = {t: min(range(len(later)), key=lambda i: abs(later[i] - t)) for t in self.timesteps}
        self.kept = {place + 1 for place in nearest.values()}
        if len(self.kept) < len(self.timesteps):
            refuse("timesteps", f"each nearest to another step of {said([round(t) for t in later])}", list(self.timesteps),
                   "Ask for others, or for more num_inference_steps.")  # fmt: skip
        heard = self.given_noise
        self.noise = sample / float(getattr(self.scheduler, "init_noise_sigma", 1.0))
        if isinstance(heard, Tensor) and heard.shape == sample.shape:
            self.noise = heard.to(sample)
        self.clean = clean_latents(self.finder.pipe, self.picture, sample, self.size)
        self.recorder.about["timesteps"] = " ".join(f"{later[place - 1]:g}" for place in sorted(self.kept))

    def stepped(self, images: int | None, steps: int | None, size: Range | None = None) -> None:
        number, self.number = self.number, self.number + 1
        if number == 0:
            self.calls.refuse_tiles(size)
            self.settle(images, None)
            for slot in self.recorder.slots.values():
                for sums in slot.sums.values():
                    sums.zero_()
        self.calls.count = 0
        if number in self.kept:
            self.recorder.step()

    def moved(self, out: Any, number: int) -> Any:
        """What the scheduler returned, with the noised picture in the place of the next sample."""
        following = self.schedule[number + 1 : number + 2]
        latents = self.clean
        if len(following):
            at = following.to(latents.device).expand(latents.shape[0])
            scheduler, flow = self.scheduler, self.mixing == "scale_noise"
            latents = scheduler.scale_noise(latents, at, self.noise) if flow else scheduler.add_noise(latents, self.noise, at)
        if isinstance(out, tuple):
            return (latents.to(out[0]), *out[1:])
        out.prev_sample = latents.to(out.prev_sample)
        return out


def checked_scheduler(scheduler: Any) -> Any:
    """One that can lay noise over a picture for every step that it has the model see."""
    between = hasattr(scheduler, "sigmas_interpol") or hasattr(scheduler, "mid_point_sigma")  # KDPM2, DPMSolverSDE
    if between or not (hasattr(scheduler, "scale_noise") or hasattr(scheduler, "add_noise")):
        why = "whose every second step lies between two of its noise levels" if between else "which cannot lay noise over a picture"
        refuse("the scheduler", "one whose own add_noise or scale_noise makes what its model sees", f"{type(scheduler).__name__}, {why}",
               "Give the pipeline another for this: EulerDiscreteScheduler.from_config(pipe.scheduler.config), for example.")  # fmt: skip
    return scheduler


def encode(pipe: Any, picture: Any, /, *, timesteps: Sequence[float] = (800, 600, 400, 200), trace: dict[str, Any] | None = None,
           **call: Any) -> AttributionMaps:  # fmt: skip
    """The maps of a picture that exists already: what the denoiser attends to in it, noised, at some timesteps.

        maps = i2am.encode(pipe, photo, timesteps=(700, 400), prompt=..., image=garment)
        maps.time("r2g")                                   # [B, 2, H, W], a map a timestep, the noisiest first

    picture: one for all images of the call or one an image, as the pipeline's image processor takes them (PIL, arrays, tensors in [0, 1]),
        or latents in the form in which the pipeline hands them to its scheduler.
    timesteps: of the scheduler's (0 ... 1000); each is recorded at the nearest step of the pipeline's own schedule, but the first; which
        they were is in maps.about. num_inference_steps, 20 unless given, says how finely they can be chosen; all of them are run.
    trace: options of `i2am.trace`: words, field, specific, reference ... call: the pipeline's own keywords. The noise is the call's: its
        generator= makes it again. What the pipeline returns is not kept.
    """
    for t in timesteps:
        number("timesteps", t, "numbers from 0 to 1000", lambda x: 0 <= x <= 1000, "They are the scheduler's.")
    if not timesteps or len(set(timesteps)) < len(timesteps):
        refuse("timesteps", "one or several, each once", said(list(timesteps)), "For example (800, 600, 400, 200).")
    options = dict(trace or {})
    strange = sorted(set(options) - set(OPTIONS))
    if strange:
        refuse("trace", f"options of {', '.join(OPTIONS)}", strange, "Each timestep has a time group of its own.")
    takes = inspect.signature(pipe.__call__).parameters
    if "strength" in takes and call.setdefault("strength", 1.0) != 1.0:
        refuse("strength", "left out, as the picture is noised here", call["strength"], "Say how much noise by timesteps=.")
    given = call.setdefault("num_inference_steps", STEPS)
    if not is_whole(given, 2):
        refuse("num_inference_steps", "a whole number of at least 2", said(given), "The first step records nothing.")
    if "output_type" in takes:
        call.setdefault("output_type", "latent")
    scheduler = checked_scheduler(scheduler_of(pipe))
    settings = {name: options.pop(name, None) for name in ("layers", "words", "reference_grid")}
    finder, guidance = Finder(pipe, options.pop("reference", "auto")), options.pop("guidance", "auto")
    grid, special = placed_reference(pipe, settings["reference_grid"], options.pop("special", 0))
    recorder = Recorder(groups=len(timesteps), steps=len(timesteps), **options)
    run = Encoding(finder, recorder, scheduler, layers=settings["layers"], words=asked(settings["words"]), guidance=guidance,
                   reference_grid=grid, special=special)  # fmt: skip
    size = (call.get("height"), call.get("width"))
    run.picture, run.timesteps, run.number, run.kept, run.given_noise = picture, timesteps, 0, set(), None
    run.size = None if None in size else (int(size[0]), int(size[1]))  # type: ignore[arg-type]
    with run, torch.no_grad():
        pipe(**call)
    return run.maps
