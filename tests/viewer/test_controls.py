"""The viewer's controls in a real Chromium: each changes what it says, by mouse, finger and keyboard, also on a phone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browsing import Open, hover, middle, painted, pixels, settled, shows, spot, started, text, values, windows
from torch.nn import functional as F
from viewed import CELLS, LAYERS, known, several, words_of

from i2am.viewer import size_limit
from i2am.viewer.html import page
from i2am.viewer.size_limit import Detail


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from started()


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Open]:
    yield from windows(browser, tmp_path)


def test_every_control_changes_what_it_says(show):
    maps = known(specific=[(0.5, 0.5), (0.1, 0.1, 0.9, 0.4)])
    tab = show(maps)
    seen = [pixels(tab, "generated")]

    def changed(side: str = "generated") -> None:
        settled(tab)
        seen.append(pixels(tab, side))
        assert seen[-1].shape != seen[-2].shape or (seen[-1] != seen[-2]).any()

    def at(level: str, place: Any, direction: str = "r2g", side: str = "generated", image: int = 0) -> None:
        shown = painted(tab, side)
        held = tab.evaluate("a => i2am.held(...a)", [direction, "reference", image, level, place, 0])
        assert shown["values"] == held["values"]
        assert (shown["kind"], tab.evaluate("i2am.state.level")) == (direction, level)
        right = maps.unified(direction, layers=place) if level == "layer" else maps.level(direction, level)
        right = right[image] if level in ("unified", "layer") else right[image, place]
        torch.testing.assert_close(values(shown), right, rtol=0, atol=float(right.max()) / 200)

    at("unified", 0)
    for level, option, place in (("time", "1", 1), ("head", "2", 2), ("layer", LAYERS[2], LAYERS[2])):
        tab.locator(f"input[name=level][value={level}]").check()
        changed()
        tab.locator("#item").select_option(option)
        changed()
        at(level, place)
        chart = tab.locator(f".chart[data-level={level}] button")
        chart.first.click()  # a bar chooses too
        changed()
        at(level, LAYERS[0] if level == "layer" else 0)
        assert chart.first.get_attribute("aria-checked") == "true"
        assert tab.locator("#item").input_value() == (LAYERS[0] if level == "layer" else "0")
    tab.locator("input[name=direction][value=g2r]").check()
    changed("reference")
    at("layer", LAYERS[0], "g2r", "reference")
    assert painted(tab, "generated") is None
    assert "G2R, what of the reference is used \u00b7 down_blocks.0" in text(tab, "figure[data-side=reference] .what")
    tab.locator("input[name=level][value=unified]").check()
    tab.locator("input[name=image][value='1']").check(force=True)
    shows(tab, 1)
    changed("reference")
    at("unified", 0, "g2r", "reference", image=1)
    for name in ("magma", "viridis", "turbo", "blue"):
        tab.locator(f"input[name=colours][value={name}]").check()
        changed("reference")
        ends = np.array(tab.evaluate("name => i2am.colours(name)", name)).reshape(256, 3)[[0, -1]]
        ramp = tab.locator("figure[data-side=reference] .ramp").evaluate("e => e.style.background")
        assert all(f"rgb({', '.join(map(str, end))})" in ramp for end in ends)
    for name in ("patches", "fade"):
        tab.locator(f"input[name={name}]").set_checked(name == "patches")
        changed("reference")
    before = painted(tab, "reference")["range"]
    tab.locator("input[name=level][value=time]").check()
    tab.locator("input[name=scale][value=shared]").check()
    settled(tab)
    every = maps.time("g2r")[1]
    assert painted(tab, "reference")["range"] == pytest.approx([float(every.min()), float(every.max())], rel=1e-3)
    assert painted(tab, "reference")["range"] != before
    for i, region in enumerate((24, 25)):
        tab.locator(f"input[name=region][value='{i}']").check()
        settled(tab)
        right = maps.specific(region, level="time")[1, 0]
        torch.testing.assert_close(values(painted(tab, "reference")), right, rtol=0, atol=float(right.max()) / 100)
        assert "came from" in text(tab, "figure[data-side=reference] .what")
    assert tab.locator("input[name=region]:checked").count() == 1
    tab.locator("#theme").click()
    dark = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    tab.locator("#theme").click()
    assert dark == "rgb(19, 20, 23)" != tab.evaluate("getComputedStyle(document.body).backgroundColor")


FOCUSED = """() => {
    const e = document.activeElement, line = (one) => one ? getComputedStyle(one).outlineStyle : "";
    if (e === document.body) return null;
    const name = e.id || e.name || e.parentElement.parentElement.dataset.level || e.closest("figure")?.dataset.side;
    return [name, line(e), line(e.closest("label")), line(e.nextElementSibling)];
}"""


def test_the_keyboard_reaches_everything(show):
    tab = show(known(specific=[(0.5, 0.5)]))
    reached = []
    for _ in range(40):
        tab.keyboard.press("Tab")
        here = tab.evaluate(FOCUSED)
        if here is None:
            break
        assert "solid" in here[1:] or "auto" in here[1:], here  # the focus can be seen
        reached.append(here[0])
    wanted = {"theme", "image", "generated", "reference", "direction", "region", "level", "time", "head", "layer", "colours", "opacity",
              "scale", "patches", "fade"}  # fmt: skip
    assert wanted <= set(reached)
    canvas = tab.locator("figure[data-side=generated] .canvas")
    canvas.focus()
    for key in ("ArrowDown", "ArrowUp", "ArrowUp", "ArrowRight", "Enter"):  # from the middle
        tab.keyboard.press(key)
    settled(tab)
    assert "where cell 1, 3 came from" in text(tab, "figure[data-side=reference] .what")
    tab.keyboard.press("ArrowRight")  # not over the edge
    tab.keyboard.press("ArrowLeft")
    settled(tab)
    assert "where cell 1, 2 came from" in text(tab, "figure[data-side=reference] .what")
    tab.locator("input[name=direction]").first.focus()
    tab.keyboard.press("ArrowDown")
    settled(tab)  # the charts of the other direction are drawn anew
    tab.locator(".chart[data-level=head] button").first.focus()
    tab.keyboard.press("ArrowRight")
    settled(tab)
    state = tab.evaluate("i2am.state")
    assert (state["direction"], state["level"], state["places"]["head"], state["pin"]["side"]) == ("g2r", "head", 1, "generated")
    tab.keyboard.press("Escape")
    assert tab.evaluate("i2am.state.pin") is None


def test_words_are_painted(show):
    maps = words_of()
    tab = show(maps)
    assert not tab.locator("figure[data-side=reference]").is_visible()
    assert tab.locator("input[name=word]").evaluate_all("all => all.map(e => e.value)") == ["a", "red", "shirt"]
    assert tab.locator("input[name=level][value=head]").is_disabled()
    assert "different numbers of heads" in tab.locator("#controls").text_content()
    tab.locator("input[name=word][value=shirt]").check()
    tab.locator("input[name=level][value=time]").check()
    settled(tab)
    right = maps.words(groups=0).image(0)["shirt"][0]
    torch.testing.assert_close(values(painted(tab, "generated")), right, rtol=0, atol=float(right.max()) / 200)
    tab.locator("input[name=image][value='1']").check(force=True)
    shows(tab, 1)
    settled(tab)
    assert tab.locator("input[name=word]").evaluate_all("all => all.map(e => e.value)") == ["one", "hat", "on", "sand"]
    assert "one, where the word acts" in text(tab, "figure[data-side=generated] .what")


def test_references_are_chosen_and_one_token_has_a_reason(show):
    maps = several()
    tab = show(maps)
    hover(tab, "generated", 0.25, 0.75)
    right = maps.specific(0, reference="garment")[0]
    torch.testing.assert_close(values(painted(tab, "reference")), right, rtol=0, atol=float(right.max()) / 100)
    hover(tab, "generated", 0.3, 0.3)
    assert "where this box came from" in text(tab, "figure[data-side=reference] .what")
    names = ["point 25 % down, 75 % across", "box 10\u201350 % down, 20\u201360 % across", "region 2, a mask"]
    assert tab.locator("#regions label").all_text_contents() == names
    tab.locator("input[name=direction][value=g2r]").check()
    tab.locator("#source").select_option("adapter <b>&2")
    settled(tab)
    assert tab.evaluate("i2am.state.direction") == "r2g"
    right = maps.unified("r2g", reference=1)[0]
    torch.testing.assert_close(values(painted(tab, "generated")), right, rtol=0, atol=float(right.max()) / 200)
    assert "The reference is one token" in text(tab, ".why")
    assert tab.locator("input[name=direction][value=g2r]").is_disabled()


def test_what_was_given_up_is_said(show, monkeypatch):
    maps = known(1, pictures=False)
    size = len(page(maps)) / 1e6 - 0.0005
    tab = show(maps, max_megabytes=size)
    assert f"To stay under {size:g} MB: " in text(tab, "#notes")
    monkeypatch.setattr(size_limit, "OTHERS", (None,))
    tab = show(maps)
    assert tab.locator("input[name=level]:disabled").count() == 3
    assert "left out here, to keep the file small" in text(tab, "#controls")


def test_larger_cells_and_patches_are_found_and_outlined(show, monkeypatch):
    """Where a level is held coarser than the unified maps; 6 x 4 cells taken 4 x 4 together leave uneven ones."""
    monkeypatch.setattr(size_limit, "OTHERS", (Detail(127, 2, 4),))
    maps = known(1, pictures=False)
    tab = show(maps)
    tab.locator("input[name=level][value=time]").check()
    hover(tab, "generated", *middle(CELLS, (5, 1)))
    cells = maps.level("specific", "time")[0, 0].view(6, 4, 8, 6)
    right = F.avg_pool2d(cells[4:].sum((0, 1))[None], 2)[0]
    torch.testing.assert_close(values(painted(tab, "reference")), right, rtol=0, atol=float(right.max()) / 60)
    assert "where cell 1, 0 of 2 \u00d7 1 came from \u00b7 group 1" in text(tab, "figure[data-side=reference] .what")
    mark = tab.locator("figure[data-side=generated] .marks i").first.evaluate("e => [e.style.top, e.style.height, e.style.width]")
    assert [float(side.removesuffix("%")) for side in mark] == pytest.approx([100 * 4 / 6, 100 * 2 / 6, 100], abs=0.01)
    hover(tab, "reference", 0.1, 0.1)
    shown = painted(tab, "generated")
    assert (shown["height"], shown["width"]) == (2, 1)
    wanted = torch.stack([F.avg_pool2d(part.sum((0, 1))[None], 2)[0, 0, 0] for part in (cells[:4], cells[4:])])
    torch.testing.assert_close(values(shown)[:, 0], wanted, rtol=0, atol=float(right.max()) / 60)
    picture = pixels(tab, "generated")[..., :3].astype(int)
    edge = round(picture.shape[0] * 4 / 6)
    assert abs(picture[edge - 40 : edge - 2].mean((0, 1)) - picture[edge + 2 : edge + 40].mean((0, 1))).max() > 40


OUTSIDE = """() => [...document.querySelectorAll("main *, header *")].filter((e) => {
    const { left, right } = e.getBoundingClientRect();
    return e.getClientRects().length && !e.closest(".away, .strip, .marks") && (right > 391 || left < -1);
}).map((e) => e.outerHTML.slice(0, 80))"""


@pytest.mark.parametrize("make", [known, several, words_of])
def test_a_phone_shows_it_all(show, make):
    tab = show(make(), 390, 780, has_touch=True, is_mobile=True, color_scheme="dark")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(19, 20, 23)"
    assert tab.evaluate(OUTSIDE) == []
    if make is not known:
        return
    boxes = [tab.locator(f"figure[data-side={side}]").bounding_box() for side in ("generated", "reference")]
    assert boxes[1]["y"] > boxes[0]["y"] + boxes[0]["height"]
    tab.touchscreen.tap(*spot(tab, "generated", *middle(CELLS, (2, 1))))
    settled(tab)
    assert "where cell 2, 1 came from" in text(tab, "figure[data-side=reference] .what")
    assert "Tap" in text(tab, "#hint")
