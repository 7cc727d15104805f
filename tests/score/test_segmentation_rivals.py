"""What masks are worth without attention."""

import numpy as np
import pytest
import torch

pytest.importorskip("scipy")
pytest.importorskip("PIL")
from PIL import Image

from i2am.score.segmentation import Protocol, Segmentation
from i2am.score.segmentation_rivals import Rivals, luminance, random_mask

pytestmark = pytest.mark.usefixtures("on_the_cpu")
SIZE = (20, 30)


def lamp() -> tuple[Image.Image, torch.Tensor]:
    """A bright square on a dark ground, and where it is."""
    mask = np.zeros(SIZE, bool)
    mask[5:15, 10:20] = True
    return Image.fromarray(np.where(mask[..., None], [250, 250, 200], [20, 40, 20]).astype(np.uint8)), torch.from_numpy(mask)


def test_the_rivals_are_scored_as_the_maps_are():
    picture, mask = lamp()
    found, rivals = Segmentation(Protocol(thresholds=(0.3, 0.4))), Rivals((0.3, 0.4))
    masks = {"lamp": mask, "ground": ~mask}
    rivals.add(found.add("a", {word: one.float() for word, one in masks.items()}, masks), masks, picture)
    each = {name: {row.word: row.iou for row in rows} for name, rows in rivals.rows.items()}
    assert each["whole"] == {"lamp": (1 / 6,) * 2, "ground": (5 / 6,) * 2}
    assert each["bright"] == {"lamp": (1.0, 1.0), "ground": (0.0, 0.0)}
    assert each["dark"] == {"lamp": (0.0, 0.0), "ground": (1.0, 1.0)}
    box = random_mask("a", SIZE)
    assert each["random"]["lamp"][0] == (box & mask).sum() / (box | mask).sum()
    assert [line["mean"] for line in rivals.table()["whole"]] == [0.5, 0.5]
    assert rivals.better() == "bright"
    rivals.add(found.add("b", {"ground": (~mask).float()}, {"ground": ~mask}), masks, picture)
    assert rivals.better() == "dark"


def test_luminance_is_from_the_darkest_to_the_brightest():
    grey = luminance(Image.fromarray(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)))
    red, green, blue = 0.299, 0.587, 0.114
    assert grey[0].tolist() == pytest.approx([(red - blue) / (green - blue), 1, 0], abs=1e-6)
    assert luminance(Image.new("RGB", (4, 3), (9, 9, 9))).sum() == 0


def test_a_random_box_hangs_on_the_picture_alone():
    one = random_mask("0007", SIZE)
    assert torch.equal(one, random_mask("0007", SIZE))
    assert not torch.equal(one, random_mask("0008", SIZE))
    assert not torch.equal(one, random_mask("0007", SIZE, seed=1))
    shares = [float(random_mask(str(i), (200, 300)).float().mean()) for i in range(100)]
    assert 0.1 - 0.01 < min(shares) < 0.15
    assert 0.25 < max(shares) < 0.3 + 0.01
    ys, xs = torch.where(one)
    assert int(one.sum()) == (ys.max() - ys.min() + 1) * (xs.max() - xs.min() + 1)  # a box


def test_a_picture_of_another_size_is_refused():
    picture, mask = lamp()
    rows = Segmentation().add("a", {"lamp": mask.float()}, {"lamp": mask})
    with pytest.raises(ValueError, match=r"the picture a must be \(20, 30\) pixels"):
        Rivals((0.4,)).add(rows, {"lamp": mask}, picture.resize((15, 10)))
