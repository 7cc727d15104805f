"""Annotations: what is read, which object is chosen, what is refused; and the command that compares maps with them."""

import csv
import json
from typing import Any

import pytest
import torch
from torch import Tensor
from viewed import flat

from i2am import AttributionMaps
from i2am.cli.detect import add_detect
from i2am.cli.main import main
from i2am.data.coco import read_coco
from i2am.maps.layer_sums import LayerSums

pytest.importorskip("scipy")
pytest.importorskip("torchmetrics")
from i2am.score.detection import RELEASE, boxes, iou, random_boxes

pytestmark = pytest.mark.usefixtures("on_the_cpu")

COCO: dict[str, Any] = {
    "images": [{"id": 7, "file_name": "dogs/one.jpg", "height": 40, "width": 60},
               {"id": 3, "file_name": "two.png", "height": 50, "width": 50},
               {"id": 4, "file_name": "none.jpg", "height": 5, "width": 5}],
    "annotations": [
        {"image_id": 7, "category_id": 1, "bbox": [10, 10, 20, 20]},
        {"image_id": 3, "category_id": 2, "bbox": [0, 0, 10, 10]},
        {"image_id": 3, "category_id": 1, "bbox": [20, 20, 25.5, 30.4], "iscrowd": 0},
        {"image_id": 3, "category_id": 1, "bbox": [0, 0, 50, 50], "iscrowd": 1},
        {"image_id": 3, "category_id": 2, "bbox": [5, 5, 15, 16.25]},
    ],
    "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
}  # fmt: skip


def written(path, **changes):
    path.write_text(json.dumps({**COCO, **changes}))
    return path


def test_annotations_are_read(tmp_path):
    one, two, none = read_coco(written(tmp_path / "boxes.json"))
    assert (one.id, one.file, one.stem, one.size) == (7, "dogs/one.jpg", "one", (40, 60))
    assert one.object() == one.objects[0] == ("dog", (10, 10, 30, 30), False)
    assert two.objects[1].box == (20, 20, 45.5, 50)  # cut at the border
    assert none.object() is None
    assert one.object("cat") is None
    assert two.object("dog") == two.objects[1]  # not the crowd
    assert two.object(choose="largest") == two.objects[1]
    assert two.object("cat", choose="largest") == two.objects[3]
    assert two.object(choose="first") == two.objects[0]
    assert two.object(choose="first", area=(0.09, 0.3)) == two.objects[3]
    assert two.object("cat", area=(0.05, 0.1)) == two.objects[3]
    with pytest.raises(ValueError, match=r"i2am: the object to find in two.png must be one, got 3: 2 of cat, dog\."):
        two.object()
    with pytest.raises(ValueError, match="i2am: choose must be one of only, largest, first, got 'best'"):
        two.object(choose="best")
    with pytest.raises(ValueError, match="i2am: area must be"):
        two.object(area=(0.3, 0.1))


def annotation(**changes: Any) -> dict[str, Any]:
    return {"annotations": [{**COCO["annotations"][0], **changes}]}


def image(**changes: Any) -> dict[str, Any]:
    return {"images": [COCO["images"][0], {**COCO["images"][1], **changes}], "annotations": []}


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "no annotations": ({"annotations": None}, "with a list \"annotations\", got images, annotations, categories"),
    "no size": ({"images": [{"id": 7, "file_name": "a.jpg"}]}, 'images[0] of boxes.json must be an object with "height", got {"id": 7'),
    "no object": ({"annotations": [3]}, 'annotations[0] of boxes.json must be an object with "image_id", got 3'),
    "no box": ({"annotations": [{"image_id": 7, "category_id": 1}]}, 'annotations[0] of boxes.json must be an object with "bbox"'),
    "unknown image": (annotation(image_id=8), '"image_id" of annotations[0] of boxes.json must be the id of one of the images, got 8'),
    "unknown category": (annotation(category_id="dog"), '"category_id" of annotations[0] of boxes.json must be the id of one of the cat'),
    "three numbers": (annotation(bbox=[1, 2, 3]), '"bbox" of annotations[0] of boxes.json must be [x, y, width, height], the last two'),
    "no width": (annotation(bbox=[1, 2, 0, 3]), '"bbox" of annotations[0] of boxes.json must be [x, y, width, height], the last two'),
    "not a number": (annotation(bbox=[1, 2, float("nan"), 3]), '"bbox" of annotations[0] of boxes.json must be [x, y, width, height]'),
    "outside": (annotation(bbox=[50, 2, 12, 3]), '"bbox" of annotations[0] of boxes.json must be inside its image of 60 x 40 pixels, got'),
    "above": (annotation(bbox=[5, -2, 12, 30]), '"bbox" of annotations[0] of boxes.json must be inside its image of 60 x 40 pixels, got'),
    "nothing inside": (annotation(bbox=[-0.5, 2, 0.3, 3]), '"bbox" of annotations[0] of boxes.json must be inside its image'),
    "twice": (image(id=7), '"id" of images[1] of boxes.json must be a whole number that no other image has, got 7'),
    "no pixels": (image(width=0), '"width" of images[1] of boxes.json must be a number of pixels, got 0'),
    "no name": (image(file_name=""), '"file_name" of images[1] of boxes.json must be a file\'s name, got ""'),
    "categories": ({"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, '"id" of categories[1] of boxes.json must be a whole'),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken_annotations_are_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    changes, message = BROKEN[name]
    written(tmp_path / "boxes.json", **changes)
    with pytest.raises(ValueError) as refused:
        read_coco("boxes.json")
    assert str(refused.value).startswith("i2am: ")
    assert message in str(refused.value)


def test_what_is_no_file_of_annotations(tmp_path):
    tmp_path.joinpath("list.json").write_text("[1, 2]")
    tmp_path.joinpath("text.json").write_text("boxes")
    tmp_path.joinpath("bytes.json").write_bytes(b"\xff\xfe\xfa")
    for name, message in (
        ("missing.json", "path must be a file of annotations, got .*missing.json"),
        ("list.json", 'must be COCO\'s format, with a list "images", got list'),
        ("text.json", "must be JSON, got something else"),
        ("bytes.json", "must be JSON, got something else"),
    ):
        with pytest.raises(ValueError, match=f"^i2am: .*{message}"):
            read_coco(tmp_path / name)


# The command

TRUE = torch.tensor([10.0, 10, 30, 30], device="cpu")  # of one.jpg


def maps_of(*maps: Tensor, grid=(10, 15), layer="up.attn2", source="reference") -> AttributionMaps:
    """A run of one layer whose R2G maps [h, w] are these."""
    sums = torch.stack([map.flatten() for map in maps])[:, None, None]
    return AttributionMaps((LayerSums(layer, source, grid, None, 0, sums),), 1)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """one.jpg: a box that is near, none.jpg without an annotation, two.png: nothing; other: no image."""
    monkeypatch.setattr("i2am.cli.main.COMMANDS", (add_detect,))
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "boxes.json")
    folder = tmp_path / "maps"
    folder.mkdir()
    near = torch.zeros(10, 15)
    near[3:7, 3:7] = 1
    maps_of(near).with_pictures(flat(1)).save(folder / "one.safetensors")
    maps_of(torch.ones(10, 10), grid=(10, 10)).save(folder / "two.safetensors")
    for name in ("none", "other"):
        maps_of(near).save(folder / f"{name}.safetensors")
    return near


def test_the_command_compares_boxes(run, tmp_path, capsys):
    options = ["--category", "dog", "--seed", "3", "--out", "report.json", "--pictures", "drawn"]
    assert main(["detect", "--maps", "maps", "--boxes", "boxes.json", *options]) == 0
    found = boxes(run, (40, 60))
    right = [iou(found, TRUE).item(), 0.0]
    assert 0.5 < right[0] < 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "2 images, 1 without a box of their map, which count as 0"
    assert printed[2].split()[:4] == ["boxes", "of", "the", "maps"]
    assert printed[2].split()[4::2] == [f"{right[0] / 2:.4f}", "50.0%"]
    assert printed[5:] == ["1 maps without an annotated image: maps/other.safetensors", "1 images without an object to find: none.jpg"]
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["map"]["mean"] == pytest.approx(right[0] / 2)
    assert (report["count"], report["missed"], report["options"]["category"]) == (2, 1, "dog")
    assert report["unmatched"]["maps without an annotated image"] == ["maps/other.safetensors"]
    with (tmp_path / "report.csv").open(newline="") as file:
        one, two = csv.DictReader(file)
    assert (one["image"], one["category"], two["image"], two["x0"], two["iou_map"]) == ("dogs/one.jpg", "dog", "two.png", "", "0.0")
    assert [float(one[side]) for side in ("x0", "y0", "x1", "y1")] == found.tolist()
    assert [float(one[f"true_{side}"]) for side in ("x0", "y0", "x1", "y1")] == [10, 10, 30, 30]
    assert float(one["iou_random"]) == pytest.approx(iou(random_boxes(1, (40, 60), 3, 7)[0], TRUE).item())
    from PIL import Image

    with Image.open(tmp_path / "drawn" / "one.png") as picture:
        assert picture.size == (60, 40)
        assert picture.getpixel((10, 10)) == (0, 255, 0)
        assert picture.getpixel((int(found[0]), int(found[1]))) == (255, 255, 255)
    assert (tmp_path / "drawn" / "two.png").is_file()


def test_the_command_takes_the_releases_way(run, tmp_path, capsys):
    def mean() -> float:
        return json.loads((tmp_path / "report.json").read_text())["map"]["mean"]

    middle = LayerSums("unet.mid_block.attn2", "reference", (10, 15), None, 0, run.flatten()[None, None, None])
    kept = maps_of(1 - run).sums[0]
    AttributionMaps((middle, kept), 1).save(tmp_path / "one.safetensors")
    arguments = ["detect", "--boxes", "boxes.json", "--out", "report.json", "--maps", "one.safetensors"]
    assert main([*arguments, "--convention", "release", "--kernel", "3", "--percentile", "80"]) == 0
    found = boxes(1 - run, (40, 60), kernel=3, percentile=80, **RELEASE)
    assert iou(found, TRUE) > 0.5
    assert mean() == pytest.approx(iou(found, TRUE).item())
    assert "2 annotated images without maps: two.png, none.jpg" in capsys.readouterr().out
    assert main([*arguments, "--layers", "*mid_block*", "--at", "20", "30", "--reference", "0"]) == 0
    found = boxes(run, (40, 60), at=(20, 30))
    assert mean() == pytest.approx(iou(found, TRUE).item())


REFUSED = {
    "several objects": (["--maps", "maps"], "i2am: the object to find in two.png must be one, got 3: 2 of cat, dog."),
    "category": (["--maps", "maps", "--category", "cow"], "i2am: --category must be one of those annotated (cat, dog), got 'cow'."),
    "no maps": (["--maps", "boxes.json", "."], "i2am: --maps must be folders of .safetensors files, or files, got ., where none is."),
    "no file": (["--maps", "x.safetensors"], "i2am: --maps must be folders of .safetensors files, or files, got x.safetensors, where none"),
    "same name": (
        ["--maps", "maps", "maps/one.safetensors"],
        "i2am: --maps must be one file for each image, got maps/one.safetensors and m",
    ),
    "nothing fits": (
        ["--maps", "maps/other.safetensors"],
        "i2am: --maps must be of at least one image with an object to find, got none (1",
    ),
    "no folder": (["--maps", "maps", "--out", "x/y.json"], "i2am: --out must be in a folder that exists, got x/y.json. Make x first"),
    "no JSON": (["--maps", "maps", "--out", "y.csv"], "i2am: --out must be a .json file, got y.csv. Write y.json."),
    "seed": (
        ["--maps", "maps", "--choose", "first", "--seed", str(2**64)],
        "i2am: --seed must be from 0 to 2**63 - 1, got 18446744073709551616",
    ),
    "too large": (
        ["--maps", "maps", "--choose", "first", "--at", "99999", "99999"],
        "i2am: at must be (height, width), at most 268,435,456",
    ),
    "no reference": (["--maps", "maps", "--choose", "first", "--reference", "²"], "i2am: reference must be below 1 or one of ["),
    "the annotations": (["--maps", "maps", "--out", "boxes.json"], "i2am: --out must be another file than --boxes, got boxes.json."),
    "several images": (["--maps", "several/one.safetensors"], "i2am: several/one.safetensors must be the maps of one image, got of 2."),
    "even": (["--maps", "maps", "--choose", "first", "--kernel", "4"], "i2am: kernel must be an odd number of pixels, got 4."),
    "layers": (["--maps", "maps/one.safetensors", "--layers", "down*"], "i2am: layers must be names or patterns"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_command_refuses_in_one_line(run, tmp_path, capsys, name):
    arguments, message = REFUSED[name]
    tmp_path.joinpath("several").mkdir()
    maps_of(run, run).save(tmp_path / "several" / "one.safetensors")
    assert main(["detect", "--boxes", "boxes.json", *arguments]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("i2am:")]
    assert len(error) == 1
    assert error[0].startswith(message)


def test_annotated_images_of_one_name_are_refused(run, tmp_path, capsys):
    written(tmp_path / "boxes.json", images=[*COCO["images"], {"id": 9, "file_name": "cats/one.png", "height": 4, "width": 4}])
    assert main(["detect", "--boxes", "boxes.json", "--maps", "maps"]) == 2
    assert "of images with a name of their own, got dogs/one.jpg and cats/one.png." in capsys.readouterr().err
