"""How the package and its command line begin: without torch, whatever is asked that needs none."""

import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

import i2am
from i2am.cli import main as cli


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_imports_no_torch():
    assert python("import sys, i2am; print('torch' in sys.modules, 'trace' in dir(i2am), i2am.__version__)") == "False True 0.1.0\n"


def test_a_room_comes_when_it_is_asked_for():
    asked = "import sys, i2am; print('i2am.losses' in sys.modules, i2am.losses.tv.__name__, i2am.losses is sys.modules['i2am.losses'])"
    assert python(asked) == "False tv True\n"


def test_every_name_is_there():
    assert all(callable(getattr(i2am, name)) for name in i2am.__all__)
    rooms = [name for name in i2am.PLACES if find_spec(f"i2am.{name}")]  # a module of that name would take a function's place
    assert rooms == ["losses"] == [name for name, place in i2am.PLACES.items() if place == name]
    with pytest.raises(AttributeError, match="no attribute 'traces'"):
        i2am.traces  # noqa: B018


QUICK = """
import contextlib, sys
from i2am.cli import main as cli
for line in ("", "--help", "--version", "nothing", "--wrong", *(f"{name} {option}" for name in NAMES for option in ("--help", "--wrong"))):
    with contextlib.suppress(SystemExit):
        cli.main(line.split())
    assert not {"torch", "numpy", "diffusers", "PIL"} & set(sys.modules), line
"""


def test_help_and_refused_options_need_no_torch():
    names = [add.__name__.removeprefix("add_").replace("_", "-") for add in cli.COMMANDS]
    assert len(names) >= 13
    printed = python(QUICK.replace("NAMES", repr(names)))
    assert all(f"usage: i2am {name} " in printed for name in names)


def test_the_version_comes_from_the_package(capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"i2am {version('i2am')}\n"
    assert f'version = "{version("i2am")}"' in Path("pyproject.toml").read_text()
