"""Where the oracle finds what a joint sequence holds: ranges of a stored call's keys and queries."""

from __future__ import annotations

from collections.abc import Callable

import oracle
from joint import TEXT
from parts import VAE_FACTOR

Cut = Callable[[oracle.Call], "tuple[int, int]"]


def tokens(size: tuple[int, int]) -> int:
    """How many tokens a picture of so many pixels has."""
    return size[0] * size[1] // (2 * VAE_FACTOR) ** 2


def behind(count: int, stop: int = 0) -> Cut:
    """`count` keys, with `stop` behind them."""
    return lambda call: (call.key.shape[2] - stop - count, call.key.shape[2] - stop)


def made(text: int = TEXT, references: int = 0) -> Cut:
    """The queries between the text and the references."""
    return lambda call: (text, call.query.shape[2] - references)


def at(start: int, count: int) -> Cut:
    return lambda call: (start, start + count)


def first_of(others: int = 0, text: int = TEXT) -> Cut:
    """What is generated, in front of a picture of the same size and `others`."""
    return lambda call: (text, text + (call.key.shape[2] - text - others) // 2)


def second_of(others: int = 0, text: int = TEXT) -> Cut:
    """The picture that has the size of what is generated."""
    return lambda call: (text + (call.key.shape[2] - text - others) // 2, call.key.shape[2] - others)


def in_front_of(others: int) -> Cut:
    """The queries of an adapter's call, which has no text: what is generated, and then the references."""
    return lambda call: (0, call.query.shape[2] - others)
