"""What gradients through the maps cost: `python -m benchmarks.operator.gradients [--full]`.

    attention      scaled_dot_product_attention alone, forward; attention_both, forward and back
    maps           bi_attention with both maps, into buffers that are zero
    graph          bi_attention_maps, operands that ask for gradient: what the way back needs is kept
    both           the same and back, with gradients of the output and of both maps
    eager          the definition forward and back as torch differentiates it: it stores everything

    forward = graph / maps        both_ways = both / attention_both        back = (both - graph) / attention_both

All take turns in one process; a ratio is that of neighbours, so that a slow minute is everybody's. Where the gradients are not the
definition's in float64, on the first and last batch row and head, there are no times.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.measuring.command import command, positive, record
from benchmarks.measuring.measure import Run, interleaved, peak_bytes
from benchmarks.measuring.rows import Row, percentiles
from benchmarks.operator import judge
from benchmarks.operator.shapes import CPU_BATCH, SHAPES, Shape, arguments
from i2am_kernels import bi_attention, bi_attention_maps

Given = dict[str, Any]
OPERANDS = ("query", "key", "value")
LEARNED = (*OPERANDS, *judge.WEIGHTS)
CASES = {
    "warp_192": SHAPES["warp_192"],
    "warp_768": SHAPES["warp_768"],
    "world_769": Shape(768, 769, 24, 8, "the embedded model: narrow heads, a length that no tile divides"),
    "dino_1036": Shape(192, 1036, 40, 8, "more keys than queries: DINOv2's patches beside a 16x12 layer"),
    "ip_257": Shape(4096, 257, 40, 8, "IP-Adapter with all CLIP patches: one key more than one tile"),
    "words_77": Shape(4096, 77, 64, 8, "a prompt"),
    "warp_3072": SHAPES["warp_3072"],
}
QUICK = ("warp_192", "warp_768", "world_769")
EAGER_BYTES = 8e9  # what eager may store on a CPU, which has other work beside
EAGER_MATRICES = 8  # scores, P, C, what softmax reads and the gradients of all of them
SECONDS = 40.0  # a case; three rounds at least


def results(given: Given, backend: str) -> dict[str, Tensor]:
    """The output and the maps that the call has buffers for."""
    rest = {name: one for name, one in given.items() if name not in judge.BUFFERS}
    found = bi_attention_maps(**rest, r2g=given.get("r2g") is not None, g2r=given.get("g2r") is not None, backend=backend)
    return {name: one for name, one in found._asdict().items() if one is not None}


def double(given: Given) -> Given:
    """The same numbers in float64."""
    mask = given.get("attn_mask")
    wide = {name: given[name].double() for name in OPERANDS}
    return {**given, **wide, "attn_mask": mask if mask is None or mask.dtype == torch.bool else mask.double()}


def leaves_of(given: Given) -> dict[str, Tensor]:
    """The operands and weights, as what asks for gradient."""
    return {name: given[name].detach().requires_grad_() for name in LEARNED if given.get(name) is not None}


@torch.enable_grad()
def gradients(given: Given, backend: str, up: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of the operands and weights; the processes of the pack for GPUs have gradients switched off."""
    leaves = leaves_of(given)
    found = results({**given, **leaves}, backend)
    asked = [up[name].to(one.dtype) for name, one in found.items()]
    return dict(zip(leaves, torch.autograd.grad(list(found.values()), list(leaves.values()), asked)))


def attention_both(given: Given, up: dict[str, Tensor]) -> None:
    leaves = leaves_of(given)
    out = scaled_dot_product_attention(leaves["query"], leaves["key"], leaves["value"])
    torch.autograd.grad(out, list(leaves.values()), up["output"])


def maps(given: Given) -> None:
    given["r2g"].zero_()
    given["g2r"].zero_()
    bi_attention(**given)


def errors(given: Given, up: dict[str, Tensor]) -> tuple[dict[str, float], dict[str, float]]:
    """Of our gradients of the operands, and what each may be: four times that of the definition in float32, and a floor."""
    got, limits = gradients(given, "auto", up), dict.fromkeys(OPERANDS, 0.0)
    found = limits.copy()
    for row, head in judge.pairs(judge.call_of(given)):
        b, h = slice(row, row + 1), slice(head, head + 1)
        one = {**{name: given[name][b, h] for name in (*OPERANDS, "r2g", "g2r")}, "rows": (0, 1)}
        asked = {name: tensor[b, h] for name, tensor in up.items()}
        true = gradients(double(one), "reference", asked)
        eager = judge.errors(double(gradients(one, "reference", asked)), true)
        for name, error in judge.errors({name: got[name][b, h].double() for name in OPERANDS}, true).items():
            found[name] = max(found[name], error)
            limits[name] = max(limits[name], 4 * eager[name] + judge.OUTPUT_FLOOR[torch.float32])
    return found, limits


def measure(name: str, shape: Shape, batch: int, device: torch.device, repeats: int, seconds: float = SECONDS) -> Row:
    """Numbers first, then memory, then times; where the numbers are wrong nothing but them."""
    given = arguments(shape, batch, torch.float32, device)
    with torch.no_grad():
        up = {name: torch.randn_like(one) * (1 if name == "output" else one.shape[-1]) for name, one in results(given, "auto").items()}
    found, allowed = errors(given, up)
    size = {"generated": shape.generated, "reference": shape.reference, "size": shape.size, "heads": shape.heads, "batch": batch}
    row: Row = {"case": name, **size, "dtype": "float32", "error_of": found, "allowed": allowed, "red": judge.red(found, allowed),
                "load": round(os.getloadavg()[0], 2), "waiting": os.environ.get("OMP_WAIT_POLICY")}  # fmt: skip
    if row["red"]:
        return row
    runs: dict[str, Run] = {
        "attention": lambda: scaled_dot_product_attention(given["query"], given["key"], given["value"]),
        "attention_both": partial(attention_both, given, up),
        "maps": partial(maps, given),
        "graph": lambda: results({**given, **leaves_of(given)}, "auto"),
        "both": partial(gradients, given, "auto", up),
    }
    stored = 4 * EAGER_MATRICES * batch * shape.heads * shape.generated * shape.reference
    if device.type != "cpu" or stored <= EAGER_BYTES:
        runs["eager"] = partial(gradients, given, "reference", up)
    peak = {name: round(peak_bytes(run, device) / 1e6, 3) for name, run in runs.items()}
    times = interleaved(runs, repeats, device, seconds)
    row |= {"ms": {name: percentiles(taken) for name, taken in times.items()}, "repeats": len(times["both"]), "peak_mb": peak}
    turns = [{name: taken[turn] for name, taken in times.items()} for turn in range(row["repeats"])]
    row["ratio"] = {
        "forward": percentiles([t["graph"] / t["maps"] for t in turns]),
        "both_ways": percentiles([t["both"] / t["attention_both"] for t in turns]),
        "back": percentiles([(t["both"] - t["graph"]) / t["attention_both"] for t in turns]),
    }
    if "eager" in runs:
        row["ratio"]["eager"] = percentiles([t["eager"] / t["attention_both"] for t in turns])
    return row


def line(row: Row) -> str:
    """One row for a reader who is waiting."""
    what = f"{row['case']:<10} {row['generated']} x {row['reference']}, {row['size']}"
    if row["red"]:
        return f"{what} RED {row['error_of']} allowed {row['allowed']}"
    ratios = ", ".join(f"{name} {of['p50']:.2f} ({of['p20']:.2f} to {of['p80']:.2f})" for name, of in row["ratio"].items())
    return (
        f"{what}: {row['ms']['both']['p50']:.1f} ms, {row['peak_mb']['both']:.1f} MB, error {max(row['error_of'].values()):.0e}; {ratios}"
    )


def measured(given: Any, device: torch.device) -> Iterator[Row]:
    for name in CASES if given.full else QUICK:
        yield measure(name, CASES[name], CPU_BATCH, device, given.repeats)


def main(words: Sequence[str] | None = None) -> int:
    parser = command("operator.gradients", __doc__, "-gradients")
    parser.add_argument("--repeats", type=int, default=15, help=f"rounds of a case, fewer after {SECONDS:g} seconds (default: 15)")
    parser.add_argument("--full", action="store_true", help="every case: minutes")
    given = parser.parse_args(words)
    positive(given, "repeats")
    return record(measured(given, torch.device(given.device)), line, given, "-gradients")


if __name__ == "__main__":
    sys.exit(main())
