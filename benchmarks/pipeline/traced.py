"""What a trace costs: whole denoising runs with and without it, and the release's eager hooks beside, in one process.

    python -m benchmarks.pipeline.traced --only sd15 --cases one_token clip_257

`small` is a narrow UNet, where fixed costs show; `sd15-full` is SD1.5's own width with random weights, Paint-by-Example's nine
input channels, 64x48 latents (512x384 pixels), DDIM, guidance as [uncond, cond]; `sdxl-full`, for GPUs, is SDXL's width. Every
cross-attention layer is traced, and every map that its tokens have. First come the numbers and the memory of one step (one time
group), which warm up too; then untraced and traced runs in turn, up to the unified R2G map: overhead is traced / untraced - 1 of
neighbouring runs. A runner whose maps are wrong gets no times, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
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
from benchmarks.operator.one_call import DTYPES
from benchmarks.pipeline.eager_hooks import EagerHooks
from i2am.maps.levels import AttributionMaps
from i2am.maps.tokens import Grid

TARGET = 8.0  # % of an untraced full-width run, every reference layer and the words included
KINDS = ("r2g", "g2r", "words")


def text(*names: str) -> dict[str, Any]:
    """Options of a trace that takes the whole context of a bare UNet for words, for a reference, or for both."""

    def tokens(seen: i2am.Seen) -> i2am.Tokens | None:
        whole: dict[str, Any] = dict.fromkeys(names, (0, seen.keys))
        return i2am.Tokens(**whole) if seen.layer.endswith("attn2") else None

    return {"reference": tokens, "words": True}


class Case(NamedTuple):
    """A context of so many tokens, what is traced of it, whether the release's way stands beside, and why it is here."""

    tokens: int
    options: dict[str, Any]
    eager: bool
    why: str


CASES = {
    "one_token": Case(1, {"reference": "context"}, True, "Paint-by-Example: R2G is all there is"),
    "clip_257": Case(257, {"reference": "context", "reference_grid": (16, 16), "special": 1}, True, "all of CLIP's tokens, CLS first"),
    "words_77": Case(77, text("words"), False, "a map for each of 77 text tokens; a pipeline leaves out those behind its prompt"),
    "both_77": Case(77, text("reference", "words"), False, "both directions and 77 words of one context"),
    "dino_1036": Case(1036, {"reference": "context", "reference_grid": (37, 28)}, False, "a garment's DINOv2 patches"),
}


class Section(NamedTuple):
    """A UNet, the size it runs at, and how often."""

    config: dict[str, Any]
    latent: Grid
    steps: int
    pairs: int
    hooked: int  # runs with the release's hooks


NARROW: dict[str, Any] = {
    "block_out_channels": (64, 128), "layers_per_block": 1, "cross_attention_dim": 64, "attention_head_dim": 4,
    "down_block_types": ("CrossAttnDownBlock2D",) * 2, "up_block_types": ("CrossAttnUpBlock2D",) * 2,
}  # fmt: skip
SD15: dict[str, Any] = {"block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768, "attention_head_dim": 8}
SDXL: dict[str, Any] = {
    "block_out_channels": (320, 640, 1280), "cross_attention_dim": 2048, "attention_head_dim": (5, 10, 20), "use_linear_projection": True,
    "transformer_layers_per_block": (1, 2, 10), "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
}  # fmt: skip
HELP = {"steps": "denoising steps", "pairs": "rounds of untraced and traced runs", "hooked": "of them with the release's hooks too"}
SECTIONS = {"small": Section(NARROW, (32, 24), 4, 15, 5), "sd15-full": Section(SD15, (64, 48), 2, 3, 1)}
LARGE = {"sdxl-full": Section(SDXL, (128, 96), 5, 5, 1)}  # 1024x768 pixels; by name only: hours on a CPU


class Model:
    """A UNet of random weights in the guided DDIM loop that Paint-by-Example's pipeline runs."""

    def __init__(self, section: Section, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        from diffusers import DDIMScheduler, UNet2DConditionModel

        self.latent, self.width, self.device, self.dtype = section.latent, section.config["cross_attention_dim"], device, dtype
        with torch.device("meta"):
            empty: Any = UNet2DConditionModel(sample_size=64, in_channels=9, **section.config)
        self.unet: Any = filled((empty if dtype == torch.float32 else empty.to(dtype)).to_empty(device=device), device)
        self.scheduler: Any = DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False)

    def denoise(self, tokens: int, steps: int) -> Tensor:
        """The latents of one image; the same at every call."""
        seeded = torch.Generator("cpu").manual_seed(tokens)
        latents, given, context = (
            torch.randn(shape, generator=seeded, device="cpu").to(self.device, self.dtype)
            for shape in ((1, 4, *self.latent), (1, 5, *self.latent), (2, tokens, self.width))
        )
        self.scheduler.set_timesteps(steps)
        with torch.no_grad():
            for timestep in self.scheduler.timesteps:
                sample = torch.cat([latents, given], 1).repeat(2, 1, 1, 1)  # [uncond, cond]
                plain, conditional = self.unet(sample, timestep, encoder_hidden_states=context).sample.chunk(2)
                latents = self.scheduler.step(plain + 5.0 * (conditional - plain), timestep, latents).prev_sample
        return latents

    def traced(self, name: str, steps: int) -> Result:
        """The same in a trace."""
        with i2am.trace(self.unet, scheduler=self.scheduler, guidance="uncond-cond", **CASES[name].options) as run:
            latents = self.denoise(CASES[name].tokens, steps)
        maps = run.maps
        sums = {(s.layer, kind): t for s in maps.sums for kind in KINDS if (t := getattr(s, kind)) is not None}
        return Result(latents, sums, maps.unified("r2g", self.latent)[0] if maps.sums[0].r2g is not None else None, maps)

    def hooked(self, name: str, steps: int) -> Result:
        """The same with the release's hooks."""
        with EagerHooks(self.unet) as hooks:
            latents = self.denoise(CASES[name].tokens, steps)
        return Result(latents, {(name, "r2g"): sums for name, sums in hooks.sums.items()}, hooks.unified(self.latent))


class Result(NamedTuple):
    """What a run leaves behind."""

    latents: Tensor
    sums: dict[tuple[str, str], Tensor]  # layer and kind of map
    unified: Tensor | None  # the R2G map that a user looks at
    maps: AttributionMaps | None = None


Run = Callable[[int], Result]  # of so many steps


class Given(NamedTuple):
    """What the definition is computed from: one untraced step, seen from outside."""

    latents: Tensor
    operands: dict[str, tuple[Tensor, Tensor, float]]  # layer -> query and key [heads, tokens, D] of the conditional row, scale


def operands(model: Model, tokens: int) -> Given:
    """Every cross-attention layer's query and key, projected once more from the inputs that hooks see."""
    found: dict[str, tuple[Tensor, Tensor, float]] = {}

    def before(name: str, module: Any, args: Any, kwargs: Any) -> None:
        states = (args[0] if args else kwargs["hidden_states"], kwargs["encoder_hidden_states"])
        query, key = (to(x[1:])[0].unflatten(-1, (module.heads, -1)).transpose(0, 1) for to, x in zip((module.to_q, module.to_k), states))
        found[name] = query, key, module.scale

    with ExitStack() as undo:
        for name, module in model.unet.named_modules():
            if name.endswith("attn2"):
                undo.callback(module.register_forward_pre_hook(partial(before, name), with_kwargs=True).remove)
        return Given(model.denoise(tokens, 1), found)


def definition(maps: AttributionMaps, given: Given, dtype: torch.dtype) -> tuple[AttributionMaps, float]:
    """What these maps of one step should be, with the scores stored, in this precision; and the largest logit."""
    sums, top = [], 0.0
    for layer in maps.sums:
        query, key, scale = given.operands[layer.layer]
        scores = query.to(dtype) @ key.to(dtype).mT * scale  # [heads, G, R]
        top = max(top, scores.abs().max().item())
        rows, columns = scores.softmax(-1), scores.softmax(-2)
        made: dict[str, Any] = {"r2g": columns.mean(-1), "g2r": rows.mean(-2), "words": rows.mT}
        sums.append(replace(layer, **{n: made[n][None, None].cpu() for n in KINDS if getattr(layer, n) is not None}))
    return replace(maps, sums=tuple(sums)), top


def differences(maps: AttributionMaps, true: AttributionMaps, size: Grid) -> dict[str, float]:
    """The worst layer's sums of each kind, and the unified R2G map: largest difference over the largest true value."""
    found: dict[str, float] = {}
    for ours, theirs in zip(maps.sums, true.sums):
        for name in KINDS:
            if getattr(ours, name) is not None:
                found[name] = max(found.get(name, 0.0), difference(getattr(ours, name), getattr(theirs, name)))
    if "r2g" in found:
        found["unified"] = difference(maps.unified("r2g", size), true.unified("r2g", size))
    return found


def difference(ours: Tensor, true: Tensor) -> float:
    """Infinite where a number is missing."""
    error = (ours.double() - true.double()).abs().max() / true.double().abs().max()
    return error.nan_to_num(torch.inf).item()


def numbers(model: Model, run: Run, given: Given, template: AttributionMaps | None, bare: int) -> tuple[Row, AttributionMaps]:
    """One step's memory, and its errors beside what they may be: four times eager float32's, and what a rounding of the logits moves."""
    kept: list[Result] = []
    peak = peak_bytes(lambda: kept.append(run(1)), model.device)
    latents, sums, unified, maps = kept[0]
    template = maps or template
    assert template is not None
    true, top = definition(template, given, torch.float64)
    found, limits = {}, {}
    if maps is not None:
        eager = differences(definition(template, given, torch.float32)[0], true, model.latent)
        found = {**differences(maps, true, model.latent), "output": difference(latents, given.latents)}
        limits = {name: (16 + top) * 8 * torch.finfo(model.dtype).eps + 4 * eager.get(name, 0.0) for name in found}
    elif unified is not None:  # no limit: the release clamps before the mean over tokens, we after it
        found = {"unified": difference(unified, true.unified("r2g", model.latent, layers=lambda layer: "mid_block" not in layer)[0])}
    row = {
        "layers": len({layer for layer, _ in sums}), "maps": [kind for kind in KINDS if kind in {kind for _, kind in sums}],
        "error_of": found, "allowed": limits, "red": any(not found[name] <= limit for name, limit in limits.items()),
        "untraced_peak_mb": bare / 1e6, "peak_mb": peak / 1e6, "extra_mb": round((peak - bare) / 1e6, 3),
        "sums_mb": round(sum(t.nbytes for t in sums.values()) / 1e6, 3),
    }  # fmt: skip
    return row, template


def measure(title: str, names: Sequence[str], model: Model, section: Section) -> Iterator[Row]:
    """The rows of cases with one context: numbers and memory of one step, then whole runs in turn, so that neighbours make a pair."""
    tokens = CASES[names[0]].tokens
    what = {"section": title, "tokens": tokens, "steps": section.steps, "latent": list(model.latent), "batch": 1, "guided": True,
            "dtype": str(model.dtype).removeprefix("torch."), "groups": min(5, section.steps), "target_percent": TARGET}  # fmt: skip
    given = operands(model, tokens)
    untraced = partial(model.denoise, tokens)
    bare = peak_bytes(partial(untraced, 1), model.device)
    runs: dict[tuple[str, str], Run] = {}
    rows: dict[tuple[str, str], Row] = {}
    for name in names:
        template = None
        for runner, run in {"i2am": model.traced, **({"eager_hook": model.hooked} if CASES[name].eager else {})}.items():
            runs[name, runner] = partial(run, name)
            row, template = numbers(model, runs[name, runner], given, template, bare)
            rows[name, runner] = {**what, "case": name, "runner": runner, **row}
    once = cuda_ms if model.device.type == "cuda" else cpu_ms
    plain: list[float] = []
    taken: dict[tuple[str, str], list[float]] = {key: [] for key in runs if not rows[key]["red"]}
    for done in range(section.pairs):
        plain.append(once(partial(untraced, section.steps)))
        for key, times in taken.items():
            if key[1] == "i2am" or done < section.hooked:
                times.append(once(partial(runs[key], section.steps)))
    for key, times in taken.items():
        rows[key] |= {"ms": percentiles(times), "untraced_ms": percentiles(plain), "pairs": len(times),
                      "overhead_percent": percentiles([100 * (a / b - 1) for a, b in zip(times, plain)])}  # fmt: skip
    yield from rows.values()


def line(row: Row) -> str:
    """One row for a reader who is waiting."""
    what = f"{row['section']:<9} {row['case']:<9} {row['runner']:<10} {row['layers']:>3} layers"
    if row["red"]:
        return f"{what} RED {row['error_of']} allowed {row['allowed']}"
    percent = " / ".join(f"{row['overhead_percent'][p]:.1f}" for p in ("p20", "p50", "p80"))
    return (f"{what} {row['untraced_ms']['p50']:9.1f} -> {row['ms']['p50']:9.1f} ms  +{percent} %  +{row['extra_mb']:.1f} MB "
            f"(sums {row['sums_mb']:.1f})  error {max(row['error_of'].values()):.0e}")  # fmt: skip


def everything(given: argparse.Namespace) -> Iterator[Row]:
    """The rows of each section and case asked for."""
    for name, section in adjusted(given, LARGE if given.only == "sdxl" else SECTIONS, HELP):
        model = Model(section, torch.device(given.device), DTYPES[given.dtype])
        for tokens in dict.fromkeys(CASES[case].tokens for case in given.cases):
            yield from measure(name, [case for case in given.cases if CASES[case].tokens == tokens], model, section)
        del model  # 3.4 GB


def main(words: Sequence[str] | None = None) -> int:
    parser = command("pipelines", __doc__, ".pipelines")
    parser.add_argument("--only", choices=("small", "sd15", "sdxl"), help="one of the UNets; default the first two")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES, help="; ".join(f"{n}: {c.why}" for n, c in CASES.items()))
    adjustable(parser, SECTIONS, HELP)
    parser.add_argument("--dtype", default="float32", choices=list(DTYPES))
    given = parser.parse_args(words)
    positive(given, *HELP)
    return record(everything(given), line, given, ".pipelines", "diffusers")


if __name__ == "__main__":
    sys.exit(main())
