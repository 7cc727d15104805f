"""What is timed, in which order: replays of a graph, so that the host's time is not the device's; calls beside them where it is asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch

from benchmarks.gpu.items import Begin, Item
from benchmarks.measuring.rows import Row
from benchmarks.operator.one_call import DTYPES, FLOORS, measure
from benchmarks.operator.shapes import SHAPES, SMALL, TINY, Shape

FEW = ("sdpa", "sdpa_cudnn", "sdpa_flash", "triton", "triton_onchip")
# the routes by name: few keys are one tile without them
USUAL = (*FLOORS, "triton", "triton_flash", "triton_cudnn", "triton_onchip", "streaming", "eager")
ORDER = ("warp_3072", "ip_257", "words_77", "joint", "warp_768", "garment_1036", "ip_16", "warp_192", "one_token")
ROUTES = ("sdpa", "triton_own", "triton_flash", "triton_cudnn", "triton_onchip")
LARGE = Shape(
    8704, 8704, 128, 24, "Flux Kontext: one layer of a 1024x1024 edit, its own and the reference's tokens", (512, 4608), (4608, 8704)
)


def timed(
    name: str, shape: Shape, batch: int, dtype: str, rows: str, runners: Sequence[str], graphs: bool, seconds: float,
    device: torch.device, quick: bool, begin: Begin,
) -> Iterator[Row]:  # fmt: skip
    if quick:
        name, shape, batch, dtype, runners = f"tiny_{name}", TINY, 2, "float32", [r for r in runners if r != "flex"]
    what = {"shape": name, "size": shape.size, "dtype": dtype, "masked": False, "batch": batch, "rows": rows}
    on_gpu = device.type == "cuda"
    yield from measure(name, shape, batch, DTYPES[dtype], rows, device, runners, 31 if on_gpu else 1, seconds, graphs and on_gpu,
                       lambda runner: begin(runner, runner=runner, **what))  # fmt: skip


def item(
    name: str, batch: int, device: torch.device, quick: bool, dtype: str = "bfloat16", rows: str = "all",
    runners: Sequence[str] = FEW, graphs: bool = True, seconds: float = 1.5, shape: Shape | None = None,
) -> Item:  # fmt: skip
    label = f"{name} batch {batch} {dtype} {rows}{'' if graphs else ' call'}"
    work = partial(timed, name, shape or SHAPES[name], batch, dtype, rows, runners, graphs, seconds, device, quick)
    return Item(label, 120.0 if "flex" in runners else 60.0, work)


def batch_8(device: torch.device, quick: bool) -> list[Item]:
    """The nine shapes beside every fused attention and the eager way."""
    return [item(name, 8, device, quick, runners=USUAL, seconds=3.0) for name in (ORDER[:1] if quick else ORDER)]


def half(device: torch.device, quick: bool) -> list[Item]:
    """Maps of the conditional half of a guided batch."""
    return [item(name, 8, device, quick, rows="half") for name in (ORDER[:1] if quick else ORDER)]


def fields(device: torch.device, quick: bool) -> list[Item]:
    """The correspondence field both ways beside the maps alone."""
    names = ("warp_3072", "warp_768", "joint", "ip_257")
    return [item(name, 8, device, quick, runners=("sdpa", "triton", "triton_field")) for name in (names[:1] if quick else names)]


def batches(device: torch.device, quick: bool) -> list[Item]:
    return [item(name, batch, device, quick, rows=rows) for rows in ("all", "half") for batch in (32, 1)
            for name in (ORDER[:1] if quick else ORDER) if batch > 1 or rows == "all"]  # fmt: skip


def calls(device: torch.device, quick: bool) -> list[Item]:
    """Small layers as plain calls: beside their replays this is what the host costs."""
    return [item(name, batch, device, quick, graphs=False, seconds=1.0) for batch in (8, 2) for name in (SMALL[:1] if quick else SMALL)]


def float16(device: torch.device, quick: bool) -> list[Item]:
    return [item(name, 8, device, quick, dtype="float16") for name in (ORDER[:1] if quick else ORDER[:3])]


def flex(device: torch.device, quick: bool) -> list[Item]:
    """FlexAttention compiles for tens of seconds at every shape: last, and no more than two."""
    return [item(name, 8, device, quick, runners=("sdpa", "flex", "four_flash", "colreduce", "triton"), graphs=False)
            for name in ("ip_257", "warp_192")[: 1 if quick else 2]]  # fmt: skip


def routes(device: torch.device, quick: bool) -> list[Item]:
    """Whose forward sweep is the fastest, a head size a shape."""
    layers = {size: Shape(tokens, tokens, size, heads, "") for size, tokens, heads in
              ((40, 3072, 8), (64, 4096, 10), (80, 768, 8), (96, 2048, 16), (128, 4096, 24), (160, 192, 8))}  # fmt: skip
    return [item(f"d{size}", 8, device, quick, runners=ROUTES, shape=shape, seconds=2.0)
            for size, shape in list(layers.items())[: 1 if quick else None]]  # fmt: skip


def flux(device: torch.device, quick: bool) -> list[Item]:
    return [item("flux_kontext", 1, device, quick, runners=USUAL, seconds=3.0, shape=LARGE)]
