"""DAAM and attention-map-diffusers beside i2am: their own code from PyPI, on pipelines of random weights, in one process.

    make bench-peers                                                # each peer in a folder of its own, beside .venv
    PYTHONPATH=.peer-daam python -m benchmarks.peers.tracers daam --only small

Both run unchanged with the diffusers of .venv; each is installed without its dependencies, and rows name what it asks for (DAAM 0.2.0:
diffusers 0.21.2). DAAM imports spaCy at its beginning, for the grammar of prompts, which is not asked for here: where spaCy is not
installed an empty module takes its place while DAAM is imported, and the row says so.

- `daam`: the heat map of each word on 64x64, the mean over heads and layers (without the middle block) of the sum over steps; in UNets.
- `attention-map-diffusers`: each token's map in each layer and step, the mean over heads; `klein-last` is its default, the last step.

`small` and `sd15-full` are Stable Diffusion 1.5's UNet, guided; `klein` is Flux 2 Klein at 512x512 with 1 and 3 layers, 8 heads of 64 and
128 text tokens. i2am traces the same layers up to the same maps, of the prompt's tokens alone; the peers take all 77 of a UNet. Where the
last step is asked for, i2am records every step all the same. Latents are 64x64, which DAAM needs, and not decoded. First come the maps,
which must agree, and the memory of a whole run, which warm up too; then untraced, peer's and our runs in turn: overhead is traced /
untraced - 1 of neighbouring runs. Where maps are apart no one gets times, and the exit code is 1. A peer that cannot be run is a row that
says why.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from importlib.metadata import requires
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

import i2am
from benchmarks.measuring.command import adjustable, adjusted, command, positive, record
from benchmarks.measuring.measure import cpu_ms, cuda_ms, peak_bytes
from benchmarks.measuring.rows import Row, installed, percentiles
from benchmarks.peers.models import SECTIONS, SIDE, WORDS, Model, Section, StableDiffusion
from benchmarks.pipeline.traced import difference

AGREE = 1e-4  # of the largest value: both are float32, in different orders, and a later step starts from latents that differ so


class Result(NamedTuple):
    """What a run leaves behind."""

    latents: Tensor
    maps: dict[str, Tensor]  # by word, or by layer and step
    layers: int


def without_spacy() -> Any:
    """DAAM; an empty module stands for spaCy while it is imported, where there is none."""
    spacy: Any = ModuleType("spacy")
    spacy.tokens = ModuleType("spacy.tokens")
    spacy.tokens.Token = object  # the type of a field
    missing = {} if has("spacy") else {"spacy": spacy, "spacy.tokens": spacy.tokens}
    sys.modules.update(missing)
    try:
        return import_module("daam")
    finally:
        for name in missing:
            del sys.modules[name]


def has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def daam(model: Model) -> Result:
    """DAAM's own trace, up to the words' heat maps."""
    with tempfile.TemporaryDirectory() as folder, without_spacy().trace(model.pipe, data_dir=folder) as trace:
        latents = model.denoise()
        heat = trace.compute_global_heat_map()
        return Result(latents, {word: heat.compute_word_heat_map(word).value for word in WORDS}, len(trace.layer_names))


def as_daam(model: Model) -> Result:
    """The same maps of ours."""
    with i2am.trace(model.pipe, words=True, groups=1, layers=lambda name: "mid_block" not in name) as run:
        latents = model.denoise()
    maps = run.maps.words(size=(SIDE, SIDE))
    return Result(latents, {word: maps[word][0] for word in WORDS}, len(run.maps.layers))


def attention_map_diffusers(model: Model) -> Result:
    """attention-map-diffusers' own capture, up to its maps; of its rows the conditional one, of its tokens the prompt's."""
    library = import_module("attention_map_diffusers")
    asked = {} if model.section.last else {"timesteps": "all"}  # the last is its default
    with library.AttentionCapture(model.pipe, relations=["image->text"], **asked) as capture:
        latents = model.denoise()
    maps, found = capture.compute(), dict[str, Tensor]()
    for map in maps:
        layer = map.layer_id.partition(".")[2]  # behind "unet." or "transformer."
        found[f"{layer} {map.step_index}"] = map.data[-1, 0, :, : model.tokens].mT
    return Result(latents, found, maps.summary()["layers"])


def as_attention_map_diffusers(model: Model) -> Result:
    """The same maps of ours: a time group a step."""
    section = model.section
    with i2am.trace(model.pipe, words=True, groups=section.steps) as run:
        latents = model.denoise()
    found, wanted = dict[str, Tensor](), range(section.steps)[-1 if section.last else 0 :]
    for layer in run.maps.layers:
        sums = run.maps.tokens("words", layer)[0]  # [steps, heads, words, positions]
        found |= {f"{layer} {step}": sums[step].mean(0) for step in wanted}
    return Result(latents, found, len(run.maps.layers))


class Peer(NamedTuple):
    """A package of PyPI, what it is asked for, its own way to that and ours, what it imports that is not needed, and what it reads."""

    maps: str
    theirs: Callable[[Model], Result]
    ours: Callable[[Model], Result]
    needless: tuple[str, ...] = ()
    reads: type[Model] = Model


PEERS = {
    "daam": Peer("words", daam, as_daam, ("spacy",), StableDiffusion),
    "attention-map-diffusers": Peer("every token and step", attention_map_diffusers, as_attention_map_diffusers),
}


def apart(ours: Result, theirs: Result) -> float:
    """The largest difference of a map over its largest value; infinite where one of them lacks a map."""
    if ours.maps.keys() != theirs.maps.keys() or any(map.shape != theirs.maps[name].shape for name, map in ours.maps.items()):
        return float("inf")
    return max(difference(map.cpu(), theirs.maps[name].cpu()) for name, map in ours.maps.items())


def about(title: str, name: str, section: Section) -> Row:
    """What both rows of a peer share."""
    asks = requires(name) if installed(name) else None
    maps = "every token, last step" if section.last else PEERS[name].maps
    return {"section": title, "case": name, "maps": maps, "peer_version": installed(name),
            "asks_for": [wanted for wanted in asks or () if wanted.startswith(("diffusers", "transformers"))],
            "stand_ins": [module for module in PEERS[name].needless if not has(module)],
            "steps": section.steps, "latent": [section.side] * 2, "batch": 1, "guided": section.model.guided,
            "dtype": "float32"}  # fmt: skip


def first(run: Callable[[], Any], device: torch.device) -> tuple[int, Any]:
    """A run's memory, and what it leaves behind."""
    kept: list[Any] = []
    peak = peak_bytes(lambda: kept.append(run()), device)
    return peak, kept[0]


def measure(title: str, name: str, section: Section, device: torch.device) -> Iterator[Row]:
    """The peer's row and ours; or one that says why the peer could not be run."""
    peer, what, model = PEERS[name], about(title, name, section), section.model(section, device)
    runs: dict[str, Callable[[], Any]] = {name: partial(peer.theirs, model), "i2am": partial(peer.ours, model)}
    bare, latents = first(model.denoise, device)
    try:
        found = {name: first(runs[name], device)}
    except Exception as wrong:
        yield {**what, "runner": name, "skipped": f"{type(wrong).__name__}: {wrong}"}
        return
    found["i2am"] = first(runs["i2am"], device)
    maps, rows = apart(found["i2am"][1], found[name][1]), dict[str, Row]()
    for runner, (peak, result) in found.items():
        rows[runner] = {**what, "runner": runner, "layers": result.layers, "untraced_peak_mb": bare / 1e6,
                        "extra_mb": round((peak - bare) / 1e6, 3),
                        "error_of": {"maps": maps, "output": difference(result.latents, latents)}}  # fmt: skip
    red = any(not error <= AGREE for row in rows.values() for error in row["error_of"].values())
    once = cuda_ms if device.type == "cuda" else cpu_ms
    plain: list[float] = []
    taken: dict[str, list[float]] = {runner: [] for runner in runs}
    for _ in range(0 if red else section.rounds):
        plain.append(once(model.denoise))
        for runner, run in runs.items():
            taken[runner].append(once(run))
    for runner, times in taken.items():
        rows[runner]["red"] = red
        if times:
            rows[runner] |= {"ms": percentiles(times), "untraced_ms": percentiles(plain), "rounds": len(times),
                             "overhead_percent": percentiles([100 * (a / b - 1) for a, b in zip(times, plain)])}  # fmt: skip
    yield from rows.values()


def line(row: Row) -> str:
    """One row for a reader who is waiting."""
    what = f"{row['section']:<10} {row['runner']:<23}"
    if "skipped" in row:
        return f"{what} not run: {row['skipped']}"
    error = f"maps {row['error_of']['maps']:.0e} apart, output {row['error_of']['output']:.0e}"
    if row["red"]:
        return f"{what} RED {error}, {AGREE:.0e} allowed"
    percent = " / ".join(f"{row['overhead_percent'][p]:+.1f}" for p in ("p20", "p50", "p80"))
    return f"{what} {row['untraced_ms']['p50']:8.1f} -> {row['ms']['p50']:8.1f} ms  {percent} %  {row['extra_mb']:+.1f} MB  {error}"


def main(words: Sequence[str] | None = None) -> int:
    parser = command("peers", __doc__, "-peers")
    options = {"steps": "denoising steps", "rounds": "rounds of untraced, the peer's and our runs"}
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--only", choices=SECTIONS, help="a section, or several by their beginning; default all that the peer reads")
    adjustable(parser, SECTIONS, options)
    given = parser.parse_args(words)
    positive(given, *options)
    device = torch.device(given.device)
    sections = [
        (name, section) for name, section in adjusted(given, SECTIONS, options) if issubclass(section.model, PEERS[given.peer].reads)
    ]
    if not sections:
        raise ValueError(f"--only must be a section that {given.peer} reads, got {given.only}. Leave it out for all of them.")
    rows = (row for name, section in sections for row in measure(name, given.peer, section, device))
    return record(rows, line, given, "-peers", "diffusers", "transformers")


if __name__ == "__main__":
    sys.exit(main())
