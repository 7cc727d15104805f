"""Every family of models: the maps equal an oracle that stores the whole attention of the same run in float64.

Batch 1 and 3, guided and not, square and 4:3, held by `tolerance` beside the eager float32 statement on the same queries and keys.
"""

from __future__ import annotations

import oracle
import pipelines
import pytest
import tolerance
from families import FAMILIES, GROUPS, STEPS, TERMS, Family, close, observed, rows, single

import i2am

RUNS = [
    pytest.param(name, batch, size, guided, id=f"{name}-{batch}-{'square' if size == 0 else '4:3'}-{'guided' if guided else 'plain'}")
    for name, family in FAMILIES.items()
    for batch, size in ((1, 1), (3, 0))
    for guided in family.guided
]


@pytest.mark.parametrize(("name", "batch", "size", "guided"), RUNS)
def test_maps_equal_the_stored_attention(name: str, batch: int, size: int, guided: bool) -> None:
    family = FAMILIES[name]
    maps, calls, _ = observed(family, batch, size, guided)
    recorded = [s for s in maps.sums if family.source is None or s.source == family.source]
    assert [s.layer for s in recorded] == [name for name in oracle.layers(calls) if holds(calls, name, family)]
    assert len(maps) == batch
    for sums in recorded:
        run = oracle.of(calls, sums.layer, family.number, 0)
        where = {"rows": rows(family, run[0], batch), "generated": family.generated(run[0]), "reference": family.reference(run[0])}
        r2g, g2r = oracle.truth(run, **where, groups=GROUPS, steps=STEPS)
        r2g32, g2r32 = oracle.truth([single(call) for call in run], **where, groups=GROUPS, steps=STEPS)
        close(sums.r2g, r2g, r2g32, run, f"r2g of {sums.layer}")
        if sums.g2r is None:
            assert g2r.shape[-1] == 1
        else:
            close(sums.g2r, g2r[:, :, :, 0], g2r32[:, :, :, 0], run, f"g2r of {sums.layer}")
        assert sums.generated_grid is not None
        assert sums.generated_grid[0] * sums.generated_grid[1] == r2g.shape[-1]


def holds(calls: list[oracle.Call], layer: str, family: Family) -> bool:
    """Whether the layer made the call that holds the reference."""
    return any(call.layer == layer and call.number == family.number for call in calls)


@pytest.mark.parametrize("level", ["unified", "time", "head", "layer"])
@pytest.mark.parametrize("size", [None, (37, 50)])
def test_levels_of_a_run(level: str, size: tuple[int, int] | None) -> None:
    family = FAMILIES["ip-adapter-full"]
    maps, _, _ = observed(family, 2, 1, True)
    for direction, canvas in (("r2g", (16, 12)), ("g2r", pipelines.GRID)):
        buffers = [maps.buffer(direction, name).double() for name in maps.layers]
        expected = oracle.level(level, buffers, size or canvas)
        tolerance.alike(getattr(maps, level)(direction, size).double().flatten(-2), expected.flatten(-2), TERMS)


def test_the_conditional_row_is_the_one() -> None:
    """One step: the maps of a guided run are the unguided run's, and not those of the other rows."""
    for name in ("paint-by-example", "ip-adapter-full", "flux-kontext", "kandinsky"):
        family = FAMILIES[name]
        case = family.build()
        with i2am.trace(case.pipe, groups=1) as run:
            case(batch=2, steps=1, guided=True)
        guided = run.maps.unified("r2g")
        other = "uncond|cond" if family.two_calls else "cond-uncond"
        with i2am.trace(case.pipe, groups=1, guidance=other) as run:
            case(batch=2, steps=1, guided=True)
        wrong = run.maps.unified("r2g")
        with i2am.trace(case.pipe, groups=1) as run:
            case(batch=2, steps=1, guided=False)
        plain = run.maps.unified("r2g")
        scale = plain.max()
        assert (guided - plain).abs().max() <= 1e-5 * scale, name
        assert (wrong - plain).abs().max() > 1e-3 * scale, name
