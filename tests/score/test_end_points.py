"""End-point errors of fields that end where they are told: at the truth, beside it, and nowhere."""

from __future__ import annotations

import math

import pytest
import torch
from fielded import Layer, noise, one_hot, recorded
from known import GRID, PIXELS, WARPS, targets, truth_of

from i2am import AttributionMaps
from i2am.data.truth import Truth
from i2am.score.end_points import EndPoints, end_points

pytestmark = pytest.mark.usefixtures("on_the_cpu")


def maps_of(name: str, step: tuple[int, int] = (0, 0), special: int = 0) -> tuple[AttributionMaps, Truth]:
    """A run that points where the truth of this warp lies, or so many patches beside it."""
    warp, reference = WARPS[name]
    truth = truth_of(warp)
    found = targets(truth, GRID, reference)
    to = [found.get((i, j), (0, 0)) for i in range(GRID[0]) for j in range(GRID[1])]
    order = torch.tensor([(y + step[0]) % reference[0] * reference[1] + (x + step[1]) % reference[1] for y, x in to])
    return recorded(one_hot(order, GRID, reference, special)), truth


@pytest.mark.parametrize("special", [0, 2])
@pytest.mark.parametrize("name", ["shift", "flip", "turn"])
def test_the_truth_itself_has_no_error(name: str, special: int) -> None:
    maps, truth = maps_of(name, special=special)
    found = end_points(maps, truth)
    assert len(found.errors) == len(targets(truth, GRID, WARPS[name][1])) == (30 if name == "shift" else 48)
    assert found.errors.max() < 1e-5
    assert found.errors.dtype == torch.float64
    assert (found.within(0.01), found.median < 1e-5) == (1, True)


def test_finer_references_measure_in_their_own_patches() -> None:
    """The truth of a generated patch lies between two patches of the reference, and the field is the middle of one of them."""
    maps, truth = maps_of("half")
    assert end_points(maps, truth).errors.numpy() == pytest.approx(0.5, abs=1e-5)
    maps, truth = maps_of("turn, finer")  # three by four patches of the reference to one generated
    assert end_points(maps, truth).quantile(1) < math.hypot(1.5, 2)


@pytest.mark.parametrize("step", [(1, 0), (2, 1)])
def test_known_distances(step: tuple[int, int]) -> None:
    """A field so many patches beside the truth; at the border it comes in on the other side, which is far."""
    found = end_points(*maps_of("flip", step))
    beside, far = math.hypot(*step), (GRID[0] - step[0]) * (GRID[1] - step[1])
    assert (found.errors - beside).abs().lt(1e-5).sum() == far
    assert (found.within(beside - 1e-4), found.within(beside + 1e-4)) == (0, far / 48)
    assert found.median == pytest.approx(beside, abs=1e-5)
    assert found.quantile(0) == found.errors.min().item()
    assert found.quantile(1) == found.errors.max().item() > 4


def test_shares_and_quantiles_are_of_patches_that_there_are() -> None:
    found = EndPoints(torch.tensor([3.0, 0.0, 1.0, math.inf]).double())
    assert [found.within(d) for d in (0, 0.5, 1, 3, 1e9)] == [0.25, 0.25, 0.5, 0.75, 0.75]
    assert found.within() == 0.5
    assert [found.quantile(q) for q in (0, 0.3, 0.5, 0.7, 1)] == [0, 0, 1, 3, math.inf]
    assert found.median == 1
    both = found + EndPoints(torch.zeros(2).double())
    assert both.errors.tolist() == [3, 0, 1, math.inf, 0, 0]
    nobody = EndPoints(torch.empty(0).double())
    assert math.isnan(nobody.median)
    assert math.isnan(nobody.within())
    assert (nobody + found).median == 1


def test_who_attends_to_nothing_is_infinitely_far() -> None:
    warp, reference = WARPS["flip"]
    seen = torch.ones(1, 1, 48, 48, dtype=torch.bool)
    seen[:, :, [5, 9, 30]] = False
    order = torch.arange(48).view(8, 6).flip(1).flatten()
    found = end_points(recorded(one_hot(order, GRID, reference), how={"attn_mask": seen}), truth_of(warp))
    assert found.errors.isinf().nonzero().flatten().tolist() == [5, 9, 30]
    assert found.within(1000) == 45 / 48
    assert found.quantile(1) == math.inf


def test_looking_everywhere_ends_in_the_middle() -> None:
    warp, reference = WARPS["turn"]
    maps = recorded(Layer(torch.zeros(1, 1, 1, 48, 48), GRID, reference))
    right = [math.hypot(y + 0.5 - 3, x + 0.5 - 4) for y, x in targets(truth_of(warp), GRID, reference).values()]
    assert end_points(maps, truth_of(warp)).errors.numpy() == pytest.approx(right, abs=1e-5)


def test_what_is_not_worn_is_not_counted() -> None:
    maps, truth = maps_of("flip", (1, 0))
    truth.inside[:, : 3 * PIXELS] = False
    truth.source[:, :, : 3 * PIXELS] = torch.nan
    truth.inside[0, 5 * PIXELS, 0] = False  # one of 16 pixels
    assert [len(end_points(maps, truth, cover=c).errors) for c in (0.9, 0.95)] == [30, 29]
    nobody = end_points(maps, Truth(truth.source, torch.zeros_like(truth.inside)))
    assert len(nobody.errors) == 0


def several() -> tuple[AttributionMaps, Truth]:
    """Four images of two layers and two groups, truths of two prompts."""
    warp, reference = WARPS["flip"]
    fine, coarse = noise(GRID, reference, 2, 4, 2, name="up", size=4.0), noise((4, 3), (4, 3), 2, 4, 2, 1, name="mid")
    fine.scores[..., torch.arange(48), torch.arange(48).view(8, 6).flip(1).flatten()] += 4.0
    truth = truth_of(warp, 2)
    truth.inside[1, :9] = False
    return recorded(fine, coarse, groups=2), truth


def test_images_of_a_prompt_share_its_truth_and_batches_add_up() -> None:
    maps, truth = several()
    whole, rows = end_points(maps, truth), [0, 0, 1, 1]
    every = Truth(truth.source[rows], truth.inside[rows])
    assert torch.equal(whole.errors, end_points(maps, every).errors)
    parts = [end_points(maps[i:j], Truth(every.source[i:j], every.inside[i:j])) for i, j in ((0, 1), (1, 3), (3, 4))]
    assert torch.equal((parts[0] + parts[1] + parts[2]).errors, whole.errors)
    assert len(whole.errors) == 2 * 48 + 2 * 30


@pytest.mark.parametrize(
    "choice", [{}, {"layers": "mid"}, {"heads": 1, "groups": 0}, {"weigh": "evenly", "layers": "up"}, {"size": (4, 6)}]
)
def test_choices_are_the_fields(choice: dict) -> None:
    """Against the field's own positions; errors are in patches of the run's finest reference, whatever layer is asked."""
    maps, truth = several()
    positions = maps.field("g2r", **choice).positions.double()
    h, w = positions.shape[1:3]
    right = []
    for image in range(4):
        source, inside = truth.source[image // 2].double(), truth.inside[image // 2]
        for i in range(h):
            for j in range(w):
                tile = (slice(i * 32 // h, (i + 1) * 32 // h), slice(j * 24 // w, (j + 1) * 24 // w))
                if inside[tile].double().mean() >= 0.9:
                    off = (positions[image, i, j] - source[(slice(None), *tile)].mean((1, 2))) * torch.tensor([8, 6])
                    right.append(off.norm().item())
    assert end_points(maps, truth, **choice).errors.numpy() == pytest.approx(right, abs=1e-5)


def test_what_is_wrong_is_said() -> None:
    maps, truth = several()
    with pytest.raises(ValueError, match=r"maps must be an AttributionMaps, got"):
        end_points(maps.field(), truth)
    with pytest.raises(ValueError, match=r"truth must be a Truth, got .* Build one"):
        end_points(maps, truth.source)
    with pytest.raises(ValueError, match=r"the truth must be of the run's 3 images, or of one per prompt, got 2\."):
        end_points(maps[:3], truth)
    for cover in (0, 1.1, math.nan, "a"):
        with pytest.raises(ValueError, match=r"cover must be a share above 0, up to 1"):
            end_points(maps, truth, cover=cover)
    for level in ("time", "head", "layer"):
        with pytest.raises(ValueError, match=r'level must be "unified", got another'):
            end_points(maps, truth, level=level)
    for share in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"share must be from 0 to 1"):
            end_points(maps, truth).quantile(share)
    with pytest.raises(ValueError, match=r"this run has no field_g2r maps"):
        end_points(recorded(noise((3, 2), (2, 2)), field=False), truth_of(WARPS["flip"][0]))
