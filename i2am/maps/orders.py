"""Another order of a call's tokens: what is generated and its reference may lie interleaved, and ranges want each in one piece.

Attention does not mind: its rows go with the queries, and a softmax over the keys has no order. Queries, keys, values and mask are put in
order before the call is recorded, and the output's rows back afterwards.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from i2am.common.checks import refuse, said
from i2am.maps.tokens import Tokens


class Order(NamedTuple):
    """Places of a call's tokens, in the order that ranges count them; None where they are as they come."""

    queries: Tensor | None
    keys: Tensor | None
    back: Tensor | None  # the place of each of the call's queries among the ordered ones

    @classmethod
    def of(cls, layer: str, tokens: Tokens, queries: int, keys: int, device: torch.device) -> Order | None:
        """The order of a call's tokens, if they have one of their own."""
        if tokens.query_order is None and tokens.key_order is None:
            return None
        places: list[Tensor | None] = []
        for name, order, count in (("query_order", tokens.query_order, queries), ("key_order", tokens.key_order, keys)):
            if order is not None and sorted(order) != list(range(count)):
                refuse(f"{name} of {layer}", f"the places 0 to {count - 1}, each once", f"{len(order)} places: {said(tuple(order[:4]))}...",
                       "It says which of the call's tokens comes first, which second...")  # fmt: skip
            places.append(None if order is None else torch.tensor(order, device=device))
        return cls(places[0], places[1], None if places[0] is None else places[0].argsort())

    def into(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """A call with its tokens in this order."""
        if self.queries is not None:
            query = query.index_select(2, self.queries)
            if mask is not None and mask.ndim > 1 and mask.shape[-2] > 1:
                mask = mask.index_select(-2, self.queries)
        if self.keys is not None:
            key, value = key.index_select(2, self.keys), value.index_select(2, self.keys)
            if mask is not None and mask.shape[-1] > 1:
                mask = mask.index_select(-1, self.keys)
        return query, key, value, mask

    def out_of(self, output: Tensor) -> Tensor:
        """The call's output, whose rows are as its queries came."""
        return output if self.back is None else output.index_select(2, self.back)


def columns_apart(grid: tuple[int, int]) -> tuple[int, ...]:
    """Of two pictures side by side on one grid: the left one's tokens, row by row, and then the right one's."""
    height, width = grid
    halves = (range(width // 2), range(width // 2, width))
    return tuple(row * width + column for half in halves for row in range(height) for column in half)
