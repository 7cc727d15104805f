"""Boxes of maps against a version written pixel by pixel; IoU, the baselines and the report."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("scipy")
pytest.importorskip("torchmetrics")
from i2am.score.detection import RELEASE, boxes, detect, iou, random_boxes, whole_image
from i2am.score.intervals import bootstrap

pytestmark = pytest.mark.usefixtures("on_the_cpu")
NAN = [float("nan")] * 4


# The definition, pixel by pixel in float64


def cubic(n: int, size: int) -> np.ndarray:
    """[size, n]: each new sample from the four nearest, Keys' kernel of -0.75, the ends repeated."""
    weights = np.zeros((size, n))
    for i in range(size):
        at = (i + 0.5) * n / size - 0.5
        for j in range(int(np.floor(at)) - 1, int(np.floor(at)) + 3):
            d = abs(at - j)
            weight = 1.25 * d**3 - 2.25 * d**2 + 1 if d <= 1 else -0.75 * (d**3 - 5 * d**2 + 8 * d - 4)
            weights[i, min(max(j, 0), n - 1)] += weight
    return weights


def windows(kept: np.ndarray, kernel: int, what: Any) -> np.ndarray:
    """The least or most of what of the square around each pixel lies inside the image."""
    half, out = kernel // 2, np.empty_like(kept)
    for y, x in np.ndindex(*kept.shape):
        out[y, x] = what(kept[max(0, y - half) : y + half + 1, max(0, x - half) : x + half + 1])
    return out


def parts(kept: np.ndarray) -> list[tuple[int, int, int, int]]:
    """The bounding boxes of what hangs together, corners included, in the order of their first pixels."""
    left, found = {(int(y), int(x)) for y, x in np.argwhere(kept)}, []
    for start in np.argwhere(kept).tolist():
        todo, part = [tuple(start)] if tuple(start) in left else [], []
        left -= set(todo)
        while todo:
            y, x = todo.pop()
            part.append((y, x))
            near = {(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            todo += near
        if part:
            ys, xs = zip(*part)
            found.append((min(xs), min(ys), max(xs) + 1, max(ys) + 1))
    return found


def literal(map: Tensor, size, percentile=65.0, kernel=5, at=None, mode="bicubic", invert=False, threshold=None) -> list[float]:
    x, at = map.double().numpy(), at or size
    if invert or threshold is not None:
        x = (x - x.min()) / (x.max() - x.min() + 1e-8)
        x = 1 - x if invert else x
        x = np.where(x <= threshold, 0, x) if threshold is not None else x
    if mode == "bicubic" and x.shape != at:
        x = np.maximum(cubic(x.shape[0], at[0]) @ x @ cubic(x.shape[1], at[1]).T, min(0, x.min()))
    elif x.shape != at:
        rows, columns = ([int((i + 0.5) * n / m) for i in range(m)] for n, m in zip(x.shape, at))
        x = x[rows][:, columns]
    ordered = sorted(x.flatten())
    rank = percentile / 100 * (len(ordered) - 1)
    low, high = ordered[int(rank)], ordered[min(int(rank) + 1, len(ordered) - 1)]
    kept = x > low + (high - low) * (rank - int(rank)) + 1e-6 * abs(x).max()
    for what in (np.min, np.max, np.max, np.min, np.max):  # open, close, dilate
        kept = windows(kept, kernel, what)
    best, most = NAN, 0
    for x0, y0, x1, y1 in parts(kept):
        if kept[y0:y1, x0:x1].sum() > most:
            most = kept[y0:y1, x0:x1].sum()
            best = [x0 * size[1] / at[1], y0 * size[0] / at[0], x1 * size[1] / at[1], y1 * size[0] / at[0]]
    return best


def drawn(kind: str, h: int, w: int) -> Tensor:
    if kind == "ties":
        return torch.randint(0, 4, (3, h, w)).float()
    if kind == "sparse":  # bicubic undershoots around what is there
        return (torch.rand(3, h, w) > 0.85).float() * torch.rand(3, h, w)
    if kind == "plateaus":
        return 0.1 + (torch.rand(3, h, w) > 0.7).float()
    blobs = torch.rand(3, h, w) + 3 * torch.nn.functional.avg_pool2d(torch.rand(3, 1, h, w).pow(4), 3, 1, 1)[:, 0]
    return blobs - blobs.mean() if kind == "negative" else blobs


CASES: dict[str, tuple[tuple[int, int], tuple[int, int], dict[str, Any]]] = {
    "as it is": ((24, 18), (24, 18), {}),
    "larger": ((12, 9), (31, 25), {}),
    "wider": ((7, 11), (21, 34), {"kernel": 3}),
    "smaller": ((20, 24), (13, 10), {"kernel": 3}),
    "no cleaning": ((15, 16), (15, 16), {"kernel": 1}),
    "few kept": ((16, 12), (32, 24), {"percentile": 92.5, "kernel": 3}),
    "all kept": ((9, 9), (21, 19), {"percentile": 0.0, "kernel": 3}),
    "square beyond the image": ((3, 20), (3, 20), {"kernel": 9}),
    "one pixel": ((1, 1), (6, 5), {}),
    "at another size": ((8, 6), (64, 48), {"at": (32, 20), "kernel": 3}),
    "inverted": ((10, 8), (30, 24), {"invert": True}),
    "threshold": ((10, 8), (30, 24), {"threshold": 0.3, "percentile": 30.0}),
    "release": ((6, 6), (64, 64), {**RELEASE, "at": (32, 32)}),
}


@pytest.mark.parametrize("kind", ["noise", "ties", "sparse", "plateaus", "negative"])
@pytest.mark.parametrize("case", CASES)
def test_boxes_are_those_of_the_definition(case, kind):
    grid, size, options = CASES[case]
    maps = drawn(kind, *grid)
    right = torch.tensor([literal(map, size, **options) for map in maps])
    torch.testing.assert_close(boxes(maps, size, **options), right, equal_nan=True)


def painted(height: int, width: int, *blocks: tuple[int, int, int, int]) -> Tensor:
    """1 in blocks (x0, y0, x1, y1), 0 elsewhere."""
    map = torch.zeros(height, width)
    for x0, y0, x1, y1 in blocks:
        map[y0:y1, x0:x1] = 1
    return map


BY_HAND: dict[str, tuple[Tensor, int, list[float]]] = {
    "dilated by two": (painted(30, 20, (4, 6, 12, 16)), 5, [2, 4, 14, 18]),
    "too thin to stay": (painted(30, 20, (4, 6, 8, 16)), 5, NAN),
    "the border does not eat": (painted(30, 20, (0, 0, 3, 3)), 5, [0, 0, 5, 5]),
    "nor the far one": (painted(30, 20, (17, 27, 20, 30)), 5, [15, 25, 20, 30]),
    "gaps are closed": (painted(40, 20, (2, 2, 8, 8), (2, 12, 8, 18)), 5, [0, 0, 10, 20]),
    "corners touch": (painted(20, 20, (2, 2, 5, 5), (5, 5, 8, 8)), 1, [2, 2, 8, 8]),
    "of equals the topmost": (painted(20, 20, (12, 3, 16, 6), (2, 4, 6, 7)), 1, [12, 3, 16, 6]),
    "of a row the leftmost": (painted(20, 20, (12, 3, 16, 6), (2, 3, 6, 6)), 1, [2, 3, 6, 6]),
    "the larger": (painted(20, 20, (2, 2, 4, 4), (8, 8, 11, 11)), 1, [8, 8, 11, 11]),
    "what else is in the box counts": (  # 20 pixels; 13 in an angle and 9 within it
        painted(30, 30, (1, 1, 6, 5), (10, 10, 17, 11), (10, 10, 11, 17), (13, 13, 16, 16)), 1, [10, 10, 17, 17]),
    "constant": (torch.full((20, 20), 0.1), 1, NAN),
}  # fmt: skip


@pytest.mark.parametrize("name", BY_HAND)
def test_boxes_by_hand(name):
    map, kernel, right = BY_HAND[name]
    found = boxes(map, tuple(map.shape), kernel=kernel)
    assert found.shape == (4,)
    torch.testing.assert_close(found, torch.tensor(right, dtype=torch.float32), equal_nan=True)


def test_values_at_the_threshold_are_not_kept():
    map = painted(12, 12, (1, 1, 3, 3)) * 4 + painted(12, 12, (6, 6, 9, 9)) * 2
    sides = {}
    for threshold in (0.49, 0.5):
        sides[threshold] = boxes(map, (12, 12), percentile=30, kernel=1, threshold=threshold).tolist()
    assert sides == {0.49: [6, 6, 9, 9], 0.5: [1, 1, 3, 3]}


def test_rounding_is_no_object():
    for value in (0.1, 1 / 3072, 7.3):
        flat_map, right = torch.full((16, 12), value), torch.tensor(NAN)
        for options in ({}, {"invert": True, "threshold": 0.4}):
            torch.testing.assert_close(boxes(flat_map, (101, 77), kernel=1, **options), right, equal_nan=True)


def test_each_map_has_its_own_box():
    maps = drawn("noise", 12, 9)
    together = boxes(maps, (48, 36))
    assert together.dtype == torch.float32
    assert len(together.unique(dim=0)) > 1
    assert torch.equal(torch.stack([boxes(map, (48, 36)) for map in maps]), together)
    assert torch.equal(boxes(maps.bfloat16().float(), (48, 36)), boxes(maps.bfloat16(), (48, 36)))
    assert torch.equal(boxes(maps * 8, (48, 36)), together)


WRONG = {
    "map": ({"map": torch.ones(2, 1, 4, 4)}, "i2am: map must be a floating tensor"),
    "whole numbers": ({"map": torch.ones(4, 4, dtype=torch.long)}, "i2am: map must be a floating tensor .*int64"),
    "not finite": ({"map": torch.tensor([[1.0, torch.nan]])}, "i2am: map must be finite"),
    "size": ({"size": (4, 0)}, "i2am: size must be"),
    "at": ({"at": (4.5, 4)}, "i2am: at must be"),
    "percentile": ({"percentile": 100}, "i2am: percentile must be"),
    "kernel": ({"kernel": 4}, "i2am: kernel must be an odd"),
    "mode": ({"mode": "area"}, "i2am: mode must be"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_options_are_refused(name):
    options, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        boxes(**{"map": torch.rand(4, 4), "size": (8, 8), **options})


# IoU and the baselines


def test_iou_counts_pixels():
    corners = torch.randint(0, 12, (200, 2, 2, 2)).sort(2).values
    pairs = torch.stack([corners[:, :, 0], corners[:, :, 1] + 1], 2).flatten(2)  # [200, 2, 4]
    canvas = torch.zeros(200, 2, 13, 13, dtype=torch.bool)
    for i, side in np.ndindex(200, 2):
        x0, y0, x1, y1 = pairs[i, side].tolist()
        canvas[i, side, y0:y1, x0:x1] = True
    right = canvas.all(1).sum((1, 2)).double() / canvas.any(1).sum((1, 2))
    a, b = pairs.float().unbind(1)
    torch.testing.assert_close(iou(a, b), right)
    assert ((right == 0).any(), (right > 0.5).any()) == (True, True)
    assert torch.equal(iou(a, b), iou(b, a))
    assert (iou(a, a) == 1).all()
    torch.testing.assert_close(iou(a / 7 + 3, b / 7 + 3), right, rtol=1e-4, atol=1e-5)
    assert iou(a[:, None], b[None, :5]).shape == (200, 5)
    assert iou(torch.tensor(NAN), a[:3]).tolist() == [0, 0, 0]


@pytest.mark.parametrize("box", [[0, 0, 0, 4], [3, 0, 1, 4], [0, 0, 4, float("nan")], [0, 0, 4, float("inf")], [1.0, 2.0]], ids=str)
def test_what_is_no_box_is_refused(box):
    with pytest.raises(ValueError, match=r"i2am: (a box|boxes) must be"):
        iou(torch.tensor([1.0, 1, 2, 2]), torch.tensor(box, dtype=torch.float32))


@pytest.mark.parametrize("size", [(480, 640), (1024, 768), (10, 700), (900, 5)], ids=str)
def test_random_boxes_are_inside_and_of_their_area(size):
    height, width = size
    found = random_boxes(400, size, seed=1).double()
    sides = found[:, 2:] - found[:, :2]
    share = sides.prod(1) / (height * width)
    assert (found[:, :2] > -1e-3).all()
    assert (found[:, 2:] < torch.tensor([width, height]) + 1e-3).all()
    assert 0.0999 < share.min() < 0.11 < 0.29 < share.max() < 0.3001
    aspect = sides[:, 0] / sides[:, 1]
    if max(size) < 2 * min(size):
        assert 0.499 < aspect.min() < 0.55 < 1.9 < aspect.max() < 2.001
    assert found[:, 0].std() > 0.1 * width or width == 5
    torch.testing.assert_close(iou(found, whole_image(size).expand(400, 4)), share, rtol=1e-4, atol=1e-4)


def test_random_boxes_do_not_depend_on_the_batch():
    together = random_boxes(7, (40, 30), seed=3)
    assert torch.equal(torch.cat([random_boxes(3, (40, 30), 3), random_boxes(4, (40, 30), 3, first=3)]), together)
    assert not torch.equal(random_boxes(7, (40, 30), 4), together)
    for wrong in ({"seed": -1}, {"n": 1.5}, {"size": 40}):
        with pytest.raises(ValueError, match="i2am: n, size, seed and first must be"):
            random_boxes(**{"n": 1, "size": (4, 4), "seed": 0, **wrong})


def test_detect_reports_what_it_found():
    sizes = [(10, 10), (10, 20), (20, 10), (10, 10)]
    truth = torch.tensor([[0, 0, 10, 5], [0, 0, 5, 5], [0, 0, 10, 20], [2, 2, 4, 4.0]])
    found = torch.tensor([[0, 0, 10, 5], [0, 0, 5, 10], [0, 5, 10, 20], NAN])
    report = detect(found, truth, sizes, seed=5, places=[9, 2, 4, 4])
    each = torch.tensor([1, 0.5, 0.75, 0]).double()
    assert (report["count"], report["missed"]) == (4, 1)
    torch.testing.assert_close(report["iou"]["map"], each)
    torch.testing.assert_close(report["iou"]["whole"], torch.tensor([0.5, 0.125, 1, 0.04]).double())
    drawn_boxes = [random_boxes(1, size, 5, place)[0] for size, place in zip(sizes, [9, 2, 4, 4])]
    torch.testing.assert_close(report["iou"]["random"], iou(torch.stack(drawn_boxes), truth))
    low, high = (x.item() for x in bootstrap(each.sort().values, 1000, 0.95, 5))
    assert report["map"] == {"mean": 0.5625, "low": low, "high": high, "above_half": 0.5}  # 0.5 is not above
    assert report["whole"]["above_half"] == 0.25
    json.dumps({name: report[name] for name in ("count", "missed", "map", "whole", "random")})
    with pytest.raises(ValueError, match="i2am: found, truth, sizes and places must be of the same images, at least one, got 3, 4, 4"):
        detect(found[:3], truth, sizes)
    with pytest.raises(ValueError, match="i2am: truth must be boxes, got NaN"):
        detect(truth, found, sizes)
