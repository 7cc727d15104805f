"""The try-on world: the truth is the picture's own, a pair is the same wherever it is drawn, and files hold what was drawn."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest
import torch
from drawn import inner, looked_up, share_near, warped
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d

from i2am.data.synthetic import Pairs, draw, numbers
from i2am.data.synthetic.numbers import COUNT, Numbers
from i2am.data.synthetic.pairs import trimmed
from i2am.data.synthetic.shapes import Cut
from i2am.data.synthetic.textures import GLYPHS, KINDS, RICH, Texture

SIZE = (128, 96)
COUNT_DRAWN = 12


pytestmark = pytest.mark.usefixtures("on_the_cpu")


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    with torch.device("cpu"):
        return draw(COUNT_DRAWN, size=SIZE)


def same(one: Pairs, other: Pairs) -> bool:
    return all(torch.equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(Pairs))


# What a pair says of itself


def test_the_garment_at_its_source_is_the_garment_that_is_worn() -> None:
    """The reference is drawn four times as fine, so that little but the steepest edges of its pattern is left of resampling."""
    near, fine = draw(4, size=SIZE, rich=0.5), draw(4, size=(512, 384), rich=0.5).garment
    where = inner(near.worn, near.source)
    assert where.float().mean() > 0.05
    assert share_near(warped(fine, near.source, near.shade), near.person, where, 1 / 255) > 0.93
    assert share_near(warped(fine, near.source + 1 / 64, near.shade), near.person, where, 1 / 255) < 0.7
    assert share_near(warped(fine, near.source, torch.ones_like(near.shade)), near.person, where, 1 / 255) < 0.7


def test_masks_cover_what_is_worn_and_are_grey_in_the_agnostic_picture(pairs: Pairs) -> None:
    assert not (pairs.worn & ~pairs.mask).any()
    shown = pairs.worn.flatten(1).float().mean(1)
    painted = pairs.mask.flatten(1).float().mean(1)
    assert (shown > 0.02).all()
    assert (painted > 1.2 * shown).all()  # its outline does not give the garment away
    assert (painted < 0.9).all()
    assert torch.equal(pairs.agnostic == 0, pairs.mask[:, None].expand_as(pairs.person))  # nothing else is grey to the bit
    assert torch.equal(torch.where(pairs.mask[:, None], pairs.person, pairs.agnostic), pairs.person)


def test_nearly_every_worn_pixel_comes_from_the_reference(pairs: Pairs) -> None:
    on = ((pairs.source >= 0) & (pairs.source <= 1)).all(1)
    assert on[pairs.worn].float().mean() > 0.98
    cloth = looked_up(pairs.garment_mask.float()[:, None], pairs.source)[:, 0]
    assert (cloth[inner(pairs.worn, pairs.source)] > 0.5).float().mean() > 0.99
    assert (cloth[~pairs.mask & on] > 0.5).float().mean() < 0.1


def test_pictures_are_finite_and_within_their_range(pairs: Pairs) -> None:
    for picture in (pairs.garment, pairs.person, pairs.densepose):
        assert picture.shape == (COUNT_DRAWN, 3, *SIZE)
        assert picture.abs().max() <= 1
    assert pairs.source.isfinite().all()
    assert ((pairs.shade > 0.5) & (pairs.shade < 1.1))[pairs.worn].all()
    assert not torch.equal(pairs.densepose, draw(COUNT_DRAWN, seed=1, size=SIZE).densepose)


# The same pair everywhere


def test_a_pair_is_the_same_bits_in_any_batch(pairs: Pairs) -> None:
    """And so is a batch of rows that were drawn before, and a second draw."""
    assert same(draw(5, first=3, size=SIZE), pairs[3:8])
    assert same(draw(1, first=7, size=SIZE), pairs[7:8])
    assert same(draw(numbers(2, 0, 4), size=SIZE), pairs[4:6])


@pytest.mark.parametrize("tile", [500, 10**6], ids=["strips", "batches"])
def test_a_pair_is_the_same_bits_however_it_is_cut_into_tiles(monkeypatch: pytest.MonkeyPatch, pairs: Pairs, tile: int) -> None:
    """Strips of 5 rows, the last of 3, and all pairs in one."""
    monkeypatch.setattr("i2am.data.synthetic.pairs.TILE", tile)
    assert same(draw(4, size=SIZE), pairs[:4])
    monkeypatch.undo()
    odd = draw(3, size=(67, 91), rich=0.6)
    monkeypatch.setattr("i2am.data.synthetic.pairs.TILE", tile)
    assert same(draw(3, size=(67, 91), rich=0.6), odd)


def test_drawing_only_what_is_seen_changes_nothing(monkeypatch: pytest.MonkeyPatch, pairs: Pairs) -> None:
    """As a GPU draws: every colour of the batch, also where it is covered."""
    monkeypatch.setattr("i2am.data.synthetic.pairs.dressed", lambda texture, cut, x, y, seen: trimmed(texture, cut, x, y))
    monkeypatch.setattr("i2am.data.synthetic.pairs.TILE", 10**6)
    assert same(draw(COUNT_DRAWN, size=SIZE), pairs)


def test_pair_7_is_what_it_was(pairs: Pairs) -> None:
    """The red of 4 x 3 fields, 0 ... 255: the shipped model was trained on these pictures and its recorded rows measured on them."""
    was = {
        "garment": [[255, 252, 255], [78, 49, 174], [135, 43, 239], [230, 207, 253]],
        "person": [[143, 143, 143], [135, 127, 121], [126, 53, 100], [120, 91, 85]],
        "densepose": [[0, 0, 0], [0, 56, 14], [13, 72, 56], [0, 23, 21]],
    }
    for name, fields_ in was.items():
        now = (adaptive_avg_pool2d(getattr(pairs, name)[7], (4, 3))[0] + 1) * 127.5
        assert (now - torch.tensor(fields_)).abs().max() <= 1, name


def test_pairs_may_be_learned_from() -> None:
    """They are drawn in inference mode, whose tensors autograd would refuse."""
    scale = torch.ones((), requires_grad=True)
    (draw(1, size=(16, 16)).person * scale).mean().backward()
    assert scale.grad is not None


def test_seeds_and_places_give_different_pairs(pairs: Pairs) -> None:
    drawn = torch.cat([numbers(50, seed) for seed in (0, 1, 2, 20_261_121)])
    assert len({row.numpy().tobytes() for row in drawn}) == 200
    assert drawn.shape == (200, COUNT)
    assert drawn.mean().item() == pytest.approx(0.5, abs=0.01)
    other = draw(4, seed=1, size=SIZE)
    for name in ("garment", "person", "source"):
        found = torch.cat([getattr(pairs, name), getattr(other, name)]).flatten(1)
        assert torch.cdist(found, found).fill_diagonal_(math.inf).min() > 1, name


def test_a_world_is_the_same_at_any_size(pairs: Pairs) -> None:
    """Four pixels for every one: their mean place is that pixel's, and what all four wear it wears."""
    fine = draw(4, size=(256, 192))
    assert (avg_pool2d(fine.source, 2) - pairs.source[:4]).abs().max() < 0.1 / 128
    for name in ("worn", "mask", "garment_mask"):
        share = avg_pool2d(getattr(fine, name).float()[:, None], 2)[:, 0]
        sure = (share == 0) | (share == 1)
        assert sure.float().mean() > 0.9
        assert ((share == 1) == getattr(pairs, name)[:4])[sure].float().mean() > 0.999, name
    for name in ("person", "garment", "densepose"):
        assert (avg_pool2d(getattr(fine, name), 2) - getattr(pairs, name)[:4]).abs().mean() < 0.03, name


# What there is to see


def glyph(mark: Tensor) -> str:
    """The sign of a print [28, 28] (alpha) that has no badge behind it, as it stands in GLYPHS."""
    return "".join(str(int(bit)) for bit in mark[5:24:4, 5:24:4].flatten())


def textures(count: int, rich: float) -> Texture:
    of = Numbers(numbers(count))
    Cut.drawn(of)
    return Texture.drawn(of, rich)


def test_every_texture_and_every_print_occurs() -> None:
    found = textures(600, 0.2)
    kinds = found.kind.flatten().bincount(minlength=len(KINDS))
    assert len(kinds) == len(KINDS)
    assert (kinds > 20).all()
    assert kinds[-RICH:].sum().item() == pytest.approx(120, abs=35)
    alphas = torch.cat([mark[:, 3] for mark in found.prints])
    bare = alphas[(alphas[:, 0] == 0).all(1) & (alphas.flatten(1).any(1))]  # a sign has a margin, a badge has none at its middle
    signs = {glyph(mark) for mark in bare if not mark[0, 14]}
    assert signs - {"1" * 25} == set(GLYPHS)
    badges = (alphas[:, 0, 0] == 1).sum(), ((alphas[:, 0, 0] == 0) & (alphas[:, 0, 14] == 1)).sum()  # square, round
    assert min(badges) > 20


@pytest.mark.parametrize("rich", [0.0, 1.0])
def test_rich_is_the_share_of_garments_that_only_copying_gets_right(rich: float) -> None:
    assert ((textures(50, rich).kind >= len(KINDS) - RICH) == bool(rich)).all()


# Files
