"""One attention call as it was, from which P = softmax(scale * Q K^T + bias) can be made again: what a loss needs that no sums hold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from i2am.common.checks import fields_said, is_floating, refuse, said
from i2am_kernels.groups import repeated


@dataclass(frozen=True, eq=False)
class KeptCall:
    """The generated queries of the recorded rows, and every key that they attend to; on the model's device, with their gradient."""

    query: Tensor  # [B', H, G', D]
    key: Tensor  # [B', H / group, R, D]
    mask: Tensor | None  # bool or additive, four dimensions, each the call's own size or 1
    scale: float
    reference: slice  # where among the keys the reference sits, its special tokens first
    group: int = 1  # query heads that read the same key head
    __repr__ = fields_said

    def __post_init__(self) -> None:
        for name, tensor in (("query", self.query), ("key", self.key)):
            if not is_floating(tensor, 4):
                refuse(name, "a tensor [batch, heads, tokens, head size]", said(tensor), "Split the heads first.")
        batch, heads, generated, size = self.query.shape
        keys = self.key.shape[2]
        shape, alike = (batch, heads // self.group, keys, size), (self.query.dtype, self.query.device)
        if self.key.shape != shape or heads % self.group or (self.key.dtype, self.key.device) != alike:
            refuse("key", f"like the query, {said(self.query)}, but for its tokens", said(self.key), "They come from one call of a layer.")
        if self.mask is not None:
            fits = self.mask.ndim == 4 and all(n in (1, m) for n, m in zip(self.mask.shape, (batch, heads, generated, keys)))
            if not fits or not (self.mask.dtype == torch.bool or self.mask.is_floating_point()):
                refuse("the attention's mask", f"boolean or additive, [{batch}, {heads}, {generated}, {keys}] or 1 where it repeats",
                       said(self.mask), "Add the missing dimensions: mask[:, None, None, :].")  # fmt: skip
        first, last, step = self.reference.indices(keys)
        if step != 1 or first >= last:
            refuse("reference", f"a slice of the {keys} keys", said(self.reference), "slice(0, key.shape[2]) holds all of them.")

    @property
    def keys(self) -> Tensor:
        """[B', H, R, D]: those that query heads share once for each of them."""
        return repeated(self.key, self.group)

    def cut(self, images: Any, heads: Any) -> KeptCall:
        """The call of some images and heads."""
        mask = self.mask
        if mask is not None:
            mask = mask if mask.shape[0] == 1 else mask[images]
            mask = mask if mask.shape[1] == 1 else mask[:, heads]
        if isinstance(heads, slice) and heads == slice(None):
            return replace(self, query=self.query[images], key=self.key[images], mask=mask)
        return replace(self, query=self.query[images][:, heads], key=self.keys[images][:, heads], mask=mask, group=1)
