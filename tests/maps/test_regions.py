"""Masks, points and boxes as a user has them: whatever the type, 1 inside; what cannot be read is said, and what to write."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from i2am import Recorder, cells
from i2am.maps.regions import as_mask, as_region, as_regions, default_cells, images_of, on_grid, per_image, regions_on_grid

INSIDE = torch.tensor([[0.0, 1.0, 1.0], [0.0, 0.0, 1.0]], device="cpu")
WHITE = (INSIDE.numpy() * 255).astype(np.uint8)
PICTURE = Image.fromarray(WHITE)
BLACK_AND_WHITE = Image.fromarray(WHITE).point(lambda v: v > 127 and 255, "1")
WORN = PICTURE.convert("RGBA")  # black is opaque: alpha says nothing of the mask

MASKS: dict[str, Any] = {
    "float": INSIDE,
    "double": INSIDE.double(),
    "half": INSIDE.half(),
    "bool": INSIDE.bool(),
    "bytes of 0 and 1": INSIDE.to(torch.uint8),
    "whole numbers": INSIDE.long(),
    "one of a batch": INSIDE[None],
    "a channel": INSIDE[None, None],
    "with a gradient": INSIDE.clone().requires_grad_(),
    "strided": INSIDE.T.contiguous().T,
    "numpy": INSIDE.numpy(),
    "numpy bool": INSIDE.numpy().astype(bool),
    "numpy int64": INSIDE.numpy().astype(np.int64),
    "numpy float16": INSIDE.numpy().astype(np.float16),
    "numpy, turned": INSIDE.numpy()[::-1, ::-1].copy()[::-1, ::-1],
    "list of one": [INSIDE],
    "PIL L": PICTURE,
    "PIL RGB": PICTURE.convert("RGB"),
    "PIL 1": BLACK_AND_WHITE,
    "PIL RGBA": WORN,
    "PIL LA": PICTURE.convert("LA"),
    "PIL P": PICTURE.convert("P"),
    "list of PIL": [PICTURE],
}


@pytest.mark.parametrize("kind", MASKS)
def test_every_kind_of_mask_is_the_same_mask(kind):
    got = as_mask(MASKS[kind], "generated_mask")
    assert (got.dtype, got.device.type, got.requires_grad) == (torch.float32, "cpu", False)
    assert torch.equal(got, INSIDE[None])


@pytest.mark.parametrize("kind", MASKS)
def test_a_mask_weighs_the_same_as_any_kind(kind):
    """End to end: the map of G2R, and of a region."""
    step = [torch.randn(1, 2, 6, 8, generator=torch.Generator(torch.get_default_device()).manual_seed(i)) for i in range(3)]

    def maps(mask: Any) -> tuple[Tensor, Tensor]:
        recorder = Recorder(groups=1, generated_mask=mask, specific=[mask])
        recorder.attend("a", *step, generated_grid=(2, 3), reference_grid=(3, 2))
        recorder.step()
        return recorder.maps.unified("g2r"), recorder.maps.specific(0)

    for got, right in zip(maps(MASKS[kind]), maps(INSIDE)):
        assert torch.equal(got, right)
    torch.testing.assert_close(maps(INSIDE)[0] * 6, maps(INSIDE)[1])


def test_several_masks():
    both = torch.stack([INSIDE, 1 - INSIDE])
    for masks in (both, both[:, None], both.numpy(), [INSIDE, 1 - INSIDE], (INSIDE, (1 - INSIDE).bool()), [PICTURE, 1 - INSIDE]):
        assert torch.equal(as_mask(masks, "m"), both)
        assert images_of(as_mask(masks, "m")) == 2
    assert images_of((0.5, 0.5)) == 1
    weights = per_image(both.flatten(1), 4, "m")
    assert torch.equal(weights, both.flatten(1)[[0, 0, 1, 1]])
    with pytest.raises(
        ValueError, match=r"m must be one mask, or one per image or prompt \(3 images\), got 2 masks\. Their number must divide"
    ):
        per_image(both.flatten(1), 3, "m")


def test_grey_stays_grey():
    soft = torch.rand(5, 4, device="cpu")
    assert torch.equal(as_mask(soft, "m")[0], soft)
    assert as_mask(Image.new("L", (4, 5), 51), "m").eq(0.2).all()


WRONG: dict[str, tuple[Any, str]] = {
    "bytes": (torch.tensor([[0, 255]], dtype=torch.uint8), r"m must be between 0 and 1, got values from 0 to 255\. Divide a mask of bytes"),
    "numpy bytes": (WHITE, r"m must be between 0 and 1, got values from 0 to 255"),
    "in -1 to 1": (INSIDE * 2 - 1, r"m must be between 0 and 1, got values from -1 to 1"),
    "nan": (INSIDE * torch.nan, r"m must be between 0 and 1, got values from nan"),
    "one line": (INSIDE[0], r"m must be a mask \[h, w\], .*, got \(3,\)\. 1 is inside"),
    "number": (1.0, r"m must be a mask: a tensor, an array or a picture, got 1\.0"),
    "nothing": (None, r"m must be a mask"),
    "empty": (INSIDE[:0], r"m must be a mask .*got \(1, 0, 3\)"),
    "colours": (torch.rand(1, 3, 2, 3, device="cpu"), r"m must be a mask .*got \(1, 3, 2, 3\)"),
    "no masks": ([], r"m must be .*"),
    "two sizes": ([INSIDE, INSIDE.T], r"m must be .*"),
    "a path": ("mask.png", r"m must be a mask: .*got 'mask\.png'\. Load a file first"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_mask_is_refused(name):
    mask, message = WRONG[name]
    with pytest.raises(ValueError, match=f"i2am: {message}"):
        as_mask(mask, "m")


REGIONS: dict[str, tuple[Any, str]] = {
    "pixels": ((300, 200), r"specific\[0\] must be a point .*fractions of height and width, got \(300, 200\)\. Divide pixels by"),
    "a negative point": ((-0.1, 0.5), r"specific\[0\] must be a point"),
    "nan": ((float("nan"), 0.5), r"specific\[0\] must be a point"),
    "three numbers": (
        (0.1, 0.2, 0.3),
        r"specific\[0\] must be \(frame, y, x\) .* whole frame, got \(0\.1, 0\.2, 0\.3\)\. It is the frame",
    ),
    "six numbers": ((0.1,) * 6, r"specific\[0\] must be a point"),
    "a frame before the first": ((-1, 0.2, 0.3), r"specific\[0\] must be .* whole frame"),
    "a point in pixels of a frame": ((1, 300, 200), r"specific\[0\] must be a point"),
    "x before y": ((0.5, 0.1, 0.2, 0.9), r"specific\[0\] must be a box .*top < bottom and left < right, got \(0\.5, .*\. Swap its sides"),
    "an empty box": ((0.5, 0.1, 0.5, 0.9), r"specific\[0\] must be a box"),
    "bytes": (WHITE, r"specific\[0\] must be between 0 and 1"),
    "a word": ("point", r"specific\[0\] must be .*point"),
}


@pytest.mark.parametrize("name", REGIONS)
def test_what_is_no_region_is_refused(name):
    region, message = REGIONS[name]
    with pytest.raises(ValueError, match=f"i2am: {message}"):
        as_regions([region])


def test_lists_of_regions():
    assert as_regions(None) == []
    assert as_regions("grid") is None
    assert as_regions((0.25, 0.5)) == [(0.25, 0.5)]  # a single point, box
    assert as_regions((0, 0, 1, 1)) == [(0.0, 0.0, 1.0, 1.0)]
    assert as_regions(cells(2, 2)) == cells(2, 2) == [(0, 0, 0.5, 0.5), (0, 0.5, 0.5, 1), (0.5, 0, 1, 0.5), (0.5, 0.5, 1, 1)]
    with pytest.raises(ValueError, match=r"specific must be a list of points, .*got 'Grid'\. i2am\.cells\(16, 12\) gives a finer grid"):
        as_regions("Grid")
    with pytest.raises(ValueError, match=r"specific must be at least one region, got an empty list\. Leave it out"):
        as_regions([])


@pytest.mark.parametrize("point", [[(np.float32(0.25), np.float32(0.5))], [np.array([0.25, 0.5])], [[0.25, 0.5]]], ids=str)
def test_points_may_be_numpys(point):
    assert as_regions(point) == [(0.25, 0.5)]


@pytest.mark.parametrize("one", [PICTURE, INSIDE, [0.25, 0.5], (0.1, 0.2, 0.3, 0.4)], ids=["picture", "tensor", "point", "box"])
def test_one_region_may_stand_alone(one):
    (alone,), (listed,) = as_regions(one), as_regions([one])
    assert torch.equal(torch.as_tensor(alone), torch.as_tensor(listed))


def cell(region: Any, grid: tuple[int, int]) -> list[tuple[int, ...]]:
    return [tuple(at.tolist()) for at in on_grid(as_region(region, "r"), grid).view(grid).nonzero()]


def test_regions_on_grids():
    assert cell((0, 0), (4, 3)) == [(0, 0)]
    assert cell((1, 1), (4, 3)) == [(3, 2)]
    assert cell((0.5, 0.5), (4, 3)) == [(2, 1)]  # height first
    assert cell((300 / 512, 200 / 384), (64, 48)) == [(37, 25)]
    assert cell((0.0, 0.5, 0.5, 1.0), (4, 4)) == [(0, 2), (0, 3), (1, 2), (1, 3)]
    assert cell((0.125, 0, 0.375, 1), (4, 1)) == [(0, 0)]  # a centre on the border belongs to the box that begins there
    assert cell((0.3, 0.3, 0.35, 0.35), (2, 2)) == [(0, 0)]  # smaller than a cell: the cell of its middle
    assert cell((0.6, 0.0, 0.7, 1.0), (2, 3)) == [(1, 1)]  # holds no centre; its middle does count
    assert cell((0, 0, 1, 1), (1, 1)) == [(0, 0)]
    assert on_grid(INSIDE[None], (4, 6)).view(4, 6).tolist() == INSIDE.repeat_interleave(2, 0).repeat_interleave(2, 1).tolist()


def test_a_region_that_falls_between_the_centres_is_every_cell_it_touches():
    """As a thin box is the cell of its middle; the user cannot know how coarse a layer is. Weights stay nearest, as the method has them."""
    dot, line = torch.zeros(64, 48, device="cpu"), torch.zeros(64, 48, device="cpu")
    dot[9, 7] = 0.5
    line[5:20, 3] = 1
    for mask, cells_ in ((dot, [(1, 0)]), (line, [(0, 0), (1, 0), (2, 0)])):
        assert on_grid(mask[None], (8, 6)).eq(0).all()
        assert [tuple(at.tolist()) for at in regions_on_grid([mask[None]], (8, 6), 1).view(8, 6).nonzero()] == cells_
    assert regions_on_grid([dot[None]], (8, 6), 1).max() == 0.5
    both = torch.stack([dot, torch.ones(64, 48, device="cpu")])  # the other image keeps its nearest
    assert regions_on_grid([both], (8, 6), 2).sum((1, 2)).tolist() == [0.5, 48]
    recorder = Recorder(groups=1, generated_mask=dot, specific=[dot])
    query, key = torch.randn(1, 1, 48, 8), torch.randn(1, 1, 6, 8)
    recorder.attend("a", query, key, key, generated_grid=(8, 6), reference_grid=(3, 2))
    assert recorder.maps.unified("g2r").sum().item() == 0
    assert recorder.maps.specific(0).sum().item() == pytest.approx(0.5)


def test_many_places_at_once_are_each_alone():
    """What is drawn at once against the definition, one by one: centres inside, or the cell of the middle."""
    places = [*cells(5, 3), *cells(16, 12), (0.0, 0.0), (1.0, 1.0), (0.3, 0.8), (0.3, 0.1, 0.31, 0.9), (0.125, 0.0, 0.375, 1.0)]
    for height, width in ((7, 5), (16, 12), (4, 1), (1, 1)):
        found = regions_on_grid([as_region(place, "r") for place in places], (height, width), 2)
        assert found.shape == (2, len(places), height * width)
        for place, weight in zip(places, found[1].view(-1, height, width)):
            top, left, bottom, right = (*place, *place)[:4]
            inside = [(i, j) for i in range(height) for j in range(width)
                      if top <= (i + 0.5) / height < bottom and left <= (j + 0.5) / width < right]  # fmt: skip
            middle = (min(int((top + bottom) / 2 * height), height - 1), min(int((left + right) / 2 * width), width - 1))
            assert [tuple(at) for at in weight.nonzero().tolist()] == (inside or [middle]), (place, height, width)
    masks = torch.stack([INSIDE, 1 - INSIDE])
    mixed = regions_on_grid([masks, (0.1, 0.1), INSIDE[None]], (2, 3), 4)
    assert torch.equal(mixed[:, 0], masks.flatten(1)[[0, 0, 1, 1]])
    assert torch.equal(mixed[:, 2], INSIDE.flatten().expand(4, 6))


@pytest.mark.parametrize("grid", [(64, 48), (16, 12), (12, 16), (37, 28), (8, 8), (41, 9)])
def test_cells_cover_the_image_once(grid):
    cover = sum(on_grid(box, grid) for box in default_cells(grid))
    assert cover.eq(1).all()
    rows, columns = len({box[0] for box in default_cells(grid)}), len({box[1] for box in default_cells(grid)})
    assert max(rows, columns) == 8
    assert (rows >= columns) == (grid[0] >= grid[1])
    assert sum(on_grid(box, (3, 2)) for box in default_cells(grid)).ge(1).all()  # coarser layers: a cell stands for several


@pytest.mark.parametrize(("size", "grid"), [((1024, 768), (64, 48)), ((512, 384), (37, 28)), ((100, 75), (16, 12)), ((9, 14), (27, 10))])
def test_masks_are_taken_at_the_nearest(size, grid):
    mask = torch.rand(size, device="cpu")
    rows, columns = ([i * whole // part for i in range(part)] for whole, part in zip(size, grid))
    assert torch.equal(on_grid(mask[None], grid).view(grid), mask[rows][:, columns])
