"""What a reference token counts with in the maps: its attention weights alone, the size of what they bring along, or what that is good for.

    "weights"   n_hj = 1
    "values"    n_hj = ||W_h v_hj||, W_h the columns of the layer's output projection that belong to head h; ||v_hj|| without one
    "gradient"  n_ij = max(dO_i . v_j, 0), dO the gradient of a scalar by attention's output: maps/relevant.py

Attention adds P_ij W_h v_hj to a layer's output, so n_hj P_ij is the size of what token j brings to place i. R of W_h = Q R has the same
norms, ||R v|| = ||W_h v||, in the head's own size; it is found once, and a call then costs a product of its values with R.
"""

from __future__ import annotations

import torch
from torch import Tensor

from i2am.common.checks import is_floating, refuse, said
from i2am_kernels.groups import repeated

WEIGHINGS = ("weights", "values", "gradient")


def checked_weighing(weigh: object) -> str:
    """The name of a way of weighing, if it is one."""
    if not isinstance(weigh, str) or weigh not in WEIGHINGS:
        refuse("weigh", f"one of {', '.join(map(repr, WEIGHINGS))}", said(weigh), "Maps of plain attention are 'weights'.")
    return weigh


class Projection:
    """A layer's output projection, as far as the norms of what it makes want it; looked at again when it was changed."""

    def __init__(self) -> None:
        self.factor: Tensor | None = None  # R [H, D or fewer, D], float32; None: the values' own norms
        self.seen: tuple[Tensor, int] | None = None  # the matrix, and which version of it

    def of(self, weight: Tensor | None, layer: str, heads: int, size: int) -> Tensor | None:
        """The factor of this matrix [C, H * D], of so many heads of this size."""
        if weight is None:
            self.factor = self.seen = None
            return None
        if not is_floating(weight, 2) or weight.shape[1] != heads * size:
            refuse(f"output_weight of {layer}", f"a matrix [C, {heads * size}], {heads} heads of {size}", said(weight),
                   "It is the weight of the layer's output projection, to_out[0].weight.")  # fmt: skip
        version = 0 if weight.is_inference() else weight._version
        if self.seen is None or self.seen[0] is not weight or self.seen[1] != version:
            with torch.no_grad():
                each = weight.detach().float().unflatten(1, (heads, size)).movedim(1, 0)  # [H, C, D]
                self.factor, self.seen = torch.linalg.qr(each, mode="r").R, (weight, version)
        return self.factor


def norms(value: Tensor, factor: Tensor | None, heads: int) -> Tensor:
    """n [B, H, R] of values [B, H, R, D], in float32; of fewer heads, which a group of query heads each reads, with a W_h of its own."""
    value, group = value.detach().float(), heads // value.shape[1]
    if factor is None:
        return repeated(torch.linalg.vector_norm(value, dim=-1), group)
    found = [torch.linalg.vector_norm(value @ factor[member::group].mT, dim=-1) for member in range(group)]
    return found[0] if group == 1 else torch.stack(found, 2).flatten(1, 2)
