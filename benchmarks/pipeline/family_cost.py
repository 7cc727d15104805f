"""What a trace costs on every family's small pipeline, and what it does to the output: `python -m benchmarks.pipeline.family_cost`.

The pipelines are those of the tests (`tests/helpers`): diffusers' own classes with two or three layers of random weights, so small that
Python's share of the time is as large as it gets (Kandinsky 5's pipeline makes no numbers of one frame). Runs are untraced and traced in
turn; overhead is the median over neighbours of traced / untraced - 1. `output` is the largest difference of the latents over their largest
value: 0 where they are the same bits.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from statistics import median
from typing import Any

import torch

import i2am
from benchmarks.measuring.command import command, positive, record
from benchmarks.measuring.measure import interleaved
from benchmarks.measuring.rows import RESULTS, Row, percentiles

STEPS = 4
ROUNDING = 1e-3  # of the largest latent: float32 sums in another order, through four steps of a random model
Built = tuple[str, str, dict[str, Any], dict[str, Any]]  # module of the tests' helpers, its builder, its arguments, the trace's options
WORDS: dict[str, Any] = {"words": True}
FAMILIES: dict[str, Built] = {
    "Paint-by-Example": ("pipelines", "paint_by_example", {}, {}),
    "IP-Adapter on Stable Diffusion 1.5": ("pipelines", "ip_adapter", {}, {}),
    "Kandinsky 2.2": ("pipelines", "kandinsky22", {}, {}),
    "CatVTON": ("attentions", "catvton", {}, {"reference": "self", "guidance": "uncond-cond"}),
    "Flux Kontext": ("joint", "flux_kontext", {"distilled": False}, {}),
    "Flux with an IP-Adapter": ("fluxes", "adapted", {}, {}),
    "Flux 2, two pictures": ("klein", "flux2", {"name": "Flux2Pipeline"}, {}),
    "Flux 2 Klein, two pictures": ("klein", "flux2", {"name": "Flux2KleinPipeline"}, {}),
    "Flux 2 Klein KV, two pictures": ("klein", "flux2", {"name": "Flux2KleinKVPipeline"}, {}),
    "Chroma with an IP-Adapter": ("fluxes", "chroma", {"adapters": 1}, {}),
    "LongCat-Image-Edit": ("streams", "longcat", {"edit": True}, {}),
    "Bria Fibo Edit": ("streams", "fibo", {"edit": True}, {}),
    "Bria Fibo 2": ("streams", "fibo2", {}, {}),
    "Krea 2, words": ("streams", "krea2", {}, WORDS),
    "Qwen-Image-Edit": ("qwen_pipelines", "edit", {}, {}),
    "Qwen-Image-Edit-Plus, two pictures": ("qwen_pipelines", "edit_plus", {}, {}),
    "Qwen-Image-Layered": ("qwen_pipelines", "layered", {}, {}),
    "Qwen-Image 2.1": ("qwen_pipelines", "text_around", {}, {}),
    "Z-Image-Omni, two pictures": ("zimages", "omni", {}, {}),
    "JoyImageEdit": ("joyimages", "edit", {}, {}),
    "JoyImageEditPlus": ("joyimages", "edit_plus", {}, {}),
    "OmniGen": ("edited", "omnigen", {}, {}),
    "GLM-Image": ("edited", "glm_image", {}, {}),
    "DreamLite": ("sides", "dreamlite", {}, {}),
    "HiDream, words": ("prompted", "hidream", {}, WORDS),
    "PRX, words": ("prompted", "prx", {}, WORDS),
    "Sana, words": ("prompted", "sana", {}, WORDS),
    "Wan image-to-video": ("videos", "wan_image_to_video", {}, {}),
    "Wan VACE, two pictures": ("videos", "wan_vace", {}, {}),
    "ChronoEdit": ("videos", "wan_image_to_video", {"name": "ChronoEditPipeline", "model": "ChronoEditTransformer3DModel"}, {}),
    "HunyuanVideo 1.5 image-to-video": ("videos_joined", "hunyuan_video15", {}, {}),
    "Kandinsky 5 image-to-video": ("videos_joined", "kandinsky5", {}, {}),
    "LTX image-to-video": ("videos_joined", "ltx", {}, {}),
    "Cosmos 2": ("videos_joined", "cosmos2", {}, {}),
    "CogVideoX, words": ("videos_joined", "cogvideox", {}, WORDS),
    "Wan text-to-video, words": ("videos", "wan", {}, WORDS),
}


def case_of(built: Built) -> Any:
    """A small pipeline of the tests."""
    module, builder, arguments, _ = built
    helpers = str(RESULTS.parents[1] / "tests" / "helpers")
    if helpers not in sys.path:
        sys.path.insert(0, helpers)
    return getattr(import_module(module), builder)(**arguments)


def traced(case: Any, paint: Callable[[], Any], options: dict[str, Any]) -> tuple[Any, i2am.AttributionMaps]:
    """A run under observation: its output and maps."""
    with i2am.trace(case.pipe, **options) as run:
        out = paint()
    return out, run.maps


def painted(case: Any) -> torch.Tensor:
    """A run from the same noise, which some pipelines draw without being given a generator."""
    torch.manual_seed(0)
    return case(batch=1, steps=STEPS)


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest over the largest value; infinite unless both are no numbers at the same places (what Kandinsky 5 makes of one frame)."""
    if not torch.equal(one.isfinite(), other.isfinite()):
        return float("inf")
    return float((one - other).nan_to_num().abs().max() / other.nan_to_num().abs().max().clamp(min=1e-30))


def measured(name: str, built: Built, repeats: int) -> Row:
    """One family's row; red where the output is further off than float32 rounds."""
    case = case_of(built)
    paint = partial(painted, case)
    plain, (out, maps) = paint(), traced(case, paint, built[3])
    apart = difference(out, plain)
    row: Row = {"case": name, "pipeline": type(case.pipe).__name__, "layers": len(maps.layers), "references": len(maps.references),
                "steps": STEPS, "output": apart if plain.isfinite().all() else None, "red": not apart <= ROUNDING,
                "error_of": f"the output is {apart:.1e} off"}  # fmt: skip
    if row["red"]:
        return row
    runs: dict[str, Callable[[], Any]] = {"untraced": paint, "traced": partial(traced, case, paint, built[3])}
    times = interleaved(runs, repeats, torch.device("cpu"))
    over = [100 * (a / b - 1) for a, b in zip(times["traced"], times["untraced"])]
    return row | {"ms": {name: median(taken) for name, taken in times.items()}, "overhead_percent": round(median(over), 1),
                  "spread": percentiles(over), "repeats": repeats}  # fmt: skip


def rows(given: Any) -> Iterator[Row]:
    for name, built in FAMILIES.items():
        if given.only is None or given.only.lower() in name.lower():
            with warnings.catch_warnings(), contextlib.redirect_stderr(None):
                warnings.simplefilter("ignore")
                yield measured(name, built, given.repeats)


def line(row: Row) -> str:
    if row["red"]:
        return f"{row['case']}: RED {row['error_of']}"
    ms = row["ms"]
    off = (
        "an output that is no number" if row["output"] is None else f"output {row['output']:.0e} off" if row["output"] else "the same bits"
    )
    return f"{row['case']}: {ms['untraced']:.1f} ms, traced {ms['traced']:.1f} ms: {row['overhead_percent']:+.1f}%, {off}"


def main(words: Sequence[str] | None = None) -> int:
    parser = command("pipeline.family_cost", __doc__, "-families")
    parser.add_argument("--repeats", type=int, default=9, help="rounds of each pipeline (default: 9)")
    parser.add_argument("--only", help="families whose name has this in it")
    given = parser.parse_args(words)
    positive(given, "repeats")
    return record(rows(given), line, given, "-families", "diffusers")


if __name__ == "__main__":
    sys.exit(main())
