"""The centre-weighted loss on queries and keys: laws, exact gradients in chunks, and memory."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from refined import drawn, half
from torch import Tensor

from benchmarks.measuring.measure import peak_bytes
from i2am.losses import concentrating, concentration

pytestmark = pytest.mark.usefixtures("on_the_cpu")
GRID, REFERENCE = (4, 3), (5, 4)
PLACES = torch.tensor(list(itertools.product(range(5), range(4)))).double()  # [20, 2]
MASK = half(2)[:, ::4, ::4].double()


def bump(sharpness: float, beside: float = 0.0) -> tuple[Tensor, Tensor]:
    """Scores that fall from one cell of each token, or from beside it: keys are unit vectors, so that queries are the scores."""
    peaks = PLACES[torch.arange(12) % 20] + beside
    scores = -sharpness * (peaks[:, None] - PLACES).square().sum(-1)
    return scores[None, None], torch.eye(20).double()[None, None]


def eager(query: Tensor, key: Tensor, *, special: int, distance: str, mean: str, renormalise: bool, detach_centre: bool) -> Tensor:
    """As it is written, with everything stored."""
    seen = (query @ key.mT * 0.5).softmax(-1).mean(1)[..., special:]
    seen = seen / seen.sum(-1, keepdim=True) if renormalise else seen
    centre = seen @ PLACES
    off = (PLACES - (centre.detach() if detach_centre else centre)[:, :, None]).square().sum(-1)
    near = torch.exp(-(off.sqrt() if distance == "absolute" else off) / (2 * 0.8**2))
    weighed = MASK.flatten(1)[..., None] * seen * near
    return -3 * (weighed.mean() if mean == "all" else weighed.sum() / MASK.sum())


@pytest.mark.parametrize("chunk", [5, None])
@pytest.mark.parametrize("special", [0, 1])
def test_chunks_give_the_gradient_of_stored_attention(chunk, special):
    of = drawn(special)
    query, key = of.operands
    choices = {"distance": ("absolute", "square"), "mean": ("all", "mask"), "renormalise": (True, False), "detach_centre": (True, False)}
    for values in itertools.product(*choices.values()):
        options = dict(zip(choices, values))
        found = concentration(query, key, MASK, REFERENCE, special=special, scale=0.5, weight=3, sigma=0.8, chunk=chunk, **options)
        wanted = eager(query, key, special=special, **options)
        assert found.item() == pytest.approx(wanted.item(), rel=1e-12)
        for ours, theirs in zip(torch.autograd.grad(found, (query, key)), torch.autograd.grad(wanted, (query, key))):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("distance", ["absolute", "square"])
def test_gradients(distance):
    of = drawn(special=1, before=1, heads=2, images=1, size=1.0, grid=(2, 2), reference=(1, 3))
    bias = torch.rand(1, 1, 4, 5, generator=torch.Generator().manual_seed(0)).double() - 0.5
    bias[:, :, 3] = -torch.inf  # a token that sees nothing, outside of the mask
    mask = torch.tensor([[[1.0, 1], [0.5, 0]]]).double()

    def loss(query: Tensor, key: Tensor) -> Tensor:
        return concentration(query, key, mask, (1, 3), reference=of.part, special=1, attn_mask=bias, distance=distance, weight=100, chunk=3)

    assert torch.autograd.gradcheck(loss, (of.queries[0], of.keys[0]), fast_mode=True)


def test_a_query_at_a_time():
    query, key = drawn().operands
    one, all_of_them = (concentration(query, key, MASK, REFERENCE, chunk=chunk) for chunk in (1, 12))
    assert one.item() == pytest.approx(all_of_them.item(), rel=1e-12)


def test_detaching_the_centre_changes_the_gradient_alone():
    query, key = drawn().operands
    through, target = (concentration(query, key, MASK, REFERENCE, detach_centre=detached) for detached in (False, True))
    assert through.item() == target.item()
    assert (torch.autograd.grad(through, query)[0] - torch.autograd.grad(target, query)[0]).abs().max() > 1e-6


def test_sharper_attention_is_rewarded():
    ones = torch.ones(1, *GRID).double()
    found = [concentration(*bump(sharpness), ones, REFERENCE, scale=1.0, mean="mask", weight=1).item() for sharpness in (0.1, 0.5, 2, 400)]
    assert found == sorted(found, reverse=True)
    assert found[-1] == pytest.approx(-1)  # all of it at the centre


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_attention_that_is_its_centre_has_a_gradient(dtype):
    """All of it on one cell: nothing is nearer, and dividing by the distance would be 0 / 0."""
    query, key = (tensor.to(dtype).requires_grad_() for tensor in bump(400))
    concentration(query, key, torch.ones(1, *GRID).to(dtype), REFERENCE, scale=1.0).backward()
    assert query.grad.abs().max() < 1e-6  # and no NaN


def test_a_token_that_nearly_misses_the_reference_has_a_gradient():
    """All but a denormal number of its attention is on a special token, so that 1 / mass would be infinite in float32."""
    query = torch.zeros(1, 1, 12, 21).requires_grad_()
    key = torch.eye(21)[None, None]
    with torch.no_grad():
        query[0, 0, :, 0] = 90.0 + math.log(21)
    found = concentration(query, key, torch.ones(1, *GRID), REFERENCE, special=1, scale=1.0)
    found.backward()
    assert found.isfinite()
    assert query.grad.isfinite().all()


def test_near_a_cell_the_gradient_is_that_of_float64():
    """Centres a hundredth of a cell and less beside one: places would cancel each other. On it, the slope has a kink."""
    exact = [tensor.requires_grad_() for tensor in bump(8.0, beside=0.25)]
    single = [tensor.detach().float().requires_grad_() for tensor in exact]
    for query, key in (exact, single):
        concentration(query, key, torch.ones(1, *GRID).to(query), REFERENCE, scale=1.0, weight=1e6).backward()
    right = exact[0].grad
    assert (single[0].grad - right).abs().max() < 1e-4 * right.abs().max()


def test_what_the_means_divide_by():
    """All attention at its centre earns 1 a token of the mask."""
    mask = torch.zeros(1, *GRID).double()
    mask[0, 1:, :2] = 1
    query, key = bump(400)
    assert concentration(query, key, mask, REFERENCE, scale=1.0, weight=1).item() == pytest.approx(-6 / (12 * 20))
    assert concentration(query, key, mask, REFERENCE, scale=1.0, weight=1, mean="mask").item() == pytest.approx(-1)


def test_a_wide_sigma_counts_the_mass_alone():
    query, key = drawn(special=1).operands
    wide = {"scale": 0.5, "special": 1, "sigma": 1e6, "weight": 1, "mean": "mask"}
    assert concentration(query, key, MASK, REFERENCE, **wide).item() == pytest.approx(-1)
    mass = (query @ key.mT * 0.5).softmax(-1)[..., 1:].sum(-1).mean(1)
    missing = (mass * MASK.flatten(1)).sum() / MASK.sum()
    assert concentration(query, key, MASK, REFERENCE, **wide, renormalise=False).item() == pytest.approx(-missing.item())


def test_outside_of_the_mask_nothing_counts():
    of = drawn()
    concentration(*of.operands, MASK, REFERENCE).backward()
    rows = of.queries[0].grad.abs().amax((1, 3))  # [B, G]
    assert ((rows > 0) == (MASK.flatten(1) > 0)).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(dtype):
    of = drawn(dtype=dtype)
    query, key = of.operands
    with torch.autocast("cpu", torch.bfloat16):
        found = concentration(query, key, MASK, REFERENCE)
    found.backward()
    assert found.dtype == torch.float32
    assert query.grad.dtype == dtype
    assert found.item() == pytest.approx(concentration(query.double(), key.double(), MASK, REFERENCE).item(), rel=1e-5)


def test_memory_does_not_grow_with_the_matrix(monkeypatch):
    """Five times the scores take at most what queries, keys and their gradients need more."""
    monkeypatch.setattr(concentrating, "SCORES", {"cpu": 1 << 15})
    heads, size, peaks = 2, 8, []
    for side in (16, 24):
        tokens = side * side
        query, key = (torch.randn(1, heads, tokens, size, requires_grad=True) for _ in range(2))
        mask = torch.ones(1, side, side)
        peaks.append(peak_bytes(lambda q=query, k=key, m=mask, s=side: concentration(q, k, m, (s, s)).backward(), torch.device("cpu")))
    operands, matrix = 2 * 4 * heads * tokens * size, 4 * heads * tokens**2
    assert peaks[1] < peaks[0] + 4 * operands
    assert peaks[1] < matrix / 2
