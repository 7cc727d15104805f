"""Train the small try-on model from nothing: `i2am train-small`.

Every step draws its own pairs and its own noise from (seed, step), so a run that was stopped goes on to the same bits. The clean
picture is predicted; the mask counts eleven times as much as the rest; one pair in ten is shown without its garment, for guidance.
The rate is constant after a warm-up and falls to nothing over the last quarter of the steps.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from i2am.attach.run import Trace
from i2am.attach.trace import trace
from i2am.common.checks import number
from i2am.data.synthetic.numbers import TRAINING, numbers
from i2am.data.synthetic.pairs import Pairs, draw
from i2am.losses.refining import LOSSES, total
from i2am.models import training
from i2am.models.pixels import PATCH, patches
from i2am.models.small.encoder import GarmentEncoder, known
from i2am.models.small.pipeline import SmallTryOnPipeline, load
from i2am.models.small.schedule import STEPS, scheduler
from i2am.models.small.unet import SmallUNet, small_unet
from i2am.models.training import Course

SIZE = (128, 96)


@dataclass(frozen=True)
class Options(Course):
    steps: int = 6_400
    rich: tuple[float, float] = (0.6, 0.2)  # the share of garments that only copying gets right, at the start and later
    outside: float = 0.1  # the weight outside the mask, against 1.1 inside
    start: str = ""  # the folder of a pipeline to begin with; "": random weights
    # the weights of the paper's losses on the maps, and the layers that they are taken of
    dcml: float = 0.0
    tv: float = 0.0
    cwg: float = 0.0
    loss_layers: str = "*attn2"

    def check(self) -> None:
        super().check()
        for name in LOSSES:
            number(name, getattr(self, name), "0 or more, and finite", lambda x: 0 <= x < math.inf, "0 leaves it out.")

    @property
    def losses(self) -> dict[str, float]:
        """The losses on the maps that are trained with."""
        return {name: weight for name in LOSSES if (weight := getattr(self, name))}

    def rich_at(self, step: int) -> float:
        first, last = self.rich
        return first + (last - first) * min(1.0, step / 6000)


class Model(nn.Module):
    """The two networks that are trained together."""

    def __init__(self, unet: SmallUNet | None = None, encoder: GarmentEncoder | None = None) -> None:
        super().__init__()
        self.unet = unet or small_unet()
        self.encoder = encoder or GarmentEncoder()

    def forward(self, noisy: Tensor, timestep: Tensor, beside: Tensor, garment: Tensor, shown: Tensor) -> Tensor:
        tokens = self.encoder(garment)
        tokens = torch.where(shown[:, None, None], tokens, self.encoder.empty(tokens))
        return self.unet(torch.cat([noisy, beside], 1), timestep, encoder_hidden_states=tokens).sample

    def pipeline(self, shift: float) -> SmallTryOnPipeline:
        return SmallTryOnPipeline(self.unet, self.encoder, scheduler(shift))


def networks(folder: str) -> Model:
    """The networks of a pipeline's folder, or new ones."""
    if not folder:
        return Model()
    pipe = load(folder)
    return Model(pipe.unet, pipe.garment_encoder)


def batch_of(options: Options, step: int, device: torch.device) -> Pairs:
    rows = numbers(options.batch, TRAINING + options.seed, step * options.batch)
    return draw(rows, size=SIZE, rich=options.rich_at(step), device=device)


def loss_of(model: Model, pairs: Pairs, options: Options, step: int, kept: Tensor, run: Trace | None = None) -> Tensor:
    """The weighted squared error of the predicted clean pictures; with a trace, and the losses on the maps of the garments shown."""
    generator = options.generator(step)
    count, device = len(pairs), pairs.person.device
    clean = patches(pairs.person)
    timestep = torch.randint(0, STEPS, (count,), generator=generator).to(device)
    noise = torch.randn(clean.shape, generator=generator).to(device)
    shown = torch.rand(count, generator=generator) >= options.unconditional
    share = kept.to(device)[timestep].view(-1, 1, 1, 1)
    mask = pairs.mask[:, None].float()
    inside = nn.functional.avg_pool2d(mask, PATCH)
    beside = known(pairs.agnostic, inside, pairs.densepose)
    with torch.autocast(device.type, torch.bfloat16):
        guess = model(share.sqrt() * clean + (1 - share).sqrt() * noise, timestep, beside, pairs.garment, shown.to(device))
    weight = inside + options.outside
    error = ((guess.float() - clean) ** 2 * weight).mean((1, 2, 3)) / weight.mean((1, 2, 3))
    images = shown.nonzero()[:, 0].tolist()
    if run is None or not images:
        return error.mean()
    weights = {name: getattr(options, name) for name in LOSSES}
    of_shown = replace(run.maps, sums=tuple(sums.cut(images) for sums in run.maps.sums))
    return error.mean() + total(of_shown, pairs.truth.inside[images].float(), layers=options.loss_layers, **weights)[0]


def watched(model: Model, options: Options) -> AbstractContextManager[Any]:
    """A trace of the model's maps where a loss asks for them."""
    if not options.losses:
        return nullcontext()
    grid = model.unet.config.sample_size
    return trace(model.unet, differentiable=True, layers=options.loss_layers, reference_grid=tuple(grid), special=1)


def train(out: str | Path, options: Options | None = None, *, device: str | None = None, save_every: int = 500) -> Path:
    """Train, or go on where `out` stopped; returns the folder of the finished pipeline."""
    options = options or Options()

    def loss_at(model: Model, step: int, where: torch.device, kept: Tensor, run: Trace | None) -> Tensor:
        return loss_of(model, batch_of(options, step, where), options, step, kept, run)

    return training.train(out, options, lambda: networks(options.start), loss_at, watched=lambda model: watched(model, options),
                          device=device, save_every=save_every)  # fmt: skip
