"""Masks of words: what is read, what is united, what is refused before anything is painted."""

import numpy as np
import pytest
from masked import box, write_alpha, written_instances

pytest.importorskip("PIL")
from PIL import Image

from i2am.data.word_masks import read_masks, read_predictions

SIZE = (12, 16)


@pytest.fixture
def folder(tmp_path):
    write_alpha(tmp_path / "0000" / "cat.gt.png", box(SIZE, 1, 2, 5, 9))
    write_alpha(tmp_path / "0000" / "traffic light.gt.png", box(SIZE, 6, 2, 9, 4))
    write_alpha(tmp_path / "0002" / "Dog.gt.png", box((8, 8), 0, 0, 4, 4))
    (tmp_path / "0000" / "prompt.txt").write_text("a cat")
    return tmp_path


def test_a_folder_of_alpha_channels(folder):
    found = read_masks(folder, ["0000", "0001", "0002"])
    assert found.words() == {"0000": ["cat", "traffic light"], "0002": ["dog"]}
    assert (found.without, found.sizes) == (("0001",), {"0000": SIZE, "0002": (8, 8)})
    assert np.array_equal(found["0000"]["traffic light"].numpy(), box(SIZE, 6, 2, 9, 4))
    assert found.only(["0002", "0001"]).words() == {"0002": ["dog"]}
    assert found.only(["0002", "0001"]).without == ("0001",)


def test_faint_is_inside_and_clear_is_not(tmp_path):
    alpha = np.zeros((*SIZE, 4), np.uint8)
    alpha[..., :3] = 255
    alpha[3, 4, 3] = 1
    (tmp_path / "a").mkdir()
    Image.fromarray(alpha).save(tmp_path / "a" / "cat.gt.png")
    grey = Image.fromarray(np.stack([np.full(SIZE, 9, np.uint8), box(SIZE, 0, 0, 2, 2).astype(np.uint8)], -1), "LA")
    grey.save(tmp_path / "a" / "dog.gt.png")
    found = read_masks(tmp_path, ["a"])["a"]
    assert np.array_equal(found["cat"].numpy(), box(SIZE, 3, 4, 4, 5))
    assert np.array_equal(found["dog"].numpy(), box(SIZE, 0, 0, 2, 2))


def test_words_that_differ_in_their_letters_alone_are_united(folder):
    write_alpha(folder / "0000" / "Cat.gt.png", box(SIZE, 8, 8, 10, 10))
    found = read_masks(folder, ["0000", "0002"])["0000"]["cat"]
    assert np.array_equal(found.numpy(), box(SIZE, 1, 2, 5, 9) | box(SIZE, 8, 8, 10, 10))


def test_what_a_model_predicted(folder):
    write_alpha(folder / "0000" / "cat.clip.pred.png", box(SIZE, 0, 0, 3, 3))
    write_alpha(folder / "0000" / "cat.other.pred.png", box(SIZE, 0, 0, 4, 4))
    labels = box(SIZE, 2, 2, 8, 8).astype(np.uint8) * 2
    Image.fromarray(labels).save(folder / "0000" / "composite.clip.pred.png")
    found = read_predictions(folder, ["0000", "0002"], "clip")
    assert found.words() == {"0000": ["cat"]}
    assert found["0000"]["cat"].sum() == 9
    of_labels = read_predictions(folder, ["0000", "0002"], "clip", composite=True, vocabulary=("Person", "bicycle"))
    assert of_labels.words() == {"0000": ["person", "label 2"]}
    assert np.array_equal(of_labels["0000"]["label 2"].numpy(), labels == 2)


IMAGES = [{"id": 7, "file_name": "val/0000.jpg", "height": 12, "width": 16}, {"id": 391, "file_name": "x.jpg", "height": 12, "width": 16}]
ONE = {"image_id": 7, "category_id": 1, "segmentation": [[2, 1, 9, 1, 9, 5, 2, 5]]}
PACKED = {"size": [12, 16], "counts": [0, 12, 180]}


def test_instances_are_found_by_name_or_number_and_united(tmp_path):
    rows = [ONE, {**ONE, "segmentation": PACKED, "iscrowd": 1}, {"image_id": 391, "category_id": 2, "segmentation": PACKED}]
    file = written_instances(tmp_path / "i.json", rows, IMAGES, {1: "Cat", 2: "traffic light"})
    found = read_masks(file, ["0000", "391", "5"], size=SIZE)
    assert found.words() == {"0000": ["cat"], "391": ["traffic light"]}
    assert np.array_equal(found["0000"]["cat"].numpy(), box(SIZE, 1, 2, 5, 9) | box(SIZE, 0, 0, 12, 1))
    assert found.without == ("5",)


def test_all_faults_are_named_at_once(folder):
    Image.new("RGB", (16, 12)).save(folder / "0000" / "car.gt.png")
    (folder / "0000" / "bus.gt.png").write_bytes(b"no picture")
    whole = (folder / "0000" / "cat.gt.png").read_bytes()
    (folder / "0000" / "cut.gt.png").write_bytes(whole[:-20])
    write_alpha(folder / "0000" / "tie.gt.png", box((9, 16), 0, 0, 1, 1))
    with pytest.raises(ValueError, match="5 faults") as error:
        read_masks(folder, ["0000"])
    faults = [
        "0000/car.gt.png: no alpha channel (mode RGB)",
        "0000/bus.gt.png: no picture that can be read",
        "0000/cut.gt.png: no picture",
        "0000/tie.gt.png: 9 x 16 pixels, others of this picture have 12 x 16",
        "0002: no prompt of the list has this id",
    ]
    for said in faults:
        assert said in str(error.value)


def test_the_models_size_is_asked_of_every_mask(folder):
    with pytest.raises(ValueError, match=r"1 fault:\n  0002/Dog.gt.png: 8 x 8 pixels, the picture has 12 x 16"):
        read_masks(folder, ["0000", "0002"], size=SIZE)


def test_refusals(folder, tmp_path):
    with pytest.raises(ValueError, match="masks of at least one prompt of the list, got none for a"):
        read_masks(tmp_path / "0000", ["a"])
    with pytest.raises(ValueError, match="which is not there"):
        read_masks(tmp_path / "nowhere", ["a"])
    write_alpha(folder / "0000" / "composite.x.pred.png", box(SIZE, 0, 0, 1, 1))
    with pytest.raises(ValueError, match="no labels"):
        read_predictions(folder, ["0000"], "x", composite=True)
    two = [IMAGES[0], {**IMAGES[1], "file_name": "other/0000.png"}]
    with pytest.raises(ValueError, match="0000: 2 images with this name or number"):
        read_masks(written_instances(tmp_path / "i.json", [ONE], two, {1: "cat"}), ["0000"])
    with pytest.raises(ValueError, match='"segmentation" of annotations'):
        read_masks(written_instances(tmp_path / "i.json", [{**ONE, "segmentation": "x"}], IMAGES, {1: "cat"}), ["0000"])


def test_pixels_that_cannot_be_read_later_are_named(folder):
    found = read_masks(folder, ["0000", "0002"])
    (folder / "0000" / "cat.gt.png").write_bytes(b"gone")
    with pytest.raises(ValueError, match=r"cat\.gt\.png must be a picture that can be read"):
        _ = found["0000"]["cat"]
