"""`i2am.log`: what a writer of TensorBoard is given, under which tags, and numbers whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pointed import mirrored, pointed, unmirrored
from viewed import flat, known, several, words_of

import i2am

pytestmark = pytest.mark.usefixtures("on_the_cpu")


class Writer:
    """Keeps what it is given: (tag, step) -> number or pictures [n, h, w, 3]."""

    def __init__(self):
        self.found = {}

    def add_scalar(self, tag, scalar_value, global_step=None):
        self.keep(tag, global_step, scalar_value)

    def add_images(self, tag, img_tensor, global_step=None, walltime=None, dataformats="NCHW"):
        assert dataformats == "NHWC"
        self.keep(tag, global_step, np.asarray(img_tensor))

    def add_image(self, tag, img_tensor, global_step=None, walltime=None, dataformats="CHW"):
        assert dataformats == "HWC"
        self.keep(tag, global_step, np.asarray(img_tensor))

    def keep(self, tag, step, what):
        assert (tag, step) not in self.found
        self.found[tag, step] = what


def logged(maps, step=3, **options):
    writer = Writer()
    assert i2am.log(writer, maps, step, **options) is None
    assert {at for _, at in writer.found} <= {step}
    return {tag: what for (tag, _), what in writer.found.items()}


def test_maps_alone_are_heats():
    found = logged(known(6, pictures=False))
    assert set(found) == {"i2am/r2g", "i2am/g2r"}
    assert found["i2am/r2g"].shape == (4, 264, 176, 3)  # the first four; 22 pixels a patch
    assert found["i2am/r2g"].dtype == np.uint8
    assert logged(known(6, pictures=False), most=6)["i2am/g2r"].shape[0] == 6


def test_maps_with_pictures_are_overlays():
    maps = known(2)
    found = logged(maps)
    assert found["i2am/r2g"].shape == (2, 96, 64, 3)
    assert (found["i2am/r2g"][1] == np.asarray(maps.overlay()[1])).all()
    given = logged(known(2, pictures=False), images=[flat(0), flat(1, (50, 40))], references=flat(4))
    assert {tag: what.shape for tag, what in given.items()} == {
        "i2am/r2g/0": (96, 64, 3), "i2am/r2g/1": (50, 40, 3), "i2am/g2r": (2, 96, 64, 3)}  # fmt: skip


def test_a_field_gives_pictures_and_numbers():
    maps = pointed(images=2).with_pictures(flat(0), flat(1, (60, 100)))
    found = logged(maps, tag="train")
    assert set(found) == {f"train/{name}" for name in ("r2g", "g2r", "wheel", "warp", "spread/g2r", "spread/r2g", "returned")}
    assert found["train/spread/g2r"] == pytest.approx(np.hypot(0.05, 0.1), rel=1e-3)
    assert found["train/returned"] == 1
    assert found["train/warp"].shape == (2, 96, 64, 3)
    bare = logged(pointed())
    assert "i2am/warp" not in bare
    assert bare["i2am/wheel"].shape[1:] == (264, 176, 3)


def test_the_share_that_returns_is_counted():
    def half(at):  # who is in the lower half comes back five patches off
        found = unmirrored(at)
        return torch.where(at[..., :1] < 0.5, found, found + torch.tensor([0.45, 0.0]))

    maps = pointed(mirrored, half)
    away = maps.field("g2r").away(maps.field("r2g"))
    assert away.shape == (1, 12, 8)
    share = float((away < 1).float().mean())
    assert 0.3 < share < 0.6
    assert logged(maps)["i2am/returned"] == pytest.approx(share)
    assert (away[0, :4] < 0.1).all()
    assert away[0, -3:] == pytest.approx(0.45 * 12, abs=0.1)
    field = maps.field("g2r")
    nowhere = replace(field, positions=field.positions * torch.nan)
    assert (nowhere.away(maps.field("r2g")) == torch.inf).all()
    with pytest.raises(ValueError, match=r"i2am: back must be the way back of g2r for 1 images, got g2r of 1"):
        field.away(field)


def test_several_references_have_tags_of_their_own():
    assert set(logged(several())) == {"i2am/garment/r2g", "i2am/garment/g2r", "i2am/adapter <b>&2/r2g"}
    assert logged(words_of()) == {}


def test_broken_layers_are_counted_and_the_rest_is_drawn():
    maps = known(1, pictures=False)
    broken = replace(maps, sums=(replace(maps.sums[0], r2g=maps.sums[0].r2g * torch.nan), *maps.sums[1:]))
    found = logged(broken)
    assert found["i2am/broken_layers"] == 1
    assert (found["i2am/r2g"] == logged(replace(maps, sums=maps.sums[1:]))["i2am/r2g"]).all()
    whole = replace(maps, sums=tuple(replace(s, r2g=s.r2g * torch.nan) for s in maps.sums))
    assert logged(whole) == {"i2am/broken_layers": 3}


def test_writers_with_one_kind_of_pictures():
    for name in ("add_images", "add_image"):
        writer = Writer()
        setattr(writer, name, None)
        i2am.log(writer, known(2), 0)
        assert len(writer.found) == (2 if name == "add_image" else 4)
    for bad in (None, object()):
        with pytest.raises(ValueError, match=r"i2am: writer must be a SummaryWriter, .*accelerator\.get_tracker"):
            i2am.log(bad, known(1), 0)
    with pytest.raises(ValueError, match=r"i2am: maps must be an AttributionMaps, got 3\. Pass run\.maps"):
        i2am.log(Writer(), 3, 0)
    with pytest.raises(ValueError, match=r"i2am: step must be a whole number of at least 0, got -1"):
        i2am.log(Writer(), known(1), -1)


def test_tensorboard_reads_it_back(tmp_path):
    pytest.importorskip("tensorboard", reason="needs the PyPI package tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        for step in (1, 2):
            i2am.log(writer, pointed(images=2).with_pictures(flat(0), flat(1)), step)
    read = EventAccumulator(str(tmp_path))
    read.Reload()
    assert set(read.Tags()["scalars"]) == {"i2am/spread/g2r", "i2am/spread/r2g", "i2am/returned"}
    assert set(read.Tags()["images"]) == {f"i2am/{name}" for name in ("r2g", "g2r", "wheel", "warp")}
    assert [event.step for event in read.Scalars("i2am/returned")] == [1, 2]
