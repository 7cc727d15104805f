"""The centre-weighted Gaussian loss: attention near its own centre is rewarded.

    P = softmax over all keys of scale * Q K^T + bias        A_ij = P averaged over heads, j a cell of the reference
    c_i = sum_j A_ij r_j, r_j = (row, column)                w_ij = exp(-|r_j - c_i|^p / (2 sigma^2))
    concentration = -weight mean over images, i and j of m_i A_ij w_ij

What the mean divides by: mean="all" by all B G cells, tokens outside of the mask and all cells of the reference included; mean="mask" by
the mask's sum over the batch, while the cells j are added up.

A is never stored: queries come in chunks, each seeing all keys. The gradient is made in the same visit, also through the centre, as
d(sum_j A_ij w_ij) / dA_ij = w_ij + e_i r_j with e_i = sum_k A_ik dw_ik / dc_i: a loss is one number, so that what comes back for it later
is a factor. Memory: O(chunk * R), and the gradients themselves.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from i2am.common.checks import is_size, is_whole, number, refuse, said, whole_number
from i2am.losses.centres import averaged, check_weights
from i2am.losses.presets import check_distance, check_mean, positive, truth_value
from i2am.maps.kept_calls import KeptCall
from i2am.maps.tokens import Grid
from i2am_kernels import moments
from i2am_kernels.call import LOG2E, additive
from i2am_kernels.reference import softmax

SCORES = {"cpu": 1 << 19}  # held at a time, fitted to the cache of a CPU
MOST = 1 << 24  # the same elsewhere


def concentration(
    query: Tensor,
    key: Tensor,
    mask: Tensor,
    grid: Grid,
    *,
    reference: slice = slice(None),
    special: int = 0,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
    weight: float = 2.0,
    sigma: float = 1.0,
    distance: str = "absolute",
    mean: str = "all",
    renormalise: bool = True,
    detach_centre: bool = False,
    chunk: int | None = None,
) -> Tensor:
    """A scalar of query [B, heads, G, D], key [B, heads, R, D] and the mask [B, h, w] of the G = h w generated tokens.

    grid: of the reference, (height, width). reference: where among the keys it sits; special: its leading tokens without a cell (CLS).
    attn_mask, four dimensions, and scale as in scaled_dot_product_attention. distance: p = 1 is "absolute" (the distance itself), 2
    "square". renormalise: A_ij / sum_j A_ij over the cells; else what other keys take is missing. detach_centre: the centre is a target
    without gradient. chunk: queries at a time; None fits them to the device.
    """
    KeptCall(query, key, attn_mask, 0.0, reference)  # checks them
    scale = query.shape[-1] ** -0.5 if scale is None else number("scale", scale, "finite", math.isfinite, "None is 1 / sqrt(head size).")
    batch, heads, generated, _ = query.shape
    first, last, _ = reference.indices(key.shape[2])
    if not is_whole(special) or not is_size(grid) or last - first != special + grid[0] * grid[1]:
        refuse("grid and special", f"of the {last - first} reference tokens: special + height * width", f"{said(grid)} and {said(special)}",
               "reference=slice(start, stop) says which of the keys they are; a CLS token is special=1.")  # fmt: skip
    if not isinstance(mask, Tensor) or mask.ndim != 3 or mask[0].numel() != generated:
        refuse("mask", f"[B, h, w] with h * w = {generated}, the number of queries", said(mask), "It lies on the generated grid.")
    check_weights(mask, (batch, *mask.shape[1:]), query)
    check_distance(distance)
    check_mean(mean)
    truth_value("renormalise", renormalise, "True divides the mass on special tokens out.")
    truth_value("detach_centre", detach_centre, "True makes the centre a target.")
    weight, sigma = positive("weight", weight), positive("sigma", sigma)
    fit = max(1, SCORES.get(query.device.type, MOST) // (batch * heads * key.shape[2]))
    chunk = fit if chunk is None else whole_number("chunk", chunk, 1, "None chooses.")

    of = Bump(grid, slice(first + special, last), scale, sigma, 1 if distance == "absolute" else 2, renormalise, detach_centre, chunk)
    with torch.autocast(query.device.type, enabled=False):
        total, least = Concentrated.apply(query, key, mask.flatten(1), attn_mask, of)
    refuse_lost(total, least, renormalise)
    return -weight * averaged(total, mask.numel() * grid[0] * grid[1] if mean == "all" else mask.sum())


class Bump(NamedTuple):
    """What is summed over chunks of queries."""

    grid: Grid
    cells: slice  # of the keys
    scale: float
    sigma: float
    power: int
    renormalise: bool
    detach_centre: bool
    chunk: int

    def places(self, like: Tensor) -> Tensor:
        """[cells, 2]: (row, column) from 0."""
        return moments(self.grid, device=like.device)[1:3].T.to(like) - 0.5

    def near(self, centre: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """w [B, c, cells] around centres [B, c, 2], and e [B, c, 2] of A [B, c, cells].

        At its centre, w of the distance itself has no slope. Differences are weighed, not places, so that there is nothing to cancel.
        """
        rows, columns = (torch.arange(size, device=centre.device) - centre[..., axis, None] for axis, size in enumerate(self.grid))
        away = (rows.square()[..., None] + columns.square()[..., None, :]).flatten(2)
        away = away if self.power == 2 else away.sqrt_()
        near = torch.exp2(away * (LOG2E / (-2 * self.sigma**2)))
        if self.detach_centre:
            return near, torch.zeros_like(centre)
        slope = seen * near * (self.power / (2 * self.sigma**2))
        slope = (slope if self.power == 2 else slope / away.clamp_(min=1e-12)).unflatten(2, self.grid)
        return near, torch.stack([(slope.sum(3) * rows).sum(2), (slope.sum(2) * columns).sum(2)], 2)


class Concentrated(torch.autograd.Function):
    """sum_i m_i sum_j A_ij w_ij, and the least mass of a token in the mask."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, inside: Tensor, attn_mask: Tensor | None, of: Bump) -> tuple[Tensor, Tensor]:
        exact = torch.float64 if query.dtype == torch.float64 else torch.float32
        keys, inside, heads = key.to(exact), inside.to(exact), query.shape[1]
        d_query, d_key = torch.zeros_like(query, dtype=exact), torch.zeros_like(keys)
        total, least = keys.new_zeros(()), keys.new_full((), torch.inf)
        for start in range(0, query.shape[2], of.chunk):
            part = slice(start, start + of.chunk)
            queries, weight = query[:, :, part].to(exact), inside[:, part]
            scores = queries @ keys.mT * of.scale
            if attn_mask is not None:
                scores = scores + additive(attn_mask if attn_mask.shape[2] == 1 else attn_mask[:, :, part], exact)
            rowwise = softmax(scores, -1)  # P [B, heads, c, R]
            seen = rowwise.mean(1)[..., of.cells]  # A [B, c, cells]
            mass = seen.sum(-1, keepdim=True)
            # a mass of nearly nothing beside a special token has a share that is a number
            share = 1 / mass.clamp(min=torch.finfo(exact).tiny) if of.renormalise else torch.ones_like(mass)
            seen, places = seen * share, of.places(keys)
            near, pull = of.near(seen @ places, seen)
            asked = near + pull @ places.T
            if of.renormalise:
                asked = asked - (seen * asked).sum(-1, keepdim=True)
            asked = asked * (share * weight[..., None] / heads)
            change = rowwise[..., of.cells] * asked[:, None]  # P X, nothing for other keys
            rowwise = torch.mul(rowwise, change.sum(-1, keepdim=True).neg_(), out=rowwise)
            rowwise[..., of.cells] += change  # dS
            d_query[:, :, part] = rowwise @ keys * of.scale
            d_key += rowwise.mT @ queries * of.scale
            total += (weight * (seen * near).sum(-1)).sum()
            least = torch.minimum(least, torch.where(weight > 0, mass[..., 0], torch.inf).amin())
        ctx.save_for_backward(d_query.to(query.dtype), d_key.to(key.dtype))
        ctx.mark_non_differentiable(least)
        return total, least

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, up: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        return *((saved * up).to(saved.dtype) for saved in ctx.saved_tensors), None, None, None


def refuse_lost(total: Tensor, least: Tensor, renormalise: bool) -> None:
    """Numbers that are none, and centres of no mass; one look at the device."""
    finite, seen = torch.stack([total.detach().isfinite(), least > 0]).tolist()
    if not finite:
        refuse(
            "query, key and attn_mask",
            "finite",
            "scores that are NaN or infinite",
            "Look for overflow: bfloat16 reaches further than float16.",
        )
    if renormalise and not seen:
        refuse("the attention to the reference", "above 0 wherever the mask is", "0 for some tokens",
               "No centre is known of a token that attends to other keys alone: leave it out of the mask, or the layer.")  # fmt: skip
