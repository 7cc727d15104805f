"""The correspondence field: `moments` as weights and `field` of what they add up to, on every route and in both directions."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from cases import FUSED, ROUTES, Case, check, half_library, make, run, truth

from i2am_kernels import field, moments
from i2am_kernels.fields import MOMENTS

HERE, THERE = (5, 8), (4, 9)  # the generated and the reference grid, neither of them square
G, R = 40, 36


@pytest.fixture(params=ROUTES)
def route(request):
    return request.param


def weighed(case: Case, here=HERE, there=THERE, special=0) -> Case:
    """The case with a field both ways; `special` of the reference's tokens have no place."""
    rows = case.canvas()[0]
    weights = {
        "token_weight": moments(there, special).mT.expand(rows, -1, -1),
        "column_weight": moments(here).expand(rows, -1, -1),
    }
    maps = ("r2g", "g2r", "token_maps", "column_maps")
    return replace(case, options={**case.options, **weights}, maps=maps, words=MOMENTS, columns=MOMENTS)


def one_hot(order, dtype=torch.float32) -> Case:
    """Generated token i attends to reference token order[i] alone, and that one to it: a score of 0, which every log-sum-exp holds
    exactly, and -500 elsewhere."""
    eye = torch.eye(len(order))
    query, key = F.pad(500 * eye, (0, 1), value=1.0), F.pad(eye[torch.argsort(order)], (0, 1), value=-500.0)
    return Case(*(t[None, None].to(dtype) for t in (query, key, key)), {"scale": 1.0})


def centres(grid):
    """[T, 2]: where each cell lies, in fractions of the grid."""
    height, width = grid
    cell = torch.arange(height * width)
    return torch.stack([(cell // width + 0.5).double() / height, (cell % width + 0.5).double() / width], -1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_one_hot_attention_gives_its_position_exactly(route, dtype):
    """Bit for bit; torch's half-precision kernel alone tells L = 5e-5 where it is 0, which the division by the mass takes back."""
    grids = (5, 8), (4, 10)
    order = torch.randperm(40)
    case = weighed(one_hot(order, dtype), *grids)
    got = run(case, route).maps
    close = {"rtol": 1e-6, "atol": 1e-6} if half_library(case, route) else {"rtol": 0, "atol": 0}
    for name, grid, right in (("token_maps", grids[1], order), ("column_maps", grids[0], torch.argsort(order))):
        positions, covariances, mass = field(got[name], grid)
        torch.testing.assert_close(positions[0, 0], centres(grid)[right], **close)
        torch.testing.assert_close(covariances, torch.zeros_like(covariances), **close)
        torch.testing.assert_close(mass, torch.ones_like(mass), rtol=0, atol=100 * close["atol"])


def test_even_attention_gives_the_centre_and_the_grid_s_own_spread(route):
    case = make(tokens=(G, R), amplitude=0.0)
    got = run(weighed(case), route).maps
    for name, (height, width) in (("token_maps", THERE), ("column_maps", HERE)):
        positions, covariances, mass = field(got[name], (height, width))
        torch.testing.assert_close(positions, torch.full_like(positions, 0.5), rtol=1e-6, atol=0)
        spread = torch.tensor([(height**2 - 1) / 12 / height**2, 0.0, (width**2 - 1) / 12 / width**2], dtype=torch.float64)
        torch.testing.assert_close(covariances, spread.expand_as(covariances), rtol=0, atol=1e-5)
        torch.testing.assert_close(mass, torch.ones_like(mass), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"amplitude": 30.0},
        {"attn_mask": torch.arange(R) % 5 > 0},
        {"attn_mask": torch.arange(G)[:, None] % 7 > 0},
    ],
    ids=["plain", "sharp", "hidden keys", "hidden rows"],
)
def test_the_sums_are_the_definition_s(route, options):
    check(weighed(make(batch=2, tokens=(G, R), **options)), route)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("fused", FUSED)
def test_half_precision(fused, dtype):
    check(weighed(make(batch=2, tokens=(G, R), dtype=dtype)), fused)


@pytest.mark.parametrize("amplitude", [1.0, 8.0])
def test_the_field_is_the_attention_s_mean_and_covariance(route, amplitude):
    """Against both softmaxes in float64, cell by cell."""
    case = make(tokens=(G, R), amplitude=amplitude)
    scores = case.query.double() @ case.key.double().mT / 4
    got = run(weighed(case), route).maps
    for name, weights, grid in (("token_maps", scores.softmax(-1), THERE), ("column_maps", scores.softmax(-2).mT, HERE)):
        where = centres(grid)  # [T, 2]
        mean = weights @ where
        away = where - mean[..., None, :]  # [..., T, 2]
        positions, covariances, _ = field(got[name], grid)
        torch.testing.assert_close(positions, mean, rtol=2e-6, atol=2e-6)
        for k, (a, b) in enumerate(((0, 0), (0, 1), (1, 1))):
            torch.testing.assert_close(covariances[..., k], (weights * away[..., a] * away[..., b]).sum(-1), rtol=0, atol=1e-5)


def test_moving_the_reference_moves_the_positions(route):
    """The same tokens in another place of a larger grid, beside tokens that nobody attends to."""
    case = one_hot(torch.randperm(36))
    large = (7, 12)
    cells = torch.arange(7 * 12).view(large)[2:6, 3:12].flatten()  # 4 x 9, two down and three to the right
    key = torch.zeros(1, 1, 7 * 12, 37)
    key[..., -1] = -500
    key[:, :, cells] = case.key
    here = (4, 9)
    one = field(run(weighed(case, here, THERE), route).maps["token_maps"], THERE)[0] * torch.tensor(THERE)
    moved = replace(case, key=key, value=key)
    two = field(run(weighed(moved, here, large), route).maps["token_maps"], large)[0] * torch.tensor(large)
    torch.testing.assert_close(two, one + torch.tensor([2.0, 3.0]).double(), rtol=1e-12, atol=0)


def test_special_tokens_have_no_place_and_the_rest_is_renormalised(route):
    special = 3
    case = make(tokens=(G, special + R))
    got = run(weighed(case, special=special), route).maps["token_maps"]
    p = (case.query.double() @ case.key.double().mT / 4).softmax(-1)[..., special:]
    positions, _, mass = field(got, THERE)
    torch.testing.assert_close(mass, p.sum(-1), rtol=1e-5, atol=0)
    torch.testing.assert_close(positions, p @ centres(THERE) / p.sum(-1, keepdim=True), rtol=1e-5, atol=0)


def test_tokens_without_mass_have_no_position(route):
    mask = torch.ones(G, R, dtype=torch.bool)
    mask[3] = mask[:, 5] = False
    got = run(weighed(make(tokens=(G, R), attn_mask=mask)), route).maps
    for name, token, grid in (("token_maps", 3, THERE), ("column_maps", 5, HERE)):
        positions, covariances, mass = field(got[name], grid)
        assert positions[..., token, :].isnan().all()
        assert covariances[..., token, :].isnan().all()
        assert mass[..., token].eq(0).all()
        assert positions.isnan().sum() == positions[..., token, :].numel()


def test_fields_of_calls_add_up(route):
    """Steps, heads and layers by their mass: the field of the sum is that of the mean attention."""
    first, second = weighed(make(tokens=(G, R))), weighed(make(tokens=(G, R)))
    buffers = first.buffers()
    run(first, route, buffers)
    run(second, route, buffers)
    together = truth(first).maps["token_maps"] + truth(second).maps["token_maps"]
    torch.testing.assert_close(field(buffers["token_maps"], THERE)[0], field(together, THERE)[0], rtol=1e-5, atol=0)


def test_moments_are_exact_and_begin_behind_special_tokens():
    found = moments((2, 3), special=2)
    assert found.dtype == torch.float32
    assert found[:, :2].eq(0).all()
    y, x = torch.tensor([0.5, 0.5, 0.5, 1.5, 1.5, 1.5]), torch.tensor([0.5, 1.5, 2.5] * 2)
    assert torch.equal(found[:, 2:], torch.stack([torch.ones(6), y, x, y * y, y * x, x * x]))
    assert torch.equal(moments((64, 48)).to(torch.bfloat16)[:3].float(), moments((64, 48))[:3])  # the first moments in half precision too


REFUSED = {
    "grid no pair": (lambda: moments(12), ["moments: grid", "(height, width)", "got 12", "."]),
    "grid of three": (lambda: moments((2, 3, 4)), ["grid", "(height, width)", "(2, 3, 4)"]),
    "empty grid": (lambda: moments((0, 4)), ["grid", "whole numbers of 1 or more", "(0, 4)"]),
    "half a cell": (lambda: moments((2.5, 4)), ["grid", "whole numbers", "(2.5, 4)"]),
    "negative special": (lambda: moments((2, 3), special=-1), ["special", "0 or more", "-1"]),
    "special no number": (lambda: moments((2, 3), special="one"), ["special", "0 or more", "'one'"]),
    "sums of five": (lambda: field(torch.zeros(5, 12), (3, 4)), ["field: sums", "[..., 6, tokens]", "(5, 12)", "moments"]),
    "sums no tensor": (lambda: field([0.0], (3, 4)), ["field: sums", "[..., 6, tokens]", "list"]),
    "a flat tensor": (lambda: field(torch.zeros(6), (3, 4)), ["field: sums", "(6)"]),
    "grid of the field": (lambda: field(torch.zeros(6, 12), "34"), ["field: grid", "(height, width)", "'34'"]),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_with_everything_named(kind):
    wrong, words = REFUSED[kind]
    with pytest.raises(ValueError) as refused:
        wrong()
    message = str(refused.value)
    assert [word for word in words if word not in message] == [], message
    assert " must be " in message
    assert message.endswith(".")
