"""A study of words: a list of prompts painted with a map for every word, by DAAM's own loop, by ours, and by the pipeline alone.

    PYTHONPATH=.peer-daam python -m benchmarks.peers.studies --only small

DAAM's loop is that of its `run/generate.py`: a trace around each prompt, an experiment saved of each, and a picture of each word drawn over
the image (`daam`) or not (`daam, nothing drawn`). Ours is `i2am.studies`, which draws nothing either: images and word maps on disk, in
batches of so many prompts. The pipeline alone saves its images, in the same batches.

Stable Diffusion 1.5's UNet, narrow (`small`) or as wide as it is (`sd15-full`), with random weights and an autoencoder of 8 channels, at
512x512, guided; every prompt has its own seed, and the layers are those that DAAM hooks. First come the first prompts of each way, whose
maps and images must agree with DAAM's, and the memory of one call; then whole studies in turn. Speed is prompts a minute, and beside it the
times of the pipeline alone, one prompt at a time, over a way's own of the same round. Where maps or images are apart no one gets times, and
the exit code is 1. If DAAM cannot be run, a row says why.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.measuring.command import adjustable, adjusted, command, positive, record
from benchmarks.measuring.measure import cpu_ms, peak_bytes
from benchmarks.measuring.rows import Row, percentiles
from benchmarks.measuring.weights import filled
from benchmarks.peers.models import SIDE, Section, StableDiffusion
from benchmarks.peers.tracers import AGREE, about, without_spacy
from benchmarks.pipeline.traced import NARROW, SD15, difference
from i2am.data.prompts import Asked
from i2am.studies.options import Options
from i2am.studies.run import paint

COLOURS, THINGS, PLACES = ("red", "blue", "dark", "soft"), ("cat", "dog", "shirt", "cup", "box"), ("on", "by", "under")
LAYERS = ("down_blocks*", "up_blocks*")  # DAAM's
ALIKE = 2 / 255  # of an image: its maps are apart by rounding, and so are the latents behind its bytes
ALONE = "pipeline"


class Study(NamedTuple):
    """A UNet, how often it runs a prompt, and how many prompts there are in which batches."""

    config: dict[str, Any]
    steps: int
    rounds: int
    prompts: int
    batches: tuple[int, ...]

    @property
    def section(self) -> Section:
        return Section(self.config, self.steps, self.rounds, SIDE, Painting)


STUDIES = {"small": Study(NARROW, 4, 3, 8, (1, 4, 8)), "sd15-full": Study(SD15, 2, 1, 4, (1, 4))}


class Painting(StableDiffusion):
    """The pipeline with an autoencoder, so that there are images."""

    def build(self, config: dict[str, Any], device: torch.device) -> None:
        from diffusers import AutoencoderKL

        super().build(config, device)
        blocks: dict[str, Any] = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
        vae = AutoencoderKL(**blocks, block_out_channels=(8,) * 4, norm_num_groups=8, latent_channels=4)
        self.pipe.register_modules(vae=filled(vae.to(device), device))

    def paint(self, some: Sequence[Asked]) -> list[Any]:
        """The images of these prompts, in one call."""
        pixels = SIDE * self.pipe.vae_scale_factor
        seeds = [torch.Generator("cpu").manual_seed(one.seed or 0) for one in some]
        return self.pipe([one.prompt for one in some], num_inference_steps=self.section.steps, height=pixels, width=pixels,
                         generator=seeds).images  # fmt: skip


class Found(NamedTuple):
    """What a way leaves behind of a prompt."""

    image: Tensor
    maps: dict[str, Tensor]  # by word


Result = dict[str, Found]  # by the prompt's id
Way = Callable[[Sequence[Asked], Path], Result]


def listed(count: int) -> list[Asked]:
    """Prompts of five words, none of which stands inside another: "red cat on blue dog"."""
    found = []
    for i in range(count):
        one, other = i % len(THINGS), (i + 1 + i // len(THINGS) % (len(THINGS) - 1)) % len(THINGS)
        first, second = i % len(COLOURS), (i + 1) % len(COLOURS)
        found.append(Asked(f"{i:04d}", f"{COLOURS[first]} {THINGS[one]} {PLACES[i % 3]} {COLOURS[second]} {THINGS[other]}", seed=i))
    return found


def alone(model: Painting, batch: int, asked: Sequence[Asked], out: Path) -> Result:
    """The pipeline, and its images on disk."""
    found = Result()
    for first in range(0, len(asked), batch):
        some = asked[first : first + batch]
        for one, image in zip(some, model.paint(some)):
            image.save(out / f"{one.id}.png")
            found[one.id] = Found(pixels_of(image), {})
    return found


def daam(model: Painting, drawn: bool, asked: Sequence[Asked], out: Path) -> Result:
    """DAAM's loop: experiments, and a picture of each word where they are drawn."""
    library, found = without_spacy(), Result()
    for one in asked:
        with library.trace(model.pipe, data_dir=out / "heads") as trace:
            model.paint([one])
            experiment = trace.to_experiment(out, id=one.id, seed=one.seed)
            experiment.save(out, heat_maps=False)
            for word in one.prompt.split() if drawn else ():
                experiment.save_heat_map(word)
        heat = experiment.heat_map()
        maps = {word: heat.compute_word_heat_map(word).value for word in one.prompt.split()}
        found[one.id] = Found(pixels_of(experiment.image), maps)
    return found


def ours(model: Painting, batch: int, asked: Sequence[Asked], out: Path) -> Result:
    """The engine of our studies."""
    pixels = SIDE * model.pipe.vae_scale_factor
    options = Options(steps=model.section.steps, size=(pixels, pixels), layers=LAYERS)
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):  # its bar
        painted = paint(asked, model.pipe, out=out / "study", options=options, batch_size=batch, cpu=model.pipe.device.type == "cpu")
    found = Result()
    for one in painted:
        words = one.words()
        found[one.asked.id] = Found(pixels_of(one.picture()), {word: words[word][0] for word in one.asked.prompt.split()})
    return found


def pixels_of(image: Any) -> Tensor:
    return torch.from_numpy(np.array(image, dtype=np.float32) / 255)


def ways(model: Painting, batches: Sequence[int]) -> dict[tuple[str, int], Way]:
    """By runner and batch."""
    return {
        **{(ALONE, batch): partial(alone, model, batch) for batch in batches},
        ("daam", 1): partial(daam, model, True),
        ("daam, nothing drawn", 1): partial(daam, model, False),
        **{("i2am", batch): partial(ours, model, batch) for batch in batches},
    }


def apart(found: Result, theirs: Result) -> dict[str, float]:
    """The largest difference of a map over its largest value, and of an image; infinite where something is missing."""
    errors = {"images": 0.0, **({"maps": 0.0} if any(one.maps for one in found.values()) else {})}
    for name, one in found.items():
        image, maps = theirs[name]
        if one.image.shape != image.shape or ("maps" in errors and shapes(one.maps) != shapes(maps)):
            return dict.fromkeys(errors, float("inf"))
        errors["images"] = max(errors["images"], (one.image - image).abs().max().item())
        for word, map in one.maps.items():
            errors["maps"] = max(errors["maps"], difference(map.cpu(), maps[word].cpu()))
    return errors


def shapes(maps: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {word: map.shape for word, map in maps.items()}


def in_folder(way: Way, asked: Sequence[Asked]) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        return way(asked, Path(folder))


def first(way: Way, asked: Sequence[Asked], device: torch.device) -> tuple[int, Result]:
    """The memory of the first prompts' run, and what it leaves behind."""
    kept: list[Result] = []
    peak = peak_bytes(lambda: kept.append(in_folder(way, asked)), device)
    return peak, kept[0]


def measure(title: str, study: Study, device: torch.device) -> Iterator[Row]:
    """A row a way; or one that says why DAAM could not be run."""
    model, asked = Painting(study.section, device), listed(study.prompts)
    what = {**about(title, "daam", study.section), "prompts": len(asked)}
    batches = sorted({1, *(batch for batch in study.batches if batch <= len(asked))})
    runs = ways(model, batches)
    in_folder(runs[ALONE, 1], asked[:1])  # what is made once is nobody's
    some = asked[: batches[-1]]
    try:
        theirs = in_folder(runs["daam, nothing drawn", 1], some)
    except Exception as wrong:
        yield {**what, "runner": "daam", "skipped": f"{type(wrong).__name__}: {wrong}"}
        return
    rows, peaks = dict[tuple[str, int], Row](), dict[tuple[str, int], int]()
    for (runner, batch), way in runs.items():
        peaks[runner, batch], found = first(way, asked[:batch], device)
        rows[runner, batch] = {**what, "runner": runner, "batch": batch, "peak_mb": round(peaks[runner, batch] / 1e6, 3),
                               "extra_mb": round((peaks[runner, batch] - peaks[ALONE, batch]) / 1e6, 3),
                               "error_of": apart(found, theirs)}  # fmt: skip
    red = any(not error <= (AGREE if name == "maps" else ALIKE) for row in rows.values() for name, error in row["error_of"].items())
    taken: dict[tuple[str, int], list[float]] = {key: [] for key in runs}
    for _ in range(0 if red else study.rounds):
        for key, way in runs.items():
            taken[key].append(cpu_ms(partial(in_folder, way, asked)))
    for key, row in rows.items():
        row["red"] = red
        if times := taken[key]:
            row |= {"prompts_per_minute": percentiles([len(asked) * 6e4 / ms for ms in times]), "rounds": len(times),
                    "ratio": percentiles([base / ms for base, ms in zip(taken[ALONE, 1], times)])}  # fmt: skip
        yield row


def line(row: Row) -> str:
    """One row for a reader who is waiting."""
    what = f"{row['section']:<10} {row['runner']:<20} batch {row['batch']}"
    if "skipped" in row:
        return f"{what} not run: {row['skipped']}"
    error = ", ".join(f"{name} {error:.0e} apart" for name, error in row["error_of"].items())
    if row["red"]:
        return f"{what} RED {error}"
    speed, ratio = row["prompts_per_minute"]["p50"], row["ratio"]["p50"]
    return f"{what} {speed:7.2f} prompts a minute, {ratio:.2f} times the pipeline alone, {row['peak_mb']:.1f} MB, {error}"


def main(words: Sequence[str] | None = None) -> int:
    parser = command("peers.studies", __doc__, "-studies")
    options = {"steps": "denoising steps", "rounds": "rounds of every way", "prompts": "prompts of a study"}
    parser.add_argument("--only", choices=STUDIES, help="a study, or several by their beginning")
    parser.add_argument("--batches", type=int, nargs="+", metavar="N", help="prompts a call; 1 is always there")
    adjustable(parser, STUDIES, options)
    given = parser.parse_args(words)
    positive(given, *options)
    if given.batches is not None and min(given.batches) < 1:
        raise ValueError(f"--batches must be 1 or more, got {min(given.batches)}. Raise it.")
    device = torch.device(given.device)
    studies = adjusted(given, STUDIES, options)
    more = {} if given.batches is None else {"batches": tuple(given.batches)}
    rows = (row for name, study in studies for row in measure(name, study._replace(**more), device))
    return record(rows, line, given, "-studies", "diffusers", "transformers")


if __name__ == "__main__":
    sys.exit(main())
