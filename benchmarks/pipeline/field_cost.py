"""What the field costs beside the maps: `python -m benchmarks.pipeline.field_cost`.

    calls        the operator alone: both maps, then both maps and the field both ways, which is right before it is timed
    pipelines    whole runs: untraced, traced with maps, traced with maps and field, in turn

`on top` is the median over neighbours of with field / with maps - 1.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch

import i2am
from benchmarks.measuring.command import command, positive, record
from benchmarks.measuring.measure import interleaved
from benchmarks.measuring.rows import Row, percentiles
from benchmarks.operator.one_call import measure as one_call
from benchmarks.operator.shapes import CPU_BATCH, SHAPES
from benchmarks.pipeline import traced, try_on

CALLS = ("warp_3072", "warp_768", "warp_192", "garment_1036", "ip_257")


def calls(given: Any, device: torch.device) -> Iterator[Row]:
    """The operator's rows of two runners, as one row a shape."""
    for name in CALLS:
        rows = {row["runner"]: row for row in one_call(name, SHAPES[name], CPU_BATCH, torch.float32, "all", device,
                                                      ("streaming", "streaming_field"), given.repeats)}  # fmt: skip
        maps, field = rows["streaming"], rows["streaming_field"]
        shape = {key: field[key] for key in ("generated", "reference", "size", "heads")}
        row: Row = {"case": name, "what": "call", **shape, "batch": CPU_BATCH, "red": field["red"], "error_of": field["error_of"]}
        if not field["red"]:
            row |= {"ms": {"untraced": rows["sdpa"]["ms"]["p50"], "maps": maps["ms"]["p50"], "field": field["ms"]["p50"]},
                    "on_top_percent": round(100 * (field["ms"]["p50"] / maps["ms"]["p50"] - 1), 2),
                    "peak_mb": {"maps": maps["peak_mb"], "field": field["peak_mb"]}}  # fmt: skip
        yield row


def pipelines(given: Any, device: torch.device, kind: str, **added: Any) -> Iterator[Row]:
    """Whole runs of what has a reference with places, with and without what these options of a trace add."""
    small = try_on.small_world(device)
    yield whole("the embedded model, 4 images", partial(small.paint, 5), partial(traced_call, small.pipe, partial(small.paint, 5)),
                given.repeats, kind, added)  # fmt: skip
    if given.full:
        section = traced.SECTIONS["sd15-full"]
        model = traced.Model(section, device)
        for case in ("clip_257", "dino_1036"):
            tokens, options = traced.CASES[case].tokens, {**traced.CASES[case].options, "scheduler": model.scheduler}
            paint = partial(model.denoise, tokens, 1)
            trace = partial(traced_call, model.unet, paint, guidance="uncond-cond", **options)
            yield whole(f"Stable Diffusion 1.5's width, {tokens} tokens", paint, trace, 5, kind, added)


def traced_call(pipe: Any, paint: Callable[[], Any], **options: Any) -> i2am.AttributionMaps:
    """A run, and its maps."""
    with i2am.trace(pipe, **options) as run:
        paint()
    maps = run.maps
    maps.unified("r2g")
    return maps


def whole(name: str, paint: Callable[[], Any], trace: Callable[..., i2am.AttributionMaps], repeats: int, kind: str, added: Row) -> Row:
    """Three runs in turn."""
    runs: dict[str, Callable[[], Any]] = {"untraced": paint, "maps": trace, kind: partial(trace, **added)}
    times = interleaved(runs, repeats, torch.device("cpu"))
    size = {name: sum(t.nbytes for s in runs[name]().sums for t in s.recorded.values()) / 1e6 for name in ("maps", kind)}
    on_top = [100 * (a / b - 1) for a, b in zip(times[kind], times["maps"])]
    return {"case": name, "what": "run", "red": False, "ms": {name: median(taken) for name, taken in times.items()},
            "on_top_percent": round(median(on_top), 2), "spread": percentiles(on_top), "sums_mb": size, "repeats": repeats}  # fmt: skip


def line(row: Row) -> str:
    if row["red"]:
        return f"{row['case']}: RED {row['error_of']}"
    took = ", with ".join(f"{kind} {ms:.1f} ms" for kind, ms in row["ms"].items())
    return f"{row['case']}: {took}: {row['on_top_percent']:+.1f}% on top"


def main(words: Sequence[str] | None = None) -> int:
    parser = command("pipeline.field_cost", __doc__, "-field")
    parser.add_argument("--repeats", type=int, default=9, help="rounds of a call and of a small run (default: 9)")
    parser.add_argument("--full", action="store_true", help="Stable Diffusion 1.5's width too: minutes")
    given = parser.parse_args(words)
    positive(given, "repeats")
    device = torch.device(given.device)
    torch.set_num_threads(given.threads)
    rows = itertools.chain(calls(given, device), pipelines(given, device, "field", field=True))
    return record(rows, line, given, "-field", "diffusers")


if __name__ == "__main__":
    sys.exit(main())
