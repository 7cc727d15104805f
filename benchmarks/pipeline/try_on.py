"""What a trace of the package's own try-on pipelines costs: whole calls with and without it, in one process.

    python -m benchmarks.pipeline.try_on --only small-world

`stableviton` is StableVITON at the release's width with random weights: 512x384 pixels (64x48 latents), one pair, DDIM, not guided, as
its pipeline is by default. Pictures are encoded in every call and latents come out. Its autoencoder alone is a quarter as wide: the
release's, which runs once a call, would be most of a call of two steps, and hide what a trace adds to a step's time and memory.
`small-world` is the embedded model with its own weights, on four drawn pairs. A trace records every layer in which the garment enters,
in both directions, five time groups (no more than steps) and the specific map of a patch, up to what a user looks at: the unified,
time, head and layer levels of both directions, and the specific map, on the latent's grid. StableVITON's UNet reads one token, so its
16 layers have R2G alone; the nine warp blocks have everything.

First come the numbers and the memory of one step (one time group), which warm up too; then untraced and traced calls in turn: overhead
is traced / untraced - 1 of neighbouring calls. The truth is computed in float64 from queries and keys that hooks see in an untraced
call. Where maps are wrong there are no times, and the exit code is 1. Rows are of benchmarks.pipeline.traced' kind and stand in its file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

import i2am
from benchmarks.measuring.command import adjustable, adjusted, command, positive, record
from benchmarks.measuring.measure import cpu_ms, cuda_ms, peak_bytes
from benchmarks.measuring.rows import Row, percentiles
from benchmarks.measuring.weights import filled
from benchmarks.parity.stableviton import FULL, Sizes, counted, inputs
from benchmarks.pipeline.traced import difference, line
from i2am.maps.levels import AttributionMaps
from i2am.maps.regions import on_grid
from i2am.maps.tokens import Grid

WIDE = replace(FULL, vae_width=32)
PATCH = (0.4, 0.5)  # a point in fractions of the image: of each layer the patch in which it lies
KINDS = ("r2g", "g2r", "specific")
LEVELS = ("unified", "time", "head", "layer")


class Result(NamedTuple):
    """What a traced call leaves behind."""

    output: Tensor
    maps: AttributionMaps
    levels: list[Tensor]


class Given(NamedTuple):
    """What the definition is computed from: one untraced step, seen from outside."""

    output: Tensor
    operands: dict[str, tuple[Tensor, Tensor, float]]  # layer -> query and key [B, heads, tokens, D], scale


class Model:
    """A pipeline and what it is called with; it says the same at every call."""

    def __init__(self, pipe: Any, given: dict[str, Any], latent: Grid, device: torch.device) -> None:
        self.pipe, self.given, self.latent, self.device = pipe.to(device), given, latent, device
        pipe.set_progress_bar_config(disable=True)

    def paint(self, steps: int) -> Tensor:
        return self.pipe(**self.given, num_inference_steps=steps).images

    def traced(self, steps: int) -> Result:
        """The same in a trace, up to the levels."""
        with i2am.trace(self.pipe, specific=[PATCH]) as run:
            output = self.paint(steps)
        return Result(output, run.maps, levels(run.maps, self.latent))

    def watched(self) -> Given:
        """One untraced step; every cross-attention's query and key, projected once more from the inputs that hooks see."""
        found: dict[str, tuple[Tensor, Tensor, float]] = {}

        def before(name: str, module: Any, args: Any, kwargs: Any) -> None:
            states = (args[0] if args else kwargs["hidden_states"], kwargs["encoder_hidden_states"])
            projected = zip((module.to_q, module.to_k), states)
            query, key = (to(x).unflatten(-1, (module.heads, -1)).transpose(1, 2) for to, x in projected)
            found[name] = query, key, module.scale

        with ExitStack() as undo:
            for name, module in self.pipe.unet.named_modules():
                if name.endswith("attn2"):
                    undo.callback(module.register_forward_pre_hook(partial(before, name), with_kwargs=True).remove)
            return Given(self.paint(1), found)


def stableviton(device: torch.device, sizes: Sizes = WIDE) -> Model:
    """StableVITON with random weights that keep the variance, and pictures of noise."""
    from diffusers import DDIMScheduler

    from i2am.models.stableviton import StableVITONPipeline
    from i2am.models.stableviton.release import scheduler

    with torch.device("meta"):
        parts = sizes.parts()
    models = {name: filled(part.to_empty(device=device), device) for name, part in parts.items()}
    counted(models["image_encoder"])
    pipe = StableVITONPipeline(**models, scheduler=DDIMScheduler.from_config(scheduler().config))
    return Model(pipe, {**inputs(sizes), "output_type": "latent"}, sizes.grid, device)


def small_world(device: torch.device, count: int = 4) -> Model:
    """The embedded model and drawn pairs."""
    from i2am.data.synthetic import draw, unit
    from i2am.models.small import load

    pipe = load()
    grid = tuple(pipe.unet.config.sample_size)
    pairs = draw(count, seed=7, size=pipe.size)
    noise = torch.randn(count, pipe.unet.config.out_channels, *grid, generator=torch.Generator("cpu").manual_seed(1), device="cpu")
    given = {"image": unit(pairs.person), "mask_image": pairs.mask[:, None].float(), "garment": unit(pairs.garment),
             "densepose": unit(pairs.densepose), "latents": noise, "output_type": "pt"}  # fmt: skip
    return Model(pipe, given, grid, device)


class Section(NamedTuple):
    """A pipeline, and how often it runs."""

    model: Callable[[torch.device], Model]
    steps: int
    pairs: int


SECTIONS = {"stableviton": Section(stableviton, 2, 3), "small-world": Section(small_world, 5, 15)}
HELP = {"steps": "denoising steps", "pairs": "rounds of untraced and traced calls"}


def levels(maps: AttributionMaps, size: Grid) -> list[Tensor]:
    """Everything that a user looks at."""
    return [*(maps.level(direction, level, size) for direction in ("r2g", "g2r") for level in LEVELS), maps.specific(0, size)]


def definition(maps: AttributionMaps, given: Given, dtype: torch.dtype) -> tuple[AttributionMaps, float]:
    """What these maps of one step should be, with the scores stored, in this precision; and the largest logit."""
    sums, top = [], 0.0
    for layer in maps.sums:
        query, key, scale = given.operands[layer.layer]
        scores = query.to(dtype) @ key.to(dtype).mT * scale  # [B, heads, G, R]
        top = max(top, scores.abs().max().item())
        assert layer.generated_grid is not None
        patch = on_grid(PATCH, layer.generated_grid).to(scores)  # [1, G]
        rows = scores.softmax(-1)
        made: dict[str, Any] = {"r2g": scores.softmax(-2).mean(-1), "g2r": rows.mean(-2), "specific": patch @ rows}
        sums.append(replace(layer, **{n: made[n][:, None].cpu() for n in KINDS if getattr(layer, n) is not None}))
    return replace(maps, sums=tuple(sums)), top


def apart(ours: AttributionMaps, seen: list[Tensor], true: AttributionMaps, size: Grid) -> dict[str, float]:
    """The worst layer's sums of each kind, and the worst of the levels: largest difference over the largest true value."""
    found = {"levels": max(map(difference, seen, levels(true, size)))}
    for name in KINDS:
        both = ((getattr(a, name), getattr(b, name)) for a, b in zip(ours.sums, true.sums))
        found[name] = max(difference(a, b) for a, b in both if a is not None)
    return found


def numbers(model: Model) -> Row:
    """One step's memory, and its errors beside what they may be: four times eager float32's, and what a rounding of the logits moves."""
    given = model.watched()
    bare = peak_bytes(partial(model.paint, 1), model.device)
    kept: list[Result] = []
    peak = peak_bytes(lambda: kept.append(model.traced(1)), model.device)
    output, maps, seen = kept[0]
    true, top = definition(maps, given, torch.float64)
    single, _ = definition(maps, given, torch.float32)
    eager = apart(single, levels(single, model.latent), true, model.latent)
    found = {**apart(maps, seen, true, model.latent), "output": difference(output, given.output)}
    limits = {name: (16 + top) * 8 * torch.finfo(torch.float32).eps + 4 * eager.get(name, 0.0) for name in found}
    sums = [t for layer in maps.sums for kind in KINDS if (t := getattr(layer, kind)) is not None]
    return {
        "tokens": max(key.shape[-2] for _, key, _ in given.operands.values()), "latent": list(model.latent), "batch": len(maps),
        "guided": model.pipe.do_classifier_free_guidance, "dtype": "float32", "layers": len(maps.layers), "maps": list(KINDS),
        "error_of": found, "allowed": limits, "red": any(not found[name] <= limit for name, limit in limits.items()),
        "untraced_peak_mb": bare / 1e6, "peak_mb": peak / 1e6, "extra_mb": round((peak - bare) / 1e6, 3),
        "sums_mb": round(sum(t.nbytes for t in sums) / 1e6, 3),
    }  # fmt: skip


def measure(title: str, section: Section, device: torch.device) -> Row:
    """Numbers and memory of one step, then whole calls in turn, so that neighbours make a pair."""
    model = section.model(device)
    row = {"section": title, "case": "all_levels", "runner": "i2am", "steps": section.steps, "groups": min(5, section.steps),
           **numbers(model)}  # fmt: skip
    if row["red"]:
        return row
    once = cuda_ms if device.type == "cuda" else cpu_ms
    runs = partial(model.paint, section.steps), partial(model.traced, section.steps)
    plain, taken = zip(*([once(run) for run in runs] for _ in range(section.pairs)))
    return {**row, "ms": percentiles(list(taken)), "untraced_ms": percentiles(list(plain)), "pairs": section.pairs,
            "overhead_percent": percentiles([100 * (a / b - 1) for a, b in zip(taken, plain)])}  # fmt: skip


def main(words: Sequence[str] | None = None) -> int:
    parser = command("try_on", __doc__, ".pipelines")
    parser.add_argument("--only", choices=SECTIONS, help="one of the two pipelines; default both")
    adjustable(parser, SECTIONS, HELP)
    given = parser.parse_args(words)
    positive(given, *HELP)
    rows = (measure(name, section, torch.device(given.device)) for name, section in adjusted(given, SECTIONS, HELP))
    return record(rows, line, given, ".pipelines", "diffusers")


if __name__ == "__main__":
    sys.exit(main())
