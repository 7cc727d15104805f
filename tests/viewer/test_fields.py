"""Fields in the viewer: the bytes are the field's, and a real Chromium shows the point and the ellipse in their places."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browsing import Open, hover, painted, pixels, settled, started, text, windows
from PIL import Image
from pointed import DEVIATION, HERE, THERE, TILT, centres, mirrored, pointed, read_fields, same, unmirrored
from viewed import flat, known, parsed

from i2am.viewer.html import page

pytestmark = pytest.mark.usefixtures("on_the_cpu")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from started()


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Open]:
    yield from windows(browser, tmp_path)


def test_the_page_holds_the_field_of_every_level():
    maps = pointed(images=2)
    shown = parsed(page(maps))
    for image in (0, 1):
        found = read_fields(shown, image)
        assert set(found) == {(level, place, direction) for direction in ("g2r", "r2g")
                              for level, place in (("unified", 0), ("time", 0), ("time", 1), ("layer", 0), ("layer", 1))}  # fmt: skip
        for (level, place, direction), values in found.items():
            choice = {"time": {"groups": place}, "layer": {"layers": f"layer.{place}"}}.get(level, {})
            right = maps.field(direction, **choice)
            assert (values[..., :2] - right.positions[image].clamp(0, 1)).abs().max() < 1e-5
            for i, deviation in enumerate(DEVIATION):
                assert values[..., 2 + i].numpy() == pytest.approx(deviation, abs=0.002)
            assert values[..., 4].numpy() == pytest.approx(TILT, abs=0.01)
    assert shown.run["notes"] == []


def test_what_points_nowhere_is_nowhere():
    maps = pointed(layers=1, groups=1)
    holed = maps.sums[0].field_g2r.clone()
    holed[..., 5] = 0
    values = read_fields(parsed(page(replace(maps, sums=(replace(maps.sums[0], field_g2r=holed),)))), 0)["unified", 0, "g2r"]
    assert values[0, 5].isnan().any()
    assert values[..., :2].isnan().any(-1).sum() == 1


def test_runs_without_a_field_have_none():
    assert parsed(page(known(1))).run["fields"] == []
    maps = pointed(layers=1, groups=1)
    broken = replace(maps, sums=(replace(maps.sums[0], field_g2r=maps.sums[0].field_g2r * torch.nan),))
    shown = parsed(page(broken))
    assert shown.run["fields"] == []
    assert "No field. the field_g2r sums must be finite" in shown.run["notes"][0]


def test_fields_become_coarser_before_a_page_is_too_large():
    maps = pointed(images=4, here=(48, 36), there=(48, 36), to=lambda at: torch.rand_like(at), back=lambda at: torch.rand_like(at))
    whole = page(maps, max_megabytes=5)
    size = len(whole.encode()) / 1e6
    assert parsed(whole).run["notes"] == []
    less = page(maps, max_megabytes=0.6 * size)
    assert len(less.encode()) < 0.6e6 * size
    assert re.search(r"fields( of single time groups and layers)? (have \d+ \S \d+ patches instead of 48 \S 36|are left out)",
                     parsed(less).run["notes"][0])  # fmt: skip
    least = parsed(page(maps, max_megabytes=0.23 * size))
    assert "the fields of single time groups and layers are left out" in least.run["notes"][0]
    assert {key[0] for key in read_fields(least, 0)} == {"unified"}


def test_patches_taken_together_are_mixtures():
    from i2am.viewer.fields import pooled

    field = pointed(here=(4, 4)).field("g2r")
    y, x, yy, yx, xx = pooled(field, 2)[0].unbind()
    four = field.positions[0, :2, :2].reshape(4, 2)
    assert [float(y[0, 0]), float(x[0, 0])] == pytest.approx(four.mean(0).tolist(), abs=1e-6)
    assert float(yy[0, 0]) == pytest.approx(DEVIATION[0] ** 2 + float(four[:, 0].var(correction=0)), rel=1e-4)
    assert float(xx[0, 0]) == pytest.approx(DEVIATION[1] ** 2 + float(four[:, 1].var(correction=0)), rel=1e-4)
    assert float(yx[0, 0]) == pytest.approx(TILT * DEVIATION[0] * DEVIATION[1], rel=1e-3)


def marked(tab: Any, side: str, what: str) -> dict[str, float]:
    """Where a mark is, in fractions of its canvas: its middle and its size before it is turned."""
    return tab.locator(f"figure[data-side={side}] .marks .{what}").evaluate(
        """e => { const c = e.parentElement.getBoundingClientRect(), r = e.getBoundingClientRect(), s = getComputedStyle(e);
        return { y: (r.top + r.height / 2 - c.top) / c.height, x: (r.left + r.width / 2 - c.left) / c.width,
                 h: parseFloat(s.height) / c.height, w: parseFloat(s.width) / c.width,
                 angle: Math.atan2(new DOMMatrix(s.transform).b, new DOMMatrix(s.transform).a) }; }"""
    )


@pytest.mark.parametrize("pictures", [True, False])
def test_hovering_shows_the_point_and_its_ellipse(show, pictures):
    maps = pointed()
    tab = show(maps.with_pictures(flat(0, (120, 80)), flat(1, (90, 150))) if pictures else maps)
    assert "the point that each patch comes from" in text(tab, "#hint")
    ways = (("generated", "reference", HERE, mirrored, (2, 1)), ("reference", "generated", THERE, unmirrored, (3, 6)))
    for side, other, grid, move, place in ways:
        y, x = centres(grid)[place].tolist()
        hover(tab, side, y, x)
        right = move(torch.tensor([y, x])).tolist()
        assert list(marked(tab, other, "aim").values())[:2] == pytest.approx(right, abs=0.005)
        shown = marked(tab, other, "ellipse")
        assert [shown["y"], shown["x"]] == pytest.approx(right, abs=0.005)
        box = tab.locator(f"figure[data-side={other}] .canvas").bounding_box()
        sy, sx = DEVIATION[0] * box["height"], DEVIATION[1] * box["width"]
        variances, axes = np.linalg.eigh([[sx * sx, TILT * sx * sy], [TILT * sx * sy, sy * sy]])
        assert [shown["w"] * box["width"], shown["h"] * box["height"]] == pytest.approx(2 * np.sqrt(variances[::-1]), abs=1.5)
        assert np.sin(shown["angle"] - np.arctan2(axes[1, 1], axes[0, 1])) == pytest.approx(0, abs=0.05)
        said = text(tab, f"#at-{other}")
        assert f"{round(100 * right[0])} % down, {round(100 * right[1])} % across, spread 11 %" in said
        assert tab.locator(f"figure[data-side={side}] .marks .ellipse").count() == 0
    tab.mouse.move(2, 2)
    settled(tab)
    assert tab.locator(".marks .ellipse").count() == 0
    warp = tab.locator("input[name=direction][value=warp]")
    assert warp.is_disabled() != pictures
    assert pictures or "No warp without a picture of the reference" in text(tab, "#controls")


def test_layers_have_fields_of_their_own(show):
    maps = pointed(layers=1)
    other = pointed(same, same, layers=1).sums[0]
    tab = show(replace(maps, sums=(maps.sums[0], replace(other, layer="layer.1"))))
    y, x = centres(HERE)[2, 1].tolist()
    tab.locator("input[name=level][value=layer]").check()
    for name, move in (("layer.0", mirrored), ("layer.1", same)):
        tab.locator("#item").select_option(name)
        hover(tab, "generated", y, x)
        found = tab.evaluate("i2am.pointed")
        assert [found["y"], found["x"]] == pytest.approx(move(torch.tensor([y, x])).tolist(), abs=1e-4)
        assert found["spread"] == pytest.approx(float(np.hypot(*DEVIATION)), abs=0.004)
        tab.mouse.move(2, 2)
        settled(tab)


def test_the_reference_is_painted_onto_the_image(show):
    """Halves of two colours, mirrored: what attention points at is seen, and the picture in grey where it looks everywhere."""
    halves = Image.new("RGB", (96, 96), (200, 0, 0))
    halves.paste((0, 0, 200), (48, 0, 96, 96))
    halves.paste((0, 200, 0), (92, 0, 96, 96))  # beyond the centre of the last patch

    def mirror(at):
        return at * torch.tensor([1.0, -1.0]) + torch.tensor([0.0, 1.0])

    maps = pointed(mirror, mirror, here=(8, 8), there=(8, 8), deviation=(0.01, 0.01), layers=1, groups=1)
    sums = maps.sums[0].field_g2r.clone()
    sums[..., :, 32:] = (
        pointed(mirror, mirror, here=(8, 8), there=(8, 8), deviation=(0.29, 0.29), layers=1, groups=1).sums[0].field_g2r[..., 32:]
    )
    maps = replace(maps, sums=(replace(maps.sums[0], field_g2r=sums),)).with_pictures(Image.new("RGB", (96, 96), (0, 90, 0)), halves)
    tab = show(maps)
    assert tab.locator("input[name=direction][value=warp]").is_checked(), "a page with a field opens on the warp"
    tab.locator("input[name=direction][value=r2g]").check()
    settled(tab)
    before = pixels(tab, "generated")
    tab.locator("input[name=direction][value=warp]").check()
    settled(tab)
    found = pixels(tab, "generated")[..., :3].astype(int)
    side = found.shape[0]
    at = lambda y, x: found[int(y * side), int(x * side)]  # noqa: E731
    assert abs(at(0.2, 0.2) - (0, 0, 200)).max() < 12
    assert abs(at(0.2, 0.8) - (200, 0, 0)).max() < 12
    assert abs(at(0.2, 0.01) - (0, 200, 0)).max() < 40
    assert np.ptp(at(0.8, 0.2)) < 6  # grey
    assert 160 < at(0.8, 0.2)[0] < 230
    edge = side // 4 + np.argmin(abs(found[side // 5, side // 4 :, 0] - found[side // 5, side // 4 :, 2]))
    assert edge / side == pytest.approx(0.5, abs=0.02)
    assert painted(tab, "generated") is None
    assert "moved into place" in text(tab, "figure[data-side=generated] .what")
    assert text(tab, ".slide output") == "100 %"
    tab.locator("#opacity").evaluate("(e) => { e.value = 0; e.dispatchEvent(new Event('input', {bubbles: true})); }")
    settled(tab)
    assert np.ptp(pixels(tab, "generated")[side // 5, side // 5, :3]) < 6
    tab.locator("input[name=direction][value=r2g]").check()
    settled(tab)
    assert (pixels(tab, "generated") == before).all()
    assert text(tab, ".slide output") == "70 %"
