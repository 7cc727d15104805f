"""Pointing at a known correspondence: exact pointers score 1, identity maps the baseline, and the rest what is counted by hand."""

import pytest
import torch
from known import GRID, PIXELS, SUMS, WARPS, maps_of, one_hot, same, shares, targets, together, truth_of

from i2am import AttributionMaps, Recorder, cells
from i2am.data.truth import Truth
from i2am.score.pointing import add_tables, pointing, table

pytestmark = pytest.mark.usefixtures("on_the_cpu")


@pytest.mark.parametrize("special", [0, 2])
@pytest.mark.parametrize("name", WARPS)
def test_exact_maps_point_exactly(name, special):
    warp, reference = WARPS[name]
    truth = truth_of(warp)
    at = targets(truth, GRID, reference)
    p = one_hot(at, GRID, reference, special)
    p[:, :special] = 7.0  # has no place, however much it is attended to
    found = pointing(maps_of(p, reference, special=special), truth, within=0, mass_within=0)
    assert shares(found)[:2] == [1, 1]
    assert found.count.tolist() == [len(at)] == [30 if name == "shift" else 48]
    assert shares(found)[2] < 0.6


@pytest.mark.parametrize(("within", "mass_within"), [(0, 0), (1, 2), (3, 1), (2, 5)])
@pytest.mark.parametrize("name", WARPS)
def test_identity_maps_score_the_baseline(name, within, mass_within):
    warp, reference = WARPS[name]
    truth = truth_of(warp)
    own = targets(truth_of(lambda y, x: (y, x)), GRID, reference)
    found = pointing(maps_of(one_hot(own, GRID, reference), reference), truth, within=within, mass_within=mass_within)
    assert torch.equal(found.hits, found.baseline_hits)
    assert torch.equal(found.held, found.baseline_held)
    right = [max(abs(own[ij][k] - to[k]) for k in (0, 1)) for ij, to in targets(truth, GRID, reference).items()]
    assert found.baseline_hits.item() == sum(d <= within for d in right)
    assert found.baseline_held.item() == sum(d <= mass_within for d in right)
    assert tuple(x.tolist() for x in truth.baseline(GRID, reference, within)) == (found.baseline_hits.tolist(), found.count.tolist())


def test_blurred_maps_hold_what_is_counted_by_hand():
    reference = (20, 20)
    truth = truth_of(lambda y, x: (y * 0.1 + 0.45, x * 0.1 + 0.45))  # everything comes from the middle four patches
    at = targets(truth, GRID, reference)
    p = torch.zeros(48, 20, 20)
    for (i, j), (y, x) in at.items():
        for down, right, share in ((0, 0, 0.4), (1, -1, 0.3), (0, 2, 0.2), (-5, 0, 0.1)):
            p[i * 6 + j, y + down, x + right] = 3 * share  # rows need not add up to 1
    run = maps_of(p.flatten(1), reference)
    for within, mass in ((0, 0.4), (1, 0.7), (2, 0.9), (5, 1.0)):
        found = pointing(run, truth, within=0, mass_within=within)
        assert shares(found)[:2] == pytest.approx([1, mass])
    beside = maps_of(p.roll((1, 2), (1, 2)).flatten(1), reference)  # peaks 2 patches away
    assert [shares(pointing(beside, truth, within=d))[0] for d in (1, 2)] == [0, 1]


def test_random_maps_are_near_chance():
    reference = (12, 10)
    truth = truth_of(lambda y, x: (y * 0.5 + 0.25, x * 0.5 + 0.25), 40)
    found = pointing(maps_of(torch.rand(40, 2, 3, 48, 120), reference), truth, level="head")
    assert found.count.sum(0).tolist() == [40 * 48] * 3
    assert (found.accuracy - 9 / 120).abs().max() < 4 * (9 / 120 / 1920) ** 0.5
    assert (found.mass - 25 / 120).abs().max() < 0.01


def test_patches_off_the_garment_are_not_counted():
    truth = truth_of(lambda y, x: (y, 1 - x), 3)
    truth.inside[:, : 3 * PIXELS] = False  # three rows of patches
    truth.inside[1, :, :PIXELS] = False  # and a column
    truth.inside[2] = False
    truth.source[:, :, : 3 * PIXELS] = torch.nan  # anything may stand where nothing is worn
    truth.inside[0, 5 * PIXELS, 0] = False  # a patch that is worn to 15 / 16
    at = targets(truth_of(lambda y, x: (y, 1 - x)), GRID, GRID)
    wrong = {ij: (0, 0) if ij[0] < 3 else to for ij, to in at.items()}
    run = maps_of(one_hot(wrong, GRID, GRID).expand(3, 1, 1, 48, 48), GRID)
    found = pointing(run, truth)
    assert found.count.tolist() == found.hits.tolist() == [30, 25, 0]
    assert [pointing(run, truth, cover=c).count.tolist() for c in (15 / 16, 0.95)] == [[30, 25, 0], [29, 25, 0]]
    assert truth.on_grid(GRID, GRID).counts[0].sum(1).tolist() == [0, 0, 0, 6, 6, 6, 6, 6]
    alone = pointing(run[2], Truth(truth.source[2:], truth.inside[2:]))
    assert alone.accuracy.isnan()


def several() -> tuple[AttributionMaps, Truth]:
    """Four images, three groups, two layers; the finer one is sharper, and images differ."""
    truth = truth_of(lambda y, x: (y, 1 - x), 4)
    truth.inside[1, :9], truth.inside[3] = False, False
    fine = one_hot(targets(truth, GRID, (8, 6)), GRID, (8, 6)) * 5 + torch.rand(4, 3, 2, 48, 48)
    coarse = torch.rand(4, 3, 2, 12, 13) ** 3
    return together(maps_of(fine, (8, 6)), maps_of(coarse, (4, 3), grid=(4, 3), special=1, name="mid")), truth


def test_levels_are_the_choices_they_stand_for():
    run, truth = several()
    for level, names in (("time", "groups"), ("head", "heads"), ("layer", "layers")):
        whole, every = pointing(run, truth, level=level), ["up", "mid"] if names == "layers" else range(whole_of(run, level))
        for i, one in enumerate(every):
            alone = pointing(run, truth, **{names: one})
            assert all(torch.equal(getattr(whole, name)[:, i], getattr(alone, name)) for name in SUMS), (level, one)
    assert pointing(run, truth, layers="mid").hits.sum() < pointing(run, truth, layers="up").hits.sum()


def whole_of(run: AttributionMaps, level: str) -> int:
    return run.groups if level == "time" else 2


def test_batches_add_up():
    run, truth = several()
    parts = [(run[i:j], Truth(truth.source[i:j], truth.inside[i:j])) for i, j in ((0, 1), (1, 3), (3, 4))]
    first, *rest = (pointing(*part) for part in parts)
    assert same(sum(rest, first), pointing(run, truth))
    rows, added = table(run, truth), add_tables(*(table(*part) for part in parts))
    assert len(added) == len(rows) == 18
    for one, two in zip(added, rows):
        assert one.keys() == two.keys()
        assert all(a == b or a == pytest.approx(b, rel=1e-12) for a, b in zip(one.values(), two.values())), (one, two)


def test_images_of_a_prompt_share_its_truth():
    run, truth = several()
    two, rows = Truth(truth.source[:2], truth.inside[:2]), [0, 0, 1, 1]
    assert same(pointing(run, two), pointing(run, Truth(truth.source[rows], truth.inside[rows])))


def test_the_table_has_a_row_for_everything():
    run, truth = several()
    rows = table(run, truth, within=0)
    assert [(r["level"], r["layer"], r["head"], r["group"]) for r in rows] == [
        (level if level != "unified" or layer is None else "layer", layer, i if level == "head" else None, i if level == "time" else None)
        for layer in (None, "up", "mid")
        for level, count in (("unified", 1), ("head", 2), ("time", 3))
        for i in range(count)
    ]
    assert [r["grid"] for r in rows] == [(8, 6)] * 12 + [(4, 3)] * 6
    for row, found in ((rows[0], pointing(run, truth, within=0)), (rows[12], pointing(run, truth, layers="mid", within=0)),
                       (rows[8], pointing(run, truth, layers="up", heads=1, within=0))):  # fmt: skip
        assert [row[name] for name in ("accuracy", "mass", "baseline_accuracy", "baseline_mass")] == shares(found)
        assert [row[name] for name in SUMS] == [getattr(found, name).sum().item() for name in SUMS]
    uneven = together(run[0], maps_of(torch.rand(1, 3, 5, 48, 48), (8, 6), name="wide"))
    levels = [(r["level"], r["layer"]) for r in table(uneven, Truth(truth.source[:1], truth.inside[:1]))]
    assert ("head", None) not in levels
    assert levels.count(("head", "wide")) == 5


def test_cells_may_be_larger_than_tokens_and_stand_among_other_regions():
    truth = truth_of(lambda y, x: (y, 1 - x))
    p = one_hot(targets(truth, GRID, GRID), GRID, GRID)
    run = maps_of(p, GRID, tiling=(4, 3), before=[(0.5, 0.5)])
    found = pointing(run, truth, cells=(4, 3), mass_within=1)
    assert found.count.item() == 12
    assert shares(found)[:2] == [1, 1]  # the true place is the corner of four patches
    with pytest.raises(ValueError, match=r"regions must be cells that tile .*got point 0\.5 0\.5, box .*\(13\)\. Trace with.*pass cells="):
        pointing(run, truth)
    with pytest.raises(ValueError, match="regions must be cells"):
        pointing(run, truth, cells=(3, 4))
    assert pointing(maps_of(p, GRID, tiling=(1, 1)), truth).count.item() == 1


def test_a_traced_run_points():
    """Through the operator: features that agree where they show the same spot, a CLS token, two layers and two images."""
    grids, rows = ((8, 6), (16, 12)), 20.0
    truth = truth_of(lambda y, x: (y, 1 - x), 2)
    recorder = Recorder(groups=2, steps=2, specific=cells(8, 6))
    for _ in range(2):
        for name, grid in zip(("mid", "up"), grids):
            count = grid[0] * grid[1]
            key = torch.eye(count + 1).expand(2, 2, -1, -1) * rows
            query = key[:, :, 1:].unflatten(2, grid).flip(3).flatten(2, 3)
            recorder.attend(name, query, key, key, generated_grid=grid, reference_grid=grid, special=1, scale=1.0)
        recorder.step()
    run = recorder.maps
    assert shares(pointing(run, truth, layers="mid", within=0, mass_within=0))[:2] == pytest.approx([1, 1])
    rows_of = table(run, truth)
    assert {row["count"] for row in rows_of} == {96}
    assert all(row["accuracy"] == 1 > row["baseline_accuracy"] for row in rows_of)


def test_maps_without_mass_hit_nothing():
    truth = truth_of(lambda y, x: (y, x))
    found = pointing(maps_of(torch.zeros(48, 48), GRID), truth)  # the first patch would be a hit of the first cells
    assert (found.hits.item(), found.held.item(), found.count.item()) == (0, 0, 48)
