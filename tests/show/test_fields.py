"""Pictures of fields whose answer is known: nothing moves, everything moves, everything is mirrored, nobody knows."""

import colorsys
import math

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("matplotlib")
from painted import at, close, noise

from i2am.maps.field import Field
from i2am.show.field_marks import arrows, matches
from i2am.show.field_sheets import TALL, sheet
from i2am.show.fields import EVEN, centres, warp, wheel

pytestmark = pytest.mark.usefixtures("on_the_cpu")
WHITE = (255, 255, 255)


def field(grid, moved=(0.0, 0.0), spread=0.0):
    """Every patch comes from its own place, moved (down, right) on the other picture."""
    positions = centres(grid) + torch.tensor(moved)
    return positions[None], torch.full((1, *grid), float(spread))


def array(picture):
    return np.asarray(picture).astype(int)


@pytest.mark.parametrize(("grid", "size"), [((4, 3), (32, 24)), ((5, 7), (33, 70)), ((1, 1), (8, 8))])
def test_where_nothing_moves_the_source_comes_back(grid, size):
    image = noise(*size)
    if grid == (1, 1):  # one patch knows one place
        (out,) = warp(*field(grid), image, size=size)
        assert len(np.unique(array(out).reshape(-1, 3), axis=0)) == 1
        return
    (out,) = warp(*field(grid), image, size=size)
    assert abs(array(out) - array(image)).max() <= 1


def test_a_shift_shifts_by_so_many_pixels():
    image = noise(40, 60)
    (out,) = warp(*field((4, 6), (0.25, -0.1)), image, size=(40, 60))
    assert abs(array(out)[:29, 7:] - array(image)[10:39, 1:54]).max() <= 1  # 10 pixels further down, 6 to the left
    assert abs(array(out)[32:, 7:] - array(image)[39:, 1:54]).max() <= 1  # beyond the last row is the last row


def test_a_mirror_mirrors_to_its_very_edges():
    positions = centres((6, 4)) * torch.tensor([1.0, -1.0]) + torch.tensor([0.0, 1.0])
    image = noise(48, 32)
    (out,) = warp(positions[None], torch.zeros(1, 6, 4), image, size=(48, 32))
    assert abs(array(out) - array(image)[:, ::-1]).max() <= 1


def test_what_looks_everywhere_is_not_seen():
    black = Image.new("RGB", (24, 32))
    spread = torch.zeros(1, 4, 3)
    spread[:, :, 1] = 0.5 * EVEN
    spread[:, :, 2] = EVEN
    (out,) = warp(centres((4, 3))[None], spread, black, size=(32, 24))
    assert at(out, 16, 0) == (0, 0, 0)
    assert close(at(out, 16, 12), [255 * (1 - 0.75**3)] * 3, 24)  # linear from patch to patch: near the middle of the column
    assert at(out, 16, 23) == WHITE
    (under,) = warp(centres((4, 3))[None], spread, black, Image.new("RGB", (24, 32), (0, 200, 0)))
    red, green, blue = at(under, 16, 23)
    assert red == green == blue  # in grey
    assert 160 < red < 230  # and pale
    (narrow,) = warp(centres((4, 3))[None], spread, black, size=(32, 24), wide=0.5 * EVEN)
    assert at(narrow, 16, 12) == WHITE
    with pytest.raises(ValueError, match=r"i2am: wide must be a spread above 0, got 0\. 0\.408 is that of looking everywhere"):
        warp(*field((2, 2)), black, wide=0)


def test_no_position_shows_nothing_and_spoils_no_neighbour():
    positions, spread = field((4, 4))
    positions[0, 1, 1] = torch.nan
    image = Image.new("RGB", (32, 32), (200, 30, 30))
    (out,) = warp(positions, spread, image, size=(32, 32))
    assert close(at(out, 12, 12), WHITE, 60)  # beside the middle of that patch, between pixels
    assert at(out, 28, 28) == (200, 30, 30)
    ramp = Image.fromarray(np.repeat(np.arange(0, 256, 8, dtype=np.uint8)[None, :, None], 32, 0).repeat(3, 2))
    whole, holed = (array(warp(p, torch.zeros(1, 4, 4), ramp, size=(32, 32))[0]) for p in (field((4, 4))[0], positions))
    assert abs(whole - holed)[:, 22:].max() <= 1
    part = (17.5 - 12) / 8  # on the way from the hole to the patch at its right, whose position alone counts there
    assert holed[11, 17, 0] == pytest.approx(part * whole[12, 20, 0] + (1 - part) * 255, abs=24)
    (blank,) = warp(positions * torch.nan, spread, image, size=(32, 32))
    assert (array(blank) == 255).all()
    for drawn in (arrows(positions * torch.nan, spread, image), matches(positions * torch.nan, spread, image, image)):
        assert len(drawn) == 1
    assert (array(wheel(positions * torch.nan, spread, (64, 64), key=False)[0]) == 255).all()


@pytest.mark.parametrize(
    ("come", "hue"), [((0.0, -0.2), 0), ((-0.2, 0.0), 90), ((0.0, 0.2), 180), ((0.2, 0.0), 270)], ids=["right", "down", "left", "up"]
)
def test_hue_is_the_way_from_the_reference_to_the_image(come, hue):
    (out,) = wheel(*field((4, 4), come), (64, 64), reach=0.2, key=False)
    found = colorsys.rgb_to_hsv(*(x / 255 for x in at(out, 32, 32)))
    assert abs((360 * found[0] - hue + 180) % 360 - 180) < 2
    assert found[1:] == pytest.approx((1, 1), abs=0.02)
    (back,) = wheel(*field((4, 4), come), (64, 64), reach=0.2, key=False, back=False)
    turned = colorsys.rgb_to_hsv(*(x / 255 for x in at(back, 32, 32)))
    assert abs((360 * turned[0] - hue) % 360 - 180) < 2


def test_saturation_is_the_length_in_the_pictures_own_pixels():
    tall = (64, 32)  # a tenth of its width is a twentieth of its height
    (out,) = wheel(*field((4, 2), (0.0, -0.1)), tall, reach=0.1, key=False)
    (full,) = wheel(*field((4, 2), (-0.1, 0.0)), tall, reach=0.1, key=False)
    assert [colorsys.rgb_to_hsv(*at(one, 32, 16))[1] for one in (out, full)] == pytest.approx([0.62, 1], abs=0.15)
    (diagonal,) = wheel(*field((4, 2), (-0.1, -0.2)), tall, reach=0.15, key=False)  # equally far both ways in pixels
    assert 360 * colorsys.rgb_to_hsv(*at(diagonal, 32, 16))[0] == pytest.approx(45, abs=2)
    (still,) = wheel(*field((4, 2)), tall, key=False)
    assert len(set(at(still, 32, 16))) == 1
    assert at(still, 32, 16)[0] < 200  # grey, where what looks everywhere is white
    (wide,) = wheel(*field((4, 2), (0.1, 0.1), EVEN), tall, key=False)
    assert (array(wide) == 255).all()


def test_the_key_is_a_wheel_and_reach_covers_what_moves():
    positions, spread = field((8, 6), (0.0, -0.3))
    (out,) = wheel(positions, spread, (320, 240))
    (bare,) = wheel(positions, spread, (320, 240), key=False)
    differs = (array(out) != array(bare)).any(-1)
    assert not differs[:200].any()
    assert differs[250:, 180:].mean() > 0.4
    assert colorsys.rgb_to_hsv(*at(bare, 100, 120))[1] > 0.95  # all move as far, which is the reach


def dots(picture, colour):
    """The mean place (y, x), in fractions, of pixels of about this colour."""
    found = np.argwhere(abs(array(picture) - colour).max(-1) < 12)
    assert len(found) > 10
    return (found.mean(0) + 0.5) / np.array(picture.size[::-1])


def test_dots_lie_on_the_patch_and_where_it_points():
    positions = centres((8, 6)) * 0.5 + 0.4
    grey = Image.new("RGB", (48, 64), (90, 90, 90))
    spread = torch.full((1, 8, 6), EVEN)
    spread[0, 2, 1], spread[0, 6, 4] = 0, 0
    (page,) = matches(positions[None], spread, grey, grey, columns=6)
    gap = (page.width - 2 * 48 * page.height // 64) / page.width
    half = (1 - gap) / 2
    left, right = (page.crop((round(a * page.width), 0, round(b * page.width), page.height)) for a, b in ((0, half), (1 - half, 1)))
    for place in ((2, 1), (6, 4)):
        own = at(left, round((place[0] + 0.5) / 8 * left.height), round((place[1] + 0.5) / 6 * left.width - 0.055 * left.width / 2))
        assert max(own) - min(own) > 100  # a colour
        assert dots(left, own) == pytest.approx([(place[0] + 0.5) / 8, (place[1] + 0.5) / 6], abs=0.01)
        assert dots(right, own) == pytest.approx(positions[place].tolist(), abs=0.01)


def test_a_sheet_holds_the_four_pictures():
    positions = torch.cat([field((4, 3))[0], field((4, 3), (0.1, 0.0))[0]])
    spread = torch.zeros(2, 4, 3)
    one, two = Image.new("RGB", (24, 32), (10, 200, 10)), Image.new("RGB", (48, 32), (200, 10, 10))
    pages = sheet(positions, spread, one, [two, two])
    assert len(pages) == 2
    head = pages[0].height - TALL
    panels = [315, 315, 630, 315]
    assert pages[0].width == sum(panels) + 3 * (TALL // 30)
    lefts = [sum(panels[:i]) + i * (TALL // 30) for i in range(4)]
    assert at(pages[0], head + 3, lefts[0] + 3) == (10, 200, 10)
    assert at(pages[0], head + 3, lefts[1] + 3) == (200, 10, 10)
    assert at(pages[0], head + 3, lefts[2] + 3) == (200, 10, 10)
    assert len(set(at(pages[0], head + 100, lefts[3] + 100))) == 1  # nothing moves
    assert colorsys.rgb_to_hsv(*at(pages[1], head + 100, lefts[3] + 100))[1] > 0.9


def test_arrows_lead_from_there_to_here():
    grey = Image.new("RGB", (100, 100), (90, 90, 90))
    spread = torch.full((1, 5, 5), EVEN)
    spread[0, 2, 3] = 0
    for back, hue in ((True, 0), (False, 0.5)):
        (out,) = arrows(*field((5, 5), (0.0, -0.4))[:1], spread, grey, back=back)
        colour = np.array(colorsys.hsv_to_rgb(hue, 1, 1)) * 255
        found = np.argwhere(abs(array(out) - colour).max(-1) < 12)
        low, high = found.min(0) / out.height, found.max(0) / out.height
        assert [low[1], high[1]] == pytest.approx([0.3, 0.7], abs=0.02)
        assert (low[0] + high[0]) / 2 == pytest.approx(0.5, abs=0.01)
        across = [(found[:, 1] == round(x * out.width)).sum() for x in (0.36, 0.64)]  # the head is wider than the shaft
        assert (across[1] > across[0]) == back
    (still,) = arrows(*field((5, 5)), grey)
    assert not (np.ptp(array(still), axis=-1) > 10).any()


def test_a_field_draws_itself_with_the_pictures_it_was_given_or_carries():
    positions = torch.cat([field((4, 3))[0], field((4, 3), (0.1, 0.0))[0]])
    one, two = noise(32, 24), noise(32, 24, 1)
    carried = torch.from_numpy(np.array(one)).permute(2, 0, 1), torch.from_numpy(np.array(two)).permute(2, 0, 1)
    there = Field(positions, torch.zeros(2, 4, 3, 3), "g2r", (carried[0],), (carried[1],))
    back = Field(positions, torch.zeros(2, 4, 3, 3), "r2g", (carried[0],), (carried[1],))
    assert len(there.warp()) == len(there.arrows()) == len(there.matches()) == len(there.wheel()) == 2
    assert len(there[1].warp()) == len(there[1].sheet()) == len(back[1].sheet()) == 1
    assert abs(array(there.warp()[0]) - array(two)).max() <= 1  # the reference, on the image
    assert abs(array(back.warp()[0]) - array(one)).max() <= 1
    assert abs(array(there.warp(one)[0]) - array(one)).max() <= 1  # what is given goes first
    bare = Field(positions, torch.zeros(2, 4, 3, 3), "g2r")
    assert bare.warp(two)[0].size == (24, 32)
    with pytest.raises(
        ValueError, match=r"i2am: references must be given for this picture of g2r, got none.* Keep them with maps\.with_pi"
    ):
        bare.warp()
    with pytest.raises(ValueError, match=r"i2am: images must be given for this picture of g2r"):
        bare.arrows()
    with pytest.raises(ValueError, match=r"i2am: images must be given for this picture of r2g"):
        Field(positions, torch.zeros(2, 4, 3, 3), "r2g").warp()
    timed = Field(positions[:, None], torch.zeros(2, 1, 4, 3, 3), "g2r")
    with pytest.raises(ValueError, match=r'i2am: a field that is drawn must be of level "unified"'):
        timed.wheel()
    assert math.isclose(EVEN, 0.408, abs_tol=1e-3)
