"""The tile sweep of the pack: which tile shape is fastest for each sweep and head size, on this GPU.

A candidate is given to one sweep's launch in the place of the table's tile; a result that differs from what the table's own tile
gives is red and has no time. The table itself (`i2am_kernels.tiles`) is changed by hand, from the recorded rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from benchmarks.gpu.items import Begin, Item
from benchmarks.measuring import health
from benchmarks.measuring.measure import captured, interleaved
from benchmarks.measuring.rows import Row, percentiles
from benchmarks.operator import judge
from benchmarks.operator.shapes import TINY, Shape, arguments
from i2am_kernels import triton_backend
from i2am_kernels.call import Call
from i2am_kernels.tiles import Tile

BATCH = 8
FEW = 3  # candidates of a first look
LAYERS = {
    40: Shape(3072, 3072, 40, 8, "StableVITON at 64x48"),
    64: Shape(4096, 4096, 64, 10, "SDXL's self-attention at 64x64"),
    80: Shape(768, 768, 80, 8, "StableVITON at 32x24"),
    128: Shape(4096, 4096, 128, 24, "joint attention"),
    160: Shape(192, 192, 160, 8, "StableVITON at 16x12"),
}
WORDS = {size: layer._replace(reference=77) for size, layer in LAYERS.items()}
LOOKED = (64, 40)  # head sizes of a first look
STATIONARY = [(128, 64, 4, 3), (128, 64, 8, 3), (128, 128, 4, 2), (128, 128, 8, 2), (128, 32, 4, 3), (64, 64, 4, 3), (64, 128, 4, 2)]
CANDIDATES = {  # the first number is the side a program keeps, the second the side it walks along
    "keys": [Tile(block_g=walked, block_r=kept, warps=warps, stages=stages) for kept, walked, warps, stages in STATIONARY],
    "queries": [Tile(*candidate) for candidate in STATIONARY],
    "forward": [Tile(*candidate) for candidate in STATIONARY],
    "one_tile": [Tile(64, 128, 4, 3), Tile(128, 128, 8, 2), Tile(32, 128, 4, 2), Tile(16, 128, 4, 3)],
}
FEWER = {  # in the place of "one_tile" for other numbers of keys, all of which are its second side
    16: [Tile(64, 16, 4, 3), Tile(128, 16, 4, 2), Tile(32, 16, 2, 2)],
    256: [Tile(32, 256, 8, 2), Tile(64, 256, 4, 1), Tile(16, 256, 4, 2)],
}


Launch = Callable[[Tile], Tensor]


def launches(call: Call) -> dict[str, Launch]:
    """Each sweep alone, with a tile; what it returns is what the tile must not change."""
    assert call.r2g is not None
    assert call.g2r is not None
    r2g, g2r = call.r2g, call.g2r
    _, lse = triton_backend.launch_forward(call)
    columns = triton_backend.launch_keys(call, lse)

    def forward(tile: Tile) -> Tensor:
        return triton_backend.launch_forward(call, tile)[0]

    def keys(tile: Tile) -> Tensor:
        triton_backend.launch_keys(call, lse, tile=tile)
        return g2r

    def queries(tile: Tile) -> Tensor:
        triton_backend.launch_queries(call, lse, columns, tile=tile)
        return r2g

    def one_tile(tile: Tile) -> Tensor:  # with the R2G sweep that follows it
        triton_backend.launch_one_tile(call, tile)
        return g2r

    return {"forward": forward, "keys": keys, "queries": queries, "one_tile": one_tile}


def result(call: Call, launch: Launch, tile: Tile) -> Tensor:
    for buffer in (call.r2g, call.g2r):
        assert buffer is not None
        buffer.zero_()
    return launch(tile).double().clone()


def tune(
    sweep: str, size: int, device: torch.device, seconds: float, begin: Begin = lambda part, **what: True,
    timed: bool = True, quick: bool = False, few: bool = False,
) -> Iterator[Row]:  # fmt: skip
    """One row per candidate, the table's own tile first; "one_tile" at every number of keys that is one tile at this head size."""
    if quick:
        layers = [(TINY, [Tile(16, 16, 1, 1)])]
    elif sweep == "one_tile":
        layers = [(WORDS[size], CANDIDATES[sweep]), *((LAYERS[size]._replace(reference=keys), found) for keys, found in FEWER.items())]
    else:
        layers = [(LAYERS[size], CANDIDATES[sweep])]
    for layer, candidates in layers:
        yield from tune_layer(sweep, size, layer, candidates[: FEW if few else None], device, seconds, begin, timed, quick)


def tune_layer(
    sweep: str,
    size: int,
    layer: Shape,
    candidates: list[Tile],
    device: torch.device,
    seconds: float,
    begin: Begin,
    timed: bool,
    quick: bool,
) -> Iterator[Row]:
    dtype = torch.float32 if quick else torch.bfloat16
    call = judge.call_of(arguments(layer, 1 if quick else BATCH, dtype, device))
    if sweep == "one_tile" and not triton_backend.fits_one_tile(call):
        return
    launch = launches(call)[sweep]
    table = triton_backend.tile_of(sweep, call)
    wanted = result(call, launch, table)
    what = {"sweep": sweep, "size": size, "generated": layer.generated, "reference": layer.reference,
            "heads": layer.heads, "batch": call.query.shape[0], "dtype": str(dtype).removeprefix("torch.")}  # fmt: skip
    rows: dict[Tile, Row] = {}
    for candidate in dict.fromkeys([table, *candidates]):
        if not begin(f"{layer.reference} keys {list(candidate)}", **what, tile=list(candidate)):
            continue
        row = rows[candidate] = {**what, "tile": list(candidate), "table": candidate == table}
        try:
            got = result(call, launch, candidate)
            row["difference"] = ((got - wanted).abs().amax() / wanted.abs().amax()).item()
            row["red"] = not row["difference"] <= (2.0**-6 if sweep == "forward" else 1e-3)
        except Exception as broken:  # too much shared memory, mostly
            row["error"] = health.told(broken, device)
    good = [candidate for candidate, row in rows.items() if row.get("red") is False]
    if timed:
        runs: dict[str, Callable[[], object]] = {str(list(candidate)): partial(launch, candidate) for candidate in good}
        if device.type == "cuda":  # device time alone: the host is slower than a small sweep
            runs = {name: captured(run).replay for name, run in runs.items()}
        times = interleaved(runs, 1 if quick else 15, device, seconds)
        for candidate in good:
            taken = times[str(list(candidate))]
            rows[candidate] |= {"ms": percentiles(taken), "repeats": len(taken)}
    yield from rows.values()


def look(device: torch.device, quick: bool) -> list[Item]:
    """A few candidates for the sweeps that matter most."""
    return [item(sweep, size, device, quick, few=True) for size in LOOKED[: 1 if quick else None] for sweep in CANDIDATES]


def whole(device: torch.device, quick: bool) -> list[Item]:
    return [item(sweep, size, device, quick) for size in list(LAYERS)[: 1 if quick else None] for sweep in CANDIDATES]


def item(sweep: str, size: int, device: torch.device, quick: bool, few: bool = False) -> Item:
    return Item(f"tile {sweep} {size}", 60.0, partial(tune, sweep, size, device, 1.0, quick=quick, few=few))


def compiles(sweep: str, sizes: Sequence[int], few: bool, device: torch.device, quick: bool) -> list[Item]:
    """Every candidate into Triton's cache, beside other work; only what fails is a row."""

    def failed(size: int, begin: Begin) -> Iterator[Row]:
        yield from (row for row in tune(sweep, size, device, 0.0, begin, timed=False, quick=quick, few=few) if "error" in row)

    return [Item(f"compile {sweep} {size}", 120.0, partial(failed, size)) for size in sizes]
