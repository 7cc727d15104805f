"""The try-on world on disk: the tree is VITON-HD's, what is there is added to or left alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn import inner, share_near, warped
from PIL import Image
from safetensors.torch import load_file

from i2am.data.synthetic import draw, read_truth, write_vitonhd
from i2am.data.synthetic.disk import BATCH, GREY, to_255

pytestmark = pytest.mark.usefixtures("on_the_cpu")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pairs on disk, at a size that is no multiple of 8."""
    with torch.device("cpu"):
        return write_vitonhd(tmp_path_factory.mktemp("world"), 3, seed=3, size=(252, 189))


def test_files_say_what_the_tensors_say(tree: Path) -> None:
    """Read back as anybody would, from pictures and truth alone; within what JPEG leaves of them."""
    names = ["00000_00", "00001_00", "00002_00"]
    truth, drawn = read_truth(tree, [f"{name}.jpg" for name in names]), draw(3, seed=3, size=(252, 189))
    assert torch.equal(truth.source, drawn.source)
    assert torch.equal(truth.inside, drawn.worn)
    folders = [
        [np.asarray(Image.open(tree / "test" / f / f"{n}.jpg")) for n in names]
        for f in ("image", "cloth", "agnostic-v3.2", "image-densepose")
    ]
    person, garment, agnostic, body = torch.from_numpy(np.array(folders)).movedim(-1, 2) / 127.5 - 1
    for read, made in ((person, drawn.person), (garment, drawn.garment), (agnostic, drawn.agnostic), (body, drawn.densepose)):
        assert (read - made).abs().mean() < 2 / 255
    shade = torch.stack([load_file(tree / "test" / "truth" / f"{name}.safetensors")["shade"].float() for name in names])
    where = inner(truth.inside, truth.source)
    assert share_near(warped(garment, truth.source, shade), person, where, 20 / 255) > 0.9
    assert share_near(warped(garment.flip(0), truth.source, shade), person, where, 20 / 255) < 0.5


def test_the_tree_is_laid_out_as_viton_hd(tree: Path) -> None:
    """Folders, names, sizes, white for what is painted anew and for the garment, and every person with somebody else's garment."""
    names = [f"{i:05d}_00" for i in range(3)]
    endings = dict.fromkeys(("image", "cloth", "cloth-mask", "agnostic-v3.2", "image-densepose"), ".jpg")
    endings |= {"agnostic-mask": "_mask.png", "truth": ".safetensors"}
    found = {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()}
    expected = {f"test/{folder}/{name}{ending}" for folder, ending in endings.items() for name in names}
    assert found == expected | {"test_pairs.txt", "test/world.json"}
    drawn = draw(3, seed=3, size=(252, 189))
    for i, name in enumerate(names):
        for folder, ending in list(endings.items())[:-1]:
            with Image.open(tree / "test" / folder / f"{name}{ending}") as image:
                assert image.size == (189, 252)
                assert image.mode == ("L" if "mask" in folder else "RGB")
        masks = (("cloth-mask", ".jpg", drawn.garment_mask), ("agnostic-mask", "_mask.png", drawn.mask))
        for folder, ending, mask in masks:
            white = np.asarray(Image.open(tree / "test" / folder / f"{name}{ending}")) > 127
            assert np.array_equal(white, mask[i].numpy()), folder


@pytest.mark.parametrize(("count", "seed"), [(1, 0), (2, 0), (2, 7), (3, 5)])
def test_pairs_name_another_garment(tmp_path: Path, count: int, seed: int) -> None:
    write_vitonhd(tmp_path, count, seed, (16, 16), split="train")
    lines = [line.split() for line in (tmp_path / "train_pairs.txt").read_text().splitlines()]
    names = [f"{i:05d}_00.jpg" for i in range(count)]
    assert [person for person, _ in lines] == names
    assert sorted(garment for _, garment in lines) == names
    assert all(person != garment for person, garment in lines) or count == 1


@pytest.mark.parametrize("size", [(67, 91), (16, 40), [24, np.int64(16)]], ids=str)
def test_any_size_is_written(tmp_path: Path, size: Any) -> None:
    """Wide and odd, the narrowest, and as a list or numpy's numbers, which JSON would not take."""
    write_vitonhd(tmp_path, 1, size=size)
    with Image.open(tmp_path / "test" / "image" / "00000_00.jpg") as image:
        assert image.size == (size[1], size[0])
    assert read_truth(tmp_path, "00000_00").source.shape == (1, 2, *size)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_writing_again_adds_pairs_and_changes_none(tmp_path: Path) -> None:
    write_vitonhd(tmp_path, 2, size=(32, 24))
    before = contents(tmp_path)
    write_vitonhd(tmp_path, 3, size=(32, 24))
    after = contents(tmp_path)
    assert {name for name in before if before[name] != after[name]} == {"test_pairs.txt"}
    assert len(after) == len(before) + 7
    assert len(read_truth(tmp_path, ["00002_00"])) == 1


def test_threads_write_what_one_would_and_leave_torch_its_own(tmp_path: Path) -> None:
    """More than two batches, of which the last is not full; the grey of the agnostic picture is the one that 0 rounds to."""
    count, threads = 2 * BATCH + 1, torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        write_vitonhd(tmp_path / "many", count, size=(32, 24))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    drawn = draw(count, size=(32, 24))
    truth = read_truth(tmp_path / "many", [f"{i:05d}_00" for i in range(count)])
    assert torch.equal(truth.source, drawn.source)
    write_vitonhd(tmp_path / "few", 3, size=(32, 24))
    many = contents(tmp_path / "many")
    assert all(many[name] == data for name, data in contents(tmp_path / "few").items() if name != "test_pairs.txt")
    assert torch.equal(to_255(drawn.person[:1]).masked_fill(drawn.mask[:1], GREY), to_255(drawn.agnostic[:1]))


@pytest.mark.parametrize("other", [{"seed": 1}, {"size": (24, 32)}, {"rich": 0.5}], ids=str)
def test_pairs_of_other_settings_are_not_written_over(tmp_path: Path, other: dict[str, Any]) -> None:
    write_vitonhd(tmp_path, 1, size=(32, 24))
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"i2am: .*must be new, or pairs of .*Choose another root"):
        write_vitonhd(tmp_path, 2, **{"size": (32, 24), **other})
    assert contents(tmp_path) == before


@pytest.mark.parametrize("theirs", ["test/image/00000_00.jpg", "test/world.json", "test_pairs.txt"])
def test_somebody_elses_data_is_not_written_over(tmp_path: Path, theirs: str) -> None:
    (tmp_path / theirs).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / theirs).write_text("[1]")
    with pytest.raises(ValueError, match=r"i2am: .*got another data set"):
        write_vitonhd(tmp_path, 1, size=(32, 24))
    assert contents(tmp_path) == {theirs: b"[1]"}


BAD = {
    "count": [0, 2.0, True],
    "size": [(0, 5), (8, 8), (15, 64), (64.0, 48), 64, "256"],
    "seed": [-1, 1.5],
    "rich": [-0.1, 1.5, math.nan],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_what_makes_no_pairs_is_refused_before_anything_is_written(tmp_path: Path, name: str, value: Any) -> None:
    wanted = {"count": 1, "size": (32, 24), **{name: value}}
    with pytest.raises(ValueError, match=rf"^i2am: {name} must be"):
        write_vitonhd(tmp_path / "new", **wanted)
    assert not (tmp_path / "new").exists()
    with pytest.raises(ValueError, match=rf"^i2am: {name} must be"):
        draw(**wanted)


def test_rows_of_another_kind_and_names_without_a_truth_are_refused(tree: Path) -> None:
    with pytest.raises(ValueError, match=r"^i2am: count must be .*\[B, 560\], got float32 \[2, 559\]"):
        draw(torch.rand(2, 559))
    with pytest.raises(ValueError, match=r"^i2am: first must be"):
        draw(1, first=-1)
    with pytest.raises(ValueError, match=r"^i2am: truth must be .*no such file"):
        read_truth(tree, ["00003_00"])
    with pytest.raises(ValueError, match=r"^i2am: names must be at least one"):
        read_truth(tree, [])
