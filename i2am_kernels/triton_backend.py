"""The Triton backend: which sweeps a call needs, with which tiles, over which scratch.

    all keys in one tile    one_tile (output, L, G2R, column sums) -> finish -> queries (R2G, word maps)
    otherwise               forward (output, L) -> keys (G2R, column sums and maps) [-> finish] -> queries (R2G, word maps)
    "onchip"                forward (output, L) -> onchip (G2R, R2G) [-> finish] [-> queries (word maps)]

`forward` is ours or a library's that returns L. Scratch is O(G + R); every buffer element has one writer. Every launch takes the table's
tile, or another one that it is given.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from i2am_kernels import launcher, onchip, plans, tiles
from i2am_kernels.arguments import EVERY, cdiv, five, head, high_and_low, mask_of, on_canvas, padded_head, pointer_of, scratch, stride_unit
from i2am_kernels.call import LOG2E, Call
from i2am_kernels.forward import has_forward, library_forward
from i2am_kernels.launcher import Kernel
from i2am_kernels.plans import note_memory
from i2am_kernels.tiles import Tile, shares_in_waves

try:
    import triton

    from i2am_kernels.sweeps import forward as _forward
    from i2am_kernels.sweeps import keys as _keys
    from i2am_kernels.sweeps import one_tile as _one_tile
    from i2am_kernels.sweeps import queries as _queries

    forward_sweep, one_tile_sweep = Kernel(_forward.forward_sweep), Kernel(_one_tile.one_tile_sweep)
    keys_sweep, finish, queries_sweep = Kernel(_keys.keys_sweep), Kernel(_keys.finish), Kernel(_queries.queries_sweep)
    INTERPRETED = not forward_sweep.compiles
except ImportError:
    triton = None
    INTERPRETED = False

PROGRAMS_PER_CORE = 2
FLOAT32_HEAD = 128  # three tf32 products each; above, hundreds to thousands of bytes a thread spill


def precision(exact: bool) -> str:
    """How float32 products are made: three tf32 products on NVIDIA's matrix units, whole ones elsewhere."""
    return "ieee" if exact else "tf32x3"


PRECISION = precision(INTERPRETED or torch.version.hip is not None)


def missing(call: Call) -> str | None:
    """Why this backend cannot take the call, with the way out; None where it can."""
    device = call.query.device
    if triton is None:
        return "triton is not installed: pip install triton"
    if device.type == "cpu" and not INTERPRETED:
        return "the tensors are on the CPU: move them to a GPU, or set TRITON_INTERPRET=1 before the first import"
    if device.type not in ("cpu", "cuda"):
        return f'Triton does not reach {device.type}: use backend="streaming"'
    if device.type == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability(device) < (8, 0):
        return 'the GPU is older than sm_80: use backend="streaming"'
    size = max(call.query.shape[-1], call.value.shape[-1])
    if size > 256:
        return 'head sizes go up to 256: use backend="streaming"'
    if call.query.dtype == torch.float32 and size > FLOAT32_HEAD and device.type == "cuda" and torch.version.hip is None:
        return f'float32 at head sizes above {FLOAT32_HEAD} does not fit into the registers: use backend="streaming" or half precision'
    return None


def launch(call: Call, route: str | None = None) -> Tensor:
    """Add the maps of one call into its buffers and return the output. `route` says whose forward sweep, "own" or a library's name, with
    the two map sweeps behind it; or that both maps are made in one visit, "onchip". A kind of call that was made before is remembered."""
    call = call.upright()
    away = call.query.is_cuda and call.query.device.index != torch.cuda.current_device()
    with torch.cuda.device(call.query.device) if away else nullcontext():
        if plans.ENABLED and forward_sweep.compiles and launcher.REMEMBERS and call.lse is None and call.output is None:
            return plans.planned(call, route, step_by_step, library_forward)
        return step_by_step(call, route)


def step_by_step(call: Call, route: str | None) -> Tensor:
    """The call by the launches that its options ask for, one after the other."""
    if fits_one_tile(call) and route in (None, "own"):
        return launch_one_tile(call)
    together = route == "onchip" or (route is None and onchip.wanted(call, capability(call.query.device)))
    route = route_of(call) if route in (None, "onchip") else route
    lse_unit = 1.0
    if route == "own":
        out, lse = launch_forward(call)
    else:
        out, lse, lse_unit = library_forward(call, route)
    if call.lse is not None:
        torch.mul(lse, lse_unit, out=call.lse)
    if together and call.r2g is not None:
        onchip.launch_onchip(call, lse, lse_unit, cores(call.query.device))
        call = replace(call, r2g=None, g2r=None)
    columns = launch_keys(call, lse, lse_unit) if call.wants_columns or call.g2r is not None else lse
    if call.r2g is not None or call.token_maps is not None:
        launch_queries(call, lse, columns, lse_unit=lse_unit)
    return out


def route_of(call: Call) -> str:
    """The measured forward for this head size where it takes the call, a library's where one does, or our own."""
    wanted = tiles.route(call.query.shape[3], capability(call.query.device))
    return next((name for name in (wanted, "flash") if name == "own" or has_forward(name, call)), "own")


def fits_one_tile(call: Call) -> bool:
    """Whether the one-tile sweep takes the call. Not with column_maps: it keeps PARTS partial sums a key, and n times as many do not fit
    into the registers; the general sweeps make them."""
    keys = call.key.shape[2]
    size = max(call.query.shape[3], call.value.shape[3])
    bytes_each = 8 if call.key.dtype == torch.float32 else 2  # three tf32 products want two copies
    tile_bytes = tiles.power_of_2(keys) * tiles.power_of_2(size) * bytes_each
    one_weighting = call.g2r is None or call.g2r.shape[2] == 1
    few = keys <= tiles.one_tile_keys(capability(call.query.device))
    return call.column_maps is None and one_weighting and few and tile_bytes <= tiles.ONE_TILE_BYTES


def launch_one_tile(call: Call, tile: Tile | None = None) -> Tensor:
    (b0, b1), (g0, g1) = call.rows, call.generated
    batch, heads, canvas, tokens = call.canvas
    generated, reference = call.query.shape[2], call.key.shape[2]
    out, mask = note_memory(call.empty_output()), mask_of(call, EVERY, EVERY, EVERY)
    tile = (tile or tile_of("one_tile", call))._replace(block_r=tiles.side(reference))
    shares = shares_in_waves(cdiv(generated, tile.block_g), len(out) * heads, max(1, PROGRAMS_PER_CORE * cores(call.query.device)))
    wants_lse = call.token_maps is not None or call.lse is not None
    lse = scratch(call, len(out), heads, generated) if wants_lse else call.query
    g2r_shares = scratch(call, shares, batch, heads, 1, tokens) if call.g2r is not None else call.query
    columns_shares = scratch(call, shares, batch, heads, tokens) if call.r2g is not None else call.query
    weight = pointer_of(call, call.generated_weight).expand(-1, heads, -1, -1)
    one_tile_sweep[(shares * len(out) * heads,)](
        call.query, call.key, call.value, out, lse, mask.values, weight, g2r_shares, columns_shares,
        call.query.stride(), call.key.stride(), call.value.stride(), out.stride(), mask.strides, (*weight.stride()[:2], weight.stride(3)),
        heads, generated, reference, shares, call.rows, call.generated, call.reference, call.scale * LOG2E, 1.0 / canvas,
        **padded_head("D", call.query), **padded_head("V", call.value), **blocks_of(call, tile, generated, reference),
        PARTS=8 * min(tile.warps, tile.block_g // 16), MASK_KIND=mask.kind, VARIED=mask.strides[2] > 0, LSE=wants_lse,
        G2R=call.g2r is not None, WEIGHTED=call.generated_weight is not None, COLUMNS=call.r2g is not None,
    )  # fmt: skip
    if call.lse is not None:
        call.lse.copy_(lse[b0:b1, :, g0:g1])
    wanted = call.r2g is not None or call.g2r is not None
    columns = launch_finish(call, shares, g2r_shares, columns_shares, call.query) if wanted else lse
    if call.r2g is not None or call.token_maps is not None:
        launch_queries(call, lse[b0:b1, :, g0:g1], columns)
    return out


def launch_forward(call: Call, tile: Tile | None = None) -> tuple[Tensor, Tensor]:
    """Output and L [B', H, G'], by our own sweep."""
    (b0, b1), (g0, g1) = call.rows, call.generated
    (batch, heads, generated, _), reference = call.query.shape, call.key.shape[2]
    tile = tile or tile_of("forward", call)
    out, mask = note_memory(call.empty_output()), mask_of(call, EVERY, EVERY, EVERY)
    lse = scratch(call, batch, heads, generated)
    forward_sweep[(cdiv(generated, tile.block_g) * batch * heads,)](
        call.query, call.key, call.value, out, lse, mask.values,
        call.query.stride(), call.key.stride(), call.value.stride(), out.stride(), mask.strides,
        heads, generated, reference, call.scale * LOG2E,
        **head("D", call.query), **head("V", call.value), **blocks_of(call, tile, generated, reference), MASK_KIND=mask.kind,
    )  # fmt: skip
    return out, lse[b0:b1, :, g0:g1]


def launch_keys(call: Call, lse: Tensor, lse_unit: float = 1.0, tile: Tile | None = None) -> Tensor:
    """Add G2R and column_maps; returns the column log-sum-exp [B', H, R'] (unwritten where no map wants it)."""
    batch, heads, generated, reference = call.canvas
    query, key = on_canvas(call)
    mask = mask_of(call, slice(*call.rows), slice(*call.generated), slice(*call.reference))
    weightings = 0 if call.g2r is None else call.g2r.shape[2]
    per_visit = 1 if weightings < 2 else min(tiles.PER_VISIT, tiles.side(weightings))
    tile = tile or tile_of("keys", call)
    blocks = cdiv(reference, tile.block_r)
    shares = shares_to_fill(blocks * batch * heads, cdiv(generated, tile.block_g), call.query.device)
    columns = scratch(call, shares, batch, heads, reference) if call.wants_columns else lse
    maps = 0 if call.column_maps is None else call.column_maps.shape[2]
    maps_per_visit = min(tiles.COLUMNS_PER_VISIT, tiles.side(maps)) if maps else 0
    weight, target = weightings_of(call, call.generated_weight, per_visit, turned=True), pointer_of(call, call.g2r)
    column_weight, column_target = weightings_of(call, call.column_weight, maps_per_visit, turned=True), pointer_of(call, call.column_maps)
    if call.g2r is not None and shares > 1:
        target = scratch(call, shares, batch, heads, weightings, reference)
    if maps and shares > 1:
        column_target = scratch(call, shares, batch, heads, maps, reference)
    visits = max(1, cdiv(weightings, per_visit), cdiv(maps, max(1, maps_per_visit)))
    keys_sweep[(blocks * shares * batch * heads, visits)](
        query, key, lse, mask.values, weight, column_weight, target, columns, column_target,
        query.stride(), key.stride(), lse.stride()[:2], mask.strides, five(weight), five(column_weight), five(target), five(column_target),
        batch * heads * reference, heads, generated, reference, shares, weightings, maps, call.scale * LOG2E, 1.0 / generated, lse_unit,
        **head("D", query), **blocks_of(call, tile, generated, reference), MASK_KIND=mask.kind, BLOCK_WEIGHTINGS=per_visit,
        BLOCK_COLUMNS=maps_per_visit,
        SPLIT=shares > 1, G2R=call.g2r is not None, WEIGHTED=call.generated_weight is not None, COLUMNS=call.wants_columns,
    )  # fmt: skip
    return columns[0] if shares == 1 else launch_finish(call, shares, target, columns, column_target)


def launch_finish(call: Call, shares: int, g2r_shares: Tensor, columns_shares: Tensor, maps_shares: Tensor) -> Tensor:
    """Add the shares of G2R and column_maps into their buffers; returns the column log-sum-exp [B', H, R']."""
    batch, heads, _, reference = call.canvas
    weightings = 1 if call.g2r is None else call.g2r.shape[2]
    maps = 0 if call.column_maps is None else call.column_maps.shape[2]
    columns = scratch(call, batch, heads, reference) if call.wants_columns else columns_shares
    target, column_target = pointer_of(call, call.g2r), pointer_of(call, call.column_maps)
    block = min(128, tiles.side(reference))
    finish[(cdiv(reference, block) * batch * heads, max(weightings, maps))](
        g2r_shares, columns_shares, maps_shares, target, columns, column_target, target.stride(), column_target.stride(),
        heads, reference, weightings, maps, shares, batch * heads * reference,
        BLOCK=block, AT_ONCE=min(32, tiles.power_of_2(shares)),
        G2R=call.g2r is not None, COLUMNS=call.wants_columns, COLUMN_MAPS=maps > 0, enable_fp_fusion=True,
    )  # fmt: skip
    return columns


def launch_queries(call: Call, lse: Tensor, columns: Tensor, lse_unit: float = 1.0, tile: Tile | None = None) -> None:
    """Add R2G from the column log-sum-exp and the word maps from L."""
    batch, heads, generated, reference = call.canvas
    query, key = on_canvas(call)
    tile = tile or tile_of("queries", call)
    tile = tile._replace(block_r=min(tile.block_r, tiles.side(reference)))  # no wider than the keys
    mask = mask_of(call, slice(*call.rows), slice(*call.generated), slice(*call.reference))
    words = call.token_maps.shape[2] if call.token_maps is not None else 0
    per_visit = min(tiles.PER_VISIT, tiles.side(words))
    token_weight = weightings_of(call, call.token_weight, per_visit)
    weight = call.query if call.reference_weight is None else call.reference_weight.expand(-1, heads, -1)
    r2g, token_maps = pointer_of(call, call.r2g), pointer_of(call, call.token_maps)
    queries_sweep[(cdiv(generated, tile.block_g) * batch * heads, max(1, cdiv(words, per_visit)))](
        query, key, lse, columns, mask.values, weight, token_weight, r2g, token_maps,
        query.stride(), key.stride(), lse.stride()[:2], mask.strides, weight.stride()[:3], five(token_weight),
        r2g.stride()[:3], token_maps.stride(),
        heads, generated, reference, words, call.scale * LOG2E, 1.0 / reference, lse_unit,
        **head("D", query), **blocks_of(call, tile, generated, reference), MASK_KIND=mask.kind, BLOCK_WORDS=per_visit,
        R2G=call.r2g is not None, WEIGHTED=call.reference_weight is not None, TOKEN_MAPS=call.token_maps is not None,
    )  # fmt: skip


def tile_of(sweep: str, call: Call) -> Tile:
    """The table's tile for a sweep of the call."""
    size = call.query.shape[3] if sweep in ("keys", "queries") else max(call.query.shape[3], call.value.shape[3])
    name = f"one_tile {tiles.side(call.key.shape[2])}" if sweep == "one_tile" else sweep
    return tiles.tile(name, size, capability(call.query.device), kind_of(sweep, call))


def kind_of(sweep: str, call: Call) -> str:
    """What the sweep wants of registers a score beyond a plain call, as the table of tiles calls it."""
    if call.query.dtype == torch.float32:
        return "float32"
    if sweep == "one_tile":  # for which a mask of the keys alone is light
        return "heavy" if call.mask is not None and call.mask.shape[2] > 1 else ""
    several = sweep == "keys" and call.g2r is not None and call.g2r.shape[2] > 1
    words = 0 if call.token_maps is None or sweep != "queries" else call.token_maps.shape[2]
    if call.mask is not None or several or words > tiles.FEW_WORDS or (words and call.r2g is None):
        return "heavy"
    return "field" if words or (sweep == "keys" and call.column_maps is not None) else ""


def weightings_of(call: Call, weight: Tensor | None, per_visit: int, turned: bool = False) -> Tensor:
    """Weights [B', 1 or H, tokens, n], or `turned` [B', 1 or H, n, tokens], as the sweeps want them for this machine's products."""
    weight = weight.mT if turned and weight is not None else weight
    return high_and_low(call, weight, per_visit, whole=PRECISION == "ieee")


def blocks_of(call: Call, tile: tiles.Tile, generated: int, reference: int) -> dict[str, Any]:
    return {
        "BLOCK_G": tile.block_g, "BLOCK_R": tile.block_r,
        "EVEN_G": generated % tile.block_g == 0, "EVEN_R": reference % tile.block_r == 0,
        "GROUP": call.group, "PRECISION": PRECISION, "UNIT": stride_unit(call),
        "UPCAST": INTERPRETED and call.query.dtype == torch.bfloat16,  # the interpreter's bfloat16 products are wrong
        "num_warps": tile.warps, "num_stages": tile.stages, "enable_fp_fusion": True,  # a quarter more instructions without
    }  # fmt: skip


def shares_to_fill(programs: int, most: int, device: torch.device) -> int:
    """Into how many shares to cut the inner loop so that the programs fill the device."""
    return max(1, min(most, cdiv(PROGRAMS_PER_CORE * cores(device), programs)))


@lru_cache
def capability(device: torch.device) -> tuple[int, int] | None:
    """The key of the tile table."""
    if INTERPRETED:
        return None
    return (0, 0) if torch.version.hip else torch.cuda.get_device_capability(device)


@lru_cache
def cores(device: torch.device) -> int:
    return 2 if device.type == "cpu" else torch.cuda.get_device_properties(device).multi_processor_count
