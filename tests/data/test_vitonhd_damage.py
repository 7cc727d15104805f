"""VITON-HD with something wrong: every kind of damage is named, and nothing outside the root is opened."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from viton import MASK, NAMES, PERSON, SIZE, broken, listing, read, tree

from i2am.data.vitonhd import Problem, problems_in_words

__all__ = ["broken", "tree"]
pytestmark = pytest.mark.usefixtures("on_the_cpu")


def cut(path: Path, share: float = 0.5) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def painted(path: Path, value: int, size: tuple[int, int] = SIZE) -> None:
    Image.new("L", size[::-1], value).save(path)


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
    assert all(str(problem) in problems_in_words(problems) for problem in problems)
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
    text = problems_in_words(problems).splitlines()
    assert text[0] == "81 problems:"
    assert text[1:5] == [*(f"  pair {i}, {broken}/test/image/{i}.jpg: no such file" for i in (0, 1, 2)), "  … and 37 more like this"]
    assert text[5].endswith("test/cloth/0.jpg: no such file")
    assert text[9].startswith(f"  pair 41, {broken / PERSON}: a broken picture (")
    assert len(text) == 10
    many = [Problem(i, Path("a/b.png"), f"no picture ({i} bytes)") for i in range(2001)]
    assert problems_in_words(many).splitlines()[-1] == "  … and 1,998 more like this"
    assert problems_in_words(many[:1]) == "1 problem:\n  pair 0, a/b.png: no picture (0 bytes)"


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
