"""The house stands: imports run one way, every room says what it is for and what it leans on, and no room is too large."""

import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.report import house
from benchmarks.report.house import ROOT

MOST = 300  # lines of a file
ARROWS = house.arrows()
ROOMS = sorted({house.room_of(module) for arrow in ARROWS for module in arrow} - {"i2am.__main__"})


def test_arrows_run_down():
    assert len(ARROWS) > 400
    assert house.upward(ARROWS) == []


def test_no_files_import_each_other_in_a_circle():
    assert house.circle(ARROWS) == []


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_it_is_for_and_what_it_imports(room):
    purpose, stated, _ = house.about(room)
    leans = house.between(ARROWS).get(room, set())
    if room.startswith("benchmarks"):  # for them i2am is one
        leans = {"i2am" if other.startswith("i2am.") else other for other in leans}
    assert purpose[-1] in ".?"
    assert set(stated) == leans
    assert "\nBegin with: `" in house.place_of(room).read_text()


def test_packages_inside_of_rooms_say_where_to_begin():
    inner = [path for package in ("i2am", "i2am_kernels") for path in (ROOT / package).glob("*/*/__init__.py")]
    assert len(inner) >= 3
    for path in [*inner, ROOT / "i2am_kernels" / "sweeps" / "__init__.py"]:
        assert "\nBegin with: `" in path.read_text(), path


def test_others_use_what_a_room_names():
    """Of the packages that are installed; what starts with an underscore is nobody else's anywhere."""
    for one, other in ARROWS:
        room = house.room_of(other)
        if room != house.room_of(one) and other != room and room.startswith("i2am."):
            assert other.split(".")[2] in house.about(room)[2], f"{one} imports {other}, which {room} does not name in __all__"


@pytest.mark.parametrize("room", [room for room in ROOMS if room.startswith("i2am.")])
def test_what_a_room_names_is_there(room):
    __import__(room)
    for name in house.about(room)[2]:
        assert hasattr(sys.modules[room], name) or house.find_spec(f"{room}.{name}"), name


@pytest.mark.parametrize(
    ("file", "line", "said"),
    [
        (
            "i2am/maps/regions.py",
            "from i2am.attach import trace",
            "-> i2am.attach.trace: i2am.maps is not above i2am.attach",
        ),
        (
            "i2am_kernels/call.py",
            "import i2am.common.checks",
            "-> i2am.common.checks: i2am_kernels is not above i2am.common",
        ),
        ("i2am/show/labels.py", "def late():\n    from i2am.maps import levels", "i2am.show is not above i2am.maps"),
        ("i2am/maps/tokens.py", "from i2am.maps import levels", "['i2am.maps."),
        ("i2am/attic/__init__.py", "import i2am.common.checks", "i2am.attic has no floor"),
    ],
)
def test_a_planted_arrow_is_seen(file, line, said, tmp_path):
    for package in house.HOUSES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("results", "weights", "__pycache__"))
    planted = tmp_path / file
    planted.parent.mkdir(exist_ok=True)
    planted.write_text((planted.read_text() if planted.exists() else "") + f"\n{line}\n")
    code = "from benchmarks.report import house; a = house.arrows(); print(house.upward(a), house.circle(a))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert said in ran.stdout


def test_no_room_is_too_large():
    asked = ("benchmarks", "docs", "i2am", "i2am_kernels", "tests")
    long = {str(path.relative_to(ROOT)): count for folder in asked for path in (ROOT / folder).rglob("*.py")
            if (count := len(path.read_text().splitlines())) > MOST}  # fmt: skip
    assert long == {}


def test_tests_stand_where_their_room_does():
    """A folder of tests for every room, and no test beside them but those of the whole."""
    rooms = {path.name for path in (ROOT / "i2am").iterdir() if (path / "__init__.py").exists()}
    folders = {path.name for path in (ROOT / "tests").iterdir() if list(path.glob("test_*.py"))}
    assert rooms | {"kernels", "benchmarks", "helpers"} == folders
    assert {path.name for path in (ROOT / "tests").glob("test_*.py")} <= {"test_house.py", "test_docs.py"}


def test_the_drawing_is_what_the_imports_say():
    assert house.PICTURE.read_text() == house.drawing(ARROWS), "run `python -m benchmarks.report.house`"
    assert house.PICTURE.read_text().count('marker-end="url(#tip)"') >= 12


def test_the_changelog_knows_every_path_that_moved():
    """Old and new import paths: the new ones can be imported, as modules or names of one, and the old ones are gone."""
    table = re.findall(r"^\| `([\w.]+)` \| `([\w.]+)`", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert len(table) >= 30
    for old, new in table:
        module, _, name = new.rpartition(".")
        assert hasattr(import_module(module), name) or house.find_spec(new) is not None, new
        assert not Path(ROOT / old.replace(".", "/")).with_suffix(".py").exists(), old
