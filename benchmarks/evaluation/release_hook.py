"""What changing the release's import brings: its loop with an eager hook, and with `i2am.compat.i2am_release`, in one process.

    python -m benchmarks.evaluation.release_hook --only small

The network is `ldm.py`'s, StableVITON's shape with random weights: R2G of 15 cross-attentions to one token, G2R of nine warp blocks,
of which the fifth is read; 64x48 latents, one image, no guidance, as the release samples. The eager hook is pipeline/eager_hooks.py's
on these modules: it computes a block's beginning again and keeps every token's map of every layer.
Attention outside the maps is scaled_dot_product_attention for both.

First the memory of whole runs and the maps, which must agree; then plain, hooked and dropped-in runs in turn: a runner's overhead is
its time over the plain run's beside it. The eager hook has one direction and one level. `drop_in` is what the changed import gives:
every level of both directions of every layer; `same_layers` listens to the eager hook's layers alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.evaluation.ldm import Network, Transformer
from benchmarks.measuring.command import adjustable, adjusted, command, positive, record
from benchmarks.measuring.measure import cpu_ms, cuda_ms, peak_bytes
from benchmarks.measuring.rows import Row, percentiles
from benchmarks.measuring.weights import filled
from benchmarks.pipeline.eager_hooks import EagerHooks
from i2am.compat.i2am_release import CrossAttentionHook
from i2am.maps.tokens import Grid

TARGETS = {"overhead": 5.0, "memory": 50.0}  # times smaller than the eager hook's
AGREE = 1e-4  # of the largest value: both are float32, in different orders
CASES = ("r2g", "g2r")
SAME: dict[str, Sequence[str]] = {"r2g": ("input_blocks*", "output_blocks*"), "g2r": ("warp_flow_blks*",)}
PUBLISHED = "warp_flow_blks.4"


class Section(NamedTuple):
    """The network's widths, the latent, and how often it runs."""

    widths: tuple[int, int, int, int]
    latent: Grid
    steps: int
    rounds: int
    heads: int = 8


SECTIONS = {"small": Section((64, 128, 256, 256), (64, 48), 3, 5), "full": Section((320, 640, 1280, 1280), (64, 48), 2, 3)}


class ReleaseHooks(EagerHooks):
    """The eager hook on the layers that the release takes for one direction."""

    def __enter__(self) -> ReleaseHooks:
        for name, module in self.unet.named_modules():
            if isinstance(module, Transformer) and "middle_block" not in name and ("warp" in name) == (self.direction == "g2r"):
                self.handles.append(module.register_forward_hook(self.hook(name), with_kwargs=True))
        return self

    def scores(self, module: Any, hidden: Tensor, context: Tensor) -> Tensor:
        self.reference_grid = (hidden.shape[-2], hidden.shape[-1])
        return super().scores(module, hidden, context)

    def unified(self, size: Grid) -> Tensor:
        if self.direction == "g2r":
            self.sums = {PUBLISHED: self.sums[PUBLISHED]}
        return super().unified(size)


class Loop:
    """A network of random weights and the release's unguided DDIM loop, reduced to what the network sees of it."""

    def __init__(self, section: Section, device: torch.device) -> None:
        self.section, self.device = section, device
        with torch.device("meta"):
            empty = Network(section.widths, section.heads)
        self.network = filled(empty.to_empty(device=device), device).requires_grad_(False)
        h, w = section.latent
        draw = torch.Generator("cpu").manual_seed(1)
        self.latents = torch.randn(1, 4, h, w, generator=draw).to(device)
        self.given = torch.randn(1, 9, h, w, generator=draw).to(device)
        self.context = torch.randn(1, 1, Network.CONTEXT, generator=draw).to(device)
        grids = {(width, h // 2**k, w // 2**k) for k in range(3) for width in section.widths}
        self.garment = {(c, y, x): torch.randn(1, y * x, c, generator=draw).to(device) for c, y, x in sorted(grids)}

    def plain(self, steps: int) -> Tensor:
        latents, stride = self.latents, 1000 // steps
        with torch.no_grad():
            for step in reversed(range(steps)):
                timesteps = torch.full((1,), 1 + stride * step, device=self.device)
                noise = self.network(torch.cat([latents, self.given], 1), timesteps, self.context, self.garment)
                latents = latents - noise / steps
        return latents

    def size(self, direction: str) -> Grid:
        h, w = self.section.latent
        return (h, w) if direction == "r2g" else (h // 2, w // 2)

    def eager(self, direction: str, steps: int) -> Tensor:
        """The release's way, up to its map."""
        with ReleaseHooks(self.network, direction) as hooks:
            self.plain(steps)
        return hooks.unified(self.size(direction))

    def dropped(self, layers: dict[str, Sequence[str]] | None, direction: str, steps: int) -> Tensor:
        """The drop-in, up to the same map."""
        with CrossAttentionHook(direction == "r2g", False, False, direction == "g2r", False) as hook:
            hook.take_module(self.network, layers=layers and layers[direction])
            self.plain(steps)
            return hook.make_attention_maps(torch.zeros(1, 8, 8, 1))


def measure(title: str, loop: Loop, section: Section) -> Iterator[Row]:
    """A row for each direction and runner; the drop-in's hold how many times smaller they are than the eager hook's."""
    once = cuda_ms if loop.device.type == "cuda" else cpu_ms
    bare = peak_bytes(partial(loop.plain, section.steps), loop.device)
    for case in CASES:
        runs: dict[str, Callable[[str, int], Tensor]] = {"eager_hook": loop.eager, "drop_in": partial(loop.dropped, None),
                                                         "same_layers": partial(loop.dropped, SAME)}  # fmt: skip
        maps: dict[str, Tensor] = {}
        rows: dict[str, Row] = {}
        for runner, hooked in runs.items():
            whole = partial(hooked, case, section.steps)
            extra = peak_bytes(whole, loop.device) - bare
            maps[runner] = whole().cpu().double()
            rows[runner] = {"section": title, "case": case, "runner": runner, "steps": section.steps, "latent": list(section.latent),
                            "widths": list(section.widths), "batch": 1, "guided": False, "dtype": "float32",
                            "untraced_peak_mb": bare / 1e6, "extra_mb": round(extra / 1e6, 3)}  # fmt: skip
        eager = maps["eager_hook"]
        apart = max(((map - eager).abs().max() / eager.abs().max()).nan_to_num(torch.inf).item() for map in maps.values())
        for row in rows.values():
            row |= {"error_of": {"unified": apart}, "red": not apart <= AGREE}
        if apart <= AGREE:
            plain: list[float] = []
            taken: dict[str, list[float]] = {runner: [] for runner in runs}
            for _ in range(section.rounds):
                plain.append(once(partial(loop.plain, section.steps)))
                for runner, hooked in runs.items():
                    taken[runner].append(once(partial(hooked, case, section.steps)))
            for runner, times in taken.items():
                rows[runner] |= {"ms": percentiles(times), "untraced_ms": percentiles(plain), "rounds": len(times),
                                 "overhead_ms": percentiles([a - b for a, b in zip(times, plain)])}  # fmt: skip
            theirs = rows["eager_hook"]
            for ours in (rows["drop_in"], rows["same_layers"]):
                ours["targets"] = TARGETS
                ours["times_smaller"] = {"overhead": ratio(theirs["overhead_ms"]["p50"], ours["overhead_ms"]["p50"]),
                                         "memory": ratio(theirs["extra_mb"], ours["extra_mb"])}  # fmt: skip
        yield from rows.values()


def ratio(theirs: float, ours: float) -> float | None:
    """How many times smaller ours is; None where nothing is left to divide by."""
    return round(theirs / ours, 2) if ours > 0 else None


def line(row: Row) -> str:
    """One row for a reader who is waiting."""
    what = f"{row['section']:<6} {row['case']:<4} {row['runner']:<11}"
    if row["red"]:
        return f"{what} RED: the maps are {row['error_of']['unified']:.0e} apart, {AGREE:.0e} allowed"
    smaller = "".join(f", {name} {times} times smaller" for name, times in row.get("times_smaller", {}).items())
    return (f"{what} {row['untraced_ms']['p50']:9.1f} -> {row['ms']['p50']:9.1f} ms  +{row['extra_mb']:.1f} MB  "
            f"apart {row['error_of']['unified']:.0e}{smaller}")  # fmt: skip


def main(words: Sequence[str] | None = None) -> int:
    parser = command("release_hook", __doc__, "-release-hook")
    options = {"steps": "denoising steps", "rounds": "rounds of plain, hooked and dropped-in runs"}
    parser.add_argument("--only", choices=SECTIONS, help="one of the two networks; default both")
    adjustable(parser, SECTIONS, options)
    given = parser.parse_args(words)
    positive(given, *options)
    device = torch.device(given.device)
    rows = (row for name, section in adjusted(given, SECTIONS, options) for row in measure(name, Loop(section, device), section))
    return record(rows, line, given, "-release-hook")


if __name__ == "__main__":
    sys.exit(main())
