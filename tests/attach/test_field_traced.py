"""The field of every family whose tokens lie on grids: its sums equal an oracle's that stores the whole attention in float64."""

from __future__ import annotations

import oracle
import pytest
import torch
from families import FAMILIES, GROUPS, STEPS, close, observed, rows, single

import i2am

PLACED = ["ip-adapter-full", "ip-adapter-second-of-two", "ip-adapter-masked", "catvton", "idm-vton", "ootdiffusion", "fitdit", "pasd",
          "flux-kontext", "qwen-image-edit", "stable-viton"]  # fmt: skip
RUNS = [
    pytest.param(name, batch, size, guided, id=f"{name}-{batch}-{'square' if size == 0 else '4:3'}-{'guided' if guided else 'plain'}")
    for name in PLACED
    for batch, size, guided in ((1, 1, FAMILIES[name].guided[-1]), (3, 0, FAMILIES[name].guided[0]))
]


@pytest.mark.parametrize(("name", "batch", "size", "guided"), RUNS)
def test_sums_equal_the_stored_attention(name: str, batch: int, size: int, guided: bool) -> None:
    family = FAMILIES[name]
    maps, calls, _ = observed(family, batch, size, guided, field=True)
    recorded = [s for s in maps.sums if (family.source is None or s.source == family.source) and s.field_g2r is not None]
    assert recorded
    for sums in recorded:
        run = oracle.of(calls, sums.layer, family.number, 0)
        where = {"rows": rows(family, run[0], batch), "generated": family.generated(run[0]), "reference": family.reference(run[0])}
        grids = (sums.generated_grid, sums.reference_grid, sums.special)
        right = oracle.fields(run, *grids, **where, groups=GROUPS, steps=STEPS)
        eager = oracle.fields([single(call) for call in run], *grids, **where, groups=GROUPS, steps=STEPS)
        for found, *both, what in zip((sums.field_g2r, sums.field_r2g), right, eager, ("field_g2r", "field_r2g")):
            close(found, *both, run, f"{what} of {sums.layer}")


@pytest.mark.parametrize("name", ["catvton", "qwen-image-edit"])
def test_maps_are_those_of_a_run_without_it(name: str) -> None:
    family = FAMILIES[name]
    with_field, plain = (observed(family, 2, 1, family.guided[0], field=field)[0] for field in (True, False))
    assert with_field.has_field
    assert not plain.has_field
    for direction in ("r2g", "g2r"):
        torch.testing.assert_close(with_field.unified(direction), plain.unified(direction), rtol=1e-4, atol=1e-7)


def test_the_field_of_an_image_does_not_depend_on_the_batch() -> None:
    family = FAMILIES["catvton"]
    together = observed(family, 3, 0, True, field=True)[0]
    alone = observed(family, 1, 0, True, field=True)[0]
    for direction in ("g2r", "r2g"):
        torch.testing.assert_close(together[0].field(direction).positions, alone.field(direction).positions, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["paint-by-example", "ip-adapter-plain", "ip-adapter-plus"])
def test_a_reference_without_places_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"no layer knows where its tokens lie|one token"):
        observed(FAMILIES[name], 1, 0, False, field=True)


def test_words_and_field_share_a_visit() -> None:
    """Joint attention: the words' columns and the field's moments go through the operator together, and come apart again."""
    family = FAMILIES["flux-kontext"]
    both, field, words = (observed(family, 2, 1, False, **asked)[0]
                          for asked in ({"field": True, "words": True}, {"field": True}, {"words": True}))  # fmt: skip
    assert both.sums[0].words.shape == words.sums[0].words.shape
    torch.testing.assert_close(both.sums[0].words, words.sums[0].words, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(both.field("g2r").positions, field.field("g2r").positions, rtol=0, atol=1e-4)
    assert isinstance(both, i2am.AttributionMaps)
