"""Newer families of one stream or two: every map and every word equals the one that is made from the stored attention of the same run."""

from __future__ import annotations

from functools import partial

import oracle
import pytest
import streams
import torch
from cuts import Cut, at, behind, first_of, made, second_of
from families import Family, hold, hold_words, runs
from joint import TEXT
from streams import FIBO2_GRIDS, GIST, READ

import i2am

ONE, OTHER = (rows * columns for rows, columns in FIBO2_GRIDS)
LOOKED = READ + 3  # the prompt behind the picture that it is about, which is one token between two marks
TALL, WIDE = 5 * 4, 4 * 6  # tokens of Fibo Edit's references, 16 pixels each


def fibo2(which: int) -> Cut:
    """What is generated (0) or a reference (1, 2): the gist is in front, behind where a batch's gists are unequal, not in the refiner."""

    def cut(call: oracle.Call) -> tuple[int, int]:
        count = call.query.shape[2] - ONE - OTHER
        gist = 0 if "refiner" in call.layer else 2 * GIST
        start = 0 if call.mask is not None else gist
        ends = (0, count - gist, count - gist + ONE, count - gist + ONE + OTHER)
        return start + ends[which], start + ends[which + 1]

    return cut


def fibo_made(call: oracle.Call) -> tuple[int, int]:
    """What is generated, 8 by 6 tokens alone and 6 by 6 in a batch, behind a text of whatever length and in front of the references."""
    stop = call.query.shape[2] - TALL - WIDE
    return stop - pixels(call), stop


def pixels(call: oracle.Call) -> int:
    return 48 if len(call.query) <= 2 else 36


def last(call: oracle.Call) -> tuple[int, int]:
    """What is generated, behind a text of whatever length."""
    return call.query.shape[2] - pixels(call), call.query.shape[2]


def before(call: oracle.Call) -> tuple[int, int]:
    """A text of whatever length."""
    return 0, call.key.shape[2] - pixels(call)


def first(call: oracle.Call) -> tuple[int, int]:
    """What is generated, in front of a text."""
    return 0, pixels(call)


def rest(call: oracle.Call) -> tuple[int, int]:
    """A text behind what is generated."""
    return pixels(call), call.key.shape[2]


def all_keys(call: oracle.Call) -> tuple[int, int]:
    return 0, call.key.shape[2]


Joint = partial(Family, layers=r"(single_)?transformer_blocks.*attn")
ATTENTION = r"(layers|noise_refiner).*\.attention"
FAMILIES = {
    "longcat-edit": Joint(partial(streams.longcat, True), two_calls=True, generated=first_of(text=LOOKED),
                          reference=second_of(text=LOOKED), guided=(True,)),
    "fibo-edit": Joint(partial(streams.fibo, True), generated=fibo_made,
                       parts={"image 1": behind(TALL, WIDE), "image 2": behind(WIDE)}),
    "fibo2": Family(streams.fibo2, layers=ATTENTION, two_calls=True, generated=fibo2(0), parts={"image 1": fibo2(1), "image 2": fibo2(2)}),
    "flux3": Family(streams.flux3, layers="single_transformer_blocks.*attn", two_calls=True, generated=made(references=ONE + OTHER),
                    parts={"image 1": behind(ONE, OTHER), "image 2": behind(OTHER)}),
}  # fmt: skip

WORDS = {
    "longcat": Joint(streams.longcat, two_calls=True, generated=made(READ), words=at(0, READ)),
    "bria": Joint(streams.bria, generated=made(READ), words=at(0, READ)),
    "fibo": Joint(streams.fibo, generated=last, words=before),
    "ovis": Joint(streams.ovis, two_calls=True, generated=made(64), words=at(0, 64)),
    "krea2": Joint(streams.krea2, two_calls=True, generated=made(), words=at(0, TEXT)),
    "ernie": Family(streams.ernie, layers="layers.*attention", generated=first, words=rest),
    "ideogram4": Family(streams.ideogram4, layers="layers.*attention", generated=made(32), words=at(0, 32), guided=(True,)),
    "fibo2": Family(streams.fibo2, layers=r"layers.*cross_attention", two_calls=True, generated=fibo2(0), words=all_keys),
}  # fmt: skip


@pytest.mark.parametrize(("name", "batch", "size", "guided"), runs(FAMILIES))
def test_maps_equal_the_stored_attention(name: str, batch: int, size: int, guided: bool) -> None:
    hold(FAMILIES[name], batch, size, guided)


@pytest.mark.parametrize(("name", "batch", "size", "guided"), runs(WORDS))
def test_words_equal_the_stored_attention(name: str, batch: int, size: int, guided: bool) -> None:
    hold_words(WORDS[name], batch, size, guided)


@pytest.mark.parametrize("name", ["longcat", "bria", "fibo", "ovis", "krea2", "ernie", "fibo2"])
def test_the_conditional_rows_are_the_ones(name: str) -> None:
    """One step: the words of a guided run are the unguided run's, and those of the other rows or calls are not."""
    case, other = WORDS[name].build(), "uncond|cond" if WORDS[name].two_calls else "cond-uncond"
    found = []
    for guided, options in ((True, {}), (False, {}), (True, {"guidance": other})):
        with i2am.trace(case.pipe, groups=1, words=True, **options) as run:
            case(steps=1, guided=guided)
        found.append(torch.cat([sums.words.square().sum(-2).flatten() for sums in run.maps.sums if sums.words is not None]))
    guided, plain, wrong = found
    assert (guided - plain).abs().max() <= 1e-5 * plain.max()
    assert (wrong - plain).abs().max() > 1e-3 * plain.max()
