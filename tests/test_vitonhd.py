"""VITON-HD from disk: what is read of a healthy tree, and that every kind of damage is named."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader, Subset

from i2am.synthetic import draw, write_vitonhd
from i2am.vitonhd import PARTS, Problem, VitonHD, described

SIZE, COUNT, SEED = (128, 96), 4, 5
NAMES = [f"{i:05d}_00.jpg" for i in range(COUNT)]
MASK = "test/agnostic-mask/00001_00_mask.png"
pytestmark = pytest.mark.usefixtures("on_the_cpu")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with torch.device("cpu"):
        return write_vitonhd(tmp_path_factory.mktemp("data"), COUNT, SEED, SIZE)


@pytest.fixture
def broken(tree: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return shutil.copytree(tree, tmp_path / "copy")


def read(root: Path, **options: Any) -> VitonHD:
    return VitonHD(root, **{"size": SIZE, **options})


def listing(root: Path, *lines: str) -> Path:
    (root / "test_pairs.txt").write_text("".join(f"{line}\n" for line in lines))
    return root


# A healthy tree


@pytest.mark.parametrize("paired", [True, False])
def test_a_healthy_tree_has_no_problems(tree: Path, paired: bool, capsys: pytest.CaptureFixture[str]) -> None:
    problems = read(tree, paired=paired).check()
    assert problems == []
    assert described(problems) == "no problems"
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


def cut(path: Path, share: float = 0.5) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def painted(path: Path, value: int, size: tuple[int, int] = SIZE) -> None:
    Image.new("L", size[::-1], value).save(path)


PERSON = "test/image/00001_00.jpg"
DAMAGE: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "missing": (PERSON, Path.unlink, "no such file"),
    "cut picture": (PERSON, cut, "a broken picture (image file is truncated"),
    "cut mask": (MASK, cut, "a broken picture ("),
    "text": (PERSON, lambda path: path.write_text("version https://git-lfs"), "no picture (23 bytes)"),
    "empty file": (PERSON, lambda path: path.write_bytes(b""), "no picture (0 bytes)"),
    "a program": (PERSON, lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "no picture (47 bytes)"),
    "folder": (PERSON, lambda path: (path.unlink(), path.mkdir()), "no such file"),
    "dangling link": (PERSON, lambda path: (path.unlink(), path.symlink_to("nowhere.jpg")), "a link to nothing"),
    "floats": (PERSON, lambda path: Image.fromarray(np.ones(SIZE, np.float32)).save(path, "TIFF"),
               "a broken picture (mode F does not say what is white)"),
    "stretched": (PERSON, lambda path: painted(path, 9, (128, 128)), "a picture that 128x96 would stretch (128x128 on disk)"),
    "lying down": ("test/cloth/00001_00.jpg", lambda path: painted(path, 9, (96, 128)),
                   "a picture that 128x96 would stretch (96x128 on disk)"),
    "smaller": ("test/cloth-mask/00001_00.jpg", lambda path: Image.open(path).resize((48, 64)).save(path),
                "another size than the pair's other pictures (64x48, not 128x96)"),
    "empty mask": (MASK, lambda path: painted(path, 1), "an empty mask at 128x96 (the brightest pixel is 1 of 255)"),
    "full mask": ("test/cloth-mask/00001_00.jpg", lambda path: painted(path, 250),
                  "a full mask at 128x96 (the darkest pixel is 250 of 255)"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named(broken: Path, name: str) -> None:
    file, damage, what = DAMAGE[name]
    damage(broken / file)
    data = read(broken)
    [problem] = data.check(progress=False)
    assert (problem.index, problem.path) == (1, broken / file)
    assert problem.what.startswith(what)
    assert str(problem) == f"pair 1, {broken / file}: {problem.what}"
    assert data.check([0, 2], progress=False) == []
    assert data.check([-3, 1], progress=False) == [problem]


UNREADABLE = [name for name, (_, _, what) in DAMAGE.items() if what.startswith(("no ", "a broken", "a link"))]


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_bad_file_is_named_where_it_is_read(broken: Path, name: str) -> None:
    file, damage, what = DAMAGE[name]
    damage(broken / file)
    data = read(broken, paired=False)
    with pytest.raises(ValueError, match=r"^i2am: ") as caught:
        data[1]
    part = "mask" if file == MASK else "person"
    start = f"i2am: {part} of pair 1 ({' with '.join(data.pairs[1])}) must be a picture in {broken / file}, got {what}"
    assert str(caught.value).startswith(start)
    assert str(caught.value).endswith(" check() lists everything that is wrong.")
    assert data[0]["index"] == 0


def test_a_mask_too_thin_for_the_size_is_empty(broken: Path) -> None:
    thin = Image.new("L", SIZE[::-1])
    thin.paste(255, (10, 0, 11, 128))
    thin.save(broken / MASK)
    assert read(broken).check(progress=False) == []
    [problem] = read(broken, size=(32, 24)).check(progress=False)
    assert problem.what == "an empty mask at 32x24 (the brightest pixel is 255 of 255)"


def test_missing_folders_are_one_problem_each(broken: Path) -> None:
    for folder in ("agnostic-mask", "image-densepose", "cloth-mask", "agnostic-v3.2"):
        shutil.rmtree(broken / "test" / folder)
    data = read(broken)
    problems = data.check(progress=False)
    assert [(p.index, p.path.name) for p in problems] == [
        (None, folder) for folder in ("agnostic-mask", "cloth-mask", "agnostic-v3.2", "image-densepose")
    ]
    assert str(problems[0]) == f'{broken / "test" / "agnostic-mask"}: no such folder (it holds "mask")'
    assert all(str(problem) in described(problems) for problem in problems)
    with pytest.raises(ValueError, match=rf"mask of pair 0 .*/00000_00_mask\.png, got no folder {broken}/test/agnostic-mask\."):
        data[0]


LEAVING = ["../image/00001_00.jpg", "/etc/passwd", "..", "a/b.jpg", "..\\image.jpg", "C:00001_00.jpg", "a\0.jpg"]


@pytest.mark.parametrize("name", LEAVING)
def test_names_that_leave_the_root_are_never_opened(broken: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    listing(broken, f"{NAMES[0]} {NAMES[1]}", f"{NAMES[2]} {name}", f"{name} {NAMES[3]}")
    data = read(broken, paired=False)
    asked: list[Path] = []
    monkeypatch.setattr(Image, "open", lambda path, really=Image.open, **options: (asked.append(path), really(path, **options))[1])
    problems = data.check(progress=False)
    assert [(p.index, p.path) for p in problems] == [(i, broken / "test_pairs.txt") for i in (1, 2)]
    assert [p.what for p in problems] == [f"a name that is no file name (line {line}: {name!r})" for line in (2, 3)]
    for index, part in ((1, "garment"), (2, "person")):
        with pytest.raises(ValueError, match=rf"^i2am: {part} of pair {index} .* must be a file name without folders.*Mend .*test_pairs"):
            data[index]
    assert {path.parent.parent for path in asked} == {broken / "test"}
    assert not any(name in str(path) for path in asked)


def test_links_are_followed(broken: Path, tmp_path: Path) -> None:
    """A download cache is all links, and folders are shared between copies."""
    shutil.move(broken / "test/cloth", tmp_path / "elsewhere")
    (broken / "test/cloth").symlink_to(tmp_path / "elsewhere")
    shutil.move(broken / PERSON, tmp_path / "blob")
    (broken / PERSON).symlink_to(tmp_path / "blob")
    (tmp_path / "linked").symlink_to(broken)
    assert read(tmp_path / "linked").check(progress=False) == []


def test_lines_that_are_no_pairs_are_said_and_left_out(broken: Path) -> None:
    listing(broken, f"{NAMES[0]} {NAMES[1]}", NAMES[1], f"{NAMES[2]} {NAMES[3]}", "one two three")
    with pytest.warns(UserWarning, match=r"^i2am: lines were left out\. 2 problems:"):
        data = read(broken)
    assert [name for name, _ in data.pairs] == [NAMES[0], NAMES[2]]
    assert data.check([], progress=False) == [
        Problem(None, broken / "test_pairs.txt", f"a line that is not two file names (line 2: '{NAMES[1]}')"),
        Problem(None, broken / "test_pairs.txt", "a line that is not two file names (line 4: 'one two three')"),
    ]


def test_a_pair_that_comes_twice_is_read_once(broken: Path) -> None:
    one, other = f"{NAMES[0]} {NAMES[1]}", f"{NAMES[0]} {NAMES[2]}"
    listing(broken, one, other, one)
    with pytest.warns(UserWarning, match="the same pair again"):
        data = read(broken, paired=False)
    assert data.pairs == [(NAMES[0], NAMES[1]), (NAMES[0], NAMES[2])]
    assert [str(p) for p in data.check(progress=False)] == [f"{broken}/test_pairs.txt: the same pair again (line 3 as line 1: {one})"]
    with pytest.warns(UserWarning, match="2 problems"):  # paired, one person is one pair
        data = read(broken)
    assert data.pairs == [(NAMES[0], NAMES[0])]
    assert [p.what for p in data.check(progress=False)] == [
        f"the same pair again (line {line} as line 1: {NAMES[0]} {NAMES[0]})" for line in (2, 3)
    ]


def test_problems_come_in_order_and_are_cut(broken: Path) -> None:
    listing(broken, *(f"{i}.jpg {i}.jpg" for i in range(40)), *(f"{name} {name}" for name in NAMES))
    cut(broken / PERSON)
    problems = read(broken, parts=("person", "garment")).check(progress=False)
    assert [p.index for p in problems] == [i for i in range(40) for _ in (0, 1)] + [41]
    text = described(problems).splitlines()
    assert text[0] == "81 problems:"
    assert text[1:5] == [*(f"  pair {i}, {broken}/test/image/{i}.jpg: no such file" for i in (0, 1, 2)), "  … and 37 more like this"]
    assert text[5].endswith("test/cloth/0.jpg: no such file")
    assert text[9].startswith(f"  pair 41, {broken / PERSON}: a broken picture (")
    assert len(text) == 10
    many = [Problem(i, Path("a/b.png"), f"no picture ({i} bytes)") for i in range(2001)]
    assert described(many).splitlines()[-1] == "  … and 1,998 more like this"
    assert described(many[:1]) == "1 problem:\n  pair 0, a/b.png: no picture (0 bytes)"


# Nothing to stand on


ROOTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no list": (lambda root: (root / "test_pairs.txt").rename(root / "pairs.txt"),
                r"root must be a folder with test_pairs\.txt and test/, got .*copy, which holds pairs\.txt, test/\. Pass"),
    "no split": (lambda root: shutil.rmtree(root / "test"), r"got .*copy, which holds test_pairs\.txt\. Pass"),
    "nothing": (lambda root: shutil.rmtree(root), r"got .*copy, which is not there"),
    "a file": (lambda root: (shutil.rmtree(root), root.write_text("")), r"got .*copy, which is no folder"),
    "empty": (lambda root: (shutil.rmtree(root), root.mkdir()), r"got .*copy, which is empty"),
    "an empty list": (lambda root: listing(root), r"test_pairs\.txt must be a list of pairs.*got an empty file"),
    "no pairs": (lambda root: listing(root, "a", "b"), r"(?s)test_pairs\.txt must be a list of pairs.*line 1: 'a'"),
}  # fmt: skip


@pytest.mark.parametrize("name", ROOTS)
def test_nothing_to_stand_on_is_refused(broken: Path, name: str) -> None:
    damage, message = ROOTS[name]
    damage(broken)
    with pytest.raises(ValueError, match=rf"^i2am: .*{message}" if not message.startswith("(?s)") else message):
        read(broken)


ASKED: dict[str, tuple[dict[str, Any], str]] = {
    "split": ({"split": "../test"}, r"split must be .*got '\.\./test'"),
    "paired": ({"paired": "unpaired"}, r"paired must be True or False, got 'unpaired'"),
    "size": ({"size": 512}, r"size must be \(height, width\), got 512"),
    "part": ({"parts": ("person", "pose")}, r"parts must be some of person, .*got \('person', 'pose'\)"),
    "text": ({"parts": "person"}, r"parts must be some of .*got 'person'"),
    "none": ({"parts": ()}, r"parts must be some of .*got \(\)"),
    "twice": ({"parts": ["mask", "mask"]}, r"parts must be some of .*Name each once"),
}


@pytest.mark.parametrize("name", ASKED)
def test_what_was_asked_is_quoted(tree: Path, name: str) -> None:
    options, message = ASKED[name]
    with pytest.raises(ValueError, match=rf"^i2am: {message}"):
        read(tree, **options)


def test_files_have_a_path(tree: Path) -> None:
    data = read(tree, paired=False)
    assert data.path(1, "mask") == tree / MASK
    assert data.path(-1, "garment_mask") == tree / "test/cloth-mask" / data.pairs[3][1]
    with pytest.raises(ValueError, match=r"^i2am: part must be one of person, .*got 'image'"):
        data.path(0, "image")
