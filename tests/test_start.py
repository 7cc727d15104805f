"""How the package and its command line begin: without torch, whatever is asked that needs none."""

import subprocess
import sys

import pytest

import i2am


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_imports_no_torch():
    assert python("import sys, i2am; print('torch' in sys.modules, 'trace' in dir(i2am), i2am.__version__)") == "False True 0.1.0\n"


def test_functions_stand_before_the_modules_they_live_in():
    code = "import i2am.imacs, i2am.trace; from i2am.trace import trace; print(i2am.trace is trace, i2am.imacs.__name__)"
    assert python(code) == "True imacs\n"


def test_every_name_is_there():
    assert all(callable(getattr(i2am, name)) for name in i2am.__all__)
    with pytest.raises(AttributeError, match="no attribute 'traces'"):
        i2am.traces  # noqa: B018
