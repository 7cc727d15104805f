"""Losses on the centres of attention c_i (y, x) of generated tokens i, in cells of the reference: how rough and how disordered they are.

    variation = weight (mean over vertical neighbours i, i' of m_i m_i' |c_i' - c_i|^p + the same over horizontal ones)
    disorder = -weight mean over pairs i, i' of m_i m_i' (relu(x_i' - x_i) where i' stands right of i in its row
                                                        + relu(y_i' - y_i) where i' stands below i in its column)

m is the mask. What the means divide by:
    mean="all": by every element. variation: the B (h - 1) w vertical or B h (w - 1) horizontal pairs times the 2 coordinates;
        disorder: all B (h w)^2 ordered pairs, also those of no common row or column, which add nothing.
    mean="mask": by the mask's sum over the whole batch. variation: sum m_i m_i' over the pairs, once for both coordinates, whose
        distances are added up; disorder: sum over images of (sum m_i)^2. A mask without neighbours has a variation of 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from i2am.common.checks import is_floating, refuse, said
from i2am.losses.presets import check_distance, check_mean, positive
from i2am.maps.canvas import picture
from i2am.maps.layer_sums import LayerSums


def variation(centres: Tensor, mask: Tensor, *, weight: float = 0.0001, distance: str = "square", mean: str = "all") -> Tensor:
    """The total variation of centres [B, h, w, 2] within a mask [B, h, w]: a scalar. distance: "square" is (c - c')^2 and "absolute"
    |c - c'|, of each coordinate."""
    weight = checked(centres, mask, weight, mean)
    check_distance(distance)
    found = centres.new_zeros(())
    for axis in (1, 2):
        if centres.shape[axis] == 1:  # no neighbours this way
            continue
        apart = centres.diff(dim=axis)
        apart = (apart * apart if distance == "square" else apart.abs()).sum(-1)
        both = neighbours(mask, axis)
        found = found + averaged(apart * both, 2 * apart.numel() if mean == "all" else both.sum())
    return weight * found


def disorder(centres: Tensor, mask: Tensor, *, weight: float = 0.01, mean: str = "all") -> Tensor:
    """How far centres [B, h, w, 2] lie in the order of their tokens, with a minus: a scalar, 0 where none follows its neighbours.

    Rows and columns are compared each by itself: O(B h w (h + w)) memory.
    """
    weight = checked(centres, mask, weight, mean)
    y, x = centres.unbind(-1)
    found = ordered(x, mask) + ordered(y.mT, mask.mT)
    return -weight * averaged(found, mask[0].numel() ** 2 * len(mask) if mean == "all" else mask.flatten(1).sum(1).square().sum())


def neighbours(mask: Tensor, axis: int) -> Tensor:
    """m m' of each cell and the next one."""
    size = mask.shape[axis]
    return mask.narrow(axis, 1, size - 1) * mask.narrow(axis, 0, size - 1)


def ordered(at: Tensor, mask: Tensor) -> Tensor:
    """sum of m m' relu(at' - at) over the pairs of a line [B, lines, n] in their order."""
    ahead = (at[..., None, :] - at[..., :, None]).relu()  # [B, lines, i, i']
    return (ahead * (mask[..., None, :] * mask[..., :, None]).triu(1)).sum()


def averaged(values: Tensor, count: Tensor | int) -> Tensor:
    """The sum over a count; 0 where nothing is counted."""
    if isinstance(count, Tensor):
        count = count.clamp(min=torch.finfo(count.dtype).tiny)
    return values.sum() / count


def checked(centres: Tensor, mask: Tensor, weight: float, mean: str) -> float:
    """Tensors that fit each other, and the weight."""
    if not is_floating(centres, 4) or centres.shape[-1] != 2 or 0 in centres.shape:
        refuse("centres", "a tensor [B, h, w, 2] of (y, x)", said(centres), "Lay the tokens out on their grid: centres.unflatten(1, grid).")
    check_weights(mask, tuple(centres.shape[:3]), centres)
    check_mean(mean)
    return positive("weight", weight)


def check_weights(mask: Tensor, shape: tuple[int, ...], like: Tensor) -> None:
    """A mask on the generated grid."""
    if not is_floating(mask, 3) or mask.shape != shape or mask.device != like.device:
        refuse(
            "mask",
            f"floating point numbers {list(shape)} on {like.device}",
            said(mask),
            "It lies on the generated grid: 1 inside, 0 outside.",
        )


def centres_of(sums: LayerSums, mask: Tensor, renormalise: bool, calls: int) -> Tensor:
    """[B, h, w, 2]: c_i = sum_j A_ij r_j, where A is P averaged over heads, time groups and calls and r_j = (row, column) from 0.

    renormalise: A_ij / sum_j A_ij, so that only cells count; else what special tokens (CLS) and other keys take is missing.
    """
    moments = sums.field_g2r
    assert moments is not None
    mass, y, x = moments.sum((1, 2))[:, :3].unflatten(-1, picture(sums, "field_g2r", "centres")).unbind(1)  # [B, h, w]
    lost = (mass <= 0) & (mask > 0)
    if renormalise and lost.any():
        refuse(f"the attention of {sums.layer} to its reference", "above 0 wherever the mask is", f"0 for {int(lost.sum())} tokens",
               "No centre is known of a token that attends to other keys alone: choose other layers with layers=.")  # fmt: skip
    count = torch.where(mass > 0, mass, 1) if renormalise else mass.new_tensor(moments.shape[2] * calls)
    return torch.stack([(at - mass / 2) / count for at in (y, x)], -1)  # moments are of the cells' middles, 1/2 from their corners
