"""How the small models are trained: a loop that a stop does not hurt, the average of its weights, and what it leaves behind.

The caller's loss draws everything of a step from (seed, step), so a run that was stopped goes on to the same bits. The rate is constant
after a warm-up and falls to nothing over the last part of the steps.
"""

from __future__ import annotations

import copy
import io
import json
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from i2am.common import outputs
from i2am.common.checks import is_whole, refuse
from i2am.common.machine import processor
from i2am.common.outputs import write_whole
from i2am.data.synthetic.numbers import TRAINING
from i2am.maps.files import versions
from i2am.models.small.schedule import alphas_cumprod

STATE = "state.pt"
WRITTEN = (STATE, "checkpoints", "weights", "loss.png")


@dataclass(frozen=True)
class Course:
    """What every training has: how long, how fast, from which numbers."""

    steps: int = 8_000
    batch: int = 8
    rate: float = 1e-3
    warmup: int = 200
    cooldown: float = 0.25  # the share of the steps over which the rate falls
    shift: float = 6.0
    unconditional: float = 0.1
    decay: float = 0.998  # of the moving average that is kept
    seed: int = 0

    def check(self) -> None:
        for name in ("steps", "batch", "warmup"):
            if not is_whole(getattr(self, name), 1):
                refuse(name, "a whole number of at least 1", repr(getattr(self, name)), f"The default is {getattr(type(self), name)}.")
        if not is_whole(self.seed) or self.seed >= TRAINING:
            remedy = f"What is trained on is drawn from seed {TRAINING} + seed; seeds below are held out."
            refuse("seed", "a whole number from 0 to 2**32 - 1", repr(self.seed), remedy)
        if not 0 < self.rate < math.inf:
            refuse("rate", "a number above 0", repr(self.rate), f"The default is {type(self).rate}.")

    def rate_at(self, step: int) -> float:
        left = (self.steps - step) / max(1, self.steps * self.cooldown)
        return self.rate * min(1.0, (step + 1) / self.warmup, max(left, 0.0))

    def generator(self, step: int) -> torch.Generator:
        """The noise of a step."""
        return torch.Generator().manual_seed((TRAINING + self.seed) * 1_000_003 + step)


class Networks(Protocol):
    """Modules that are trained together, and the pipeline they make."""

    def pipeline(self, shift: float) -> Any: ...


M = TypeVar("M", bound=nn.Module)
Loss = Callable[[M, int, torch.device, Tensor, Any], Tensor]  # of a model at a step, with the schedule's alphas and what watches it


def train(
    out: str | Path,
    options: Course,
    networks: Callable[[], M],
    loss_at: Loss[M],
    *,
    watched: Callable[[M], AbstractContextManager[Any]] = lambda model: nullcontext(),
    what: str = "pairs",
    device: str | None = None,
    save_every: int = 500,
) -> Path:
    """Train, or go on where `out` stopped; returns the folder of the finished pipeline."""
    options.check()
    out, where = outputs.folder(out), device_of(device)
    strange = sorted({path.name for path in out.iterdir()} - {*WRITTEN, f"{STATE}.part"}) if out.is_dir() else []
    if strange and not (out / STATE).is_file():
        refuse("out", "a new folder, or an earlier training's", f"{out}, which holds {', '.join(strange[:5])}", "Choose another folder.")
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    model = networks().to(where)
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.rate, betas=(0.9, 0.99), weight_decay=0.01)
    kept = alphas_cumprod(options.shift).float()
    start, seconds, losses = resumed(out, options, model, average, optimizer)
    marks, begun = milestones(options.steps), time.perf_counter() - seconds
    if start == 0:
        keep(average, out / "checkpoints" / "0", options)
    with (
        watched(model) as run,  # which refuses layers that are none, before the bar
        tqdm(total=options.steps, initial=start, unit="step", desc="training", smoothing=0.05) as bar,
    ):
        for step in range(start, options.steps):
            for group in optimizer.param_groups:
                group["lr"] = options.rate_at(step)
            loss = loss_at(model, step, where, kept, run)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            rate = min(options.decay, (1 + step) / (10 + step))
            with torch.no_grad():
                torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - rate)
            losses.append(loss.item())
            bar.update()
            if step % 20 == 0:
                bar.set_postfix(loss=f"{sum(losses[-100:]) / len(losses[-100:]):.4f}")
            done = step + 1
            if done in marks:
                keep(average, out / "checkpoints" / str(done), options)
            if done % save_every == 0 or done == options.steps:
                seconds = time.perf_counter() - begun
                save_state(out, options, done, seconds, losses, model, average, optimizer)
                plot(losses, f"step of {options.batch} {what}", out / "loss.png")
    return finish(average, out, options, what, losses, seconds, where)


def milestones(steps: int, first: int = 100) -> list[int]:
    """Where checkpoints are kept: 0, 100, 200, 400, ... and the end."""
    marks = [0]
    while (mark := first * 2 ** (len(marks) - 1)) < steps:
        marks.append(mark)
    return [*marks, steps]


def device_of(name: str | None) -> torch.device:
    """A device that computes; of no name, the GPU, if there is one."""
    try:
        found = torch.device(name if name is not None else "cuda" if torch.cuda.is_available() else "cpu")
        torch.zeros(1, device=found).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # a build without that kind asserts
        got = f"{name!r} ({str(error).partition(chr(10))[0][:100]})"
        refuse("device", "one that this machine has", got, "cpu is always there.")
    return found


def keep(model: nn.Module, folder: Path, options: Course) -> None:
    """A pipeline's folder in half precision."""
    half: Any = copy.deepcopy(model).half()
    half.pipeline(options.shift).save_pretrained(folder)


def save_state(out: Path, options: Course, step: int, seconds: float, losses: list[float], *parts: Any) -> None:
    """Everything that going on needs; the file appears whole or not at all."""
    state = {"options": asdict(options), "step": step, "seconds": seconds, "losses": losses, "parts": [p.state_dict() for p in parts]}
    file = io.BytesIO()  # of a full disk torch says nothing that could be told from a mistake
    torch.save(state, file)
    write_whole(out / STATE, lambda part: part.write_bytes(file.getbuffer()))


def resumed(out: Path, options: Course, *parts: Any) -> tuple[int, float, list[float]]:
    """The step, seconds and losses so far, with the parts' states loaded."""
    path = out / STATE
    if not path.is_file():
        return 0, 0.0, []
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        asked, step, seconds, losses, saved = (state[name] for name in ("options", "step", "seconds", "losses", "parts"))
    except (OSError, MemoryError):
        raise
    except Exception as error:  # what is no state may raise anything
        raise ValueError(f"i2am: {path} is damaged ({type(error).__name__}). Give another --out, or delete it to begin anew.") from error
    asked = {**asdict(type(options)()), **asked}  # what an older version did not know it left out
    was, now = ({name: value for name, value in one.items() if name != "steps"} for one in (asked, asdict(options)))
    other = [f"{name} {was.get(name)} -> {now[name]}" for name in now if tuple_free(was.get(name)) != tuple_free(now[name])]
    if other or step > options.steps:
        refuse(str(path), "a run with these options", ", ".join(other) or f"{step} steps already", "Give another --out.")
    for part, one in zip(parts, saved):
        part.load_state_dict(one)
    return step, seconds, losses


def tuple_free(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def plot(losses: list[float], unit: str, path: Path) -> None:
    """The loss, smoothed, over the steps."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    window = max(1, min(100, len(losses) // 5))
    smooth = torch.tensor(losses).unfold(0, window, max(1, window // 4)).mean(1)
    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    axes.plot([window + i * max(1, window // 4) for i in range(len(smooth))], smooth, linewidth=1.2)
    axes.set(xlabel=unit, ylabel=f"loss, mean of {window} steps", yscale="log", title="Training")
    axes.grid(alpha=0.3, which="both")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def finish(model: nn.Module, out: Path, options: Course, what: str, losses: list[float], seconds: float, device: torch.device) -> Path:
    """The finished pipeline and what it took."""
    folder = out / "weights"
    keep(model, folder, options)
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{processor()}, {torch.get_num_threads()} threads"
    about = {
        "options": asdict(options),
        what: options.steps * options.batch,
        "hours": round(seconds / 3600, 2),
        "device": machine,
        "final_loss": sum(losses[-200:]) / len(losses[-200:]),
        "versions": versions(),
    }
    (folder / "training.json").write_text(json.dumps(about, indent=2) + "\n")
    print(f"{about[what]:,} {what} in {about['hours']} h on {machine}: {folder}")
    return folder
