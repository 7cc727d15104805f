"""The viewer of a video, as bytes and in a real Chromium: the frame that is shown is the frame that is known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browsing import Open, hover, middle, painted, pixels, set_display, settled, spot, started, text, values, windows
from PIL import Image
from torch import Tensor
from viewed import known as known_pictures
from viewed import parsed

import i2am
from i2am import AttributionMaps
from i2am.maps.layer_sums import LayerSums
from i2am.maps.prompt import Prompt
from i2am.viewer.encoding import merged, together
from i2am.viewer.html import page
from i2am.viewer.places import placed

FRAMES, GRID, CELLS, REFERENCE = 4, (6, 8), (3, 4), (3, 5)
LAYERS = ("one.attn", "two.attn")


def target(frame: int, row: int, column: int) -> tuple[int, int]:
    """Where in the reference a cell of a frame looks: one further in every frame."""
    return (row + frame) % REFERENCE[0], (column + frame) % REFERENCE[1]


def colour(frame: int) -> tuple[int, int, int]:
    return 60 * frame, 100, 220 - 60 * frame


def known(images: int = 1, frames: int | None = None, specific: Any = ()) -> AttributionMaps:
    """Every cell of every frame attends to its target, later frames more sharply; with frames, of a reference that is a video too."""
    canvas = (frames, *REFERENCE) if frames else REFERENCE
    size, per = torch.Size(canvas).numel(), REFERENCE[0] * REFERENCE[1]
    recorder = i2am.Recorder(groups=2, steps=2, specific=[*i2am.cells(*CELLS, frames=FRAMES), *specific])
    key = torch.eye(size)[None, None].expand(images, 2, -1, -1)
    for step in range(2):
        for place, layer in enumerate(LAYERS):
            query = torch.zeros(images, 2, FRAMES, *GRID, size)
            for frame in range(FRAMES):
                for i in range(GRID[0]):
                    for j in range(GRID[1]):
                        row, column = target(frame, i * CELLS[0] // GRID[0], j * CELLS[1] // GRID[1])
                        at = row * REFERENCE[1] + column + (frame * frames // FRAMES * per if frames else 0)
                        query[:, :, frame, i, j, at] = 2 + frame + i / 4 + j / 6 + step + place
            recorder.attend(layer, query.flatten(2, 4), key, key, generated_grid=(FRAMES, *GRID), reference_grid=canvas, scale=1.0)
        recorder.step()
    video = [Image.new("RGB", (64, 48), colour(frame)) for frame in range(FRAMES)]
    return recorder.maps.with_pictures([video] * images, Image.new("RGB", (50, 30), (9, 99, 9)))


def held(maps: AttributionMaps, kind: str, image: int = 0) -> dict[tuple[str, int], tuple[Tensor, Tensor]]:
    """What the page holds, a map for each frame: its names are those of the items, so that there are more maps than names."""
    read = parsed(page(maps, max_megabytes=20))
    found = read.set(kind)
    per = (found["frames"] or 1) * len((found["cells"] or {}).get("frames") or [None])
    if not found["cells"]:
        found["names"] = [[name for name in names for _ in range(per)] for names in found["names"]]
    else:  # rows x columns of every frame: as many columns more
        found["cells"]["columns"] = list(range((len(found["cells"]["columns"]) - 1) * per + 1))
    return read.maps(kind, image)


@pytest.mark.parametrize("frames", [None, 2])
def test_every_frame_is_in_the_page(frames: int | None) -> None:
    maps = known(2, frames, specific=[(1, 0.5, 0.5), (0.25, 0.75)])
    for image in range(2):
        for kind, direction, regions in (("r2g", "r2g", None), ("g2r", "g2r", None), ("cells", "specific", slice(0, 48)),
                                         ("regions", "specific", slice(48, 50))):  # fmt: skip
            found = held(maps, kind, image)
            assert len(found) == 1 + 2 + 2 + 2  # unified, groups, heads, layers
            for (level, place), (got, slack) in found.items():
                right = maps[image].level(direction, "unified" if level == "layer" else level,
                                          **({"layers": LAYERS[place]} if level == "layer" else {}))[0]  # fmt: skip
                right = right if level in ("unified", "layer") else right[place]
                right = right if regions is None else right[regions]
                right = right.flatten(0, -3) if right.ndim > 2 else right[None]
                assert got.shape == right.shape
                assert ((got - right).abs() <= slack + right / 2048).all(), (kind, level, place)  # a map without range is its high
    read = parsed(page(maps)).run
    assert read["facts"]["frames"] == FRAMES
    assert [set_["frames"] for set_ in read["sets"]] == [FRAMES, frames, frames, frames]
    assert [place["frame"] for place in read["sets"][3]["places"] if "frame" in place] == [1]
    assert [len(video) for video in read["pictures"]["generated"]] == [FRAMES, FRAMES]


def test_words_have_frames() -> None:
    prompt = Prompt("a cat", ("a</w>", "cat</w>"), (False, False))
    sums = LayerSums("a", "reference", (FRAMES, *GRID), None, 0, words=torch.rand(1, 1, 1, 2, 192, device="cpu"))
    maps = AttributionMaps((sums,), 1, prompts=(prompt,))
    read = parsed(page(maps))
    assert read.set("words")["names"] == [["a", "cat"]]
    ((got, slack),) = held(maps, "words").values()
    right = torch.stack([maps.words()["a"], maps.words()["cat"]], 1)[0].flatten(0, 1)
    assert ((got - right).abs() <= slack + 1e-7).all()


def test_cells_of_frames_are_found_among_the_names() -> None:
    names = list(known(specific=[(0.5, 0.5), (2, 0.1, 0.1, 0.4, 0.4)]).regions)
    cells, others = placed(names)
    assert cells is not None
    assert (cells.frames, cells.grid, cells.regions) == (tuple(range(FRAMES)), CELLS, tuple(range(48)))
    assert [(place.kind, place.frame) for place in others] == [("point", None), ("box", 2)]
    cells, others = placed([name for name in names if not name.startswith("frame 1")])
    assert cells is not None
    assert (cells.frames, len(others)) == ((0, 2, 3), 2)
    uneven, others = placed([names[0], *(f"frame 1 {name.split(' ', 2)[2]}" for name in names[:12])])
    assert uneven is not None
    assert (uneven.frames, [place.frame for place in others]) == ((1,), [0])
    assert placed(["frame x box 0 0 1 1", "frame 1", "frame"])[1][0].kind == "other"


def test_cells_are_taken_together_in_each_frame() -> None:
    maps = torch.rand(3, 12, 2, 4, 5, device="cpu")  # frames of cells, cells, frames of the reference
    found = merged(maps.flatten(0, 2), CELLS, 3, 2, 2).view(3, 4, 2, 4, 5)
    for frame in range(3):
        for other in range(2):
            assert torch.equal(found[frame, :, other], together(maps[frame, :, other], CELLS, 2))


def test_layers_of_other_frames_are_left_out_and_named() -> None:
    odd = LayerSums("odd.attn", "reference", (2, 3, 3), None, 0, torch.rand(1, 2, 2, 18, device="cpu"))
    maps = known()
    read = parsed(page(AttributionMaps((*maps.sums, odd), 2, maps.regions)))
    assert read.run["notes"][0] == "r2g is without 1 of 3 layers, whose tokens have no known place among these frames: odd.attn."


def test_what_does_not_fit_is_made_coarser() -> None:
    maps = known(2, 2)
    whole = page(maps)
    small = page(maps, max_megabytes=len(whole) / 1e6 - 0.003)
    assert len(small) < len(whole) - 3000
    assert any("To stay under" in note for note in parsed(small).run["notes"])


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from started()


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Open]:
    yield from windows(browser, tmp_path)


def frame_is(tab: Any, frame: int, side: str = "generated") -> None:
    settled(tab)
    assert tab.evaluate("i2am.state.frames")[side] == frame
    assert tab.locator(f"figure[data-side={side}] .reel output b").text_content() == f"frame {frame}"
    assert tab.locator(f"input[name=frame-{side}]").input_value() == str(frame)


def near(shown: dict[str, Any], right: Tensor, most: float) -> None:
    torch.testing.assert_close(values(shown), right, rtol=0, atol=most / 100)


def test_the_slider_shows_another_frame(show: Open) -> None:
    maps = known()
    tab = show(maps)
    right = maps.unified("r2g")[0]
    whole = [float(right.min()), float(right.max())]
    for frame in (0, 2, 3):
        tab.locator("input[name=frame-generated]").fill(str(frame))
        frame_is(tab, frame)
        near(painted(tab, "generated"), right[frame], float(right.max()))
        assert painted(tab, "generated")["range"] == pytest.approx(whole, rel=1e-3)  # one range for all frames
        set_display(tab, opacity=0, patches=True, fade=False)
        assert abs(pixels(tab, "generated")[5, 5, :3].astype(int) - np.array(colour(frame))).max() <= 3  # its own picture
        share = float(right[frame].sum() / right.sum())
        said = tab.locator("figure[data-side=generated] .reel output span").text_content()
        assert said.endswith("% of the map")
        assert float(said.split()[0]) == pytest.approx(100 * share, abs=0.3)
    assert tab.locator("figure[data-side=reference] .reel").is_hidden()
    assert tab.locator("h2").all_text_contents() == ["Generated video", "Reference"]


def test_hovering_a_patch_paints_the_map_of_its_frame(show: Open) -> None:
    maps = known()
    tab = show(maps)
    for frame, cell in ((0, (0, 0)), (1, (2, 3)), (3, (1, 2))):
        tab.locator("input[name=frame-generated]").fill(str(frame))
        hover(tab, "generated", *middle(CELLS, cell))
        shown, right = painted(tab, "reference"), maps.specific(frame * 12 + cell[0] * 4 + cell[1])[0]
        near(shown, right, float(right.max()))
        assert divmod(int(values(shown).argmax()), REFERENCE[1]) == target(frame, *cell)
        assert f"where cell {cell[0]}, {cell[1]} of frame {frame} came from" in text(tab, "figure[data-side=reference] .what")
        hover(tab, "reference", *middle(REFERENCE, target(frame, *cell)))
        row, column = target(frame, *cell)
        near(painted(tab, "generated"), maps.level("specific")[0, :48, row, column].view(FRAMES, *CELLS)[frame], float(right.max()))
    tab.mouse.click(*spot(tab, "generated", *middle(CELLS, (1, 1))))  # kept, while the frames go on
    for frame in (0, 2):
        tab.locator("input[name=frame-generated]").fill(str(frame))
        settled(tab)
        assert divmod(int(values(painted(tab, "reference")).argmax()), REFERENCE[1]) == target(frame, 1, 1)
        here = maps.unified("r2g")[0][:, 2, 2]  # the patch at the middle of that cell
        said = tab.locator("figure[data-side=generated] .reel output span").text_content()
        assert said.endswith("% at this patch")
        assert float(said.split()[0]) == pytest.approx(100 * float(here[frame] / here.sum()), abs=12)


def test_a_reference_video_has_frames_of_its_own(show: Open) -> None:
    maps = known(frames=2)
    tab = show(maps)
    tab.locator("input[name=direction][value=g2r]").check()
    tab.locator("input[name=frame-reference]").fill("1")
    frame_is(tab, 1, "reference")
    near(painted(tab, "reference"), maps.unified("g2r")[0, 1], float(maps.unified("g2r").max()))
    tab.locator("input[name=frame-generated]").fill("3")
    hover(tab, "generated", *middle(CELLS, (0, 1)))
    right = maps.specific(36 + 1)[0]
    near(painted(tab, "reference"), right[1], float(right.max()))
    tab.locator("input[name=frame-reference]").fill("0")
    settled(tab)
    near(painted(tab, "reference"), right[0], float(right.max()))
    hover(tab, "reference", *middle(REFERENCE, (2, 2)))
    near(painted(tab, "generated"), maps.level("specific")[0, :, 0, 2, 2].view(FRAMES, *CELLS)[3], float(right.max()))


def test_keys_bars_and_the_button_go_on(show: Open) -> None:
    tab = show(known(specific=[(2, 0.5, 0.5)]))
    for key, frame in ((".", 1), ("ArrowRight", 2), (",", 1), ("ArrowLeft", 0), (",", 3), (".", 0)):
        tab.keyboard.press(key)
        frame_is(tab, frame)
    tab.locator("figure[data-side=generated] .canvas").focus()
    tab.keyboard.press("ArrowRight")  # moves over patches there
    frame_is(tab, 0)
    tab.keyboard.press(".")
    frame_is(tab, 1)
    tab.locator("input[name=frame-generated]").focus()
    tab.keyboard.press("ArrowRight")
    frame_is(tab, 2)
    box = tab.locator(".course i").nth(3).bounding_box()
    tab.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] - 1)
    frame_is(tab, 3)
    button = tab.locator("figure[data-side=generated] .play")
    assert button.get_attribute("aria-label") == "Play the generated video"
    button.click()
    seen = set()
    for _ in range(200):
        seen.add(tab.evaluate("i2am.state.frames.generated"))
        if seen == set(range(FRAMES)):
            break
        tab.wait_for_timeout(50)
    assert seen == set(range(FRAMES))
    assert button.get_attribute("aria-label") == "Stop the generated video"
    button.click()
    tab.locator("input[name=frame-generated]").fill("0")
    frame_is(tab, 0)
    assert tab.locator(".marks .faint").count() == 0
    tab.locator("input[name=region]").check()  # a region takes its frame along
    frame_is(tab, 2)
    assert tab.locator(".marks .faint").count() == 1
    assert "frame 2" in text(tab, "#regions")


def test_pictures_have_no_reel(show: Open) -> None:
    tab = show(known_pictures(1))
    assert tab.locator(".reel:visible").count() == 0
    tab.keyboard.press(".")
    assert tab.evaluate("i2am.state.frames") == {"generated": 0, "reference": 0}
    assert tab.locator("h2").all_text_contents() == ["Generated image", "Reference"]
