"""Every family of models: the maps equal an oracle that stores the whole attention of the same run in float64.

Batch 1 and 3, guided and not, square and 4:3, held by `tolerance` beside the eager float32 statement on the same queries and keys.
"""

from __future__ import annotations

import oracle
import pipelines
import pytest
import tolerance
from families import FAMILIES, TERMS, hold, observed, runs

import i2am

RUNS = runs(FAMILIES, every=True)


@pytest.mark.parametrize(("name", "batch", "size", "guided"), RUNS)
def test_maps_equal_the_stored_attention(name: str, batch: int, size: int, guided: bool) -> None:
    hold(FAMILIES[name], batch, size, guided)


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
