"""What each call of the pack does, in the order of what is wanted most, and how long each part may take.

A stage is groups that run side by side (checks and compilation) or alone (anything timed). The stages' seconds add up to less than
the call's limit, so that it ends in time however many of them run to their end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch

from benchmarks.gpu import checks, gradients, probe, timings, tune
from benchmarks.gpu.items import Item


class Stage(NamedTuple):
    seconds: float
    groups: tuple[str, ...]  # of GROUPS or MODULES


class Module(NamedTuple):
    """A benchmark of the CPU run as it is, with `--device` and `--out`; its rows go to <device><kind>.jsonl."""

    kind: str
    words: tuple[str, ...]
    quick: tuple[str, ...]
    needs: tuple[str, ...] = ("diffusers",)
    places: bool = True  # takes --device


CHECKS = ("general", "one_tile", "gradients", "behaviour", "sizes")
ALL = ("bfloat16", "float16", "float32")
Make = Callable[[torch.device, bool], Sequence[Item]]

# name -> section of its rows, and its items on a device, in miniature or not
GROUPS: dict[str, tuple[str, Make]] = {
    "device": ("device", probe.items),
    **{f"people-{part}": ("correctness", partial(checks.people, "bfloat16", part)) for part in range(checks.PARTS)},
    **{f"{name}-{dtype}": ("correctness", partial(checks.family, name, dtype))
       for dtype in ALL for name in ("general", "one_tile", "sizes")},
    **{f"gradients-{dtype}": ("correctness", partial(gradients.family, dtype)) for dtype in ALL},
    **{f"behaviour-{dtype}": ("behaviour", partial(checks.behaviours, dtype)) for dtype in ALL},
    **{f"compile-few-{sweep}": ("tune", partial(tune.compiles, sweep, tune.LOOKED, True)) for sweep in tune.CANDIDATES},
    **{f"compile-{sweep}-{size}": ("tune", partial(tune.compiles, sweep, (size,), False))
       for sweep in tune.CANDIDATES for size in tune.LAYERS},
    "batch-8": ("timings", timings.batch_8), "half": ("timings", timings.half), "batches": ("timings", timings.batches),
    "calls": ("timings", timings.calls), "float16": ("timings", timings.float16), "flex": ("timings", timings.flex),
    "field": ("timings", timings.fields), "backward": ("timings", gradients.both_ways),
    "routes": ("route", timings.routes), "flux": ("timings", timings.flux),
    "look": ("tune", tune.look), "tiles": ("tune", tune.whole),
}  # fmt: skip

FAMILIES = ("stableviton", "sdxl_ip_257", "sdxl_ip_16")
MODULES: dict[str, Module] = {
    **{f"layers-{name}": Module("-layer-set", ("operator.layer_set", "--dtype", "bfloat16", "--families", name),
                                ("operator.layer_set", "--quick", "--repeats", "1", "--families", name)) for name in FAMILIES},
    "sd15": Module(".pipelines", ("pipeline.traced", "--dtype", "bfloat16", "--only", "sd15", "--cases", "clip_257", "one_token", "both_77",
                                  "--steps", "10", "--pairs", "7"),
                   ("pipeline.traced", "--only", "small", "--cases", "clip_257", "--steps", "1", "--pairs", "1")),
    "sdxl": Module(".pipelines", ("pipeline.traced", "--dtype", "bfloat16", "--only", "sdxl", "--cases", "clip_257", "--pairs", "5"),
                   ("pipeline.traced", "--only", "small", "--cases", "one_token", "--steps", "1", "--pairs", "1")),
    "try-on": Module(".pipelines", ("pipeline.try_on", "--steps", "10", "--pairs", "7"),
                     ("pipeline.try_on", "--only", "small-world", "--steps", "1", "--pairs", "1")),
    "evaluation": Module("-evaluation",
                         ("evaluation.throughput", "--steps", "10", "--count", "64", "--batches", "1", "8", "32", "--rounds", "1"),
                         ("evaluation.throughput", "--batches", "2", "--count", "2", "--few", "1", "--steps", "1", "--rounds", "1",
                          "--no-processes"), ("diffusers", "accelerate"), places=False),
}  # fmt: skip

CALLS: dict[str, tuple[Stage, ...]] = {
    "first": (  # 270 s
        Stage(35, ("device",)),
        Stage(75, (*(f"people-{part}" for part in range(checks.PARTS)), *(f"compile-few-{sweep}" for sweep in tune.CANDIDATES))),
        Stage(110, ("batch-8",)),
        Stage(50, ("look",)),
    ),
    "second": (  # 390 s
        Stage(110, (*(f"{name}-bfloat16" for name in CHECKS),
                    *(f"compile-{sweep}-{size}" for sweep in tune.CANDIDATES for size in tune.LAYERS),
                    *(f"{name}-{dtype}" for dtype in ("float16", "float32") for name in CHECKS))),
        Stage(15, ("field",)), Stage(15, ("backward",)), Stage(70, ("tiles",)), Stage(30, ("routes",)), Stage(30, ("half",)),
        Stage(50, ("batches",)), Stage(20, ("calls",)), Stage(15, ("float16",)), Stage(35, ("flex",)),
    ),
    "third": (  # 265 s
        Stage(50, ("sd15",)), Stage(40, ("sdxl",)), Stage(15, ("flux",)), *(Stage(25, (f"layers-{name}",)) for name in FAMILIES),
        Stage(60, ("evaluation",)), Stage(25, ("try-on",)),
    ),
}  # fmt: skip
MINIATURE = frozenset((  # the groups of a walk through: one of each kind
    "device", "people-0", "people-1", "batch-8", "look",
    "general-float32", "one_tile-float32", "gradients-float32", "behaviour-float32", "compile-keys-40", "field", "backward",
    "tiles", "routes", "half", "calls", "flex",
    "sd15", "flux", "layers-stableviton", "evaluation",
))  # fmt: skip
LIMITS = {"first": 280.0, "second": 400.0, "third": 280.0}  # seconds, start and verdict included


def group(name: str, device: torch.device, quick: bool) -> tuple[str, Sequence[Item]]:
    """The section of a group's rows, and its items."""
    section, make = GROUPS[name]
    return section, make(device, quick)
