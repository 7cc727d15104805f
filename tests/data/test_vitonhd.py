"""VITON-HD from disk: what is read of a healthy tree, and that every kind of damage is named."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader, Subset
from viton import COUNT, MASK, NAMES, PERSON, SEED, SIZE, broken, listing, read, tree

from i2am.data.synthetic import draw
from i2am.data.vitonhd import PARTS, VitonHD, problems_in_words

__all__ = ["broken", "tree"]

pytestmark = pytest.mark.usefixtures("on_the_cpu")


# A healthy tree


@pytest.mark.parametrize("paired", [True, False])
def test_a_healthy_tree_has_no_problems(tree: Path, paired: bool, capsys: pytest.CaptureFixture[str]) -> None:
    problems = read(tree, paired=paired).check()
    assert problems == []
    assert problems_in_words(problems) == "no problems"
    assert f"{COUNT}/{COUNT}" in capsys.readouterr().err
    assert VitonHD(tree).check(progress=False) == []  # at 512 x 384, enlarged
    assert capsys.readouterr().err == ""


def test_pictures_are_what_was_drawn(tree: Path) -> None:
    drawn, data = draw(COUNT, seed=SEED, size=SIZE), read(tree)
    pictures = {"person": drawn.person, "garment": drawn.garment, "agnostic": drawn.agnostic, "densepose": drawn.densepose}
    for i in range(COUNT):
        item = data[i]
        assert list(item) == ["index", "name", "cloth", *PARTS]
        assert (item["index"], item["name"], item["cloth"]) == (i, NAMES[i], NAMES[i])
        for part, picture in pictures.items():
            assert (item[part].shape, item[part].dtype) == ((3, *SIZE), torch.float32)
            assert item[part].is_contiguous()
            assert 0 <= item[part].min() < item[part].max() <= 1
            assert (item[part] * 2 - 1 - picture[i]).abs().mean() < 0.02, part  # JPEG; another pair's is off by 0.2
        for part, mask in (("mask", drawn.mask), ("garment_mask", drawn.garment_mask)):
            assert torch.equal(item[part], mask[i].float()), part  # white on disk is 1


def test_unpaired_takes_the_garments_of_the_list(tree: Path) -> None:
    lines = [tuple(line.split()) for line in (tree / "test_pairs.txt").read_text().splitlines()]
    worn, other = read(tree), read(tree, paired=False)
    assert worn.pairs == [(name, name) for name in NAMES]
    assert other.pairs == lines
    for i, (name, cloth) in enumerate(lines):
        item = other[i]
        assert (item["name"], item["cloth"]) == (name, cloth)
        assert cloth != name
        for part in PARTS:
            from_garment = part in ("garment", "garment_mask")
            assert torch.equal(item[part], worn[NAMES.index(cloth) if from_garment else i][part]), part


def test_the_order_is_the_list_s(broken: Path) -> None:
    listing(broken, f"{NAMES[2]} {NAMES[0]}", "", f"  {NAMES[0]}\t{NAMES[1]}\r")
    (broken / "test_pairs.txt").write_text("\ufeff" + (broken / "test_pairs.txt").read_text(), encoding="utf-8")
    assert read(broken, paired=False).pairs == [(NAMES[2], NAMES[0]), (NAMES[0], NAMES[1])]
    assert read(broken).check(progress=False) == []


def test_another_split(broken: Path) -> None:
    (broken / "test").rename(broken / "train")
    (broken / "test_pairs.txt").rename(broken / "train_pairs.txt")
    assert read(broken, split="train").check(progress=False) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_torch_s(tree: Path, workers: int) -> None:
    batches = list(DataLoader(read(tree), batch_size=3, num_workers=workers))
    assert [batch["index"].tolist() for batch in batches] == [[0, 1, 2], [3]]
    assert batches[0]["name"] == NAMES[:3]
    assert batches[0]["person"].shape == (3, 3, *SIZE)
    assert batches[1]["mask"].shape == (1, *SIZE)
    assert torch.equal(batches[1]["garment"][0], read(tree)[3]["garment"])


def test_indices_are_a_list_s(tree: Path) -> None:
    data = read(tree)
    assert data[-1]["index"] == data[np.int64(3)]["index"] == 3
    assert [item["index"] for item in data] == [0, 1, 2, 3]  # iteration ends at an IndexError
    assert [item["name"] for item in Subset(data, [2, 0])] == [NAMES[2], NAMES[0]]
    for index in (4, -5):
        with pytest.raises(IndexError, match=rf"^i2am: index must be below 4, the number of pairs, got {index}"):
            data[index]
    wrong: Any
    for wrong in (slice(0, 2), True, "0", 1.0):
        with pytest.raises(ValueError, match=r"^i2am: index must be a whole number, got .*Subset"):
            data[wrong]


def test_parts_left_out_are_not_needed(broken: Path) -> None:
    for folder in ("agnostic-mask", "agnostic-v3.2", "image-densepose", "cloth-mask"):
        shutil.rmtree(broken / "test" / folder)
    data = read(broken, parts=("garment", "person"))
    assert data.check(progress=False) == []
    assert list(data[0]) == ["index", "name", "cloth", "garment", "person"]


# Sizes and modes


def dots(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_half_is_the_mean_of_four_and_a_tie_is_white(broken: Path) -> None:
    """What OpenCV's bilinear makes of half the size, which is what the release takes; torch's, without antialias, is the same."""
    picture, mask = dots(256, 192), dots(256, 192)[..., 0] > 150
    Image.fromarray(picture).save(broken / "test/image/00001_00.jpg", "PNG")
    Image.fromarray(mask).save(broken / MASK)
    item = read(broken, parts=("person", "mask"))[1]
    wanted = interpolate(torch.from_numpy(picture).movedim(-1, 0)[None].float() / 255, SIZE, mode="bilinear")[0]
    assert (item["person"] - wanted).abs().max() <= 1.01 / 255
    share = mask.reshape(128, 2, 96, 2).mean((1, 3))
    assert (share == 0.5).any()
    assert torch.equal(item["mask"], torch.from_numpy(share >= 0.5).float())


@pytest.mark.parametrize("size", [(32, 48), (100, 75), (48, 96), (200, 96), (512, 384)], ids=str)
def test_any_size_is_antialiased_and_masks_stay_masks(broken: Path, size: tuple[int, int]) -> None:
    """Held against torch's: the mean at whole factors, else its antialiased bicubic, which has Pillow's kernel (Pillow cuts at 0 and 255
    after each side: the picture keeps away from both)."""
    picture, mask = 64 + dots(*SIZE) // 2, np.kron(dots(16, 12)[..., 0] > 127, np.ones((8, 8), bool))
    Image.fromarray(picture).save(broken / "test/image/00001_00.jpg", "PNG")
    Image.fromarray(mask).save(broken / MASK)
    item = read(broken, size=size)[1]
    for part, given in (("person", torch.from_numpy(picture).movedim(-1, 0) / 255), ("mask", torch.from_numpy(mask)[None].float())):
        how = {"mode": "area"} if size == (32, 48) else {"mode": "bicubic", "antialias": True}
        wanted = interpolate(given[None], size, **how)[0].clamp(0, 1)
        if part == "mask":
            sure = (wanted[0] - 0.5).abs() > 1e-4
            assert sure.float().mean() > 0.9
            assert torch.equal(item["mask"][sure], (wanted[0] >= 0.5).float()[sure])
        else:
            assert (item[part] - wanted).abs().max() <= 2 / 255  # rounded to bytes after each side
    assert {item[part].shape[-2:] for part in PARTS} == {size}
    assert set(item["garment_mask"].unique().tolist()) == {0, 1}


GREY = dots(*SIZE)[..., 0]
CLEAR = np.where(np.arange(96) < 48, 255, 0).astype(np.uint8) * np.ones((128, 1), np.uint8)  # the right half is transparent
MODES: dict[str, tuple[Image.Image, str, np.ndarray]] = {
    "grey": (Image.fromarray(GREY), "PNG", GREY),
    "one bit": (Image.fromarray(GREY > 127), "PNG", np.where(GREY > 127, 255, 0)),
    "palette": (Image.fromarray(GREY).convert("P"), "PNG", GREY),
    "16 bits": (Image.fromarray(np.minimum(GREY * 257.0 + 127, 65535).astype(np.uint16)), "PNG", GREY),
    "CMYK": (Image.fromarray(GREY).convert("CMYK"), "TIFF", GREY),
    "RGBA": (Image.merge("RGBA", [*Image.fromarray(GREY).convert("RGB").split(), Image.fromarray(CLEAR)]), "PNG", GREY),
    "LA": (Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(CLEAR)]), "PNG", GREY),
}  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_every_kind_of_picture_is_read(broken: Path, mode: str) -> None:
    picture, form, grey = MODES[mode]
    picture.save(broken / "test/image/00001_00.jpg", form)
    picture.save(broken / MASK, form)
    item = read(broken, parts=("person", "mask"))[1]
    through = CLEAR == 0 if mode in ("RGBA", "LA") else np.zeros(SIZE, bool)
    assert np.array_equal((item["person"] * 255).round().numpy(), np.broadcast_to(np.where(through, 255, grey), (3, *SIZE)))
    assert np.array_equal(item["mask"].numpy(), np.where(through, 0, grey) > 127)


def test_a_picture_on_its_side_is_turned(broken: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown a quarter turn clockwise
    picture = dots(*SIZE)
    Image.fromarray(np.rot90(picture)).save(broken / "test/image/00001_00.jpg", "PNG", exif=exif)
    data = read(broken, parts=("person", "mask"))
    assert np.array_equal((data[1]["person"] * 255).round().movedim(0, -1).numpy(), picture)
    assert data.check(progress=False) == []


# Damage


def test_links_are_followed(broken: Path, tmp_path: Path) -> None:
    """A download cache is all links, and folders are shared between copies."""
    shutil.move(broken / "test/cloth", tmp_path / "elsewhere")
    (broken / "test/cloth").symlink_to(tmp_path / "elsewhere")
    shutil.move(broken / PERSON, tmp_path / "blob")
    (broken / PERSON).symlink_to(tmp_path / "blob")
    (tmp_path / "linked").symlink_to(broken)
    assert read(tmp_path / "linked").check(progress=False) == []


# Nothing to stand on


def test_files_have_a_path(tree: Path) -> None:
    data = read(tree, paired=False)
    assert data.path(1, "mask") == tree / MASK
    assert data.path(-1, "garment_mask") == tree / "test/cloth-mask" / data.pairs[3][1]
    with pytest.raises(ValueError, match=r"^i2am: part must be one of person, .*got 'image'"):
        data.path(0, "image")
