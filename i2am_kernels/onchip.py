"""The launcher of the sweep that makes both maps in one visit: what it takes, how large a cluster, and how many share the keys.

    forward (output, L) -> onchip (G2R, R2G) [-> finish] [-> queries (word maps)]

It runs on Hopper, by Triton's Gluon as it is from Triton 3.9 on. No GPU has run it yet: "auto" takes it where `tiles.ONCHIP` says that it
was measured to be faster, and nothing is there.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from i2am_kernels import tiles
from i2am_kernels.arguments import cdiv, head, in_eights, mask_of, on_canvas, scratch
from i2am_kernels.call import LOG2E, Call
from i2am_kernels.launcher import Kernel

try:
    from i2am_kernels.sweeps import keys as _keys
    from i2am_kernels.sweeps import onchip as _onchip

    onchip_sweep: Kernel | None = Kernel(_onchip.onchip_sweep)
    finish: Kernel | None = Kernel(_keys.finish, g2r="r2g")  # it adds up the shares of an R2G here
except ImportError:  # no Triton, or one before 3.9, whose Gluon has other names
    onchip_sweep = finish = None

HOPPER = (9, 0)
DTYPES = (torch.float16, torch.bfloat16)  # float32 would want three products of tf32, and registers for them
ROWS = 64  # queries of a tile in one program
WARPS = 4
TOGETHER = 2  # programs on a multiprocessor: one works while the other waits for its cluster


class Cluster(NamedTuple):
    programs: int
    tiles: int  # of queries in each program
    keys: int  # of a block

    @property
    def queries(self) -> int:
        return ROWS * self.programs * self.tiles


# The largest cluster by head size, up to: what fits registers and, TOGETHER times, shared memory, by fewest instructions a score.
LARGEST = {64: Cluster(8, 8, 32), 128: Cluster(16, 4, 64), 160: Cluster(16, 3, 32)}


def missing(call: Call) -> str | None:
    """Why the sweep cannot take a call that the Triton backend takes, with the way out; None where it can."""
    if onchip_sweep is None:
        return 'Triton 3.9 or newer is not installed: pip install "triton>=3.9", or backend="triton"'
    if not runs_on(call.query.device):
        return 'the device is no Hopper GPU (sm_90), or TRITON_INTERPRET=1 is set: use backend="triton"'
    if call.query.dtype not in DTYPES:
        return f'{str(call.query.dtype).removeprefix("torch.")} tokens: give it float16 or bfloat16, or use backend="triton"'
    if call.column_maps is not None or (call.g2r is not None and call.g2r.shape[2] > 1):
        return 'column_maps or several weightings of generated_weight: use backend="triton"'
    if call.mask is not None and call.mask.shape[2] > 1:
        return 'a mask that differs from query to query: use backend="triton"'
    if not all(in_eights(tokens) and tokens.data_ptr() % 16 == 0 for tokens in (call.query, call.key)):
        return 'tokens that do not begin at multiples of 16 bytes: make query and key contiguous, or use backend="triton"'
    size, generated = call.query.shape[3], call.canvas[2]
    largest = largest_cluster(size)
    if largest is None:
        return f'a head size of {size}: it goes up to {max(LARGEST)}; use backend="triton"'
    if generated > largest.queries:
        return f'a canvas of {generated} queries: {largest.queries} fit a cluster; use backend="triton"'
    return None


def wanted(call: Call, capability: tuple[int, int] | None) -> bool:
    """Whether rows of a GPU say that it is the faster way for the call."""
    return (capability, call.query.shape[3]) in tiles.ONCHIP and call.r2g is not None and missing(call) is None


def runs_on(device: torch.device) -> bool:
    if onchip_sweep is None or not onchip_sweep.compiles or device.type != "cuda" or torch.version.hip is not None:
        return False
    return torch.cuda.get_device_capability(device) == HOPPER


@lru_cache
def largest_cluster(size: int) -> Cluster | None:
    return next((cluster for limit, cluster in LARGEST.items() if sum(tiles.head_parts(size)) <= limit), None)


@lru_cache
def cluster_of(size: int, generated: int) -> Cluster:
    """The fewest programs that hold all queries, and no more tiles than they need."""
    largest = largest_cluster(size)
    assert largest is not None
    blocks = cdiv(generated, ROWS)
    programs = tiles.power_of_2(cdiv(blocks, largest.tiles))
    return Cluster(programs, cdiv(blocks, programs), largest.keys)


def launch_onchip(call: Call, lse: Tensor, lse_unit: float, cores: int, cluster: Cluster | None = None) -> None:
    """Add R2G and G2R, from L."""
    assert onchip_sweep is not None
    assert call.r2g is not None
    batch, heads, generated, reference = call.canvas
    query, key = on_canvas(call)
    cluster = cluster or cluster_of(query.shape[3], generated)
    mask = mask_of(call, slice(*call.rows), slice(*call.generated), slice(*call.reference))
    shares = tiles.shares_in_waves(cdiv(reference, cluster.keys), batch * heads, max(1, TOGETHER * cores // cluster.programs))
    r2g = call.r2g[None] if shares == 1 else scratch(call, shares, batch, heads, generated)
    g2r = scratch(call, batch, heads, reference) if call.g2r is None else call.g2r[:, :, 0]
    generated_weight = call.query if call.generated_weight is None else call.generated_weight[:, :, 0].expand(-1, heads, -1)
    reference_weight = call.query if call.reference_weight is None else call.reference_weight.expand(-1, heads, -1)
    onchip_sweep[(shares * batch * heads,)](
        query, key, lse, mask.values, generated_weight, reference_weight, g2r, r2g,
        query.stride(), key.stride(), lse.stride()[:2], mask.strides, generated_weight.stride()[:3], reference_weight.stride()[:3],
        g2r.stride(), r2g.stride(), heads, generated, reference, shares, call.scale * LOG2E, 1.0 / generated, 1.0 / reference, lse_unit,
        **head("D", query), PROGRAMS=cluster.programs, TILES=cluster.tiles, BLOCK_R=cluster.keys, MASK_KIND=mask.kind,
        GENERATED_WEIGHTED=call.generated_weight is not None, REFERENCE_WEIGHTED=call.reference_weight is not None,
        SPLIT=shares > 1, GROUP=call.group, num_warps=WARPS, num_ctas=cluster.programs, enable_fp_fusion=True,
    )  # fmt: skip
    if shares > 1:
        add_shares(call, r2g, shares)


def add_shares(call: Call, r2g_shares: Tensor, shares: int) -> None:
    """Add the shares of R2G into its buffer, as `finish` adds those of a G2R."""
    assert finish is not None
    assert call.r2g is not None
    batch, heads, generated, _ = call.canvas
    target, none = call.r2g[:, :, None], call.query  # which stands in for a pointer that is not followed
    block = min(128, tiles.side(generated))
    finish[(cdiv(generated, block) * batch * heads, 1)](
        r2g_shares, none, none, target, none, none, target.stride(), target.stride(),
        heads, generated, 1, 0, shares, batch * heads * generated,
        BLOCK=block, AT_ONCE=min(32, tiles.power_of_2(shares)), G2R=True, COLUMNS=False, COLUMN_MAPS=False, enable_fp_fusion=True,
    )  # fmt: skip
