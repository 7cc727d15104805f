"""What maps, runs and recorders say of themselves in a few lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from i2am.maps import AttributionMaps
    from i2am.recorder import Recorder
    from i2am.trace import Trace


def count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def of_maps(maps: AttributionMaps) -> str:
    """Images, steps, groups, layers and references, whatever their number."""
    heads = sorted({t.shape[2] for s in maps.sums for t in (s.r2g, s.words) if t is not None})
    layers = f"{count(len(maps.layers), 'layer')} of {' or '.join(map(str, heads))} heads"
    maker = f", from {maps.about['model']}" if "model" in maps.about else ""
    time = f"{count(maps.steps, 'step')} in {count(maps.groups, 'time group')}"
    lines = [f"AttributionMaps of {count(len(maps), 'image')}: {time}, {layers}{maker}"]
    more = {"specific": f" ({count(len(maps.regions), 'region')})", "words": f" ({count(len(maps.prompts), 'prompt')})"}
    of = {name: sum(getattr(s, name) is not None for s in maps.sums) for name in ("r2g", "g2r", "specific", "words")}
    lines.append("  sums: " + ", ".join(f"{name} of {n}{more.get(name, '')}" for name, n in of.items() if n))
    pictures = maps.pictures and [*(["the images"] if maps.pictures.generated else []), *maps.pictures.references]
    lines.append(f"  references: {cited(maps.references)}" + (f"; pictures of {cited(pictures)}" if pictures else ""))
    return "\n".join(lines) + (f"\n  not finite: {cited(maps.broken)}" if maps.broken else "")


def cited(names: Sequence[str], most: int = 3) -> str:
    """A few names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more or "none"


def of_recorder(recorder: Recorder) -> str:
    """How far it is."""
    steps = count(recorder.done, "step") if recorder.steps is None else f"{recorder.done} of {count(recorder.steps, 'step')}"
    images = "" if recorder.images is None else f", {count(recorder.images, 'image')}"
    layers = len({layer for layer, _ in recorder.slots})
    return f"Recorder: {steps} in {count(recorder.groups, 'time group')}, {count(layers, 'layer')}{images}"


def of_run(run: Trace) -> str:
    """What it watches, or the maps of the last call."""
    name = type(run.finder.owner).__name__
    if run.finished is not None:
        return f"Trace of {name}, whose last call gave\n{run.finished!r}"
    if not run.taps:
        return f"Trace of {name}: nothing recorded"
    return f"Trace of {name}: {count(len(run.taps), 'layer')} under observation, {count(run.recorder.done, 'step')} so far"
