"""The backward of attention with its maps in Triton sweeps: what `backward.py` computes block by block, on the device's matrix units.

    sums      P g [B', H, n, G'], C^T r and Lc [B', H, R']            what a line's dS must sum to; only where maps give something back
    keys      dK, dV: a program owns keys and sees every query          P = 2^(S - L), C = 2^(S - Lc) <= 1
    queries   dQ: a program owns queries and sees every key             from the same L and Lc, so that no sum is split over programs

Tokens outside a map's range have its weights 0 and Lc = +inf: the two large sweeps know no ranges, except that C has no rows beside the
canvas. dS is cast to the operands' dtype for its products; float16 numbers would lose what a map of thousands of tokens gives back, so
there dS is made larger by a power of two that its largest possible value leaves room for. Scratch is O(G + R); same inputs, same bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from i2am_kernels import tiles, triton_backend
from i2am_kernels.arguments import Mask, cdiv, head, in_eights, mask_of, on_canvas, scratch
from i2am_kernels.backward import Gradients, Upstream, padded
from i2am_kernels.call import LOG2E, Call
from i2am_kernels.launcher import Kernel
from i2am_kernels.tiles import Tile

if triton_backend.triton is not None:
    from i2am_kernels.sweeps import keys_backward as _keys
    from i2am_kernels.sweeps import queries_backward as _queries
    from i2am_kernels.sweeps import sums as _sums

    sums_sweep = Kernel(_sums.sums_sweep)
    keys_backward_sweep, queries_backward_sweep = Kernel(_keys.keys_backward_sweep), Kernel(_queries.queries_backward_sweep)

AT_ONCE = 64  # terms of a product that lie on chip together, in the sweeps as well
LARGEST = 2.0**14  # a float16 dS is made no larger: two roundings of its bound stay below the largest number


class Pair(NamedTuple):
    """Terms of what P or C is asked for: sum_n left_ni right_nj. Heads that share a factor are one."""

    left: Tensor  # [b, 1 or H, n, G']
    right: Tensor  # [b, 1 or H, n, R']


@dataclass
class Asked:
    """What P (or C) is asked for besides o V^T, and what it is taken from: the log-sum-exp and the sum of each of its lines."""

    norm: Tensor  # [b, H, lines]
    sums: Tensor  # [b, H, lines]
    pairs: list[Pair] = field(default_factory=list)

    @property
    def terms(self) -> int:
        """As the sweeps count them: none, one, or whole tiles."""
        return tiled(sum(pair.left.shape[2] for pair in self.pairs))

    def bound(self) -> Tensor | float:
        """The largest absolute value of the terms' sum cannot be larger."""
        return sum(pair.left.abs().amax((0, 1, 3)).mul(pair.right.abs().amax((0, 1, 3))).sum() for pair in self.pairs)


def tiled(terms: int) -> int:
    if terms <= 1:
        return terms
    return tiles.side(terms) if terms <= AT_ONCE else cdiv(terms, AT_ONCE) * AT_ONCE


def launch_backward(call: Call, up: Upstream) -> Gradients:
    """The gradients of a call whose `lse` holds L of the canvas, as `backward` gives them; the operands' in the operands' dtype."""
    first, last = call.rows
    everywhere = up.out is not None or (first, last) == (0, len(call.query))
    make = torch.empty_like if everywhere else torch.zeros_like
    found = Gradients(make(call.query), make(call.key), None if up.out is None else make(call.value))
    output_alone = replace(up, r2g=None, g2r=None, token_maps=None, column_maps=None)
    with torch.cuda.device(call.query.device) if call.query.is_cuda else nullcontext():
        for start, stop, one in ((0, first, output_alone), (first, last, up), (last, len(call.query), output_alone)):
            if start < stop and (one.out is not None or one.of_maps):
                launch_rows(replace(call, rows=(start, stop)), one, found)
    return found


def launch_rows(call: Call, up: Upstream, found: Gradients) -> None:
    """Rows of the batch that all have maps, or of which none has."""
    (g0, g1), rows = call.generated, slice(*call.rows)
    lse = lse_of(call, up)
    on_rows = Asked(lse, torch.zeros_like(lse))
    on_columns = Asked(lse, lse)
    if up.out is not None:
        torch.sum(up.out[rows].float() * up.output[rows], -1, out=on_rows.sums)
    if up.of_maps:
        on_canvas_alone = lse[..., g0:g1].contiguous()
        ask_rows(call, up, found, Asked(on_canvas_alone, on_rows.sums[..., g0:g1], on_rows.pairs))
    if up.of_columns:
        on_columns = ask_columns(call, up, found)
    if up.out is None and not on_rows.pairs and not on_columns.pairs:
        return
    launch_sweeps(call, up, found, on_rows, on_columns)


def lse_of(call: Call, up: Upstream) -> Tensor:
    """L of all queries of these rows [b, H, G]: what the forward kept, or, where it kept a part, a forward's."""
    whole = (0, call.query.shape[2])
    if up.of_maps and call.lse is not None and call.generated == whole:
        return call.lse.contiguous()
    return triton_backend.launch_forward(replace(call, generated=whole).upright())[1].contiguous()


def ask_rows(call: Call, up: Upstream, found: Gradients, asked: Asked) -> None:
    """What the maps of P ask for; what a row's gradients sum to is added to `asked.sums`, that of the weights is found on the way."""
    if up.g2r is not None:
        weight = call.g2r_weight()  # [b, 1 or H, n, G']
        gamma, _ = launch_sums(call, up.g2r, asked.norm, "lines", of_keys=False)
        found.generated_weight = gamma
        asked.sums += (weight * gamma).sum(2)
        asked.pairs.append(Pair(weight, up.g2r))
    if up.token_maps is not None and up.words is not None and call.token_weight is not None:
        if "token_weight" in up.learned:
            found.token_weight = launch_sums(call, up.token_maps, asked.norm, "others", of_keys=True)[0].mT
        asked.sums += (up.token_maps * up.words).sum(2)
        asked.pairs.append(Pair(up.token_maps, call.token_weight.mT))


def ask_columns(call: Call, up: Upstream, found: Gradients) -> Asked:
    """What the maps of C ask for, on all keys; the gradients of the weights are found on the way."""
    pairs = []
    if up.r2g is not None:
        pairs.append(Pair(up.r2g[:, :, None], call.r2g_weight()[:, :, None]))
    if up.column_maps is not None and call.column_weight is not None:
        pairs.append(Pair(call.column_weight, up.column_maps))
    back, norm = launch_sums(call, joined([pair.left for pair in pairs]), None, "found", of_keys=True)  # [b, H, n, R']
    if up.r2g is not None:
        found.reference_weight = back[:, :, 0]
    if up.column_maps is not None and "column_weight" in up.learned:
        found.column_weight = launch_sums(call, up.column_maps, norm, "others", of_keys=False)[0]
    sums = (joined([pair.right for pair in pairs]) * back).sum(2)
    (r0, _), reference = call.reference, call.key.shape[2]
    return Asked(padded(norm, r0, reference, math.inf), padded(sums, r0, reference), pairs)


def joined(factors: Sequence[Tensor]) -> Tensor:
    """Side by side; where one differs from head to head, all do."""
    heads = max(factor.shape[1] for factor in factors)
    return torch.cat([factor.float().expand(-1, heads, -1, -1) for factor in factors], 2)


def factors_of(call: Call, factor: Tensor, terms: int) -> Tensor:
    """[b, 1 or H, n, tokens] as the sweeps want it, [parts, b, H, tokens, terms]."""
    return triton_backend.weightings_of(call, factor.float(), min(terms, AT_ONCE), turned=True)


def launch_sums(call: Call, weight: Tensor, norm: Tensor | None, of: str, of_keys: bool, tile: Tile | None = None) -> tuple[Tensor, Tensor]:
    """The sums [b, H, n, lines] of `sweeps.sums` on the canvas, and the norm of the lines: lines are keys, or queries. weight is of the
    others, [b, 1 or H, n, others]."""
    lines, others = on_canvas(call)[:: -1 if of_keys else 1]
    mask = mask_of(call, slice(*call.rows), slice(*call.generated), slice(*call.reference))
    b, h, g, r = mask.strides
    (batch, _, count, _), other_count, wanted, heads = lines.shape, others.shape[2], weight.shape[2], call.query.shape[1]
    terms = tiled(wanted)
    per_visit = min(terms, AT_ONCE)
    tile = tile or tile_of("sums", call, terms)
    blocks = cdiv(count, tile.block_g)
    shares = triton_backend.shares_to_fill(blocks * batch * heads, cdiv(other_count, tile.block_r), call.query.device)
    sums = scratch(call, shares, batch, heads, count, terms)
    norms = scratch(call, shares, batch, heads, count) if norm is None else norm
    weights = factors_of(call, weight, terms)
    sums_sweep[(blocks * shares * batch * heads, terms // per_visit)](
        lines, others, norms, mask.values, weights, sums, norms,
        lines.stride(), others.stride(), (b, h, r, g) if of_keys else mask.strides, weights.stride()[:4],
        (sums.stride(0), sums.stride(2), sums.stride(3)),
        batch * heads * count, heads, count, other_count, shares, call.scale * LOG2E,
        **head("D", lines), TERMS=per_visit, NORM=of, BLOCK_LINES=tile.block_g, BLOCK_OTHERS=tile.block_r,
        LINE_GROUP=call.group if of_keys else 1, OTHER_GROUP=1 if of_keys else call.group,
        EVEN_LINES=count % tile.block_g == 0, EVEN_OTHERS=other_count % tile.block_r == 0, MASK_KIND=mask.kind,
        **constants(call, tile, (lines, others)),
    )  # fmt: skip
    sums = sums[..., :wanted].mT  # [shares, b, H, n, lines]
    if norm is None:
        return merged(norms, sums)
    return sums[0] if shares == 1 else sums.sum(0), norm


def merged(norms: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
    """Shares of a softmax's sums and their log-sum-exps, -inf where a line sees nothing, as the whole's; +inf there."""
    high = norms.amax(0)
    weight = torch.exp2(norms - high.masked_fill(high.isneginf(), 0.0))
    total = weight.sum(0)
    mean = (means * weight[..., None, :]).sum(0) / total.masked_fill(total == 0, 1.0)[..., None, :]
    return mean, (high + total.log2()).masked_fill(total == 0, math.inf)


def launch_sweeps(call: Call, up: Upstream, found: Gradients, on_rows: Asked, on_columns: Asked) -> None:
    """The gradients of queries, keys and values."""
    rows = slice(*call.rows)
    query, key, value = (t[rows] for t in (call.query, call.key, call.value))
    d_out = query if up.out is None else up.out[rows].to(query.dtype)
    d_out = d_out if d_out.stride(-1) == 1 else d_out.contiguous()
    lifted = query.dtype == torch.float16
    lift = lift_of(up, d_out, value, on_rows, on_columns) if lifted else on_rows.sums
    sums = [asked.sums * lift if lifted else asked.sums.contiguous() for asked in (on_rows, on_columns)]
    factors = [factor for asked in (on_rows, on_columns) for factor in both(call, asked, lift if lifted else None)]
    mask = mask_of(call, rows, slice(None), slice(None))
    shared: list[Any] = [query, key, value, d_out, on_rows.norm, sums[0], on_columns.norm, sums[1], lift, mask.values, *factors]
    strides = (query.stride(), key.stride(), value.stride(), d_out.stride(), mask.strides, *(factor.stride()[:4] for factor in factors))
    wanted = {"OUT": up.out is not None, "ROW_TERMS": on_rows.terms, "COLUMN_TERMS": on_columns.terms, "LIFTED": lifted}
    launch_keys_backward(call, found, shared, strides, mask, wanted)
    launch_queries_backward(call, found, shared, strides, mask, wanted)


def both(call: Call, asked: Asked, lift: Tensor | None) -> tuple[Tensor, Tensor]:
    """The factors of all pairs [parts, b, H, tokens, terms], among all tokens; what stands in for them where there are none."""
    if not asked.pairs:
        return call.query[None], call.query[None]
    left = padded(joined([pair.left for pair in asked.pairs]), call.generated[0], call.query.shape[2])
    right = padded(joined([pair.right for pair in asked.pairs]), call.reference[0], call.key.shape[2])
    return factors_of(call, left if lift is None else left * lift, asked.terms), factors_of(call, right, asked.terms)


def lift_of(up: Upstream, d_out: Tensor, value: Tensor, on_rows: Asked, on_columns: Asked) -> Tensor:
    """The power of two [1] that brings the largest |dS| that could be to LARGEST, at most."""
    most = on_rows.bound() + on_columns.bound()
    if up.out is not None:
        most = most + d_out.float().norm(dim=-1).amax() * value.float().norm(dim=-1).amax()
    order = torch.log2(LARGEST / (2 * torch.as_tensor(most, device=value.device))).floor()
    return torch.exp2(order.nan_to_num(0.0, 100.0, -100.0).clamp(-100.0, 100.0)).view(1)


def launch_keys_backward(
    call: Call, found: Gradients, shared: list[Any], strides: tuple[Any, ...], mask: Mask, wanted: dict[str, Any], tile: Tile | None = None
) -> None:
    query, key, value, d_out = shared[:4]
    (batch, heads, generated, _), reference = query.shape, key.shape[2]
    terms = max(wanted["ROW_TERMS"], wanted["COLUMN_TERMS"])
    tile = tile or tile_of("keys_backward", call, terms)
    blocks = cdiv(reference, tile.block_r)
    shares = triton_backend.shares_to_fill(blocks * batch * heads, cdiv(generated, tile.block_g), key.device)
    targets = [t if t is None else t[slice(*call.rows)] for t in (found.key, found.value)]
    apart = shares > 1 or call.group > 1  # several programs have a part each of what a key head gets
    parts = [scratch(call, shares, batch, heads, *t.shape[2:]) if apart and t is not None else t for t in targets]
    d_key, d_value = (key if t is None else t[0] if apart else t for t in parts)
    even_g = generated % tile.block_g == 0
    size, device = max(key.shape[3], value.shape[3]), triton_backend.capability(key.device)
    twice = wanted["OUT"] and tiles.gradients_apart(size, device, kind_of(call, terms))
    for keys, values in ((False, True), (True, False)) if twice else ((True, wanted["OUT"]),):
        keys_backward_sweep[(blocks * shares * batch * heads,)](
            *shared, d_key, d_value, *strides, d_key.stride(), d_value.stride(),
            *(t.stride(0) if t is not None and apart else 0 for t in parts),
            heads, generated, reference, shares, call.generated, call.scale * LOG2E, call.scale,
            **head("D", key), **head("V", value), BLOCK_G=tile.block_g, BLOCK_R=tile.block_r, EVEN_G=even_g,
            EVEN_R=reference % tile.block_r == 0, MASK_KIND=mask.kind, GROUP=call.group, KEYS=keys, VALUES=values, **wanted,
            CUT=not even_g or call.generated != (0, generated), **constants(call, tile, (query, key, value, d_out)),
        )  # fmt: skip
    for target, part in zip(targets, parts):
        if target is not None and part is not None and apart:
            whole = part.sum(0)  # [b, H, R, D]
            target.copy_(whole if call.group == 1 else whole.unflatten(1, (-1, call.group)).sum(2))


def launch_queries_backward(
    call: Call, found: Gradients, shared: list[Any], strides: tuple[Any, ...], mask: Mask, wanted: dict[str, Any], tile: Tile | None = None
) -> None:
    query, key, value, d_out = shared[:4]
    (batch, heads, generated, _), reference = query.shape, key.shape[2]
    tile = tile or tile_of("queries_backward", call, max(wanted["ROW_TERMS"], wanted["COLUMN_TERMS"]))
    d_query = found.query[slice(*call.rows)]
    queries_backward_sweep[(cdiv(generated, tile.block_g) * batch * heads,)](
        *shared, d_query, *strides, d_query.stride(),
        heads, generated, reference, call.generated, call.scale * LOG2E, call.scale,
        **head("D", key), **head("V", value), BLOCK_G=tile.block_g, BLOCK_R=tile.block_r, EVEN_G=generated % tile.block_g == 0,
        EVEN_R=reference % tile.block_r == 0, MASK_KIND=mask.kind, GROUP=call.group, **wanted, CUT=call.generated != (0, generated),
        **constants(call, tile, (query, key, value, d_out)),
    )  # fmt: skip


def tile_of(sweep: str, call: Call, terms: int) -> Tile:
    """The table's tile."""
    size = call.key.shape[3] if sweep == "sums" else max(call.key.shape[3], call.value.shape[3])
    return tiles.tile(sweep, size, triton_backend.capability(call.key.device), kind_of(call, terms))


def kind_of(call: Call, terms: int) -> str:
    """As the table of tiles calls it: several terms and masks want more registers a score."""
    return "float32" if call.query.dtype == torch.float32 else "heavy" if terms > 1 or call.mask is not None else ""


def constants(call: Call, tile: Tile, tokens: Sequence[Tensor]) -> dict[str, Any]:
    return {
        "PRECISION": triton_backend.PRECISION, "UNIT": 8 if all(map(in_eights, tokens)) else 1,
        "UPCAST": triton_backend.INTERPRETED and call.query.dtype == torch.bfloat16,  # as in the forward's sweeps
        "num_warps": tile.warps, "num_stages": tile.stages, "enable_fp_fusion": True,
    }  # fmt: skip
