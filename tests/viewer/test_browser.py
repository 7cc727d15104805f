"""The viewer in a real Chromium: a patch that is known paints the map that is known, and the numbers are its numbers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browsing import Open, hover, middle, painted, pixels, set_display, settled, spot, started, text, values, windows
from torch.nn import functional as F
from viewed import CELLS, GENERATED, LAYERS, REFERENCE, flat, known, target


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from started()


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Open]:
    yield from windows(browser, tmp_path)


def test_hovering_a_patch_paints_the_map_it_is_known_to_have(show):
    maps = known()
    tab = show(maps)
    assert painted(tab, "reference") is None
    set_display(tab, opacity=100, patches=True, fade=False)
    colours = np.array(tab.evaluate("i2am.colours('inferno')")).reshape(256, 3)
    for cell in [(0, 0), (2, 3), (5, 1)]:
        hover(tab, "generated", *middle(CELLS, cell))
        shown = painted(tab, "reference")
        right = maps.specific(cell[0] * CELLS[1] + cell[1])[0]
        torch.testing.assert_close(values(shown), right, rtol=0, atol=float(right.max()) / 120)
        assert divmod(int(values(shown).argmax()), REFERENCE[1]) == target(*cell)
        picture = pixels(tab, "reference")
        down, across = ((torch.arange(n) + 0.5) / n for n in REFERENCE)
        level = (right - right.min()) / (right.max() - right.min())
        for i, y in enumerate(down.tolist()):  # every patch has its colour
            for j, x in enumerate(across.tolist()):
                got = picture[int(y * picture.shape[0]), int(x * picture.shape[1]), :3].astype(int)
                near = colours[max(0, round(float(level[i, j]) * 255) - 3) : round(float(level[i, j]) * 255) + 4].astype(int)
                assert abs(near - got).max(1).min() <= 4, (cell, i, j)
        place = target(*cell)
        assert f"at row {place[0]}, column {place[1]} of 8 \u00d7 6" in text(tab, "#at-reference")
        assert f"where cell {cell[0]}, {cell[1]} came from" in text(tab, "figure[data-side=reference] .what")
        peak = tab.locator("figure[data-side=reference] .marks .peak").evaluate("e => [e.style.top, e.style.left]")
        assert [float(side.removesuffix("%")) / 100 for side in peak] == pytest.approx(middle(REFERENCE, place), abs=1e-4)
    tab.mouse.move(2, 2)
    settled(tab)
    assert painted(tab, "reference") is None


def test_hovering_the_reference_shows_where_it_went(show):
    maps = known()
    tab = show(maps)
    every = maps.level("specific")[0]  # [cells, 8, 6]
    for place in [(7, 0), (4, 4)]:
        hover(tab, "reference", *middle(REFERENCE, place))
        shown = painted(tab, "generated")
        right = every[:, place[0], place[1]].view(CELLS)
        torch.testing.assert_close(values(shown), right, rtol=0, atol=float(every.max()) / 100)
        assert f"where patch {place[0]}, {place[1]} went" in text(tab, "figure[data-side=generated] .what")
    assert painted(tab, "reference") is None


def test_maps_grow_smoothly_as_torch_grows_them(show):
    """Without pictures the canvas is the map alone, bicubic, clamped and coloured."""
    maps = known(1, pictures=False)
    tab = show(maps, 1100, 560)
    set_display(tab, opacity=100, patches=False, fade=False)
    got = pixels(tab, "generated")
    assert max(got.shape) <= 384
    big = F.interpolate(maps.unified("r2g")[:, None], got.shape[:2], mode="bicubic", align_corners=False)[0, 0].clamp(min=0)
    low, high = maps.unified("r2g").aminmax()
    colours = np.array(tab.evaluate("i2am.colours('inferno')")).reshape(256, 3)
    right = colours[((big - low) / (high - low)).clamp(0, 1).mul(255).round().int().numpy()]
    assert abs(got[..., :3].astype(int) - right).mean() < 1.5


def test_opacity_fade_and_pictures(show):
    tab = show(known())
    tab.mouse.click(*spot(tab, "generated", *middle(CELLS, (0, 0))))
    set_display(tab, opacity=0, patches=True, fade=False)
    assert abs(pixels(tab, "reference")[..., :3].astype(int) - np.array(flat(4).getpixel((0, 0)))).max() <= 3  # the picture alone
    set_display(tab, opacity=50, patches=True, fade=False)
    half = pixels(tab, "reference")
    set_display(tab, opacity=100, patches=True, fade=False)
    full = pixels(tab, "reference")
    mixed = (full[..., :3].astype(float) + np.array(flat(4).getpixel((0, 0)))) / 2
    assert abs(half[..., :3] - mixed).max() <= 4
    assert abs(full[..., :3] - mixed).max() > 40
    set_display(tab, opacity=100, patches=True, fade=True)
    faded = pixels(tab, "reference")
    place = [int(n * x) for n, x in zip(full.shape, middle(REFERENCE, target(0, 0)))]
    assert (faded[place[0], place[1]] == full[place[0], place[1]]).all()  # the peak stays
    assert abs(faded[2, -3, :3].astype(int) - np.array(flat(4).getpixel((0, 0)))).max() < 20  # what is low goes
    assert abs(full[2, -3, :3].astype(int) - np.array(flat(4).getpixel((0, 0)))).max() > 80


def test_numbers_and_shares(show):
    maps = known()
    tab = show(maps)
    place = (7, 2)
    hover(tab, "generated", *middle(GENERATED, place))
    unified = maps.unified("r2g")[0]
    value, share = float(unified[place]), float(unified[place] / unified.sum())
    said = text(tab, "#at-generated")
    assert f"row {place[0]}, column {place[1]} of 12 \u00d7 8" in said
    parts = tab.locator("#at-generated span").all_text_contents()
    assert float(parts[0]) == pytest.approx(value, rel=0.02)
    assert parts[1].endswith("% of the total")
    assert float(parts[1].split()[0]) == pytest.approx(100 * share, rel=0.02)
    bars = tab.locator(".chart[data-level=time] button")
    at_patch = maps.time("r2g")[0, :, place[0], place[1]]
    for i in range(2):
        name, said = bars.nth(i).get_attribute("aria-label").split(": ")
        assert name == f"group {i + 1} of 2"
        assert float(said.split()[0]) == pytest.approx(100 * float(at_patch[i] / at_patch.sum()), abs=0.6)
        assert said.endswith("% at this patch")
    tab.mouse.move(2, 2)
    settled(tab)
    means = torch.stack([maps.unified("r2g", layers=layer)[0].mean() for layer in LAYERS])
    label = tab.locator(".chart[data-level=layer] button").nth(0).get_attribute("aria-label")
    assert label.startswith(LAYERS[0])
    assert float(label.split(": ")[1].split()[0]) == pytest.approx(100 * float(means[0] / means.sum()), abs=0.6)


def test_clicks_keep_a_patch_and_escape_lets_go(show):
    tab = show(known())
    tab.mouse.click(*spot(tab, "generated", *middle(CELLS, (1, 1))))
    hover(tab, "generated", *middle(CELLS, (4, 3)))
    assert "where cell 1, 1 came from" in text(tab, "figure[data-side=reference] .what")
    assert tab.locator("figure[data-side=generated] .marks .pinned").count() == 1
    hover(tab, "reference", *middle(REFERENCE, (3, 2)))  # the numbers of the kept map under the cursor
    assert "row 3, column 2 of 8 \u00d7 6" in text(tab, "#at-reference")
    assert "where cell 1, 1 came from" in text(tab, "figure[data-side=reference] .what")
    tab.mouse.click(*spot(tab, "generated", *middle(CELLS, (1, 1))))  # again
    tab.mouse.move(2, 2)
    settled(tab)
    assert painted(tab, "reference") is None
    tab.mouse.click(*spot(tab, "reference", *middle(REFERENCE, (3, 2))))
    tab.mouse.move(2, 2)
    settled(tab)
    assert "where patch 3, 2 went" in text(tab, "figure[data-side=generated] .what")
    tab.keyboard.press("Escape")
    settled(tab)
    assert "R2G" in text(tab, "figure[data-side=generated] .what")
