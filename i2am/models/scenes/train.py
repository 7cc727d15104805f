"""Train the small text-to-image model from nothing: `i2am train-scenes`.

Every step draws its own scenes and its own noise from (seed, step), so a run that was stopped goes on to the same bits. The clean
picture is predicted; a thing's pixels count three times as much as the ground's; one prompt in ten is empty, for guidance. Nothing is
said of attention.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from i2am.common.checks import is_size, refuse, said
from i2am.data.scenes.render import SIZE, Scenes, draw_scenes
from i2am.data.synthetic.numbers import TRAINING
from i2am.models import training
from i2am.models.pixels import PATCH, patches
from i2am.models.scenes.pipeline import SmallTextPipeline, load
from i2am.models.scenes.text import SceneTextEncoder, SceneTokenizer, tokenizer
from i2am.models.scenes.unet import SceneUNet, scene_unet
from i2am.models.small.schedule import STEPS, scheduler
from i2am.models.training import Course


@dataclass(frozen=True)
class Options(Course):
    steps: int = 9_000
    batch: int = 32
    shift: float = 10.0  # where a thing lies and what it is must be read for most of the steps, not seen through the noise
    size: tuple[int, int] = SIZE
    start: str = ""  # the folder of a pipeline to begin with, of any size; "": random weights
    things: float = 2.0  # what the pixels of things count more than the ground's
    bound: bool = False  # every colour comes with one shape only, and tints the ground

    def check(self) -> None:
        super().check()
        if not is_size(self.size) or any(side % (2 * PATCH) for side in self.size):
            refuse("size", f"(height, width), multiples of {2 * PATCH}", said(self.size), "Patches are halved once.")


class Model(nn.Module):
    """The two networks that are trained together."""

    def __init__(self, unet: SceneUNet | None = None, text_encoder: SceneTextEncoder | None = None) -> None:
        super().__init__()
        self.unet = unet or scene_unet()
        self.text_encoder = text_encoder or SceneTextEncoder()

    def forward(self, noisy: Tensor, timestep: Tensor, ids: Tensor) -> Tensor:
        return self.unet(noisy, timestep, encoder_hidden_states=self.text_encoder(ids)).sample

    def pipeline(self, shift: float) -> SmallTextPipeline:
        return SmallTextPipeline(self.unet, self.text_encoder, tokenizer(), scheduler(shift))


def networks(options: Options) -> Model:
    """New networks for pictures of this size, with the weights of a pipeline's folder if there is one."""
    height, width = options.size
    model = Model(scene_unet(grid=(height // PATCH, width // PATCH)))
    if options.start:
        given = load(options.start)
        model.unet.load_state_dict(given.unet.state_dict())
        model.text_encoder.load_state_dict(given.text_encoder.state_dict())
    return model


def batch_of(options: Options, step: int) -> Scenes:
    return draw_scenes(options.batch, seed=TRAINING + options.seed, first=step * options.batch, size=options.size, bound=options.bound)


def loss_of(model: Model, scenes: Scenes, words: SceneTokenizer, options: Options, step: int, kept: Tensor, device: torch.device) -> Tensor:
    """The weighted squared error of the predicted clean pictures."""
    generator, count = options.generator(step), len(scenes)
    clean = patches(scenes.pictures.to(device))
    timestep = torch.randint(0, STEPS, (count,), generator=generator).to(device)
    noise = torch.randn(clean.shape, generator=generator).to(device)
    shown = torch.rand(count, generator=generator) >= options.unconditional
    prompts = [prompt if there else "" for prompt, there in zip(scenes.prompts, shown.tolist())]
    ids = words(prompts, padding="max_length", return_tensors="pt").input_ids.to(device)
    share = kept.to(device)[timestep].view(-1, 1, 1, 1)
    # the fused attention's backward in bfloat16 takes half of all time on a CPU
    with sdpa_kernel(SDPBackend.MATH), torch.autocast(device.type, torch.bfloat16):
        guess = model(share.sqrt() * clean + (1 - share).sqrt() * noise, timestep, ids)
    inside = nn.functional.avg_pool2d(scenes.things.any(1, keepdim=True).float(), PATCH).to(device)
    return ((guess.float() - clean) ** 2 * (1 + options.things * inside)).mean()


def train(out: str | Path, options: Options | None = None, *, device: str | None = None, save_every: int = 500) -> Path:
    """Train, or go on where `out` stopped; returns the folder of the finished pipeline."""
    options, words = options or Options(), tokenizer()

    def loss_at(model: Model, step: int, where: torch.device, kept: Tensor, run: Any) -> Tensor:
        return loss_of(model, batch_of(options, step), words, options, step, kept, where)

    return training.train(out, options, lambda: networks(options), loss_at, what="scenes", device=device, save_every=save_every)
