"""Run lengths and polygons; packed run lengths as COCO's own code writes them."""

import numpy as np
import pytest

from i2am.data.outlines import check_outline, inside

ROWS = ["101110001", "001011010", "101000011", "010001100", "111011110", "001011011"]
PACKED = "01100031M1004OM0OO022OO0O10N10"  # of ROWS, by pycocotools 2.0.11, as the one below
HOLLOW = f"Yl0Q2i{'0' * 39}^NK{'?5AK' * 19}?5S1{'0' * 98}Sh1"


def test_packed_run_lengths_are_cocos():
    rows = np.array([[int(x) for x in row] for row in ROWS], bool)
    assert np.array_equal(inside({"size": [6, 9], "counts": PACKED}, (6, 9), "x"), rows)
    hollow = np.zeros((90, 120), bool)
    hollow[5:70, 10:100] = True
    hollow[20:40, 30:50] = False
    check_outline({"size": [90, 120], "counts": HOLLOW}, (90, 120), "x")
    assert np.array_equal(inside({"size": [90, 120], "counts": HOLLOW}, (90, 120), "x"), hollow)


def test_run_lengths_go_down_the_columns():
    assert inside({"size": [2, 3], "counts": [1, 2, 3]}, (2, 3), "x").tolist() == [[False, True, False], [True, False, False]]
    assert inside({"size": [2, 2], "counts": [0, 4]}, (2, 2), "x").all()


def at(y: float, x: float, corners: list[tuple[float, float]]) -> bool:
    """Even-odd, a point at a time: borders on the left of it."""
    odd = False
    for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]]):
        if (y0 > y) != (y1 > y) and x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x:
            odd = not odd
    return odd


@pytest.mark.parametrize("seed", range(4))
def test_a_pixel_is_inside_if_its_centre_is(seed):
    corners = np.random.default_rng(seed).uniform(-3, 15, (5, 2)).tolist()  # beyond the picture, and crossing itself
    found = inside([[x for corner in corners for x in corner]], (11, 13), "x")
    assert found.tolist() == [[at(y + 0.5, x + 0.5, corners) for x in range(13)] for y in range(11)]


def test_whole_boxes_and_several_polygons():
    found = inside([[2, 3, 10, 3, 10, 8, 2, 8], [0, 0, 4, 0, 4, 4, 0, 4]], (12, 14), "x")
    truth = np.zeros((12, 14), bool)
    truth[3:8, 2:10] = truth[:4, :4] = True
    assert np.array_equal(found, truth)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ([], "Boxes alone are no masks"),
        ([[1, 2, 3, 4]], "at least three corners"),
        ([[1, 2, 3, 4, 5, float("nan")]], "at least three corners"),
        ({"counts": [4]}, "Boxes alone are no masks"),
        ({"size": [2, 3], "counts": [4]}, r"the picture's \[2, 2\], got \[2, 3\]"),
        ({"size": [2, 2], "counts": [1, 2]}, "runs of 4 pixels in all, got 3"),
        ({"size": [2, 2], "counts": [4.0]}, "a list of whole numbers or a text"),
        ({"size": [2, 2], "counts": [-1, 5]}, "a list of whole numbers or a text"),
        ({"size": [2, 2], "counts": "~"}, "a text of packed run lengths"),
        ({"size": [2, 2], "counts": "P"}, "a text of packed run lengths"),
        ({"size": [2, 2], "counts": ""}, "runs of 4 pixels in all, got 0"),
    ],
)
def test_what_is_no_mask_is_refused(bad, said):
    with pytest.raises(ValueError, match=said):
        check_outline(bad, (2, 2), '"segmentation" of annotations[0]')
