"""Pictures beside maps: kept by indexing, saving and loading, used by overlay; what does not fit is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import i2am
from i2am import AttributionMaps
from i2am.maps.kept_pictures import Pictures
from i2am.maps.layer_sums import LayerSums

CPU: dict[str, Any] = {"device": "cpu"}


def run_of(images: int = 3, sources: tuple[str, ...] = ("reference",)) -> AttributionMaps:
    def sums(source: str) -> LayerSums:
        r2g, g2r = torch.rand(images, 1, 2, 6, **CPU), torch.rand(images, 1, 2, 4, **CPU)
        return LayerSums("a", source, (3, 2), (2, 2), 0, r2g=r2g, g2r=g2r)

    return AttributionMaps(tuple(sums(source) for source in sources), steps=2)


def picture(i: int, size: tuple[int, int] = (4, 6)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(i).integers(0, 256, (*size, 3), dtype=np.uint8))


def same(found: tuple[torch.Tensor, ...], wanted: list[Image.Image]) -> bool:
    return len(found) == len(wanted) and all(np.array_equal(t.permute(1, 2, 0), np.asarray(p)) for t, p in zip(found, wanted))


def shown(maps: AttributionMaps) -> Pictures:
    assert maps.pictures is not None
    return maps.pictures


GENERATED = [picture(0), picture(1, (7, 5)), picture(2)]


def test_pictures_travel_with_maps(tmp_path):
    run = run_of(sources=("one", "two '\n\u00e4")).with_pictures(GENERATED, {"two '\n\u00e4": picture(9)})
    back = i2am.load(run.save(tmp_path / "run.safetensors"))
    for maps in (run, back):
        assert same(shown(maps).generated, GENERATED)
        assert {name: len(found) for name, found in shown(maps).references.items()} == {"two '\n\u00e4": 1}
        assert same(shown(maps[1:]).generated, GENERATED[1:])
        assert same(shown(maps[-1]).generated, GENERATED[2:])
        assert same(shown(maps[0]).references["two '\n\u00e4"], [picture(9)])  # one for all stays
    assert shown(back.with_pictures(references={"one": GENERATED})).references.keys() == {"one", "two '\n\u00e4"}
    assert same(shown(back.with_pictures(GENERATED[0])).generated, GENERATED[:1])
    assert run_of().pictures is None
    assert i2am.load(run_of().save(tmp_path / "bare.safetensors")).pictures is None


def test_every_kind_of_image_is_the_same_picture():
    array = np.asarray(GENERATED[0])
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    for kind in (GENERATED[0], array, tensor, tensor.float() / 255, [array], array[None], GENERATED[0].convert("RGBA")):
        assert same(shown(run_of().with_pictures(kind)).generated, GENERATED[:1])


def test_overlay_takes_the_maps_own_pictures():
    run = run_of(sources=("one", "two")).with_pictures(GENERATED, {"two": picture(9, (8, 8))})
    assert run.overlay(direction="r2g", reference=0) == run.overlay(GENERATED, "r2g", reference="one")
    assert run.overlay(direction="g2r", reference="two") == run.overlay(picture(9, (8, 8)), "g2r", reference=1)
    assert run[1].overlay(reference=0) == run.overlay(GENERATED, reference=0)[1:2]
    with pytest.raises(ValueError, match=r"images must be given for g2r, got none, and these maps carry none\. Keep them with"):
        run.overlay(direction="g2r", reference="one")
    with pytest.raises(ValueError, match="reference must be stated"):
        run.overlay(direction="g2r")
    with pytest.raises(ValueError, match="images must be given for r2g"):
        run_of().overlay()
    one = run_of().with_pictures(references=picture(3))
    assert one.overlay(direction="g2r") == one.overlay(picture(3), "g2r")


WRONG: dict[str, tuple[Any, str]] = {
    "two for three": (lambda: run_of().with_pictures(GENERATED[:2]), r"images must be one, or as many as there are images \(3\), got 2"),
    "two references for three": (lambda: run_of().with_pictures(None, GENERATED[:2]), r"the pictures of 'reference' must be one, or as"),
    "unnamed": (lambda: run_of(sources=("one", "two")).with_pictures(None, GENERATED), r"references must be a dict by name for \['one'"),
    "unknown": (lambda: run_of().with_pictures(None, {"scarf": GENERATED[0]}), r"references must be among .*, got \['scarf'\]"),
    "no image": (lambda: run_of().with_pictures("a.png"), r"images must be PIL images"),
    "a float": (lambda: Pictures((torch.rand(3, 2, 2, **CPU),)), r"a picture must be uint8 .* or \[frames, .*\], got float32"),
    "last channels": (lambda: Pictures((torch.zeros(2, 2, 3, dtype=torch.uint8, **CPU),)), r"a picture must be uint8 \[3, height, width\]"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused(name):
    make, message = WRONG[name]
    with pytest.raises(ValueError, match=f"i2am: {message}"):
        make()


def test_words_alone_have_no_reference_to_show():
    run = run_of()
    bare = replace(run, sums=tuple(replace(s, r2g=None, g2r=None, words=torch.rand(3, 1, 2, 1, 6, **CPU)) for s in run.sums))
    with pytest.raises(ValueError, match=r"references must be a dict by name for \[\], got Image\. Words alone were traced"):
        bare.with_pictures(GENERATED, GENERATED[0])
    assert same(shown(bare.with_pictures(GENERATED)).generated, GENERATED)


LIES: dict[str, Any] = {
    "no description": lambda a, t: a.pop("pictures"),
    "one too few": lambda a, t: a["pictures"].update(generated=2),
    "one too many": lambda a, t: a["pictures"].update(generated=4),
    "in words": lambda a, t: a["pictures"].update(generated="3"),
    "fewer than none": lambda a, t: a["pictures"].update(generated=-1),
    "another reference": lambda a, t: a["pictures"].update(references=[["hat", 1]]),
    "twice": lambda a, t: a["pictures"].update(references=[["reference", 1], ["reference", 0]]),
    "no references": lambda a, t: a["pictures"].pop("references"),
    "a list": lambda a, t: a.update(pictures=[1]),
    "a picture gone": lambda a, t: t.pop("pictures.generated.1"),
    "a stranger": lambda a, t: t.update({"pictures.generated.3": t["pictures.generated.0"].clone()}),
    "float": lambda a, t: t.update({"pictures.generated.0": t["pictures.generated.0"].float()}),
    "flat": lambda a, t: t.update({"pictures.references.0.0": t["pictures.references.0.0"].flatten()}),
    "two for three": lambda a, t: (a["pictures"].update(generated=2), t.pop("pictures.generated.2")),
}


@pytest.mark.parametrize("lie", LIES)
def test_files_that_lie_are_refused(tmp_path: Path, lie):
    path = run_of().with_pictures(GENERATED, picture(5)).save(tmp_path / "run.safetensors")
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["i2am"])
    tensors = load_file(path)
    i2am.load(path)
    LIES[lie](about, tensors)
    save_file(tensors, path, {"i2am": json.dumps(about)})
    with pytest.raises(ValueError, match=r"the description in .* does not fit its tensors"):
        i2am.load(path)
