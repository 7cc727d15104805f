"""The centre-weighted Gaussian loss: attention near its own centre is rewarded.

    P = softmax over all keys of scale * Q K^T + bias        A_ij = P averaged over heads, j a cell of the reference
    c_i = sum_j A_ij r_j, r_j = (row, column)
    concentration = -weight mean over images, i and j of m_i A_ij exp(-|r_j - c_i|^p / (2 sigma^2))

What the mean divides by: mean="all" by all B G cells, tokens outside of the mask and all cells of the reference included; mean="mask" by
the mask's sum over the batch, while the cells j are added up. A is never stored: queries come in chunks, each seeing all keys, and are
computed again for the gradient, which is exact, also through the centre. Memory: O(chunk * R).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from i2am.common.checks import is_size, is_whole, number, refuse, said, whole_number
from i2am.losses.centres import averaged, check_weights
from i2am.losses.presets import check_distance, check_mean, positive, truth_value
from i2am.maps.kept_calls import KeptCall
from i2am.maps.tokens import Grid
from i2am_kernels import moments
from i2am_kernels.call import additive
from i2am_kernels.reference import softmax

SCORES = 1 << 22  # held at a time


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
    without gradient. chunk: queries at a time; None takes about four million scores.
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
    chunk = max(1, SCORES // (batch * heads * key.shape[2])) if chunk is None else whole_number("chunk", chunk, 1, "None chooses.")

    exact = torch.float64 if query.dtype == torch.float64 else torch.float32
    places = moments(grid, device=query.device)[1:3].T.to(exact) - 0.5  # [cells, 2], (row, column) from 0
    inside = mask.to(exact).flatten(1)  # [B, G]
    keys, cells = key.to(exact), slice(first + special, last)
    power = 1 if distance == "absolute" else 2

    def near(query: Tensor, inside: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """The sum of m_i A_ij exp(...) over a chunk [B, heads, c, D], and the least mass of a token in the mask."""
        with torch.autocast(query.device.type, enabled=False):
            scores = query.to(exact) @ keys.mT * scale
            seen = softmax(scores if bias is None else scores + additive(bias, exact), -1).mean(1)[..., cells]  # [B, c, cells]
            mass = seen.sum(-1, keepdim=True)
            if renormalise:
                seen = seen / torch.where(mass > 0, mass, 1)
            centre = seen @ places  # [B, c, 2]
            off = places - (centre.detach() if detach_centre else centre)[:, :, None]
            away = torch.linalg.vector_norm(off, dim=-1) if power == 1 else off.square().sum(-1)
            found = (inside[..., None] * seen * torch.exp(away / (-2 * sigma**2))).sum()
            return found, torch.where(inside > 0, mass.detach()[..., 0], torch.inf).amin()

    whole = attn_mask is None or attn_mask.shape[2] == 1  # one bias for every query
    parts = query.split(chunk, 2)
    biases = [attn_mask] * len(parts) if whole else attn_mask.split(chunk, 2)  # type: ignore[union-attr]
    total, least = query.new_zeros((), dtype=exact), query.new_full((), torch.inf, dtype=exact)
    for part, m, bias in zip(parts, inside.split(chunk, 1), biases):
        found, mass = checkpoint(near, part, m, bias, use_reentrant=False, preserve_rng_state=False)
        total, least = total + found, torch.minimum(least, mass)
    refuse_lost(total, least, renormalise)
    return -weight * averaged(total, inside.numel() * len(places) if mean == "all" else inside.sum())


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
