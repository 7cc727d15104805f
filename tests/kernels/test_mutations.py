"""Would the checks notice? Each fault of tests/helpers/mutations.py, planted in a copy of the package, must turn them red."""

import json
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import mutations
import pytest


@lru_cache
def verdicts() -> dict[tuple[str, str], str]:
    """(backend, fault) -> what the checks said."""
    ran = subprocess.run(
        [sys.executable, mutations.__file__], capture_output=True, text=True, timeout=300, cwd=Path(mutations.__file__).parent
    )
    assert ran.returncode == 0, ran.stderr
    return {(backend, name): message for backend, name, message in map(json.loads, ran.stdout.splitlines())}


@pytest.mark.parametrize("backend", ["streaming", "triton", "onchip"])
def test_the_checks_pass_without_a_fault(backend):
    assert verdicts()[backend, ""] == ""


@pytest.mark.parametrize(
    "fault", mutations.STREAMING + mutations.TRITON + mutations.ONCHIP, ids=lambda fault: f"{fault.backend}: {fault.name}"
)
def test_the_checks_notice(fault):
    """By a wrong value, not by a crash: the fault must run."""
    assert verdicts()[fault.backend, fault.name].startswith("AssertionError in close"), verdicts()[fault.backend, fault.name] or "unnoticed"
