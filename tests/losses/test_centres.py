"""Losses on centres: laws, exact gradients, and memory."""

from __future__ import annotations

import pytest
import torch
from refined import drawn, half, layer, traced

from benchmarks.measuring.measure import peak_bytes
from i2am.losses import dcml, disorder, tv, variation
from i2am.losses.centres import centres_of

pytestmark = pytest.mark.usefixtures("on_the_cpu")
H, W = 4, 3
ALL = torch.ones(1, H, W, dtype=torch.float64)
IDENTITY = torch.stack(torch.meshgrid(torch.arange(H).double(), torch.arange(W).double(), indexing="ij"), -1)[None]  # [1, H, W, 2]


def random(seed: int = 0, images: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    made = torch.Generator().manual_seed(seed)
    centres = 4 * torch.rand(images, H, W, 2, generator=made, dtype=torch.float64)
    return centres.requires_grad_(), torch.rand(images, H, W, generator=made, dtype=torch.float64)


@pytest.mark.parametrize("distance", ["absolute", "square"])
def test_an_identity_takes_steps_of_one_cell(distance):
    """Of two coordinates one steps, each way."""
    assert variation(IDENTITY, ALL, weight=1, distance=distance, mean="mask").item() == pytest.approx(2)
    assert variation(IDENTITY, ALL, weight=1, distance=distance).item() == pytest.approx(1)
    steps = 4 if distance == "square" else 2
    assert variation(2 * IDENTITY, ALL, weight=1, distance=distance).item() == pytest.approx(steps)


def test_an_identity_is_in_order():
    """Cells d apart in a line of n: n - d pairs, n (n^2 - 1) / 6 in all."""
    apart = H * W * (W**2 - 1) / 6 + W * H * (H**2 - 1) / 6
    assert disorder(IDENTITY, ALL, weight=1).item() == pytest.approx(-apart / (H * W) ** 2)
    assert disorder(IDENTITY, ALL, weight=1, mean="mask").item() == pytest.approx(-apart / (H * W) ** 2)


def test_a_reversed_order_and_a_constant_earn_nothing():
    assert disorder(-IDENTITY, ALL).item() == 0
    constant = torch.full_like(IDENTITY, 1.5)
    assert disorder(constant, ALL).item() == variation(constant, ALL).item() == 0


def test_moving_every_centre_changes_nothing():
    centres, mask = random()
    for loss in (variation, disorder):
        assert loss(centres + 7, mask).item() == pytest.approx(loss(centres, mask).item(), rel=1e-12)


def test_turning_the_picture_changes_nothing():
    centres, mask = random()
    for loss in (variation, disorder):
        assert loss(centres.transpose(1, 2).flip(-1), mask.mT).item() == pytest.approx(loss(centres, mask).item(), rel=1e-12)


@pytest.mark.parametrize("mean", ["all", "mask"])
@pytest.mark.parametrize("loss", [variation, disorder])
def test_outside_of_the_mask_nothing_counts(loss, mean):
    centres, mask = random()
    mask = (mask > 0.4).double()
    loss(centres, mask, mean=mean).backward()
    assert centres.grad[mask == 0].abs().max() == 0 < centres.grad.abs().max()


def test_a_mask_without_neighbours_has_no_variation():
    mask = torch.zeros_like(ALL)
    mask[0, 0, 0] = mask[0, 2, 2] = 1
    assert variation(random(images=1)[0], mask, mean="mask").item() == 0


@pytest.mark.parametrize("mean", ["all", "mask"])
def test_gradients(mean):
    centres, mask = random()
    assert torch.autograd.gradcheck(lambda c: disorder(c, mask, weight=1, mean=mean), centres)
    for distance in ("absolute", "square"):
        assert torch.autograd.gradcheck(lambda c, how=distance: variation(c, mask, weight=1, distance=how, mean=mean), centres)


def test_pairs_of_all_tokens_are_never_stored():
    """h w (h + w) numbers, a few times over, where all pairs would be (h w)^2."""
    h, w = 48, 32
    centres = torch.rand(1, h, w, 2, requires_grad=True)
    peak = peak_bytes(lambda: disorder(centres, torch.ones(1, h, w)).backward(), torch.device("cpu"))
    assert 4 * h * w * w < peak < 4 * (h * w) ** 2 / 2


def test_steps_without_calls_are_counted():
    """What special tokens take is missing from the mean over steps and heads, whether or not the calls are kept."""
    of, mask = drawn(special=1, steps=2), half()
    maps, bare = traced(of), traced(of)
    object.__setattr__(bare.sums[0], "calls", ())
    for loss in (tv, dcml):
        assert loss(bare, mask, renormalise=False).item() == loss(maps, mask, renormalise=False).item() != loss(maps, mask).item()


def test_tokens_without_mass_outside_of_the_mask_have_no_say():
    """A CLS token that takes everything leaves no centre; in the mask that is refused, beside it the gradient stays finite."""
    of = drawn(special=1, images=1)
    with torch.no_grad():
        of.keys[0][:, :, 0] = 0
        of.keys[0][:, :, 0, 0] = of.queries[0][:, :, 11, 0] = 3e3
        of.queries[0][:, :, :11, 0] = 0
    mask = torch.ones(1, H, W, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"the attention of a to its reference must be above 0 wherever the mask is, got 0 for 1 tokens"):
        centres_of(layer(of), mask, True, 1)
    mask[0, 3, 2] = 0
    tv(traced(of), mask).backward()
    assert all(operand.grad.isfinite().all() for operand in of.operands)
